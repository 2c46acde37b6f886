"""A live copy of the cluster's namespaces. Edge; one thread.

An admission waits for nobody where the copy is good: it is one look into a dictionary. Namespaces are few and only
labels and annotations are kept.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Event, Lock
from typing import Any

import structlog

from webhook.kube import Kube, KubeError

Json = dict[str, Any]

WATCH_S = 300
"""Length of one watch; the next goes on where it ended."""
BACKOFF_S = (0.2, 10.0)
"""First and longest pause after a failure."""
NAMESPACES_LIMIT = 100_000
"""More than any cluster has (Kubernetes' own limit is 10,000); beyond it names are looked up one by one."""

ASKED_S = 0.2
"""How long the answer about one namespace holds: an API server that asks again because a label is new soon hears it."""
ASKED_LIMIT = 1000

log = structlog.get_logger()


class Namespaces:
    """Labels and annotations by name, in the shape of a v1.Namespace."""

    def __init__(self, kube: Kube, monotonic: Callable[[], float]) -> None:
        self._kube = kube
        self._monotonic = monotonic
        self._asked: OrderedDict[str, tuple[float, Json | KubeError]] = OrderedDict()
        """What was looked up lately, and what came of it."""
        self._lock = Lock()
        self._known: dict[str, Json] = {}
        self._synced = Event()
        self._resource_version = ""

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    def known(self, name: str) -> Json | None:
        """The namespace as last seen, without waiting."""
        with self._lock:
            return self._known.get(name)

    def look_up(self, name: str) -> Json:
        """Ask the API server now, for a namespace so young that the watch has not told of it. Raises KubeError.

        The answer, a failure too, holds for ASKED_S: whoever reaches the webhook can name any namespace.
        """
        with self._lock:
            asked_s, answer = self._asked.get(name, (-ASKED_S, KubeError("")))
        if self._monotonic() - asked_s >= ASKED_S:
            try:
                answer = _reduced(self._kube.namespace(name))
            except KubeError as error:
                answer = error
            self._remember(name, answer)
        if isinstance(answer, KubeError):
            raise KubeError(str(answer), answer.status)
        return answer

    def _remember(self, name: str, answer: "Json | KubeError") -> None:
        with self._lock:
            self._asked[name] = (self._monotonic(), answer)
            self._asked.move_to_end(name)
            if len(self._asked) > ASKED_LIMIT:
                self._asked.popitem(last=False)
            if not isinstance(answer, KubeError) and len(self._known) < NAMESPACES_LIMIT:
                self._known[name] = answer

    def run(self, stop: Event) -> None:
        """List, then watch, until told to stop."""
        follow(self._turn, stop)

    def _turn(self) -> None:
        if not self._resource_version:
            self._list()
        for event in self._kube.watch_namespaces(self._resource_version, WATCH_S):
            self._take(event)

    def _list(self) -> None:
        items, version = self._kube.namespaces()
        with self._lock:
            self._known = {item["metadata"]["name"]: _reduced(item) for item in items[:NAMESPACES_LIMIT]}
        self._resource_version = version
        self._synced.set()

    def _take(self, event: Json) -> None:
        kind, item = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            # Nearly always 410: the server has forgotten where we were. Begin anew.
            self._resource_version = ""
            raise KubeError(f"watching namespaces: {item.get('message', 'ended by the server')}", item.get("code", 0))
        name = item["metadata"].get("name", "")
        with self._lock:
            if kind == "DELETED":
                self._known.pop(name, None)
            elif kind in ("ADDED", "MODIFIED") and len(self._known) < NAMESPACES_LIMIT:
                self._known[name] = _reduced(item)
        self._resource_version = item["metadata"]["resourceVersion"]


def follow(turn: Callable[[], None], stop: Event) -> None:
    """Run turns until told to stop; pause after each that fails, longer from one failure to the next."""
    pause_s = BACKOFF_S[0]
    while not stop.is_set():
        try:
            turn()
            pause_s = BACKOFF_S[0]
        except KubeError as error:
            if error.status == 410:
                continue
            log.warning("api server", error=str(error), retry_s=pause_s)
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_S[1])


def _reduced(item: Json) -> Json:
    metadata = item["metadata"]
    return {
        "metadata": {
            "name": metadata["name"],
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
        }
    }
