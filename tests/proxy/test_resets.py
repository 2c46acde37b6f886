"""A reset stays a reset and an end stays an end, whichever side it comes from and however many sidecars it passes."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from h2house import OK_HEADERS, Peer, get, h2_server
from proxyhouse import GET, OK, read_until, wait_until
from reachhouse import Through

from proxy.wire.streams import CANCEL

pytestmark = pytest.mark.trio

POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\nsome"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"


@dataclass
class Scene:
    """What both sides have said when one of them leaves."""

    asks: bytes
    until: bytes
    """How what the server hears ends."""
    answers: bytes = b""


SCENES = {
    "opaque": Scene(b"\x00hello", b"hello", b"\x00hello"),
    "upgraded": Scene(UPGRADE, b"\r\n\r\n", SWITCH),
    "within a request": Scene(POST, b"some"),
    "before the response": Scene(GET, b"\r\n\r\n"),
    "within a response": Scene(GET, b"\r\n\r\n", STREAM),
    "within a response that lasts until the end": Scene(GET, b"\r\n\r\n", UNTIL_CLOSE),
}


@dataclass
class Server:
    """Plays its part of a scene; then keeps what becomes of its connection."""

    scene: Scene
    leave: Callable[[trio.SocketStream], None] | None = None
    """How the server itself leaves."""
    ends: list[str] = field(default_factory=list)
    met: trio.Event = field(default_factory=trio.Event)

    async def handle(self, stream: trio.SocketStream) -> None:
        assert (await read_until(stream, self.scene.until)).endswith(self.scene.until)
        await stream.send_all(self.scene.answers)
        self.met.set()
        if self.leave is not None:
            await trio.sleep(0.02)  # until the client has all
            self.leave(stream)
            return
        self.ends.append(await end_of(stream))


async def end_of(stream: trio.SocketStream) -> str:
    """Read on; say how it ended."""
    with trio.fail_after(3):
        try:
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            return "reset"
    return "end"


def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    stream.socket.close()


def end(stream: trio.SocketStream) -> None:
    stream.socket.close()


@pytest.mark.parametrize("name", SCENES)
async def test_a_clients_reset_reaches_the_server_as_one(through: Through, name: str) -> None:
    scene = SCENES[name]
    server = Server(scene)
    way = await through(server.handle)
    client = await way()
    await client.send_all(scene.asks)
    await read_until(client, scene.answers[-5:])
    await server.met.wait()
    reset(client)
    await wait_until(lambda: bool(server.ends))

    assert server.ends == ["reset"]


@pytest.mark.parametrize("name", ["opaque", "upgraded", "within a request"])
async def test_a_clients_end_reaches_the_server_as_one(through: Through, name: str) -> None:
    scene = SCENES[name]
    server = Server(scene)
    way = await through(server.handle)
    client = await way()
    await client.send_all(scene.asks)
    await read_until(client, scene.answers[-5:])
    await server.met.wait()
    end(client)
    await wait_until(lambda: bool(server.ends))

    assert server.ends == ["end"]


@pytest.mark.parametrize("name", ["opaque", "upgraded", *list(SCENES)[-2:]])
@pytest.mark.parametrize(("leave", "expected"), [(reset, "reset"), (end, "end")], ids=["reset", "end"])
async def test_a_servers_reset_and_end_reach_the_client_as_what_they_are(
    through: Through, name: str, leave: Callable[[trio.SocketStream], None], expected: str
) -> None:
    """But a response without its end breaks off in any case: nobody may take a part for the whole."""
    scene = SCENES[name]
    way = await through(Server(scene, leave).handle)
    async with await way() as client:
        await client.send_all(scene.asks)
        await read_until(client, scene.answers[-5:])

        assert await end_of(client) == ("reset" if name == "within a response" else expected)


@pytest.mark.parametrize("leaver", ["client", "server"])
async def test_a_reset_passes_through_a_spliced_relay(through: Through, leaver: str) -> None:
    piece = bytes(200_000)
    ends: list[str] = []
    streams: list[trio.SocketStream] = []

    async def handle(stream: trio.SocketStream) -> None:
        streams.append(stream)
        await stream.send_all(b"\x00" + piece)
        with trio.move_on_after(3):
            try:
                while await stream.receive_some(65536):
                    pass
                ends.append("end")
            except trio.BrokenResourceError:
                ends.append("reset")
            except trio.ClosedResourceError:
                pass

    way = await through(handle, splice_after_bytes=1)
    client = await way()
    await client.send_all(b"\x00" + piece)
    received = 0
    while received < len(piece) + 1:
        received += len(await client.receive_some(65536))
    if leaver == "client":
        reset(client)
        await wait_until(lambda: bool(ends))
        assert ends == ["reset"]
    else:
        reset(streams[0])
        assert await end_of(client) == "reset"
        await client.aclose()


@pytest.mark.parametrize("splice_after_bytes", [0, 1], ids=["copied", "spliced"])
async def test_a_reset_overtakes_what_a_server_does_not_read(through: Through, splice_after_bytes: int) -> None:
    """The sidecars have stopped reading the client, and still hear that it is gone."""
    ends: list[str] = []
    gone = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\x00")
        await gone.wait()
        ends.append(await end_of(stream))

    way = await through(handle, splice_after_bytes=splice_after_bytes)
    client = await way()
    await client.send_all(b"\x00")
    assert await client.receive_some(1) == b"\x00"
    with trio.move_on_after(0.3):
        await client.send_all(bytes(100_000_000))
    reset(client)
    await trio.sleep(0.05)
    gone.set()
    await wait_until(lambda: bool(ends))

    assert ends == ["reset"]


async def test_a_reset_by_a_client_that_has_not_spoken_reaches_a_server_that_was_dialled_for_it(
    through: Through,
) -> None:
    ends: list[str] = []
    met = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        met.set()
        ends.append(await end_of(stream))

    way = await through(handle, detect_dial_delay_s=0.001)
    client = await way()
    await met.wait()
    await trio.sleep(0.02)
    reset(client)
    await wait_until(lambda: bool(ends))

    assert ends == ["reset"]


async def test_a_request_that_ran_out_of_time_is_cancelled_by_a_reset(through: Through) -> None:
    """The next sidecar would take an end for a half-close, and the server would work on for nobody."""
    server = Server(SCENES["before the response"])
    way = await through(server.handle, request_timeout_s=0.1)
    async with await way() as client:
        await client.send_all(GET)
        assert b" 504 " in await read_until(client, b"\n")
        await wait_until(lambda: bool(server.ends))

        assert server.ends == ["reset"]


async def test_a_client_that_ends_behind_its_request_still_gets_its_answer(through: Through) -> None:
    """TCP's half-close, which a sidecar cannot tell from a client that has closed its socket."""
    asked = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        asked.set()
        await trio.sleep(0.05)
        await stream.send_all(OK)

    way = await through(handle)
    async with await way() as client:
        await client.send_all(GET)
        await asked.wait()
        await client.send_eof()
        assert (await read_until(client, b"ok")).endswith(b"ok")


