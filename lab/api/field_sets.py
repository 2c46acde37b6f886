"""Which fields a value has, as paths; and their FieldsV1 form. Pure.

A path is a tuple of steps as FieldsV1 writes them: `f:NAME` a member, `k:{"name":"c"}` a list item by its keys and
`v:"x"` an item of a set. Leaves are scalars, empty objects and whatever the schema calls atomic; items of keyed lists
and sets are paths of their own beside the fields in them.

Source: the structured merge and diff rules behind server-side apply (list-type, list-map-keys, map-type).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from lab.api import schema
from lab.api.patch import clone

Path = tuple[str, ...]
Value = Any
Schema = Mapping[str, Any]

ITEM: Final = object()
"""The value of a path that is a list item itself: present, and equal to any other presence."""
_EMPTY: Schema = {}
# List keys that the API defaults; without them one port would be two items. The published schemas carry no defaults.
_KEY_DEFAULTS = {"protocol": "TCP"}
_json = msgspec.json.Encoder(order="sorted").encode


def leaves(value: Value, known: Schema) -> dict[Path, Value]:
    """Every leaf and list item of an object, by path."""
    found: dict[Path, Value] = {}
    _walk(value, known, (), found)
    return found


def _walk(value: Value, known: Schema, path: Path, found: dict[Path, Value]) -> None:
    if isinstance(value, dict) and value and known.get("x-kubernetes-map-type") != "atomic":
        for key, item in value.items():
            _walk(item, schema.child(known, key) or _EMPTY, (*path, f"f:{key}"), found)
    elif isinstance(value, list) and value and (kind := list_type(known)) != "atomic":
        inner = items_of(known)
        for step, item in zip(steps(value, known), value, strict=True):
            found[(*path, step)] = ITEM
            if kind == "map":
                _walk(item, inner, (*path, step), found)
    elif path:
        found[path] = value


def list_type(known: Schema) -> str:
    return str(known.get("x-kubernetes-list-type", "atomic"))


def items_of(known: Schema) -> Schema:
    return schema.resolved(known.get("items") or _EMPTY)


def steps(items: Iterable[Value], known: Schema) -> Iterator[str]:
    """The step of each item of a keyed list or set."""
    if list_type(known) == "set":
        for item in items:
            yield "v:" + _json(item).decode()
        return
    keys, inner = known.get("x-kubernetes-list-map-keys") or (), items_of(known)
    for item in items:
        yield "k:" + _json({key: _key(item, key, inner) for key in keys}).decode()


def _key(item: Value, key: str, inner: Schema) -> Value:
    if isinstance(item, dict) and key in item:
        return item[key]
    member = (inner.get("properties") or _EMPTY).get(key) or _EMPTY
    return member.get("default", _KEY_DEFAULTS.get(key))


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """Paths as a FieldsV1 tree."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    _lift(root)
    return root


def _lift(node: dict[str, Any]) -> None:
    """A leaf is written {}; only a path with paths under it needs its "."."""
    for key, item in node.items():
        if key == ".":
            continue
        if item.keys() == {"."}:
            item.clear()
        else:
            _lift(item)


def decode(tree: Mapping[str, Any]) -> frozenset[Path]:
    """The paths of a FieldsV1 tree."""
    return frozenset(_paths(tree, ()))


def _paths(tree: Mapping[str, Any], path: Path) -> Iterator[Path]:
    for key, item in tree.items():
        if key == ".":
            yield path
        elif item:
            yield from _paths(item, (*path, key))
        else:
            yield (*path, key)


def shown(path: Path) -> str:
    """A path as messages write it: `.spec.containers[name="c"].image`."""
    text = ""
    for step in path:
        kind, rest = step[:1], step[2:]
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = msgspec.json.decode(rest)
            text += "[" + ",".join(f"{key}={_json(item).decode()}" for key, item in keys.items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def merge(live: Value, config: Value, known: Schema) -> Value:
    """`live` with all that `config` says: objects and keyed lists merge, everything else is replaced."""
    if isinstance(live, dict) and isinstance(config, dict) and known.get("x-kubernetes-map-type") != "atomic":
        merged = dict(live)
        for key, item in config.items():
            merged[key] = merge(live.get(key), item, schema.child(known, key) or _EMPTY)
        return merged
    if isinstance(live, list) and isinstance(config, list) and list_type(known) != "atomic":
        return _merge_items(live, config, known)
    return clone(config)


def _merge_items(live: list[Value], config: list[Value], known: Schema) -> list[Value]:
    """The applied order wins; an item that only the live list has stays behind the one it stood behind."""
    inner = items_of(known)
    present = dict(zip(steps(live, known), live, strict=True))
    wanted = dict(zip(steps(config, known), config, strict=True))
    waiting = list(present)
    merged: list[Value] = []
    for step, item in wanted.items():
        if step in present and step in waiting:
            place = waiting.index(step)
            merged += [present[one] for one in waiting[:place] if one not in wanted]
            waiting = [one for one in waiting[:place] if one in wanted] + waiting[place + 1 :]
        else:
            while waiting and waiting[0] not in wanted:
                merged.append(present[waiting.pop(0)])
        merged.append(merge(present[step], item, inner) if step in present else clone(item))
    return merged + [present[one] for one in waiting if one not in wanted]


def without(value: Value, path: Path, known: Schema) -> Value:
    """`value` less the field or item at `path`; what it leaves empty stays."""
    step, rest = path[0], path[1:]
    if isinstance(value, dict) and step.startswith("f:"):
        key = step[2:]
        if key not in value:
            return value
        if not rest:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: without(value[key], rest, schema.child(known, key) or _EMPTY)}
    if isinstance(value, list) and not step.startswith("f:"):
        inner = items_of(known)
        pairs = list(zip(steps(value, known), value, strict=True))
        if not rest:
            return [item for name, item in pairs if name != step]
        return [without(item, rest, inner) if name == step else item for name, item in pairs]
    return value


def at(value: Value, path: Path, known: Schema) -> Value:
    """The value at a path; None where there is none."""
    for step in path:
        if isinstance(value, dict) and step.startswith("f:"):
            value, known = value.get(step[2:]), schema.child(known, step[2:]) or _EMPTY
        elif isinstance(value, list) and not step.startswith("f:"):
            value = next((item for name, item in zip(steps(value, known), value, strict=True) if name == step), None)
            known = items_of(known)
        else:
            return None
    return value
