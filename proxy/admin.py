"""The admin port: /live, /ready, /metrics, /config. Waits. Nothing here changes any state.

It is a small trio server over the sidecar's own request reader. Anybody who reaches the pod reaches this port, and the
kubelet restarts the pod when /live is not answered, so strangers must not be able to shut it out:

- Of CLIENTS_LIMIT_COUNT connections the ones that wait for a request give way to a newcomer, those of the address
  that holds the most first (contract.seats). A request's head must be there within HEAD_TIMEOUT_S.
- Probes are answered at once, in a few bytes. All other pages cost time and memory: they are made one after another,
  with a rest between them, and PAGES_LIMIT_COUNT of them at most are on their way to their readers.

Pages are rendered in slices with a checkpoint between them: traffic goes on meanwhile.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from contract.probes import TCP_PATH
from contract.seats import Seats
from proxy.errors import WireFault
from proxy.model import RequestHead, plain_ip
from proxy.wire.http1 import RequestReader

CLIENTS_LIMIT_COUNT: Final = 64
"""Connections at once: probes and one or two scrapers need a handful."""

HEAD_TIMEOUT_S: Final = 3.0
"""Seconds from a connection's beginning until its first request must be there."""

IDLE_TIMEOUT_S: Final = 10.0
"""Seconds between two requests."""

ANSWER_TIMEOUT_S: Final = 10.0
"""Seconds for making and sending an answer."""

PAGES_LIMIT_COUNT: Final = 4
"""Pages in memory at once, beside probes: of some megabytes each where there are many series."""

SLOW_READER_S: Final = 1.0
"""Seconds after which a page that is still on its way gives way to another reader's."""

REST_RATIO: Final = 3.0
"""Rest after a page, in times of what it took: all pages together take a quarter of the processor at most."""

REST_MAX_S: Final = 1.0

PROBES: Final = frozenset(("/live", "/ready"))

_MAX_HEAD_BYTES: Final = 8192

TEXT: Final = "text/plain; charset=utf-8"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
JSON: Final = "application/json"

_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a content type and the body in slices."""

    status: int
    content_type: str
    body: Iterable[str]


Page = Callable[[], Answer | Awaitable[Answer]]

Elsewhere = Callable[[bytes], Awaitable[Answer]]
"""Answers the targets of pages that are not here."""


class _Requests:
    """Sink of the request reader: keeps the last head, drops bodies."""

    def __init__(self) -> None:
        self.is_whole = False

    def take(self) -> RequestHead:
        self.is_whole = False
        return self._head

    def on_request(self, head: RequestHead) -> None:
        self._head = head

    def on_body(self, data: bytes) -> None: ...

    def on_end(self) -> None:
        self.is_whole = True


class _Visit:
    """One connection, as seats know it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.may_yield = True
        """It waits for a request."""


