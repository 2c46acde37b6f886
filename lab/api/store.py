"""The objects, the one counter of resourceVersion, and the rings that watches replay. Waits (only `Watch.next`).

One event loop, one writer: every method but `Watch.next` is synchronous, so a put and its delivery to all watchers are
one step. An object is a plain dict and is never changed once it is in here. The counter starts from a number that the
caller takes from the clock, so that a client that outlives a lab finds its old version too old, never silently valid.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.api import errors

Object = dict[str, Any]
Matcher = Callable[[Object], bool]

# Events kept per kind for watches that resume. The real server keeps about this many per kind in its watch cache.
RING_COUNT = 1000
# Events that may wait for a slow watcher before its stream ends with 410 and it lists again.
PENDING_MAX_COUNT = 10_000


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. `type` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object
    resource_version: int


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one object: `old` is None on creation, `new` carries the last state on deletion."""

    revision: int
    old: Object | None
    new: Object
    is_deletion: bool = False


@dataclass(slots=True)
class Ring:
    """The last changes of one kind; versions up to `floor` can no longer be replayed."""

    floor: int
    changes: deque[Change] = field(default_factory=deque)

    def append(self, change: Change) -> None:
        if len(self.changes) >= RING_COUNT:
            self.floor = self.changes.popleft().revision
        self.changes.append(change)


def translate(change: Change, namespace: str | None, matches: Matcher) -> WatchEvent | None:
    """What a watcher with this selection sees: entering it is ADDED, leaving it is DELETED."""
    if namespace and change.new["metadata"].get("namespace") != namespace:
        return None
    before = change.old is not None and matches(change.old)
    after = not change.is_deletion and matches(change.new)
    if before and after:
        return WatchEvent("MODIFIED", change.new, change.revision)
    if after:
        return WatchEvent("ADDED", change.new, change.revision)
    return WatchEvent("DELETED", change.new, change.revision) if before else None


class Watch:
    """A live selection of one kind. Iterate it, or call `next` with a timeout; `close` it when done."""

    def __init__(self, store: Store, key: str, namespace: str | None, matches: Matcher) -> None:
        self._store = store
        self._key = key
        self._namespace = namespace
        self._matches = matches
        self._pending: deque[WatchEvent] = deque()
        self._wake = asyncio.Event()
        self._failure: errors.ApiError | None = None
        self._closed = False

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> WatchEvent:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self, timeout_s: float | None = None) -> WatchEvent | None:
        """The next event; None after `timeout_s` seconds without one or once closed. Raises Expired if too slow."""
        while not self._pending:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                return None
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), timeout_s)
            except TimeoutError:
                return None
        return self._pending.popleft()

    def pop(self) -> WatchEvent | None:
        """The next event that is already here, or None."""
        return self._pending.popleft() if self._pending else None

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Stop: nothing more is delivered, a waiting `next` returns None."""
        self._closed = True
        self._store.forget(self._key, self)
        self._wake.set()

    async def aclose(self) -> None:
        self.close()

    def preload(self, events: list[WatchEvent]) -> None:
        """Put the initial state or the replay in front, whatever its length."""
        self._pending.extend(events)

    def deliver(self, change: Change) -> None:
        event = translate(change, self._namespace, self._matches)
        if event is None:
            return
        if len(self._pending) >= PENDING_MAX_COUNT:
            self._failure = errors.expired("the watcher was too slow; list again")
            self._store.forget(self._key, self)
        else:
            self._pending.append(event)
        self._wake.set()


class Store:
    """Everything the server remembers, by kind, then by (namespace, name). Cluster-scoped objects have namespace ""."""

    def __init__(self, first_revision: int) -> None:
        self.revision = first_revision
        self._first_revision = first_revision
        self._objects: dict[str, dict[tuple[str, str], Object]] = {}
        self._rings: dict[str, Ring] = {}
        self._watches: dict[str, weakref.WeakSet[Watch]] = {}

    def get(self, key: str, namespace: str, name: str) -> Object | None:
        return self._objects.get(key, {}).get((namespace, name))

    def items(self, key: str, namespace: str | None = None) -> list[Object]:
        """All objects of a kind (in one namespace), by namespace and name."""
        kept = self._objects.get(key, {})
        return [kept[place] for place in sorted(kept) if not namespace or place[0] == namespace]

    def counts(self) -> dict[str, int]:
        return {key: len(kept) for key, kept in self._objects.items() if kept}

    def put(self, key: str, value: Object) -> Object:
        """Keep `value` (the store owns it from here) under a new resourceVersion, and tell the watchers."""
        metadata = value["metadata"]
        place = (metadata.get("namespace", ""), metadata["name"])
        kept = self._objects.setdefault(key, {})
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        change = Change(self.revision, kept.get(place), value)
        kept[place] = value
        self._publish(key, change)
        return value

    def remove(self, key: str, old: Object) -> Object:
        """Forget an object that is kept. Returns its last state, as watchers see it."""
        metadata = old["metadata"]
        del self._objects[key][metadata.get("namespace", ""), metadata["name"]]
        self.revision += 1
        last = {**old, "metadata": {**metadata, "resourceVersion": str(self.revision)}}
        self._publish(key, Change(self.revision, old, last, is_deletion=True))
        return last

    def watch(self, key: str, namespace: str | None, matches: Matcher, since: int | None) -> Watch:
        """Subscribe. `since` None: the present objects first, as ADDED. Raises Expired for an unknown version."""
        watch = Watch(self, key, namespace, matches)
        if since is None:
            present = [item for item in self.items(key, namespace) if matches(item)]
            watch.preload([WatchEvent("ADDED", item, int(item["metadata"]["resourceVersion"])) for item in present])
        else:
            replay = (translate(change, namespace, matches) for change in self._since(key, since))
            watch.preload([event for event in replay if event is not None])
        self._watches.setdefault(key, weakref.WeakSet()).add(watch)
        return watch

    def forget(self, key: str, watch: Watch) -> None:
        self._watches.get(key, weakref.WeakSet()).discard(watch)

    def end_watches(self, key: str) -> None:
        """Close every watch of a kind that is no longer served."""
        for watch in list(self._watches.get(key, ())):
            watch.close()

    def _ring(self, key: str) -> Ring:
        return self._rings.setdefault(key, Ring(self._first_revision))

    def _since(self, key: str, since: int) -> list[Change]:
        if since > self.revision:
            raise errors.expired(f"Too large resource version: {since}, current: {self.revision}")
        ring = self._ring(key)
        if since < ring.floor:
            raise errors.expired(f"too old resource version: {since} ({ring.floor})")
        return [change for change in ring.changes if change.revision > since]

    def _publish(self, key: str, change: Change) -> None:
        self._ring(key).append(change)
        for watch in list(self._watches.get(key, ())):
            watch.deliver(change)
