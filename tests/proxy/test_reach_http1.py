"""What long-lived and unusual HTTP/1.1 needs of a sidecar: pipelines, WebSockets, events, tunnels, keep-alive."""

import random
from functools import partial

import pytest
import trio
from proxyhouse import GET, OK, read_all, read_until
from reachhouse import Through
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect as websocket
from websockets.trio.server import ServerConnection, serve

from proxy.model import Address

pytestmark = pytest.mark.trio

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


async def test_pipelined_requests_of_every_framing_are_answered_in_order(through: Through) -> None:
    """One write holds them all: bodies of both framings, HEAD, and an answer that is slower than those behind it."""

    async def handle(stream: trio.SocketStream) -> None:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += bytes(await stream.receive_some(1))
                if not head:
                    return
            path = head.split()[1][1:]
            if b"Content-Length: 3" in head:
                assert await stream.receive_some(3) == b"abc"
            if path == b"slow":
                await trio.sleep(0.05)
            body = b"" if head.startswith(b"HEAD") else path
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), body))

    way = await through(handle)
    requests = (
        b"GET /slow HTTP/1.1\r\nHost: web\r\n\r\n"
        b"HEAD /head HTTP/1.1\r\nHost: web\r\n\r\n"
        b"POST /length HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"
        b"OPTIONS * HTTP/1.1\r\nHost: web\r\n\r\n"
        b"GET /last HTTP/1.1\r\nHost: web\r\n\r\n"
    )
    answer = await way.ask(requests, b"\r\n\r\nlast")

    heads = [part.partition(b"\r\n\r\n") for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [body for _, _, body in heads] == [b"slow", b"", b"length", b"", b"last"]


async def test_a_websocket_carries_messages_both_ways_and_ends_with_its_own_code(through: Through) -> None:
    """A real client and a real server: text, binary beyond one read, ping and pong, close code and reason."""
    large = bytes(range(256)) * 2048

    async def handle(socket: ServerConnection) -> None:
        while (message := await socket.recv()) != "bye":
            await socket.send(message)
        await socket.aclose(4321, "as you wish")

    listeners = await trio.open_tcp_listeners(0, host=through.host)
    address = Address(through.host, listeners[0].socket.getsockname()[1])
    through.nursery.start_soon(partial(serve, handle, listeners=listeners, max_size=None))
    way = await through(address)
    async with websocket("ws://web/chat", stream=await way(), max_size=None) as client:
        with trio.fail_after(10):
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.send(large)
            assert await client.recv() == large
            await (await client.ping()).wait()
            await client.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as you wish")
    for sidecar in way.sidecars:
        counted = [found for series in sidecar.app.meter.http.values() for found in series.by_status.values()]
        assert [(found.status, found.success, found.count) for found in counted] == [(101, True, 1)]


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b"", b"Content-Length: 26\r\n"])
async def test_the_first_event_arrives_before_the_second_is_sent(through: Through, framing: bytes) -> None:
    """Server-sent events in every framing; nothing waits for a buffer to fill."""
    go_on = trio.Event()

    def framed(event: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(event), event) if b"chunked" in framing else event

    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(EVENTS + framing + b"\r\n" + framed(b"data: first\n\n"))
        with trio.fail_after(5):
            await go_on.wait()
        await stream.send_all(framed(b"data: last!\n\n") + (b"0\r\n\r\n" if b"chunked" in framing else b""))

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(GET)
        first = framed(b"data: first\n\n")
        assert (await read_until(stream, first)).endswith(b"\r\n\r\n" + first)
        go_on.set()
        last = framed(b"data: last!\n\n") + (b"0\r\n\r\n" if b"chunked" in framing else b"")
        assert await read_until(stream, last) == last


async def test_a_long_poll_is_answered_when_there_is_something_to_say(through: Through) -> None:
    """Neither side moves a byte meanwhile, for longer than the sweep and the pool's limits take."""

    async def handle(stream: trio.SocketStream) -> None:
        while await read_until(stream, b"\r\n\r\n"):
            await trio.sleep(0.6)
            await stream.send_all(OK)

    way = await through(handle, pool_idle_timeout_s=0.2, detect_timeout_s=0.1)
    async with await way() as stream:
        for _ in range(2):
            await stream.send_all(GET)
            assert await read_until(stream, b"ok") == OK


async def test_a_piece_of_an_upload_arrives_before_the_next_is_sent(through: Through) -> None:
    """A request's body is no more gathered than a response's."""
    heard = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        assert (await read_until(stream, b"5\r\nfirst\r\n")).endswith(b"5\r\nfirst\r\n")
        heard.set()
        await read_until(stream, b"0\r\n\r\n")
        await stream.send_all(OK)

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        with trio.fail_after(5):
            await heard.wait()
        await stream.send_all(b"0\r\n\r\n")
        assert await read_until(stream, b"ok") == OK


async def test_a_connect_tunnel_is_half_closed_as_its_ends_are(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        data = await read_all(stream)
        await stream.send_all(b"%d bytes" % len(data))

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")
        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 200 Connected\r\n\r\n"
        await stream.send_all(bytes(1_000_000))
        await stream.send_eof()
        assert await read_all(stream) == b"1000000 bytes"


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
async def test_a_server_that_closes_idle_connections_at_any_moment_costs_no_request(
    through: Through, method: bytes
) -> None:
    """The keep-alive race: the server's end and the next request cross on the wire, again and again."""
    random_ = random.Random(7)
    closed_count = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal closed_count
        while True:
            with trio.move_on_after(random_.uniform(0, 0.003)) as idle:
                request = await stream.receive_some(65536)
            if idle.cancelled_caught:
                if served.get(stream, 0):
                    closed_count += 1
                    return
                continue
            if not request:
                return
            served[stream] = served.get(stream, 0) + 1
            await stream.send_all(OK)

    served: dict[trio.SocketStream, int] = {}
    way = await through(handle)
    body = b"Content-Length: 4\r\n\r\nbody" if method == b"PUT" else b"\r\n"
    async with await way() as stream:
        for _ in range(150):
            await stream.send_all(method + b" / HTTP/1.1\r\nHost: web\r\n" + body)
            assert await read_until(stream, b"ok") == OK
            await trio.sleep(random_.uniform(0, 0.003))

    assert closed_count > 30


async def test_a_client_that_closes_idle_connections_at_any_moment_costs_no_other_request(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        while await read_until(stream, b"\r\n\r\n"):
            await stream.send_all(OK)

    way = await through(handle)
    random_ = random.Random(11)
    stays = await way()
    async with stays:
        for _ in range(100):
            leaves = await way()
            await leaves.send_all(GET)
            if random_.random() < 0.5:
                assert await read_until(leaves, b"ok") == OK
            await leaves.aclose()
            await stays.send_all(GET)
            assert await read_until(stays, b"ok") == OK


async def test_a_server_that_says_close_is_asked_no_more_on_that_connection(through: Through) -> None:
    connections_count = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connections_count
        connections_count += 1
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await read_all(stream)

    way = await through(handle)
    async with await way() as stream:
        for _ in range(20):
            await stream.send_all(GET)
            assert await read_until(stream, b"ok") == OK
    assert connections_count == 20
