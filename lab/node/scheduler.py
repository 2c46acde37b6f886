"""The whole scheduler: the lab has one node. Waits."""

from collections.abc import Callable
from datetime import datetime

import structlog

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.events import Recorder

from . import node_object
from .endpoints import Object

log = structlog.get_logger("lab.node")


async def schedule(
    registry: Registry, pod: Object, node: str, labels: dict[str, str], now: Callable[[], datetime]
) -> None:
    """Give a pod to the node, or say why it cannot be given."""
    metadata, why_not = pod["metadata"], node_object.why_not_here(pod, labels)
    recorder = Recorder(registry, "default-scheduler", lambda: now().timestamp())
    if why_not:
        await recorder.warning(pod, "FailedScheduling", why_not)
        return
    patch = {"metadata": {"uid": metadata["uid"]}, "spec": {"nodeName": node}}
    where = metadata["namespace"], metadata["name"]
    try:
        await registry.patch("pods", *where, patch, "application/merge-patch+json")
    except ApiError as error:
        if error.reason != "NotFound":
            log.warning("a pod could not be given to the node", pod=metadata["name"], error=error.message)
        return
    await recorder.normal(pod, "Scheduled", f"Successfully assigned {'/'.join(where)} to {node}")
