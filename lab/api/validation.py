"""Whether an object may be kept: against its schema, and by the rules of its kind that no schema says. Pure.

`conform` is decoding: unknown fields and wrong types, as the client sent them. `require` is judgement by the schema:
required fields, bad values, names; `validate` by the rules of the kind. Messages name the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lab.api import errors, schema
from lab.api.errors import cause
from lab.api.kind_rules import RULES, immutables
from lab.api.resources import Resource

Object = dict[str, Any]
Causes = Iterator[dict[str, str]]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
# How each kind may be named; kinds that are not here take a DNS subdomain.
LABEL_KINDS = ("namespaces",)
LABEL_1035_KINDS = ("services",)
# Kinds that are nothing without a spec, though their schema does not say so.
SPEC_KINDS = ("pods", "deployments", "replicasets", "jobs", "services")
FREE_KINDS = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")


def schema_of(row: Resource) -> schema.Schema:
    """The schema of a kind; an empty one, which knows nothing, where there is none."""
    return (row.schema if row.is_custom else schema.of_kind(row.api_version, row.kind)) or {}


def conform(row: Resource, new: Object, mode: str, warnings: list[str]) -> None:
    """Decode: refuse wrong types; drop unknown fields, with a warning, or refuse them when `mode` is Strict.

    Raises ApiError BadRequest (Invalid for the types of custom kinds).
    """
    wanted = schema_of(row)
    if not wanted:
        return
    found = schema.check(new, wanted)
    if found.wrong_types:
        if row.is_custom:
            raise errors.invalid(row.kind, row.group, _name(new), found.wrong_types)
        problem = found.wrong_types[0]
        text = f'{row.kind} in version "{row.version}" cannot be handled as a {row.kind}: '
        raise errors.bad_request(text + f"{problem['field']}: {problem['message']}")
    if not found.unknown:
        return
    texts = [f'unknown field "{path}"' for path in found.unknown]
    if mode == "Strict":
        raise errors.bad_request(f"strict decoding error: {', '.join(texts)}")
    if mode == "Warn":
        warnings.extend(texts)
    for holder, key in found.strays:
        holder.pop(key, None)


def require(row: Resource, new: Object) -> None:
    """Judge by name and schema: what must be there is there, and every value is one that the field takes.

    Raises ApiError Invalid with all causes.
    """
    causes = list(_metadata(row, new))
    found = schema.check(new, schema_of(row))
    causes += [*found.missing, *found.bad_values]
    if row.key in SPEC_KINDS and not new.get("spec"):
        causes.append(cause("spec", "Required value", "FieldValueRequired"))
    if causes:
        raise errors.invalid(row.kind, row.group, _name(new), causes)


def validate(row: Resource, old: Object | None, new: Object) -> None:
    """Judge by the rules of the kind, once `require` has passed. Raises ApiError Invalid with all causes."""
    causes = [*(RULES[row.key](old, new) if row.key in RULES else ())]
    if old is not None:
        causes += immutables(row.key, old, new)
    if causes:
        raise errors.invalid(row.kind, row.group, _name(new), causes)


def _name(item: Object) -> str:
    return str((item.get("metadata") or {}).get("name", ""))


def _metadata(row: Resource, new: Object) -> Causes:
    metadata = new["metadata"]
    problem = name_problem(row, metadata["name"])
    if problem:
        yield cause("metadata.name", f'Invalid value: "{metadata["name"]}": {problem}')
    for place in ("labels", "annotations"):
        for key, value in (metadata.get(place) or {}).items():
            yield from _key(f"metadata.{place}", key)
            if place == "labels":
                yield from _label_value("metadata.labels", value)


def name_problem(row: Resource, name: str) -> str:
    """What is wrong with an object's name, "" for nothing."""
    if row.key in FREE_KINDS:
        return "may not contain '/' or '%'" if "/" in name or "%" in name or name in (".", "..") else ""
    if row.key in LABEL_1035_KINDS:
        wrong = not _LABEL_1035.fullmatch(name) or len(name) > 63
        text = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        return f"{text}character, and end with an alphanumeric character, at most 63 characters" if wrong else ""
    if row.key in LABEL_KINDS:
        wrong = not _LABEL.fullmatch(name) or len(name) > 63
        text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
        return f"{text}and end with an alphanumeric character, at most 63 characters" if wrong else ""
    wrong = not _SUBDOMAIN.fullmatch(name) or len(name) > 253
    text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    return f"{text}start and end with an alphanumeric character" if wrong else ""


def _key(field: str, key: str) -> Causes:
    prefix, slash, name = key.rpartition("/")
    if not _QUALIFIED.fullmatch(name) or len(name) > 63 or (slash and not _SUBDOMAIN.fullmatch(prefix.lower())):
        text = "name part must consist of alphanumeric characters, '-', '_' or '.', at most 63 characters, after an "
        yield cause(field, f'Invalid value: "{key}": {text}optional DNS subdomain prefix and "/"')


def _label_value(field: str, value: str) -> Causes:
    if value and (not _QUALIFIED.fullmatch(value) or len(value) > 63):
        text = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
        yield cause(field, f'Invalid value: "{value}": {text}at most 63 characters')
