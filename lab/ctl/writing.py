"""Reads and writes that controllers share: objects that may be gone, statuses, owners. Waits (for admission)."""

from collections.abc import Awaitable

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.owners import Object, uid


def find(registry: Registry, resource: str, namespace: str, name: str) -> Object | None:
    """The object, or None where it is not there."""
    try:
        return registry.get(resource, namespace, name)
    except ApiError as error:
        if error.reason != "NotFound":
            raise
        return None


async def write_status(registry: Registry, resource: str, seen: Object, status: Object) -> None:
    """Write a status computed from `seen` onto the object as it is now, unless it is gone or has it already."""
    metadata = seen["metadata"]
    current = find(registry, resource, metadata.get("namespace", ""), metadata["name"])
    if current is None or uid(current) != uid(seen) or current.get("status", {}) == status:
        return
    await if_there(registry.update(resource, {**current, "status": status}, subresource="status"))


async def if_there(request: Awaitable[Object]) -> Object | None:
    """Await a write; None when the object is gone."""
    try:
        return await request
    except ApiError as error:
        if error.reason != "NotFound":
            raise
        return None


async def remove(registry: Registry, resource: str, item: Object, *, propagation: str = "Background") -> None:
    """Delete this very object (by uid); nothing happens when it is gone or was replaced."""
    metadata = item["metadata"]
    try:
        await registry.delete(
            resource, metadata.get("namespace", ""), metadata["name"], propagation=propagation, uid=uid(item)
        )
    except ApiError as error:
        if error.reason not in ("NotFound", "Conflict"):
            raise


def is_namespace_going(error: ApiError) -> bool:
    """Whether a create was refused because its namespace is being deleted: nothing to retry, nothing to tell."""
    causes = (error.details or {}).get("causes", [])
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