class _Reading:
    """One page on its way to its reader, as seats know it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.since_s = trio.current_time()

    @property
    def may_yield(self) -> bool:
        """Whether its reader is slow."""
        return trio.current_time() - self.since_s > SLOW_READER_S


_V = TypeVar("_V", _Visit, _Reading)


class Admin:
    """Serves pages by path."""

    def __init__(
        self,
        pages: dict[str, Page],
        on_bug: Callable[[object, Exception], None],
        on_refused: Callable[[str], None],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`on_refused` counts: `client`, a connection that gave way or was not let in; `page`, the same of a page."""
        self.on_bug = on_bug
        self._pages = pages
        self._on_refused = on_refused
        self._elsewhere = elsewhere
        self._visits: Seats[_Visit] = Seats(CLIENTS_LIMIT_COUNT)
        self._readings: Seats[_Reading] = Seats(PAGES_LIMIT_COUNT)
        self._making = trio.Lock()
        self._rest_until_s = 0.0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends, is told to close, is too slow, or gives way to another."""
        visit = _Visit()
        source = _address_of(stream)
        try:
            with visit.scope:
                async with stream:
                    if self._take(self._visits, visit, source, "client"):
                        await self._converse(stream, visit, source)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone
        except Exception as error:  # a page that cannot be made must not take the traffic with it
            self.on_bug(self, error)
        finally:
            self._visits.give(visit)

    def _take(self, seats: Seats[_V], seat: _V, source: str, what: str) -> bool:
        """Give a connection, or a page on its way, a seat. If all are taken, end one that may yield, or refuse."""
        if seats.is_full:
            self._on_refused(what)
            other = seats.yielding(source, lambda one: one.may_yield)
            if other is None:
                return False
            other.scope.cancel()
            seats.give(other)
        seats.take(seat, source)
        return True

    async def _converse(self, stream: trio.SocketStream, visit: _Visit, source: str) -> None:
        requests = _Requests()
        reader = RequestReader(requests, _MAX_HEAD_BYTES)
        timeout_s = HEAD_TIMEOUT_S
        while True:
            visit.may_yield = True
            with trio.move_on_after(timeout_s):
                if not await self._read(stream, reader, requests):
                    return
            if not requests.is_whole:
                return
            visit.may_yield = False
            head = requests.take()
            with trio.move_on_after(ANSWER_TIMEOUT_S) as deadline:
                await self._respond(stream, head, source)
            if deadline.cancelled_caught or not head.keep_alive:
                return
            timeout_s = IDLE_TIMEOUT_S

    async def _read(self, stream: trio.SocketStream, reader: RequestReader, requests: _Requests) -> bool:
        """Take the next request; False when the client ends, or says something else."""
        try:
            if reader.is_done:
                reader.next_message()
            while not requests.is_whole:
                data = await stream.receive_some(_MAX_HEAD_BYTES)
                if not data:
                    return False
                reader.feed(bytes(data))
        except WireFault as fault:
            await self._send(stream, 400, TEXT, [f"{fault}\n".encode()], False, False)
            return False
        return True

    async def _respond(self, stream: trio.SocketStream, head: RequestHead, source: str) -> None:
        is_head = head.method == b"HEAD"
        path = _path(head.target)
        if path in PROBES or path.startswith(TCP_PATH):
            answer = await self.answer(head.method, head.target)
            slices = [piece.encode() for piece in answer.body]
            await self._send(stream, answer.status, answer.content_type, slices, head.keep_alive, is_head)
            return
        reading = _Reading()
        if not self._take(self._readings, reading, source, "page"):
            text = b"other pages are on their way to slow readers; try again\n"
            await self._send(stream, 503, TEXT, [text], head.keep_alive, is_head)
            return
        try:
            with reading.scope:
                answer, slices = await self._make(head)
                await self._send(stream, answer.status, answer.content_type, slices, head.keep_alive, is_head)
        finally:
            self._readings.give(reading)
        if reading.scope.cancelled_caught:
            raise trio.ClosedResourceError("gave way")

    async def _make(self, head: RequestHead) -> tuple[Answer, list[bytes]]:
        """Make a page, when the one before it is made and the processor has had its rest."""
        async with self._making:
            await trio.sleep(max(0.0, self._rest_until_s - trio.current_time()))
            began_s = trio.current_time()
            try:
                answer = await self.answer(head.method, head.target)
                slices = []
                for piece in answer.body:
                    slices.append(piece.encode())
                    await trio.lowlevel.checkpoint()
            finally:
                ended_s = trio.current_time()
                self._rest_until_s = ended_s + min(REST_MAX_S, REST_RATIO * (ended_s - began_s))
        return answer, slices

    async def answer(self, method: bytes, target: bytes) -> Answer:
        """Find the page of a request; the query does not matter."""
        page = self._pages.get(_path(target))
        if page is None:
            if self._elsewhere is not None and method in (b"GET", b"HEAD"):
                return await self._elsewhere(target)
            return Answer(404, TEXT, [f"no such page; there are {', '.join(sorted(self._pages))}\n"])
        if method not in (b"GET", b"HEAD"):
            return Answer(405, TEXT, ["only GET and HEAD\n"])
        made = page()
        return made if isinstance(made, Answer) else await made

    async def _send(
        self,
        stream: trio.SocketStream,
        status: int,
        content_type: str,
        slices: list[bytes],
        keep_alive: bool,
        is_head: bool,
    ) -> None:
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {sum(map(len, slices))}\r\nConnection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
        )
        await stream.send_all(head.encode() if is_head else b"".join([head.encode(), *slices]))


def _address_of(stream: trio.SocketStream) -> str:
    """The client's address; empty when it has gone."""
    try:
        return plain_ip(stream.socket.getpeername()[0])
    except OSError:
        return ""


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode("latin-1")


def process_metrics(started_at_s: float) -> dict[str, tuple[Callable[[], float], str]]:
    """Gauges of the process itself, by the names that every Prometheus client uses."""
    return {
        "process_start_time_seconds": (lambda: started_at_s, "Start of the process since the epoch in seconds."),
        "process_cpu_seconds_total": (_cpu_s, "User and system CPU time in seconds."),
        "process_resident_memory_bytes": (lambda: _statm(1) * _PAGE_BYTES, "Resident memory in bytes."),
        "process_virtual_memory_bytes": (lambda: _statm(0) * _PAGE_BYTES, "Virtual memory in bytes."),
        "process_open_fds": (_open_fds, "Open file descriptors."),
        "process_max_fds": (_max_fds, "Limit of open file descriptors."),
    }


_PAGE_BYTES: Final = 4096


def _cpu_s() -> float:
    import os

    times = os.times()
    return times.user + times.system


def _statm(position: int) -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[position])


def _open_fds() -> float:
    import os

    return float(len(os.listdir("/proc/self/fd")))


def _max_fds() -> float:
    import resource

    return float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
