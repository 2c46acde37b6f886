"""The node says that it is there: its Node object and its Lease, renewed. Waits."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from lab.api.errors import ApiError
from lab.api.registry import Registry

from . import node_object
from .environment import NodeFacts

log = structlog.get_logger("lab.node")


async def beat(
    registry: Registry,
    facts: NodeFacts,
    version: str,
    now: Callable[[], datetime],
    when: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Once `when` is set, register the node and set `ready`; then renew for ever, whatever happens to the objects."""
    await when.wait()
    since = now()
    while True:
        try:
            await _renew_node(registry, facts, version, now(), since)
            await _renew_lease(registry, facts.name, now())
        except ApiError as error:
            log.warning("a heartbeat was refused", error=error.message)
        else:
            ready.set()
        await asyncio.sleep(node_object.HEARTBEAT_S)


async def _renew_node(registry: Registry, facts: NodeFacts, version: str, now: datetime, since: datetime) -> None:
    try:
        node = registry.get("nodes", None, facts.name)
    except ApiError:
        new = node_object.node(facts, version, now, ready=True)
        node = await registry.create("nodes", new)
        node = {**node, "status": new["status"]}
    fresh = node_object.conditions(now, since=since, ready=True)
    status = {**(node.get("status") or {}), "conditions": fresh}
    await registry.update("nodes", {**node, "status": status}, subresource="status")


async def _renew_lease(registry: Registry, name: str, now: datetime) -> None:
    wanted = node_object.lease(name, now)
    try:
        lease = registry.get("leases", "kube-node-lease", name)
    except ApiError:
        await registry.create("leases", wanted)
        return
    await registry.update("leases", {**lease, "spec": wanted["spec"]})
