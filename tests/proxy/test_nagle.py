"""Peers that write a message in two pieces with Nagle's algorithm on are not kept waiting for an acknowledgement."""

import fcntl
import socket
import struct
import termios

import pytest
import trio
from h2house import OK_HEADERS, Heard, Peer, get, h2_server
from proxyhouse import GET, OK, read_until
from reachhouse import Through
from turnhouse import TurnHouse

from proxy.model import Address

ROUNDS_COUNT = 15
DELAY_S = 0.04
"""The least time for which Linux delays an acknowledgement: then each round takes longer, but for the first."""
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\n"


def are_prompt(times_s: list[float]) -> bool:
    """Tell whether there was no such delay; a busy machine may be slow for most of them."""
    return sorted(times_s)[3] < DELAY_S


def gather(stream: trio.SocketStream) -> None:
    """Let the kernel gather small pieces until the last one was acknowledged, as it does unless told otherwise."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)


async def in_two(stream: trio.SocketStream, first: bytes, second: bytes) -> None:
    await stream.send_all(first)
    await trio.sleep(0.001)
    await stream.send_all(second)


async def answer_in_two(stream: trio.SocketStream) -> None:
    """A server like Python's http.server: the head, then the body."""
    gather(stream)
    while await read_until(stream, b"\r\n\r\n"):
        await in_two(stream, OK[:-2], OK[-2:])


async def answer_posts(stream: trio.SocketStream) -> None:
    while await read_until(stream, b"body"):
        await stream.send_all(OK)


async def echo(stream: trio.SocketStream) -> None:
    """A server that is heard and answers in two pieces, in no protocol."""
    gather(stream)
    while await read_until(stream, b"?"):
        await in_two(stream, b"\x00", b"ok!")


async def answer_streams(stream: trio.SocketStream) -> None:
    """A server of HTTP/2 that writes HEADERS and DATA on their own."""
    gather(stream)
    peer = Peer(stream, is_client=False)
    asked: list[int] = []
    peer.on_request = asked.append
    while not peer.is_over:
        await peer.step()
        while asked:
            stream_id = asked.pop()
            peer.frames.send_headers(stream_id, OK_HEADERS)
            await peer.flush()
            await trio.sleep(0.001)
            peer.frames.send_data(stream_id, b"ok", end_stream=True)
            await peer.flush()


