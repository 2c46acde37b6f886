"""Objects against schemas: unknown fields, wrong types, missing fields, bad values. Pure but for reading the data once.

One walker serves built-in kinds (the published schemas of lab/data) and custom ones (the schema in their definition).
What it finds is sorted by what the server does about it: unknown fields depend on fieldValidation, wrong types of
built-ins are a bad request, everything else is Invalid.

Sources: OpenAPI 3.0 schema objects; Kubernetes' structural schemas and its `x-kubernetes-*` extensions.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from lab.api.errors import cause

Schema = Mapping[str, Any]
Value = Any

DATA = Path(__file__).parent.parent / "data" / "schema-1.32.json.gz"
_PREFIX = "#/components/schemas/"
OBJECT_META: Schema = {"$ref": _PREFIX + "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
_EMPTY: Schema = {}
_IS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
_NAMES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}


@cache
def definitions() -> dict[str, Schema]:
    """All published schemas by definition name."""
    loaded: dict[str, Schema] = msgspec.json.decode(gzip.decompress(DATA.read_bytes()))
    return loaded


@cache
def _by_kind() -> dict[tuple[str, str], str]:
    found = {}
    for name, schema in definitions().items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            version = f"{kind['group']}/{kind['version']}" if kind["group"] else kind["version"]
            found[version, kind["kind"]] = name
    return found


def definition_name(api_version: str, kind: str) -> str | None:
    """The name of a built-in kind's definition, `io.k8s.api.core.v1.Pod`; None for a kind without one."""
    return _by_kind().get((api_version, kind))


def of_kind(api_version: str, kind: str) -> Schema | None:
    name = definition_name(api_version, kind)
    return definitions()[name] if name else None


def named(schema: Schema) -> str:
    """The definition that a schema refers to, "" when it stands for itself."""
    if "allOf" in schema and len(schema["allOf"]) == 1:
        schema = schema["allOf"][0]
    reference = schema.get("$ref")
    return reference.removeprefix(_PREFIX) if isinstance(reference, str) else ""


def resolved(schema: Schema) -> Schema:
    """The schema itself, or the definition that it refers to."""
    name = named(schema)
    return definitions()[name] if name else schema


def child(schema: Schema, key: str) -> Schema | None:
    """The schema of one member of an object; None where the schema does not know it."""
    properties = schema.get("properties") or _EMPTY
    if key in properties:
        found: Schema = properties[key]
        return resolved(found)
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        return resolved(extra)
    return None


