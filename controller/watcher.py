"""One list-and-watch thread a kind. Waits, in threads of its own.

A watcher lists in pages, then watches from the list's resourceVersion with bookmarks; a watch that ends is resumed
where it stood, on 410 the kind is listed anew, on a failure it waits with jitter. TCP keep-alive finds a dead
connection within a minute. A kind that the server does not serve (404) counts as empty and is looked for again.

Sources: Kubernetes, "API concepts" (watch, bookmarks, 410 Gone, limit and continue).
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Final, Protocol

import msgspec
import structlog
import urllib3

from controller.cluster import Change, Replace
from controller.kinds import EventWire, Kind, ListWire, PositionWire, StatusWire
from controller.kube import FAILURES, REQUEST_TIMEOUT_S, Api, ApiFault
from controller.objects import Record

PAGE_COUNT: Final = 500
"""Objects in one page of a list: kubectl's number."""
WATCH_S: Final = (240, 300)
"""A watch is ended by the server after a random time between these, so that watches spread over replicas again."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 30.0
SETTLED_S: Final = 5.0
"""A watch that lived this long ends a series of failures."""
LINE_BYTES: Final = 16 << 20
"""A longer line of a watch is no object (etcd takes 1.5 MB)."""

_LIST = msgspec.json.Decoder(ListWire)
_EVENT = msgspec.json.Decoder(EventWire)
_POSITION = msgspec.json.Decoder(PositionWire)
_STATUS = msgspec.json.Decoder(StatusWire)


class Deliver(Protocol):
    """Takes a change off a watching thread; may block it."""

    def __call__(self, change: Change | Replace, read_s: float, /) -> None: ...


class Expired(Exception):
    """410: the position is too old (or from another life of the server)."""


@dataclass(slots=True, eq=False)
class Watcher:
    """Keeps one kind in view; `run` is the body of a thread."""

    api: Api
    kind: Kind
    deliver: Deliver
    on_failure: Callable[[Kind, str], None]
    """Told of each failure in words, from the thread."""
    chance: Random = field(default_factory=Random)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _response: urllib3.BaseHTTPResponse | None = None
    _pause_s: float = FIRST_PAUSE_S

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.run, name=f"watch-{self.kind.name}", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End `run` soon, from any thread."""
        self._stopping.set()
        response = self._response
        if response is not None:
            try:
                response.shutdown()  # wakes the read
            except (RuntimeError, ValueError, OSError):
                pass  # it ended by itself meanwhile

    def run(self) -> None:
        position = ""
        while not self._stopping.is_set():
            started_s = monotonic()
            try:
                position = position or self._list()
                position = self._watch(position)
            except Expired:
                position = ""
            except ApiFault as fault:
                if fault.status == 404 and not position:
                    self.deliver(Replace(self.kind.name, ()), monotonic())
                    self._stopping.wait(self.kind.absent_pause_s)
                    continue
                position = "" if fault.status in (404, 410) else position
                self.on_failure(self.kind, str(fault))
            except FAILURES as fault:
                if not self._stopping.is_set():
                    self.on_failure(self.kind, f"{type(fault).__name__}: {fault}")
            self._pause(monotonic() - started_s)

    def _pause(self, lived_s: float) -> None:
        """Wait before the next try: next to nothing after a watch that had lived, longer after each that had not."""
        if lived_s >= SETTLED_S:
            self._pause_s = FIRST_PAUSE_S
        self._stopping.wait(self._pause_s * self.chance.uniform(0.5, 1.0))
        self._pause_s = FIRST_PAUSE_S if lived_s >= SETTLED_S else min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _list(self) -> str:
        """Deliver all objects; returns the position to watch from."""
        query = {"limit": str(PAGE_COUNT)}
        records: list[Record] = []
        while True:
            page = _LIST.decode(self.api.request("GET", self.kind.path, query))
            records += [record for raw in page.items or () if (record := self._decode(raw)) is not None]
            if not page.metadata.continue_token:
                break
            query["continue"] = page.metadata.continue_token
        self.deliver(Replace(self.kind.name, tuple(records)), monotonic())
        return page.metadata.resource_version

    def _watch(self, position: str) -> str:
        """Deliver changes until the server ends the watch; returns the position reached."""
        timeout_s = self.chance.randint(*WATCH_S)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": position,
            "timeoutSeconds": str(timeout_s),
        }
        with self.api.stream(self.kind.path, query, timeout_s + REQUEST_TIMEOUT_S) as response:
            self._response = response
            try:
                lines = _lines(response)
                # Asked before each read: a stop that came before the response was known cannot wake it.
                while not self._stopping.is_set() and (line := next(lines, b"")):
                    position = self._on_line(line) or position
            except FAILURES as fault:
                # What was read counts: the next watch goes on from here.
                if not self._stopping.is_set():
                    self.on_failure(self.kind, f"{type(fault).__name__}: {fault}")
            finally:
                self._response = None
        return position

    def _on_line(self, line: bytes) -> str:
        """Deliver one event; returns its position.

        Raises:
            Expired, ApiFault: an ERROR event.
        """
        event = _EVENT.decode(line)
        if event.type == "ERROR":
            status = _STATUS.decode(event.object)
            if status.code == 410:
                raise Expired
            raise ApiFault(status.code or 500, status.message or "without a message")
        position = _POSITION.decode(event.object).metadata.resource_version
        if event.type in ("ADDED", "MODIFIED", "DELETED"):
            record = self._decode(event.object)
            if record is not None:
                kept = None if event.type == "DELETED" else record
                self.deliver(Change(self.kind.name, record.key, kept), monotonic())
        return position

    def _decode(self, raw: msgspec.Raw) -> Record | None:
        try:
            return self.kind.decode(raw)
        except (msgspec.MsgspecError, ValueError) as fault:
            structlog.get_logger().error("object not understood", kind=self.kind.name, fault=str(fault))
            return None


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Cut a stream into lines as its bytes arrive."""
    rest = b""
    while chunk := response.read1(1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
        if len(rest) > LINE_BYTES:
            raise ApiFault(500, f"a line of the watch is longer than {LINE_BYTES} bytes")
