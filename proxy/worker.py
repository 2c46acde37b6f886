"""A worker's end of the socket to its parent: obeys, tells what it counts. Waits.

Frames are a length of four bytes and a MessagePack body, over a socket pair. When the socket ends, the parent has
gone: the worker drains, as if it had been told to.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from proxy.admin import TEXT
from proxy.drain import AppListens
from proxy.merge import News, Teller

if TYPE_CHECKING:
    import socket

    from proxy.app import App

NEWS_S: Final = 1.0
"""Seconds between two news: a worker that is killed takes at most the counts of so long with it."""

DRAIN_POLL_S: Final = 0.02
"""Seconds between two looks at whether this worker is busy, while all wait for the last to be quiet."""

LAST_NEWS_S: Final = 1.0
"""Seconds that the last news may take."""

_SIZE: Final = struct.Struct("!I")
_MAX_READ_BYTES: Final = 65536


class State(msgspec.Struct, array_like=True, tag="state"):
    """Worker to parent, whenever it changes."""

    is_ready: bool
    is_busy: bool
    """It has sessions."""


class Page(msgspec.Struct, array_like=True, tag="page"):
    """Worker to parent: an answer of the admin port."""

    asked: int
    status: int
    content_type: str
    body: str


class AskNews(msgspec.Struct, array_like=True, tag="ask-news"):
    """Parent to worker."""

    asked: int


class AskPage(msgspec.Struct, array_like=True, tag="ask-page"):
    """Parent to worker: answer a GET in my stead."""

    asked: int
    target: str


class Drain(msgspec.Struct, array_like=True, tag="drain"):
    """Parent to worker."""


class Elsewhere(msgspec.Struct, array_like=True, tag="elsewhere"):
    """Parent to worker, in a drain: whether another worker has sessions."""

    is_busy: bool


ToParent = State | Page | News
ToWorker = AskNews | AskPage | Drain | Elsewhere

_TO_WORKER: Final = msgspec.msgpack.Decoder(ToWorker)


def frame(message: ToParent | ToWorker) -> bytes:
    """Encode for the socket."""
    body = msgspec.msgpack.encode(message)
    return _SIZE.pack(len(body)) + body


def frames(held: bytearray) -> Iterator[bytes]:
    """Take the whole frames out of what has arrived."""
    while len(held) >= _SIZE.size:
        end = _SIZE.size + _SIZE.unpack_from(held)[0]
        if len(held) < end:
            return
        body = bytes(held[_SIZE.size : end])
        del held[:end]
        yield body


class Worker:
    """Runs the sidecar in a process that a parent has forked."""

    def __init__(self, sock: "socket.socket", app_listens: AppListens) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._app_listens = app_listens
        self._is_busy_elsewhere = False
        self._told = State(False, False)
        self._sending = trio.Lock()

    def app_listens(self, own_ports: frozenset[int]) -> bool:
        """Whether the drain must go on waiting: for the application, or for another worker.

        All close their listeners together, because the kernel gives a new connection to one listener by its address
        alone: one that closed before the others would reset those that were on their way to it.
        """
        return self._is_busy_elsewhere or self._app_listens(own_ports)

    async def run(self, app: "App") -> None:
        """Run the sidecar to its end."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._sock))
        teller = Teller(app.meter)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, stream, app, teller)
            nursery.start_soon(self._watch, stream, app)
            nursery.start_soon(self._tell, stream, teller)
            await app.run()
            with trio.move_on_after(LAST_NEWS_S) as scope:
                scope.shield = True
                await self._send(stream, teller.news(0))
            nursery.cancel_scope.cancel()

    async def _send(self, stream: trio.SocketStream, message: ToParent) -> None:
        # A frame is sent whole or the socket is given up: half of one would garble all that follow.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._sending:
                await stream.send_all(frame(message))

    async def _tell(self, stream: trio.SocketStream, teller: Teller) -> None:
        while True:
            await trio.sleep(NEWS_S)
            news = teller.news(0)
            if not news.is_empty:
                await self._send(stream, news)

    async def _watch(self, stream: trio.SocketStream, app: "App") -> None:
        await app.started.wait()
        while True:
            state = State(app.is_ready, bool(app.parts.sessions))
            if state.is_ready != self._told.is_ready or (app.stopping.is_set() and state != self._told):
                self._told = state
                await self._send(stream, state)
            if app.stopping.is_set():
                await trio.sleep(DRAIN_POLL_S)
            else:
                await app.stopping.wait()

    async def _hear(self, stream: trio.SocketStream, app: "App", teller: Teller) -> None:
        held = bytearray()
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(_MAX_READ_BYTES):
                held += data
                for body in frames(held):
                    await self._obey(_TO_WORKER.decode(body), stream, app, teller)
        self._is_busy_elsewhere = False
        app.stopping.set()

    async def _obey(self, order: ToWorker, stream: trio.SocketStream, app: "App", teller: Teller) -> None:
        match order:
            case AskNews(asked):
                await self._send(stream, teller.news(asked))
            case AskPage(asked, target):
                await self._send(stream, await self._page(asked, target, app))
            case Drain():
                self._is_busy_elsewhere = True
                app.stopping.set()
            case Elsewhere(is_busy):
                self._is_busy_elsewhere = is_busy

    async def _page(self, asked: int, target: str, app: "App") -> Page:
        try:
            answer = await app.admin.answer(b"GET", target.encode("latin-1"))
            return Page(asked, answer.status, answer.content_type, "".join(answer.body))
        except Exception as error:  # a page that cannot be made must not take the traffic with it
            app.admin.on_bug(self, error)
            return Page(asked, 500, TEXT, "a bug: the log has the traceback\n")
