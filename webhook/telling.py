"""Write Events without making an admission wait for them. Edge; one thread.

A review may come from anybody who reaches the port, so its word is not enough for writing about an object: the object
is looked up first. An owner must have the uid that the review gave, which nobody knows without having read it; a pod
must carry the annotation that the webhook's own patch put on it. What cannot be looked up, or is otherwise, is dropped
and counted. A Deployment whose pods are skipped makes the same Event for each of them: one in ten minutes says as much.

Events wait by the address that asked, and each address has its turn: when all is full, the one that asked for most
loses its oldest.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Condition, Event
from typing import Any, Final

import structlog

from contract import names
from webhook.kube import Kube, KubeError

Json = dict[str, Any]

QUEUE_LIMIT = 1000
REMEMBERED_LIMIT = 10_000
"""Owner-and-reason pairs that are remembered, the oldest forgotten first."""
REPEAT_S = 600.0
PACE_S: Final = 0.05
"""Between two Events: twenty a second is more than any roll-out needs, and no load for an API server."""
POD_DELAY_S: Final = 2.0
"""Until a pod that was just admitted can be looked up."""

log = structlog.get_logger()


class Telling:
    """A bounded queue of Events; what does not fit is dropped and counted."""

    def __init__(self, kube: Kube, monotonic: Callable[[], float], pace_s: float = PACE_S) -> None:
        self._kube = kube
        self._monotonic = monotonic
        self._pace_s = pace_s
        self._waiting: OrderedDict[str, deque[tuple[float, Json]]] = OrderedDict()
        """By the address that asked, the next in turn first: when due, and the Event."""
        self._count = 0
        self._changed = Condition()
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self.dropped_count = 0
        self.unverified_count = 0

    def tell(self, event: Json, asked_by: str) -> None:
        """Queue an Event unless the same was told lately. Never waits."""
        now_s = self._monotonic()
        due_s = now_s + POD_DELAY_S if event["involvedObject"]["kind"] == "Pod" else now_s
        with self._changed:
            if self._was_told(event, now_s):
                return
            if self._count >= QUEUE_LIMIT:
                self._drop_one()
            self._waiting.setdefault(asked_by, deque()).append((due_s, event))
            self._count += 1
            self._changed.notify()

    def run(self, stop: Event) -> None:
        """Write what is queued until told to stop, and what is due then."""
        while True:
            event = self._next(0.0 if stop.is_set() else 0.5)
            if event is not None:
                self._write(event)
                stop.wait(self._pace_s)
            elif stop.is_set():
                return

    def _next(self, wait_s: float) -> Json | None:
        with self._changed:
            if not self._count:
                self._changed.wait(wait_s)
            now_s = self._monotonic()
            for address, events in list(self._waiting.items()):
                due_s, event = events[0]
                if due_s > now_s:
                    continue
                events.popleft()
                self._count -= 1
                self._waiting.move_to_end(address)
                if not events:
                    del self._waiting[address]
                return event
            if self._count:
                self._changed.wait(min(wait_s, 0.1))
        return None

    def _write(self, event: Json) -> None:
        with self._changed:
            if self._was_told(event, self._monotonic()):
                return
        try:
            if not self._is_true(event):
                self.unverified_count += 1
                return
            self._kube.create_event(event)
        except KubeError as error:
            log.warning("event", error=str(error), reason=event["reason"])
            return
        with self._changed:
            self._told[_key(event)] = self._monotonic()
            self._told.move_to_end(_key(event))
            if len(self._told) > REMEMBERED_LIMIT:
                self._told.popitem(last=False)

    def _is_true(self, event: Json) -> bool:
        """Look the object up; a pod's uid is filled in."""
        involved = event["involvedObject"]
        metadata = (self._kube.involved(involved) or {}).get("metadata") or {}
        if involved["kind"] != "Pod":
            return bool(metadata) and metadata.get("uid") == involved["uid"]
        if (metadata.get("annotations") or {}).get(names.SKIP_REASON) != event["reason"]:
            return False
        involved["uid"] = metadata.get("uid", "")
        return True

    def _was_told(self, event: Json, now_s: float) -> bool:
        return now_s - self._told.get(_key(event), -REPEAT_S) < REPEAT_S

    def _drop_one(self) -> None:
        address = max(self._waiting, key=lambda one: len(self._waiting[one]))
        self._waiting[address].popleft()
        if not self._waiting[address]:
            del self._waiting[address]
        self._count -= 1
        self.dropped_count += 1


def _key(event: Json) -> tuple[str, ...]:
    # Only what was looked up is remembered under its uid, so nobody can make the true Event look like a repetition.
    involved = event["involvedObject"]
    uid = "" if involved["kind"] == "Pod" else str(involved["uid"])
    return (involved["namespace"], involved["kind"], involved["name"], uid, event["reason"])
