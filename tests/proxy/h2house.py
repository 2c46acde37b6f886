"""HTTP/2 clients and servers of a test, with the frames of the h2 library: an implementation that is not ours."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

Headers = list[tuple[bytes, bytes]]

LIMIT_S = 5.0


@dataclass
class Heard:
    """What has come on one stream."""

    headers: Headers = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    is_ended: bool = False
    reset_code: int | None = None

    def __getitem__(self, name: bytes) -> bytes:
        return dict(self.headers)[name]


class Peer:
    """One side of a connection. `step` reads once and enters what came; `heard` has it by stream."""

    def __init__(self, stream: trio.SocketStream, is_client: bool, **settings: int) -> None:
        config = h2.config.H2Configuration(client_side=is_client, header_encoding=None)
        self.stream = stream
        self.frames = h2.connection.H2Connection(config=config)
        self.heard: dict[int, Heard] = {}
        self.goaway_code: int | None = None
        self.is_over = False
        self.on_request: Callable[[int], None] = lambda _stream_id: None
        """Called when a client's request is whole, or, for CONNECT, begins."""
        codes = {h2.settings.SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.frames.local_settings = h2.settings.Settings(
            client=is_client, initial_values={**dict(self.frames.local_settings), **codes}
        )
        self.frames.initiate_connection()

    async def flush(self) -> None:
        data = self.frames.data_to_send()
        if data:
            await self.stream.send_all(data)

    async def step(self) -> None:
        """Send what waits, read once, enter what came."""
        await self.flush()
        with trio.fail_after(LIMIT_S):
            data = bytes(await self.stream.receive_some(65536))
        if not data:
            self.is_over = True
            return
        for event in self.frames.receive_data(data):
            self._enter(event)
        await self.flush()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.step()
            assert not self.is_over or condition()

    def _enter(self, event: h2.events.Event) -> None:
        stream_id: int = getattr(event, "stream_id", 0) or 0
        heard = self.heard.setdefault(stream_id, Heard())
        if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
            heard.headers = list(event.headers)
            if (b":protocol" in dict(heard.headers)) or heard.headers[0] == (b":method", b"CONNECT"):
                self.on_request(stream_id)
        elif isinstance(event, h2.events.DataReceived):
            heard.body += event.data
            if event.flow_controlled_length:
                self.frames.acknowledge_received_data(event.flow_controlled_length, stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            heard.trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            heard.is_ended = True
            self.on_request(stream_id)
        elif isinstance(event, h2.events.StreamReset):
            heard.reset_code = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway_code = int(event.error_code or 0)

    # a client's

    def request(self, headers: Headers, body: bytes = b"", trailers: Headers | None = None) -> int:
        """Begin a request; give its stream."""
        stream_id: int = self.frames.get_next_available_stream_id()
        self.frames.send_headers(stream_id, headers, end_stream=not body and trailers is None)
        if body:
            self.frames.send_data(stream_id, body, end_stream=trailers is None)
        if trailers is not None:
            self.frames.send_headers(stream_id, trailers, end_stream=True)
        self.heard[stream_id] = Heard()
        return stream_id

    async def answer(self, stream_id: int) -> Heard:
        """Wait for a whole answer, or a reset."""
        heard = self.heard[stream_id]
        await self.until(lambda: heard.is_ended or heard.reset_code is not None)
        return heard


def get(path: bytes = b"/", authority: bytes | None = b"web", *more: tuple[bytes, bytes]) -> Headers:
    """Headers of a GET; without authority it has none."""
    named = [(b":authority", authority)] if authority is not None else []
    return [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), *named, *more]


OK_HEADERS: Headers = [(b":status", b"200"), (b"content-type", b"text/plain")]


def h2_server(respond: Callable[[Peer, int], None], **settings: int) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Make a handler that calls `respond` with each whole request."""

    async def handle(stream: trio.SocketStream) -> None:
        peer = Peer(stream, is_client=False, **settings)
        peer.on_request = lambda stream_id: respond(peer, stream_id)
        while not peer.is_over:
            try:
                await peer.flush()
                data = bytes(await stream.receive_some(65536))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            try:
                events = peer.frames.receive_data(data)
            except h2.exceptions.ProtocolError:
                return  # this side has said goodbye: the library hears no more
            for event in events:
                peer._enter(event)
            await peer.flush()

    return handle
