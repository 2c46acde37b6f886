"""What the server itself writes into an object on create, update and delete, kind by kind. Pure.

Server-owned metadata is restored on every update; status and the rest each keep to their own path; a new Pod is
Pending; a Namespace carries the finalizer `kubernetes`. Functions change the fresh object given and return nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from lab.api import errors
from lab.api.options import timestamp
from lab.api.patch import clone
from lab.api.resources import Resource

Object = dict[str, Any]

# What the client may not change once the object exists.
SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
)
# Clients send these on create out of habit (an exported object); the server decides.
DROPPED_ON_CREATE = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "resourceVersion",
)
# A node registers itself with its status; every other kind starts with none.
KEEPS_STATUS_ON_CREATE = ("nodes", "customresourcedefinitions")
NAMESPACE_FINALIZER = "kubernetes"


def shaped(row: Resource, obj: Object, namespace: str | None) -> Object:
    """A fresh object for a create: its kind, and its namespace, that of the request or `default`.

    Raises ApiError BadRequest when object and request name different namespaces, Invalid when nothing names the object.
    """
    new: Object = {**clone(obj), "apiVersion": row.api_version, "kind": row.kind}
    metadata = new.setdefault("metadata", {})
    _check_metadata(metadata)
    if row.namespaced:
        place = metadata.get("namespace") or namespace or "default"
        if namespace and place != namespace:
            raise errors.bad_request(
                f"the namespace of the provided object, {place}, does not match that of the request, {namespace}"
            )
        metadata["namespace"] = place
    else:
        metadata.pop("namespace", None)
    if not metadata.get("name") and not metadata.get("generateName"):
        why = "Required value: name or generateName is required"
        raise errors.invalid(row.kind, row.group, "", [errors.cause("metadata.name", why, "FieldValueRequired")])
    return new


def _check_metadata(metadata: Any) -> None:
    """Raise ApiError BadRequest unless what names an object is text."""
    if not isinstance(metadata, dict):
        raise errors.bad_request("metadata: must be an object")
    for field in ("name", "namespace", "generateName", "uid", "resourceVersion"):
        if not isinstance(metadata.get(field) or "", str):
            raise errors.bad_request(f"metadata.{field}: must be text, not {metadata[field]!r}")


def begin(row: Resource, new: Object) -> None:
    """Shape an object that a client wants created, before defaults and admission."""
    for name in DROPPED_ON_CREATE:
        new["metadata"].pop(name, None)
    if row.has_status and row.key not in KEEPS_STATUS_ON_CREATE:
        new.pop("status", None)
    if row.key == "pods":
        new["status"] = {"phase": "Pending", "qosClass": quality_of_service(new.get("spec") or {})}
    if row.key == "namespaces":
        new["spec"] = {"finalizers": [NAMESPACE_FINALIZER]}
        new["status"] = {"phase": "Active"}
        new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"].get("name", "")


def carry_over(row: Resource, old: Object, new: Object, subresource: str) -> None:
    """Put back into `new` what this path may not change."""
    for name in SERVER_OWNED:
        if name in old["metadata"]:
            new["metadata"][name] = old["metadata"][name]
        else:
            new["metadata"].pop(name, None)
    new["metadata"].pop("selfLink", None)
    if subresource == "status":
        _keep_all_but_status(old, new)
    elif row.has_status:
        _restore(old, new, "status")
    if row.key == "namespaces" and subresource != "finalize":
        _keep_namespace(old, new)
    if row.key == "serviceaccounts" and "secrets" in old and "secrets" not in new:
        new["secrets"] = clone(old["secrets"])


def _restore(old: Object, new: Object, name: str) -> None:
    if name in old:
        new[name] = clone(old[name])
    else:
        new.pop(name, None)


def _keep_all_but_status(old: Object, new: Object) -> None:
    for name in {*old, *new} - {"status", "metadata", "apiVersion", "kind"}:
        _restore(old, new, name)
    kept = clone(old["metadata"])
    for name in ("resourceVersion", "managedFields"):
        if name in new["metadata"]:
            kept[name] = new["metadata"][name]
    new["metadata"] = kept


def _keep_namespace(old: Object, new: Object) -> None:
    emptied = "deletionTimestamp" in old["metadata"] and (new.get("spec") or {}).get("finalizers") == []
    if not emptied:
        _restore(old, new, "spec")


def bump_generation(row: Resource, old: Object | None, new: Object) -> None:
    """Count changes of what is wanted: anything but metadata and status."""
    if not row.has_generation:
        return
    if old is None:
        new["metadata"]["generation"] = 1
        return
    generation = int(old["metadata"].get("generation", 1))
    wanted = [{key: item for key, item in side.items() if key not in ("metadata", "status")} for side in (old, new)]
    started_dying = "deletionTimestamp" in new["metadata"] and "deletionTimestamp" not in old["metadata"]
    new["metadata"]["generation"] = generation + 1 if wanted[0] != wanted[1] or started_dying else generation


def is_releasable(row: Resource, item: Object) -> bool:
    """Whether an object that is being deleted has nothing left to wait for."""
    metadata = item["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if row.key == "namespaces" and (item.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def grace_of(row: Resource, item: Object, asked_s: int | None) -> int:
    """Seconds a deletion waits: only a Pod that a node holds has any."""
    if row.key != "pods":
        return 0
    spec, status = item.get("spec") or {}, item.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    grace_s = int(spec.get("terminationGracePeriodSeconds", 30)) if asked_s is None else max(0, asked_s)
    if "deletionTimestamp" in item["metadata"]:
        return min(grace_s, int(item["metadata"].get("deletionGracePeriodSeconds", 0)))
    return grace_s


def quality_of_service(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, by the containers' cpu and memory."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    pairs = [_resources(container) for container in containers]
    if not any(requests or limits for requests, limits in pairs):
        return "BestEffort"
    guaranteed = all(
        limits.keys() >= {"cpu", "memory"} and {**limits, **requests} == limits for requests, limits in pairs
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _resources(container: Object) -> tuple[dict[str, str], dict[str, str]]:
    resources = container.get("resources") or {}

    def of(side: str) -> dict[str, str]:
        return {key: str(item) for key, item in (resources.get(side) or {}).items() if key in ("cpu", "memory")}

    return of("requests"), of("limits")


def check_update(row: Resource, old: Object, new: Object) -> None:
    """Raise ApiError Conflict when the client wrote about another state, or another object of the same name."""
    if not isinstance(new, dict):
        raise errors.bad_request("what the patch makes is not an object")
    new["apiVersion"], new["kind"] = row.api_version, row.kind
    metadata = new.setdefault("metadata", {})
    _check_metadata(metadata)
    for field in ("name", "namespace"):
        if metadata.get(field, "") != old["metadata"].get(field, ""):
            place = f"{old['metadata'].get(field)}, not {metadata.get(field)}"
            raise errors.bad_request(f"metadata.{field}: a write cannot change it: it is {place}")
    check_preconditions(row, old, metadata.get("uid") or None, metadata.get("resourceVersion") or None)


def check_preconditions(row: Resource, old: Object, uid: str | None, version: str | None) -> None:
    """Raise ApiError Conflict unless the object has this uid and resourceVersion; None means any."""
    kept = old["metadata"]
    if uid is not None and uid != kept["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {kept['uid']}"
        raise errors.conflict(row.plural, row.group, kept["name"], why)
    if version is not None and version != kept["resourceVersion"]:
        raise errors.conflict(row.plural, row.group, kept["name"])


def dying(row: Resource, old: Object, grace_s: int | None, propagation: str, now: datetime) -> Object:
    """The object as a deletion leaves it: marked, with the finalizer that the propagation asks for."""
    new: Object = clone(old)
    metadata = new["metadata"]
    extra = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation)
    if extra and extra not in metadata.get("finalizers", []):
        metadata["finalizers"] = [*metadata.get("finalizers", []), extra]
    wait_s = grace_of(row, old, grace_s)
    if "deletionTimestamp" not in metadata or wait_s < int(metadata.get("deletionGracePeriodSeconds") or 0):
        metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=wait_s))
        metadata["deletionGracePeriodSeconds"] = wait_s
    if row.key == "namespaces":
        new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
    bump_generation(row, old, new)
    return new


def success(row: Resource, old: Object) -> Object:
    """The Status that answers a finished deletion."""
    details = {"name": old["metadata"]["name"], "kind": row.plural, "uid": old["metadata"]["uid"]}
    if row.group:
        details["group"] = row.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def terminating(row: Resource, namespace: str) -> errors.ApiError:
    """The refusal of anything new in a namespace that is going."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    refusal = errors.forbidden(why, row.plural, row.group)
    refusal.details = {"causes": [errors.cause("metadata.namespace", why, "NamespaceTerminating")]}
    return refusal
