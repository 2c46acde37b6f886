"""A watch as a stream of JSON lines: initial state, live events, bookmarks, and the 410 that ends it. Waits.

Source: the watch page of the Kubernetes API concepts: bookmarks, sendInitialEvents, "410 Gone" as an ERROR event.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.api import errors, request
from lab.api.negotiation import encode
from lab.api.store import Store, Watch

Object = dict[str, Any]
Render = Callable[[Object], Object]

# Seconds between bookmarks on a quiet stream; as the real server.
BOOKMARK_S = 60.0
# Seconds a watch lives when the client names no timeout: at random between these, so that not all come back at once.
LIFE_S = (1800.0, 3600.0)
INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Terms:
    """How one stream shall run. `since` None: the present state first. Times in seconds."""

    since: int | None
    wants_bookmarks: bool
    marks_initial_end: bool
    life_s: float


def terms(query: Mapping[str, str], chance: random.Random) -> Terms:
    """The terms that a query asks for. Raises ApiError BadRequest or Invalid."""
    text = query.get("resourceVersion", "")
    if text and not text.isdigit():
        raise errors.bad_request(f"invalid resource version {text!r}: must be a whole number")
    bookmarks = request.is_true(query, "allowWatchBookmarks")
    initial = request.is_true(query, "sendInitialEvents")
    if initial and query.get("resourceVersionMatch") != "NotOlderThan":
        reason = errors.cause("resourceVersionMatch", "Forbidden: sendInitialEvents needs NotOlderThan")
        raise errors.invalid("ListOptions", "meta.k8s.io", "", [reason])
    timeout_s = request.whole_number(query, "timeoutSeconds")
    life_s = float(timeout_s) if timeout_s else chance.uniform(*LIFE_S)
    since = None if initial or text in ("", "0") else int(text)
    return Terms(since, bookmarks, initial and bookmarks, life_s)


def line(kind: str, shown: Object) -> bytes:
    return encode({"type": kind, "object": shown}) + b"\n"


async def lines(
    open_watch: Callable[[int | None], Watch], store: Store, asked: Terms, render: Render, bookmark: Render
) -> AsyncIterator[bytes]:
    """The body of a watch answer. `render` forms each object; `bookmark` forms a metadata-only object of the kind."""
    watch: Watch | None = None
    try:
        watch = open_watch(asked.since)
        async for item in _events(watch, store, asked, render, bookmark):
            yield item
    except errors.ApiError as error:
        yield line("ERROR", error.status())
    finally:
        if watch is not None:
            watch.close()


async def _events(watch: Watch, store: Store, asked: Terms, render: Render, bookmark: Render) -> AsyncIterator[bytes]:
    def mark(annotations: Mapping[str, str]) -> bytes:
        metadata: Object = {"resourceVersion": str(store.revision), "creationTimestamp": None}
        return line(
            "BOOKMARK", bookmark({"metadata": metadata | ({"annotations": annotations} if annotations else {})})
        )

    if asked.marks_initial_end:
        while (event := watch.pop()) is not None:
            yield line(event.type, render(event.object))
        yield mark({INITIAL_END: "true"})
    ends_s = time.monotonic() + asked.life_s
    while not watch.is_closed and (left_s := ends_s - time.monotonic()) > 0:
        # An event may come just as the time is up; a bookmark before it would tell the client to skip it.
        event = await watch.next(min(left_s, BOOKMARK_S)) or watch.pop()
        if event is not None:
            yield line(event.type, render(event.object))
        elif asked.wants_bookmarks and not watch.is_closed:
            yield mark({})
