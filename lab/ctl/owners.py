"""Owner references: who owns an object, who controls it, how a new one is written. Pure.

Source: Kubernetes API conventions, `metav1.OwnerReference`; at most one reference of an object has `controller: true`.
"""

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as JSON: apiVersion, kind, metadata, and what the kind has."""


def uid(obj: Object) -> str:
    """The object's uid; empty before it is stored."""
    value: str = obj.get("metadata", {}).get("uid", "")
    return value


def references(obj: Object) -> list[Object]:
    """All owner references, in their order."""
    found: list[Object] = obj.get("metadata", {}).get("ownerReferences") or []
    return found


def controller_of(obj: Object) -> Object | None:
    """The one reference with `controller: true`, if any."""
    return next((reference for reference in references(obj) if reference.get("controller")), None)


def controlled_by(obj: Object, owner_uid: str) -> bool:
    """Whether the controller of `obj` has this uid."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == owner_uid


def controller_reference(owner: Object) -> Object:
    """The reference that makes `owner` the controller and lets its foreground deletion wait for the dependent."""
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def adopted(obj: Object, owner: Object) -> Object:
    """A copy of `obj` with `owner` as its controller."""
    return _with_references(obj, [*references(obj), controller_reference(owner)])


def released(obj: Object, owner_uid: str) -> Object:
    """A copy of `obj` without any reference to this uid."""
    return _with_references(obj, [reference for reference in references(obj) if reference.get("uid") != owner_uid])


def _with_references(obj: Object, kept: list[Object]) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "ownerReferences"}
    if kept:
        metadata["ownerReferences"] = kept
    return {**obj, "metadata": metadata}


def is_deleted(obj: Object) -> bool:
    """Whether the object is on its way out (`deletionTimestamp` is set)."""
    return bool(obj["metadata"].get("deletionTimestamp"))
