"""Who set which field: metadata.managedFields, kept true by every write. Pure.

A write that is not an apply gives the fields that it changed to its manager and takes them from all others; a field
that is gone is nobody's. Source: the server-side apply page of the Kubernetes reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.api import errors, field_sets
from lab.api.field_sets import Path

Object = dict[str, Any]
Schema = Mapping[str, Any]

APPLY, UPDATE = "Apply", "Update"
# Nobody owns what the server writes, or what names the object.
_METADATA = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
_UNOWNED_METADATA = (*_METADATA, "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom an entry is about: one manager, one way of writing, one subresource ("" = the object)."""

    manager: str
    operation: str
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an owner owns, since when (RFC 3339), and in which version of the kind it said so."""

    fields: frozenset[Path]
    time: str
    api_version: str


Owners = dict[Owner, Entry]


def load(metadata: Object) -> Owners:
    """The owners that an object records. Raises ApiError Invalid-like BadRequest for malformed entries."""
    found: Owners = {}
    for item in metadata.get("managedFields") or []:
        if not item:
            continue
        if item.get("operation") not in (APPLY, UPDATE) or item.get("fieldsType", "FieldsV1") != "FieldsV1":
            raise errors.bad_request("metadata.managedFields: operation must be Apply or Update, fieldsType FieldsV1")
        owner = Owner(item.get("manager", ""), item["operation"], item.get("subresource", ""))
        fields = field_sets.decode(item.get("fieldsV1") or {})
        found[owner] = Entry(fields, item.get("time", ""), item.get("apiVersion", ""))
    return found


def store(metadata: Object, owners: Owners) -> None:
    """Write the owners into an object's metadata, the oldest first."""
    listed = [_written(owner, entry) for owner, entry in owners.items() if entry.fields]
    if listed:
        metadata["managedFields"] = listed
    else:
        metadata.pop("managedFields", None)


def _written(owner: Owner, entry: Entry) -> Object:
    item = {"manager": owner.manager, "operation": owner.operation, "apiVersion": entry.api_version}
    item |= {"time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": field_sets.encode(entry.fields)}  # type: ignore[dict-item]
    return item | ({"subresource": owner.subresource} if owner.subresource else {})


def owned_leaves(item: Object, known: Schema) -> dict[Path, Any]:
    """The leaves of an object that somebody may own."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in _UNOWNED_METADATA}
    rest = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}
    return field_sets.leaves({**rest, **({"metadata": metadata} if metadata else {})}, known)


def is_reset(metadata: Object) -> bool:
    """Whether a client asks to forget all owners: `managedFields: [{}]`."""
    return metadata.get("managedFields") == [{}]


def note_update(owner: Owner, old: Object | None, new: Object, known: Schema, moment: str) -> None:
    """Record a write that is not an apply into `new`'s metadata."""
    if is_reset(new["metadata"]):
        new["metadata"].pop("managedFields")
        return
    if old is not None and not new["metadata"].get("managedFields"):
        new["metadata"].pop("managedFields", None)
        if "managedFields" in old["metadata"]:
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"]
    before = owned_leaves(old, known) if old is not None else {}
    after = owned_leaves(new, known)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    if not changed and not gone:
        return
    owners = load(new["metadata"])
    for other, entry in owners.items():
        lost = (changed | gone) if other != owner else gone
        if not lost.isdisjoint(entry.fields):
            owners[other] = Entry(entry.fields - lost, entry.time, entry.api_version)
    if changed:
        own = owners.pop(owner).fields if owner in owners else frozenset()
        owners[owner] = Entry(own | changed, moment, new["apiVersion"])
    store(new["metadata"], owners)


def same_but_times(old: Object, new: Object) -> bool:
    """Whether two states differ in nothing but the times of their owners."""
    if old["metadata"].get("managedFields") == new["metadata"].get("managedFields"):
        return old == new
    return _timeless(old) == _timeless(new)


def _timeless(item: Object) -> Object:
    metadata = dict(item["metadata"])
    entries = metadata.pop("managedFields", [])
    owners = sorted(str({key: value for key, value in entry.items() if key != "time"}) for entry in entries)
    return {**item, "metadata": metadata, "owners": owners}
