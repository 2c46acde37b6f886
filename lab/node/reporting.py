"""Writes a pod's status each time something changed. Waits."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from lab.api.errors import ApiError
from lab.api.registry import Registry

from .addresses import NODE_V4, NODE_V6
from .endpoints import Object
from .status import PodView, pod_status

log = structlog.get_logger("lab.node")
_AGAIN_S = 0.01


async def report(
    registry: Registry,
    stored: Callable[[], Object],
    view: Callable[[], PodView],
    dirty: asyncio.Event,
    now: Callable[[], datetime],
) -> None:
    """Until the pod is gone: wait for `dirty`, write. While one write waits, further changes gather."""
    dirty.set()
    while True:
        await dirty.wait()
        dirty.clear()
        metadata = stored()["metadata"]
        try:
            current = registry.get("pods", metadata["namespace"], metadata["name"])
            if current["metadata"]["uid"] != metadata["uid"]:
                return
            status = pod_status(current, view(), (NODE_V4, NODE_V6), now())
            if status != current.get("status"):
                await registry.update("pods", {**current, "status": status}, subresource="status")
        except ApiError as error:
            if error.reason == "NotFound":
                return
            if error.reason != "Conflict":
                log.warning("a pod's status was refused", pod=metadata["name"], error=error.message)
                continue
            dirty.set()
            await asyncio.sleep(_AGAIN_S)
