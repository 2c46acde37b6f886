"""The admin port: /live, /ready, /metrics, /config. Waits. Nothing here changes any state.

It is a small trio server over the sidecar's own request reader: at most MAX_CLIENTS_COUNT connections, each with a
deadline, so that a slow or silent client costs nothing but its socket. /metrics is rendered in slices with a
checkpoint between them: traffic goes on meanwhile.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from proxy.errors import WireFault
from proxy.model import RequestHead
from proxy.wire.http1 import RequestReader

MAX_CLIENTS_COUNT: Final = 64
"""Admin connections at once; more are closed (probes and one or two scrapers need a handful)."""

CLIENT_TIMEOUT_S: Final = 10.0
"""Seconds for one request and its answer, and between two requests."""

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


class Admin:
    """Serves pages by path."""

    def __init__(
        self, pages: dict[str, Page], on_bug: Callable[[object, Exception], None], elsewhere: Elsewhere | None = None
    ) -> None:
        self.on_bug = on_bug
        self._pages = pages
        self._elsewhere = elsewhere
        self._clients_count = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends, is told to close, or is too slow."""
        self._clients_count += 1
        try:
            async with stream:
                if self._clients_count <= MAX_CLIENTS_COUNT:
                    await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone
        except Exception as error:  # a page that cannot be made must not take the traffic with it
            self.on_bug(self, error)
        finally:
            self._clients_count -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        requests = _Requests()
        reader = RequestReader(requests, _MAX_HEAD_BYTES)
        keep_alive = True
        while keep_alive:
            with trio.move_on_after(CLIENT_TIMEOUT_S) as deadline:
                keep_alive = await self._exchange(stream, reader, requests)
            keep_alive = keep_alive and not deadline.cancelled_caught

    async def _exchange(self, stream: trio.SocketStream, reader: RequestReader, requests: _Requests) -> bool:
        try:
            if reader.is_done:
                reader.next_message()
            while not requests.is_whole:
                data = await stream.receive_some(_MAX_HEAD_BYTES)
                if not data:
                    return False
                reader.feed(bytes(data))
        except WireFault as fault:
            await self._send(stream, Answer(400, TEXT, [f"{fault}\n"]), False, False)
            return False
        head = requests.take()
        answer = await self.answer(head.method, head.target)
        await self._send(stream, answer, head.keep_alive, head.method == b"HEAD")
        return head.keep_alive

    async def answer(self, method: bytes, target: bytes) -> Answer:
        """Find the page of a request; the query does not matter."""
        page = self._pages.get(target.partition(b"?")[0].decode("latin-1"))
        if page is None:
            if self._elsewhere is not None and method in (b"GET", b"HEAD"):
                return await self._elsewhere(target)
            return Answer(404, TEXT, [f"no such page; there are {', '.join(sorted(self._pages))}\n"])
        if method not in (b"GET", b"HEAD"):
            return Answer(405, TEXT, ["only GET and HEAD\n"])
        made = page()
        return made if isinstance(made, Answer) else await made

    async def _send(self, stream: trio.SocketStream, answer: Answer, keep_alive: bool, is_head: bool) -> None:
        slices = []
        for piece in answer.body:
            slices.append(piece.encode())
            await trio.lowlevel.checkpoint()
        head = (
            f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {sum(map(len, slices))}\r\nConnection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
        )
        await stream.send_all(head.encode() if is_head else b"".join([head.encode(), *slices]))


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
