"""Server-side apply: a manager says all that it wants. Pure.

The server merges it, removes what the manager no longer says, and takes no field from others unless forced.

Source: the server-side apply page of the Kubernetes reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lab.api import errors, field_sets, ownership
from lab.api.field_sets import ITEM, Path
from lab.api.ownership import Entry, Owner, Owners
from lab.api.patch import clone
from lab.api.resources import Resource

Object = dict[str, Any]
Schema = Mapping[str, Any]


def configuration(row: Resource, body: Any, namespace: str, name: str, subresource: str) -> Object:
    """The object in an apply patch, less what this path does not write. Raises ApiError BadRequest."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise errors.bad_request("the body of an apply patch must be one object")
    stated = (body.get("apiVersion"), body.get("kind"))
    if stated[1] != row.kind or not stated[0]:
        raise errors.bad_request(f"an apply patch must state apiVersion and kind {row.kind}; it states {stated}")
    metadata = {**body.get("metadata", {})}
    if metadata.get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    if metadata.setdefault("name", name) != name or metadata.get("namespace", namespace) not in (namespace, ""):
        raise errors.bad_request("the name or namespace of the object does not match the URL")
    if row.namespaced:
        metadata["namespace"] = namespace
    written = {**clone(body), "apiVersion": row.api_version, "metadata": clone(metadata)}
    if subresource:
        return {key: item for key, item in written.items() if key in ("apiVersion", "kind", "metadata", subresource)}
    if row.has_status:
        written.pop("status", None)
    return written


def apply(
    row: Resource, live: Object, config: Object, owner: Owner, known: Schema, *, force: bool, moment: str
) -> Object:
    """The object that results, its managedFields included. Raises ApiError Conflict with a cause for each field."""
    owners = ownership.load(live["metadata"])
    wanted = ownership.owned_leaves(config, known)
    conflicts = _conflicts(owners, owner, live, wanted, known)
    if conflicts and not force:
        raise _refusal(row, live["metadata"]["name"], owners, conflicts)
    for other, paths in conflicts.items():
        owners[other] = Entry(owners[other].fields - paths, owners[other].time, owners[other].api_version)
    before = owners.pop(owner, Entry(frozenset(), "", ""))
    merged = field_sets.merge(live, config, known)
    others = {path for entry in owners.values() for path in entry.fields}
    for path in sorted(before.fields - wanted.keys(), key=len):
        merged = _removed(merged, path, wanted, others, known)
    owners[owner] = Entry(frozenset(wanted), moment, config["apiVersion"])
    result: Object = clone(merged)
    ownership.store(result["metadata"], owners)
    return result


def fresh(config: Object, owner: Owner, known: Schema, moment: str) -> Object:
    """The object that an apply creates."""
    new: Object = clone(config)
    fields = frozenset(ownership.owned_leaves(config, known))
    ownership.store(new["metadata"], {owner: Entry(fields, moment, config["apiVersion"])})
    return new


def _conflicts(
    owners: Owners, owner: Owner, live: Object, wanted: Mapping[Path, Any], known: Schema
) -> dict[Owner, set[Path]]:
    present = ownership.owned_leaves(live, known)
    changed = {path for path, value in wanted.items() if value is not ITEM and present.get(path, value) != value}
    found = {other: changed & entry.fields for other, entry in owners.items() if other != owner}
    return {other: paths for other, paths in found.items() if paths}


def _refusal(row: Resource, name: str, owners: Owners, conflicts: Mapping[Owner, Iterable[Path]]) -> errors.ApiError:
    causes = [
        errors.cause(
            field_sets.shown(path),
            f'conflict with "{other.manager}" using {owners[other].api_version}',
            "FieldManagerConflict",
        )
        for other, paths in conflicts.items()
        for path in sorted(paths)
    ]
    count = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    listed = "; ".join(f"{item['message']}: {item['field']}" for item in causes)
    error = errors.conflict(row.plural, row.group, name)
    error.message = f"Apply failed with {count}: {listed}"
    error.details = {**(error.details or {}), "causes": causes}
    return error


def _removed(merged: Object, path: Path, wanted: Mapping[Path, Any], others: set[Path], known: Schema) -> Object:
    """Without a field that its manager no longer says, and without the parents that this leaves empty."""
    if _is_held(path, wanted) or _is_held(path, others) or _names_its_item(path):
        return merged
    merged = field_sets.without(merged, path, known)
    parent = path[:-1]
    while len(parent) > 1 and field_sets.at(merged, parent, known) in ({}, []):
        if _is_held(parent, wanted) or _is_held(parent, others):
            break
        merged = field_sets.without(merged, parent, known)
        parent = parent[:-1]
    return merged


def _names_its_item(path: Path) -> bool:
    """Whether a field is a key of the list item that it is in: it goes with the item, never alone."""
    return len(path) > 1 and path[-2].startswith("k:") and path[-1][2:] in msgspec.json.decode(path[-2][2:])


def _is_held(path: Path, paths: Iterable[Path]) -> bool:
    return any(one[: len(path)] == path for one in paths)
