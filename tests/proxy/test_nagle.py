"""Peers that write a message in two pieces with Nagle's algorithm on are not kept waiting for an acknowledgement."""

import socket

import pytest
import trio
from h2house import OK_HEADERS, Heard, Peer, get, h2_server
from proxyhouse import GET, OK, read_until
from reachhouse import Through

pytestmark = pytest.mark.trio

ROUNDS_COUNT = 15
DELAY_S = 0.04
"""The least time for which Linux delays an acknowledgement: then each round takes longer, but for the first."""
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\n"


def are_prompt(times_s: list[float]) -> bool:
    """Tell whether there was no such delay; a busy machine may be slow at most of them."""
    return sorted(times_s)[ROUNDS_COUNT // 3] < DELAY_S


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


async def test_a_response_in_two_pieces_comes_without_a_delay(through: Through) -> None:
    """Its client has a connection for each request; the sidecar keeps that to the server."""
    way = await through(answer_in_two)
    times_s = []
    for _ in range(ROUNDS_COUNT):
        began_s = trio.current_time()
        assert (await way.ask(GET, OK)) == OK
        times_s.append(trio.current_time() - began_s)

    assert are_prompt(times_s)


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
