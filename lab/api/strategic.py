"""Strategic merge patches: lists of built-in kinds are merged by key, not replaced. Pure.

Which list merges by which key is in the published schemas (`x-kubernetes-patch-strategy`, `-merge-key`). Directives:
`$patch: delete|replace|merge`, `$retainKeys`, `$setElementOrder/FIELD`, `$deleteFromPrimitiveList/FIELD`.

Source: the strategic merge patch page of the Kubernetes community documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.api import errors, schema
from lab.api.patch import clone

Value = Any
Object = dict[str, Any]
Schema = Mapping[str, Any]

_EMPTY: Schema = {}
_ORDER, _DELETE = "$setElementOrder/", "$deleteFromPrimitiveList/"


def apply(target: Object, patch: Value, api_version: str, kind: str) -> Object:
    """`target` with `patch` applied, by the schema of a built-in kind. Raises ApiError BadRequest on a bad patch."""
    if not isinstance(patch, dict):
        raise errors.bad_request("a strategic merge patch must be an object")
    return _object(target, patch, schema.of_kind(api_version, kind) or _EMPTY)


def _object(target: Object, patch: Object, known: Schema) -> Object:
    directive = patch.get("$patch")
    if directive == "replace":
        plain: Object = _plain(patch)
        return plain
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise errors.bad_request(f"unknown patch directive $patch: {directive}")
    merged = _retained(dict(target), patch)
    for key, item in patch.items():
        if key.startswith("$"):
            _directive(merged, key, item)
        elif item is None or (isinstance(item, dict) and item.get("$patch") == "delete"):
            merged.pop(key, None)
        else:
            order = patch.get(_ORDER + key)
            merged[key] = _member(merged.get(key), item, _property(known, key), order)
    for key, item in patch.items():
        name = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and name not in patch and isinstance(merged.get(name), list):
            merge_key = _property(known, name).get("x-kubernetes-patch-merge-key", "")
            merged[name] = _ordered(merged[name], item, merge_key)
    return merged


def _retained(target: Object, patch: Object) -> Object:
    keys = patch.get("$retainKeys")
    if keys is None:
        return target
    if not isinstance(keys, list):
        raise errors.bad_request("$retainKeys must be a list of field names")
    return {key: item for key, item in target.items() if key in keys}


def _directive(merged: Object, key: str, item: Value) -> None:
    if key.startswith(_DELETE):
        name = key.removeprefix(_DELETE)
        if isinstance(merged.get(name), list):
            merged[name] = [value for value in merged[name] if value not in item]
    elif not key.startswith(_ORDER) and key not in ("$patch", "$retainKeys"):
        raise errors.bad_request(f"unknown patch directive {key}")


def _property(known: Schema, key: str) -> Schema:
    """A member's own schema, unresolved: the patch strategy stands beside the reference."""
    properties = known.get("properties") or _EMPTY
    extra = known.get("additionalProperties")
    found = properties.get(key) or (extra if isinstance(extra, Mapping) else _EMPTY)
    return found if isinstance(found, Mapping) else _EMPTY


def _member(old: Value, item: Value, known: Schema, order: Value) -> Value:
    if isinstance(item, dict):
        return _object(old if isinstance(old, dict) else {}, item, schema.resolved(known))
    if not isinstance(item, list):
        return item
    merges = "merge" in str(known.get("x-kubernetes-patch-strategy", "")).split(",")
    if not merges:
        return clone(item)
    before = old if isinstance(old, list) else []
    merge_key = str(known.get("x-kubernetes-patch-merge-key", ""))
    if not merge_key:
        return _ordered([*before, *(value for value in item if value not in before)], order or item, "")
    return _list(before, item, merge_key, schema.resolved(known.get("items") or _EMPTY), order)


def _list(before: list[Value], patch: list[Value], merge_key: str, inner: Schema, order: Value) -> list[Value]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [_plain(item) for item in patch if not (isinstance(item, dict) and item.keys() == {"$patch"})]
    merged = list(before)
    for item in patch:
        if not isinstance(item, dict) or merge_key not in item:
            raise errors.bad_request(f"map: {item!r} does not contain declared merge key: {merge_key}")
        place = _place(merged, merge_key, item[merge_key])
        if item.get("$patch") == "delete":
            merged = [one for one in merged if one.get(merge_key) != item[merge_key]]
        elif place is None:
            merged.append(_object({}, item, inner))
        else:
            merged[place] = _object(merged[place], item, inner)
    return _ordered(merged, order, merge_key) if order else merged


def _place(items: list[Value], merge_key: str, wanted: Value) -> int | None:
    return next((index for index, one in enumerate(items) if one.get(merge_key) == wanted), None)


def _ordered(items: list[Value], order: Value, merge_key: str) -> list[Value]:
    """`items` with those named in `order` in that order; the others stay behind the item they stood behind."""

    def name(value: Value) -> Value:
        return value.get(merge_key) if merge_key and isinstance(value, dict) else value

    wanted = [name(item) for item in order]
    slots = [index for index, item in enumerate(items) if name(item) in wanted]
    named = sorted((items[index] for index in slots), key=lambda item: wanted.index(name(item)))
    arranged = list(items)
    for index, item in zip(slots, named, strict=True):
        arranged[index] = item
    return arranged


def _plain(value: Value) -> Value:
    """A value without directives."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not key.startswith("$")}
    return [_plain(item) for item in value] if isinstance(value, list) else value