def is_open(schema: Schema) -> bool:
    """Whether members that the schema does not name are welcome."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("additionalProperties") is True:
        return True
    if "properties" in schema or isinstance(schema.get("additionalProperties"), Mapping):
        return False
    return (
        not any(key in schema for key in ("allOf", "$ref")) and schema.get("x-kubernetes-embedded-resource") is not True
    )


@dataclass(slots=True)
class Findings:
    """What is wrong with a value, in the order of the walk; `strays` are the unknown fields as (holder, key)."""

    unknown: list[str] = field(default_factory=list)
    strays: list[tuple[dict[str, Value], str]] = field(default_factory=list)
    wrong_types: list[dict[str, str]] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)
    bad_values: list[dict[str, str]] = field(default_factory=list)


def check(value: Value, schema: Schema) -> Findings:
    """Walk `value` by `schema`."""
    findings = Findings()
    _walk(value, resolved(schema), "", findings)
    return findings


def _walk(value: Value, schema: Schema, path: str, findings: Findings) -> None:
    if value is None:
        return
    if not _has_type(value, schema):
        found, expected = _NAMES.get(type(value), "value"), _type_name(schema)
        text = f'Invalid value: "{found}": {path} in body must be of type {expected}: "{found}"'
        findings.wrong_types.append(cause(path, text, "FieldValueTypeInvalid"))
        return
    if isinstance(value, dict):
        _walk_object(value, schema, path, findings)
    elif isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, Mapping):
            inner = resolved(items)
            for index, item in enumerate(value):
                if item is None and not inner.get("nullable"):
                    findings.wrong_types.append(
                        cause(f"{path}[{index}]", "Invalid value: null: an item may not be null")
                    )
                _walk(item, inner, f"{path}[{index}]", findings)
    findings.bad_values.extend(_bad_values(value, schema, path))


def _walk_object(value: dict[str, Value], schema: Schema, path: str, findings: Findings) -> None:
    opened = is_open(schema)
    for key, item in value.items():
        place = f"{path}.{key}" if path else key
        inner = child(schema, key)
        if inner is not None:
            _walk(item, inner, place, findings)
        elif not opened and not _is_embedded_root(schema, key):
            findings.unknown.append(place)
            findings.strays.append((value, key))
    for key in schema.get("required", ()):
        if value.get(key) is None:
            place = f"{path}.{key}" if path else key
            findings.missing.append(cause(place, "Required value", "FieldValueRequired"))


def _is_embedded_root(schema: Schema, key: str) -> bool:
    return bool(schema.get("x-kubernetes-embedded-resource")) and key in ("apiVersion", "kind", "metadata")


def _type_name(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer,string"
    if "oneOf" in schema and "type" not in schema:
        return ",".join(str(option.get("type", "")) for option in schema["oneOf"])
    return str(schema.get("type", ""))


def _has_type(value: Value, schema: Schema) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, (int, str)) and not isinstance(value, bool)
    name = schema.get("type")
    if name is None:
        options = [option for option in schema.get("oneOf", ()) if "type" in option]
        return not options or any(_has_type(value, option) for option in options)
    if isinstance(value, bool):
        return bool(name == "boolean")
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _IS[name])


def _bad_values(value: Value, schema: Schema, path: str) -> Iterator[dict[str, str]]:
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(f'"{item}"' for item in schema["enum"])
        yield cause(path, f'Unsupported value: "{value}": supported values: {supported}', "FieldValueNotSupported")
    for problem in _limits(value, schema):
        shown = f'"{value}"' if isinstance(value, str) else msgspec.json.encode(value).decode()
        yield cause(path, f"Invalid value: {shown}: {path} in body {problem}")
    yield from _combined(value, schema, path)


def _limits(value: Value, schema: Schema) -> Iterator[str]:
    if isinstance(value, str):
        if "pattern" in schema and not _matches(schema["pattern"], value):
            yield f"should match '{schema['pattern']}'"
        yield from _size(len(value), schema, "Length", "chars long")
    elif isinstance(value, list):
        yield from _size(len(value), schema, "Items", "items")
    elif isinstance(value, dict):
        yield from _size(len(value), schema, "Properties", "properties")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _range(value, schema)


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True  # Go's expression syntax, not Python's: better to accept than to refuse a good object.


def _size(count: int, schema: Schema, what: str, unit: str) -> Iterator[str]:
    if count < schema.get(f"min{what}", 0):
        yield f"should have at least {schema[f'min{what}']} {unit}"
    if count > schema.get(f"max{what}", count):
        yield f"may not have more than {schema[f'max{what}']} {unit}"


def _range(value: float, schema: Schema) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        yield f"should be greater than or equal to {low}"
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        yield f"should be less than or equal to {high}"


def _combined(value: Value, schema: Schema, path: str) -> Iterator[dict[str, str]]:
    if "type" not in schema or named(schema):
        return
    if "oneOf" in schema and sum(_satisfies(value, option) for option in schema["oneOf"]) != 1:
        yield cause(path, f'Invalid value: "{path}" must validate one and only one schema (oneOf)')
    if "anyOf" in schema and not any(_satisfies(value, option) for option in schema["anyOf"]):
        yield cause(path, f'Invalid value: "{path}" must validate at least one schema (anyOf)')
    if "allOf" in schema and not all(_satisfies(value, option) for option in schema["allOf"]):
        yield cause(path, f'Invalid value: "{path}" must validate all the schemas (allOf)')
    if "not" in schema and _satisfies(value, schema["not"]):
        yield cause(path, f'Invalid value: "{path}" must not validate the schema (not)')


def _satisfies(value: Value, schema: Schema) -> bool:
    found = check(value, {"x-kubernetes-preserve-unknown-fields": True, **schema})
    return not (found.wrong_types or found.missing or found.bad_values)