@pytest.mark.parametrize("name", ["before the response", "within a response"])
async def test_a_client_that_ends_behind_its_request_has_left_where_that_is_set(through: Through, name: str) -> None:
    """A long poll, or a silent stream, of a client that closes its socket ends at once."""
    scene = SCENES[name]
    server = Server(scene)
    way = await through(server.handle, on_client_end="cancel")
    client = await way()
    await client.send_all(scene.asks)
    await read_until(client, scene.answers[-5:])
    await server.met.wait()
    end(client)
    await wait_until(lambda: bool(server.ends))

    assert server.ends == ["reset"]


@pytest.mark.parametrize("leave", [reset, end], ids=["reset", "end"])
async def test_an_http2_client_that_leaves_resets_its_streams_at_the_server(
    through: Through, leave: Callable[[trio.SocketStream], None]
) -> None:
    """The connection to the server is others' as well: only the streams end."""
    peers: list[Peer] = []

    def respond(peer: Peer, stream_id: int) -> None:
        peers.append(peer)
        peer.frames.send_headers(stream_id, OK_HEADERS)

    way = await through(h2_server(respond))
    client = Peer(await way(), is_client=True)
    stream_id = client.request(get())
    await client.until(lambda: client.heard[stream_id].headers)
    leave(client.stream)
    (peer,) = peers
    await wait_until(lambda: CANCEL in {heard.reset_code for heard in peer.heard.values()})