def unacknowledged_bytes(sock: socket.socket) -> int:
    """Give what the peer's kernel has not acknowledged of all that was sent."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def test_a_piece_is_acknowledged_in_the_turn_that_reads_it() -> None:
    """No clock: on loopback the acknowledgement is there when the system call that sends it returns."""
    house = TurnHouse()
    client = house.accept(Address("10.0.0.7", 80))
    left: list[int] = []
    for _ in range(30):  # a connection acknowledges at once while it is new
        client.sendall(POST)
        house.spin()
        left.append(unacknowledged_bytes(client))
        client.sendall(b"body")
        house.spin()
        if len(left) == 1:
            server = house.door.dials[0].connect()
            house.sockets.append(server)
            house.spin()
        assert server.recv(1000).endswith(b"body")
        server.sendall(OK[:-2])
        house.spin()
        left.append(unacknowledged_bytes(server))
        server.sendall(OK[-2:])
        house.spin()
        assert client.recv(1000).endswith(b"ok")
    house.close()

    assert left == [0] * 60


@pytest.mark.parametrize("splice_after_bytes", [0, 1], ids=["copied", "spliced"])
def test_a_relay_acknowledges_early_where_its_peer_was_seen_to_wait(splice_after_bytes: int) -> None:
    house = TurnHouse(splice_after_bytes=splice_after_bytes)
    client = house.accept(Address("10.0.0.7", 5000))
    client.sendall(b"\x00")
    house.spin()
    server = house.door.dials[0].connect()
    house.sockets.append(server)
    house.spin()

    def round_trip(pause_s: float) -> int:
        client.sendall(b"a")
        house.spin()
        left_bytes = unacknowledged_bytes(client)
        house.spin(pause_s)
        client.sendall(b"b")
        house.spin()
        assert server.recv(10).endswith(b"ab")
        server.sendall(b"c")
        house.spin()
        assert client.recv(10) == b"c"
        return left_bytes

    for _ in range(30):  # a connection acknowledges at once while it is new
        usual_bytes = round_trip(0.001)
    after_wait = [round_trip(0.041), *[round_trip(0.001) for _ in range(300)]]
    house.close()

    assert usual_bytes == 1
    assert after_wait[:100] == [1] + [0] * 99
    assert after_wait[-1] == 1, "and no longer than it must, without seeing it again"


@pytest.mark.trio
async def test_a_response_in_two_pieces_comes_without_a_delay(through: Through) -> None:
    """Its client has a connection for each request; the sidecar keeps that to the server."""
    way = await through(answer_in_two)
    times_s = []
    for _ in range(ROUNDS_COUNT):
        began_s = trio.current_time()
        assert (await way.ask(GET, OK)) == OK
        times_s.append(trio.current_time() - began_s)

    assert are_prompt(times_s)


@pytest.mark.trio
async def test_a_request_in_two_pieces_comes_without_a_delay(through: Through) -> None:
    way = await through(answer_posts)
    times_s = []
    async with await way() as stream:
        gather(stream)
        for _ in range(ROUNDS_COUNT):
            began_s = trio.current_time()
            await in_two(stream, POST, b"body")
            assert await read_until(stream, OK) == OK
            times_s.append(trio.current_time() - began_s)

    assert are_prompt(times_s)


@pytest.mark.trio
async def test_an_http2_response_in_two_pieces_comes_without_a_delay(through: Through) -> None:
    """Except for the first time: that a server gathers small pieces is learnt from it."""
    way = await through(answer_streams)
    times_s = []
    async with await way() as stream:
        peer = Peer(stream, is_client=True)
        for _ in range(ROUNDS_COUNT):
            began_s = trio.current_time()
            assert (await peer.answer(peer.request(get()))).body == b"ok"
            times_s.append(trio.current_time() - began_s)

    assert are_prompt(times_s)


@pytest.mark.trio
async def test_an_http2_request_in_two_pieces_comes_without_a_delay(through: Through) -> None:
    way = await through(h2_server(lambda peer, stream_id: peer.frames.send_headers(stream_id, OK_HEADERS, True)))
    times_s = []
    async with await way() as stream:
        gather(stream)
        peer = Peer(stream, is_client=True)
        for _ in range(ROUNDS_COUNT):
            began_s = trio.current_time()
            stream_id = peer.frames.get_next_available_stream_id()
            peer.heard[stream_id] = Heard()
            peer.frames.send_headers(stream_id, [(b":method", b"POST"), *get()[1:]])
            await peer.flush()
            await trio.sleep(0.001)
            peer.frames.send_data(stream_id, b"body", end_stream=True)
            assert (await peer.answer(stream_id))[b":status"] == b"200"
            times_s.append(trio.current_time() - began_s)

    assert are_prompt(times_s)


@pytest.mark.trio
@pytest.mark.parametrize("splice_after_bytes", [0, 1], ids=["copied", "spliced"])
async def test_opaque_messages_in_two_pieces_come_without_a_delay_both_ways(
    through: Through, splice_after_bytes: int
) -> None:
    way = await through(echo, splice_after_bytes=splice_after_bytes)
    times_s = []
    async with await way() as stream:
        gather(stream)
        for _ in range(ROUNDS_COUNT):
            began_s = trio.current_time()
            await in_two(stream, b"\x00", b"well?")
            assert await read_until(stream, b"!") == b"\x00ok!"
            times_s.append(trio.current_time() - began_s)

    assert are_prompt(times_s)
