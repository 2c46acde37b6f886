"""Kubernetes Events: what happened to an object, for `kubectl describe` and `kubectl events`. Waits.

The same news about the same object is one Event with a count. Events are forgotten after an hour, as in every cluster.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.loop import Controller, own_key
from lab.ctl.owners import Object
from lab.ctl.queue import Key
from lab.ctl.times import to_seconds, to_text
from lab.ctl.writing import find, remove

LIFE_S = 3600.0
"""Kubernetes' default of `--event-ttl`."""
MESSAGE_MAX_LETTERS_COUNT = 1024
"""Kubernetes' bound of an Event's message."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes Events in the name of one component ("deployment-controller"); `now` gives seconds since the epoch."""

    registry: Registry
    component: str
    now: Callable[[], float]

    async def normal(self, about: Object, reason: str, message: str) -> None:
        """News that nobody need worry about."""
        await self._record("Normal", about, reason, message)

    async def warning(self, about: Object, reason: str, message: str) -> None:
        """News that somebody may have to act on."""
        await self._record("Warning", about, reason, message)

    async def _record(self, kind: str, about: Object, reason: str, message: str) -> None:
        event = new_event(self.component, kind, about, reason, message[:MESSAGE_MAX_LETTERS_COUNT], to_text(self.now()))
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        held = find(self.registry, "events", namespace, name)
        try:
            if held is None:
                await self.registry.create("events", event)
            else:
                again = {"count": held.get("count", 1) + 1, "lastTimestamp": event["lastTimestamp"]}
                await self.registry.update("events", {**held, **again})
        except ApiError:
            return  # an Event that cannot be kept (its namespace is going) must not stop what it tells of


def new_event(component: str, kind: str, about: Object, reason: str, message: str, at: str) -> Object:
    """A core/v1 Event, not stored yet; its name is the same for the same news."""
    metadata = about["metadata"]
    news = "\0".join((component, kind, metadata.get("uid", ""), reason, message))
    involved = {
        "apiVersion": about["apiVersion"],
        "kind": about["kind"],
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "uid": metadata.get("uid", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(news.encode()).hexdigest()[:16]}",
            "namespace": metadata.get("namespace") or "default",
        },
        "involvedObject": {key: value for key, value in involved.items() if value},
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def expiry(registry: Registry, now: Callable[[], float]) -> Controller:
    """The controller that forgets old Events."""

    async def reconcile(key: Key) -> float | None:
        event = find(registry, "events", key.namespace, key.name)
        if event is None:
            return None
        last = to_seconds(
            event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
        )
        left_s = (last or 0.0) + LIFE_S - now()
        if left_s > 0:
            return left_s
        await remove(registry, "events", event)
        return None

    return Controller("event expiry", {"events": own_key}, reconcile, workers_count=1)
