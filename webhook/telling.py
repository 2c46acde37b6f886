"""Write Events without making an admission wait for them. Edge; one thread.

A Deployment whose pods are skipped makes the same Event for each of them: one in ten minutes says as much.
"""

from collections import OrderedDict
from collections.abc import Callable
from queue import Empty, Full, Queue
from threading import Event
from typing import Any

import structlog

from webhook.kube import Kube, KubeError

Json = dict[str, Any]

QUEUE_LIMIT = 1000
REMEMBERED_LIMIT = 10_000
"""Owner-and-reason pairs that are remembered, the oldest forgotten first."""
REPEAT_S = 600.0

log = structlog.get_logger()


class Telling:
    """A bounded queue of Events; what does not fit is dropped and counted."""

    def __init__(self, kube: Kube, monotonic: Callable[[], float]) -> None:
        self._kube = kube
        self._monotonic = monotonic
        self._queue: Queue[Json] = Queue(QUEUE_LIMIT)
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self.dropped_count = 0

    def tell(self, event: Json) -> None:
        """Queue an Event unless the same was told lately. Never waits."""
        involved = event["involvedObject"]
        key = (involved["namespace"], involved["kind"], involved["name"], event["reason"])
        now_s = self._monotonic()
        if now_s - self._told.get(key, -REPEAT_S) < REPEAT_S:
            return
        try:
            self._queue.put_nowait(event)
        except Full:
            self.dropped_count += 1
            return
        self._told[key] = now_s
        self._told.move_to_end(key)
        if len(self._told) > REMEMBERED_LIMIT:
            self._told.popitem(last=False)

    def run(self, stop: Event) -> None:
        """Write what is queued until told to stop, and what is left then."""
        while not (stop.is_set() and self._queue.empty()):
            try:
                event = self._queue.get(timeout=0.5)
            except Empty:
                continue
            try:
                self._kube.create_event(event)
            except KubeError as error:
                log.warning("event", error=str(error), reason=event["reason"])
