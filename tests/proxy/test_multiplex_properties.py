"""Any order of requests, bodies, answers and resets: what arrives is whole, or was reset; nothing is left over."""

from dataclasses import dataclass

from http2house import OK, POST
from hypothesis import given, settings
from hypothesis import strategies as st
from multiplexhouse import MultiplexHouse, Peer

from proxy.model import Headers
from proxy.wire.streams import CANCEL, Settings

TRAILERS: Headers = ((b"grpc-status", b"0"),)


@dataclass
class Wanted:
    """One request: what was sent each way."""

    number: int
    up: bytes = b""
    down: bytes = b""
    up_done: bool = False
    is_begun: bool = False
    down_done: bool = False
    is_reset: bool = False


class Play:
    """A client, a server, and a few requests between them."""

    def __init__(self, house: MultiplexHouse, client_window: int, server_window: int) -> None:
        self.house = house
        self.client, self.multiplex = house.client(settings=Settings(False, window_bytes=client_window))
        self.server: Peer | None = None
        self.server_window = server_window
        self.requests: dict[int, Wanted] = {}

    def open(self) -> None:
        number = len(self.requests)
        stream_id = self.client.http2.request((*POST, (b"x-number", b"%d" % number)), False)
        self.requests[stream_id] = Wanted(number)
        self.house.run()
        if self.server is None:
            self.server = self.house.server(settings=Settings(True, window_bytes=self.server_window))

    def server_stream(self, wanted: Wanted) -> int:
        assert self.server is not None
        for stream_id, fields, _ in self.server.notes.of("head"):
            if (b"x-number", b"%d" % wanted.number) in fields:  # type: ignore[operator]
                return stream_id  # type: ignore[return-value]
        return 0

    def act(self, stream_id: int, kind: str, size: int) -> None:
        """Do one thing to one request, if it is in season."""
        wanted = self.requests[stream_id]
        theirs = self.server_stream(wanted)
        if wanted.is_reset:
            return
        data = bytes([65 + wanted.number % 26]) * size
        if kind == "up" and not wanted.up_done:
            wanted.up += data
            self.client.http2.send_body(stream_id, data, False)
        elif kind == "up-end" and not wanted.up_done:
            wanted.up_done = True
            self.client.http2.send_body(stream_id, b"", True)
        elif kind == "up-trailers" and not wanted.up_done:
            wanted.up_done = True
            self.client.http2.send_trailers(stream_id, TRAILERS)
        elif kind == "client-reset" and not wanted.down_done:
            wanted.is_reset = True
            self.client.http2.reset(stream_id, CANCEL)
        elif theirs:
            self.act_server(wanted, theirs, kind, data)

    def act_server(self, wanted: Wanted, stream_id: int, kind: str, data: bytes) -> None:
        assert self.server is not None
        http2 = self.server.http2
        if kind == "begin" and not wanted.is_begun:
            wanted.is_begun = True
            http2.respond(stream_id, OK, False)
        elif kind == "down" and wanted.is_begun and not wanted.down_done:
            wanted.down += data
            http2.send_body(stream_id, data, False)
        elif kind == "down-end" and wanted.is_begun and wanted.up_done and not wanted.down_done:
            wanted.down_done = True
            http2.send_trailers(stream_id, TRAILERS)
        elif kind == "server-reset" and not wanted.down_done:
            wanted.is_reset = True
            http2.reset(stream_id, 11)

    def finish(self) -> None:
        for stream_id in self.requests:
            for kind in ("up-end", "begin", "down-end"):
                self.act(stream_id, kind, 0)
                self.house.run()

    def check(self) -> None:
        """All is whole, or was reset; nobody holds anything any more."""
        client, server = self.client, self.server
        for stream_id, wanted in self.requests.items():
            got = client.notes.body(stream_id)
            if wanted.is_reset:
                assert wanted.down.startswith(got)
                continue
            assert got == wanted.down
            assert server is not None
            assert server.notes.body(self.server_stream(wanted)) == wanted.up
            assert (stream_id, TRAILERS) in client.notes.of("trailers")
            assert (stream_id, 0) in client.notes.of("closed")
        assert self.multiplex.streams == {}
        assert all(not trunk.streams for trunk in self.house.parts.pool.trunks)
        assert all(endpoint.in_flight == 0 for endpoint in self.multiplex.target.direct)
        assert not client.http2.is_over


KINDS = ("up", "up", "up-end", "up-trailers", "begin", "down", "down", "down-end", "client-reset", "server-reset")
actions = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(KINDS), st.sampled_from((0, 1, 1000, 20_000, 70_000)), st.booleans()),
    max_size=40,
)
windows = st.sampled_from((16384, 65535, 262144))


@given(st.integers(1, 6), actions, windows, windows, windows)
@settings(max_examples=60)
def test_everything_arrives_or_is_reset_and_nothing_is_left(
    count: int, acts: list[tuple[int, str, int, bool]], ours: int, clients: int, servers: int
) -> None:
    house = MultiplexHouse(http2_window_bytes=max(16384, ours))
    try:
        play = Play(house, clients, servers)
        for _ in range(count):
            play.open()
        streams = list(play.requests)
        for which, kind, size, runs in acts:
            play.act(streams[which % count], kind, size)
            if runs:
                house.run()
        house.run()
        play.finish()
        play.check()
    finally:
        house.close()
