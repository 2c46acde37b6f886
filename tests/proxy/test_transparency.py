"""What an application and its clients must not notice: HTTP/1 and TCP through one sidecar, and two in a row.

Each case runs in five set-ups: outbound with no controller, outbound to a service that discovery knows, inbound, and
outbound followed by another pod's inbound, with and without discovery.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from proxyhouse import GET, OK, Controller, Script, read_all, read_until

from proxy.model import Address

pytestmark = pytest.mark.trio

SETUPS = ("outbound", "outbound-discovered", "inbound", "two", "two-discovered")

Connect = Callable[[], Awaitable[trio.SocketStream]]


@pytest.fixture(params=SETUPS)
def through(request: Any, start_sidecar: Any, controller: Controller) -> Callable[[Address], Awaitable[Connect]]:
    """Give a way to connect to a server through the sidecars of a set-up."""

    async def start(server: Address) -> Connect:
        service = Address("10.96.0.9", server.port)
        hop = server
        if request.param.startswith("two"):
            far = await start_sidecar(server)
            hop = Address("127.0.0.1", far.app.config.inbound_port)
        if request.param == "inbound":
            sidecar = await start_sidecar(server)
            return lambda: sidecar.connect(inbound=True)
        if request.param.endswith("discovered"):
            controller.service(service, hop)
            sidecar = await start_sidecar(service, controller_url=controller.url)
        else:
            sidecar = await start_sidecar(hop)
        return sidecar.connect

    return start


async def ask(connect: Connect, request: bytes, ending: bytes | None = None) -> bytes:
    async with await connect() as stream:
        await stream.send_all(request)
        return await (read_all(stream) if ending is None else read_until(stream, ending))


CLOSE = b"Connection: close\r\n"


async def test_http1_request_and_response_arrive_as_sent(serve: Any, through: Any) -> None:
    script = Script([b"HTTP/1.1 201 Made\r\nX-One: 1\r\nx-two:  2 \r\nContent-Length: 2\r\n\r\nok"])
    connect = await through(await serve(script.handle))
    request = b"GET /a?b=c#d HTTP/1.1\r\nHost: web\r\nX-Case: Kept\r\nAccept: */*\r\n\r\n"

    assert await ask(connect, request, b"ok") == script.answers[0]
    assert script.received == [request]


async def test_http1_removes_connection_headers(serve: Any, through: Any) -> None:
    script = Script(
        [b"HTTP/1.1 200 OK\r\nConnection: x-gone\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n"]
    )
    connect = await through(await serve(script.handle))
    request = GET[:-2] + b"Connection: x-foo, keep-alive\r\nX-Foo: 1\r\nKeep-Alive: 1\r\nTE: x\r\nX-Bar: 2\r\n\r\n"

    assert await ask(connect, request, b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert script.received == [b"GET / HTTP/1.1\r\nHost: web\r\nX-Bar: 2\r\n\r\n"]


@pytest.mark.parametrize("host", [b"Host: web\r\n", b""])
async def test_http10_with_and_without_host(serve: Any, through: Any, host: bytes) -> None:
    script = Script([b"HTTP/1.0 200 OK\r\n\r\nbody"])
    connect = await through(await serve(script.handle))
    request = b"GET / HTTP/1.0\r\n" + host + b"\r\n"

    assert await ask(connect, request) == b"HTTP/1.0 200 OK\r\n" + CLOSE + b"\r\nbody"
    assert script.received == [request]


async def test_http11_absolute_uri_may_differ_from_host(serve: Any, through: Any) -> None:
    script = Script([OK])
    connect = await through(await serve(script.handle))
    request = b"GET http://other.example/x HTTP/1.1\r\nHost: web\r\n\r\n"

    assert await ask(connect, request, b"ok") == OK
    assert script.received == [request]


async def test_http11_upgrades(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        request = await read_until(stream, b"\r\n\r\n")
        assert b"Upgrade: chat" in request
        assert b"onnection: upgrade" in request
        await stream.send_all(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhello ")
        assert await read_until(stream, b"ping") == b"ping"
        await stream.send_all(b"pong")

    connect = await through(await serve(handle))
    async with await connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        head = await read_until(stream, b"hello ")
        await stream.send_all(b"ping")

        assert head.startswith(b"HTTP/1.1 101 S\r\n")
        assert b"Upgrade: chat" in head
        assert await read_all(stream) == b"pong"


async def test_http11_upgrade_to_h2_is_stripped(serve: Any, through: Any) -> None:
    script = Script([OK])
    connect = await through(await serve(script.handle))
    request = GET[:-2] + b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"

    assert await ask(connect, request, b"ok") == OK
    assert script.received == [GET]


async def test_an_upgrade_that_the_server_ignores_is_an_ordinary_request(serve: Any, through: Any) -> None:
    script = Script([OK])
    connect = await through(await serve(script.handle))
    upgrade = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"

    assert await ask(connect, upgrade + GET, b"okHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == OK + OK
    assert len(script.received) == 2


async def test_http11_connect(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, b"\r\n\r\n") == b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhi ")
        assert await read_until(stream, b"ping") == b"ping"
        await stream.send_all(b"pong")

    connect = await through(await serve(handle))
    async with await connect() as stream:
        await stream.send_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        await read_until(stream, b"hi ")
        await stream.send_all(b"ping")

        assert await read_all(stream) == b"pong"


async def test_a_refused_connect_is_an_ordinary_response(serve: Any, through: Any) -> None:
    script = Script([b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", OK])
    connect = await through(await serve(script.handle))
    request = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"

    assert await ask(connect, request + GET, b"ok") == b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno" + OK


async def test_request_body_with_content_length(serve: Any, through: Any) -> None:
    script = Script([OK], read_body_until=b"hello")
    connect = await through(await serve(script.handle))
    request = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"

    assert await ask(connect, request, b"ok") == OK
    assert script.received == [request]


async def test_request_body_chunked_with_trailers_and_extensions(serve: Any, through: Any) -> None:
    script = Script([OK], read_body_until=b"X-Sum: 1\r\n\r\n")
    connect = await through(await serve(script.handle))
    request = (
        b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;a=b\r\nhe\r\n\r\r\n2\r\nxy\r\n0\r\nX-Sum: 1\r\n\r\n"
    )

    assert await ask(connect, request, b"ok") == OK
    assert script.received == [request]


async def test_requests_without_body_get_no_transfer_encoding(serve: Any, through: Any) -> None:
    script = Script([OK])
    connect = await through(await serve(script.handle))
    for method in (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"PURGE", b"MADE-UP"):
        request = method + b" / HTTP/1.1\r\nHost: web\r\n\r\n"
        await ask(connect, request, b"\r\n\r\n" if method == b"HEAD" else b"ok")

        assert script.received[-1] == request


async def test_content_length_zero_is_preserved(serve: Any, through: Any) -> None:
    script = Script([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    connect = await through(await serve(script.handle))
    request = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n"

    assert await ask(connect, request, b"\r\n\r\n") == script.answers[0]
    assert script.received == [request]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_bodyless_responses(serve: Any, through: Any, status: bytes) -> None:
    script = Script([b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n", OK])
    connect = await through(await serve(script.handle))

    assert await ask(connect, GET + GET, b"ok") == b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n" + OK


@pytest.mark.parametrize("framing", [b"Content-Length: 55\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_head_responses(serve: Any, through: Any, framing: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n"
    script = Script([answer, OK])
    connect = await through(await serve(script.handle))
    request = b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n"

    assert await ask(connect, request + GET, b"ok") == answer + OK


async def test_response_ended_by_end_of_file(serve: Any, through: Any) -> None:
    script = Script([b"HTTP/1.1 200 OK\r\n\r\nbody until the end"])
    connect = await through(await serve(script.handle))

    assert await ask(connect, GET) == b"HTTP/1.1 200 OK\r\n" + CLOSE + b"\r\nbody until the end"


async def test_chunked_response_with_trailers(serve: Any, through: Any) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
    script = Script([answer])
    connect = await through(await serve(script.handle))

    assert await ask(connect, GET + GET, answer + answer) == answer + answer


async def test_expect_100_continue(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        assert b"Expect: 100-continue" in await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await read_until(stream, b"body") == b"body"
        await stream.send_all(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK)

    connect = await through(await serve(handle))
    async with await connect() as stream:
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"body")

        assert await read_until(stream, b"ok") == b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK


async def test_pipelined_requests_are_answered_in_order(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        while True:
            head = await read_until(stream, b"\r\n\r\n")
            if not head:
                return
            number = head.split()[1][1:]
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(number), number))

    connect = await through(await serve(handle))
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: web\r\n\r\n" % n for n in range(100))

    answer = await ask(connect, requests, b"\r\n\r\n99")
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"%d" % n for n in range(100)]


async def test_client_that_half_closes_gets_its_answer(serve: Any, through: Any) -> None:
    script = Script([OK])
    connect = await through(await serve(script.handle))
    async with await connect() as stream:
        await stream.send_all(GET)
        await stream.send_eof()

        assert (await read_all(stream)).endswith(b"\r\n\r\nok")


async def test_early_response_before_the_request_is_whole(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")

    connect = await through(await serve(handle))
    async with await connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n")

        assert await read_all(stream) == b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n" + CLOSE + b"\r\nno"


async def test_large_bodies_both_ways(serve: Any, through: Any) -> None:
    body = bytes(range(256)) * 20000 + b"the end"

    async def handle(stream: trio.SocketStream) -> None:
        data = await read_until(stream, b"the end")
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + data.partition(b"\r\n\r\n")[2]
        )

    connect = await through(await serve(handle))
    async with await connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(
            stream.send_all, b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        answer = await read_until(stream, b"the end")

        assert answer.partition(b"\r\n\r\n")[2] == body


async def test_request_dribbled_byte_by_byte(serve: Any, through: Any) -> None:
    script = Script([OK])
    connect = await through(await serve(script.handle))
    async with await connect() as stream:
        for byte in GET:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.001)

        assert await read_until(stream, b"ok") == OK
        assert script.received == [GET]


async def test_tcp_client_first(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, b"*1\r\n$4\r\nPING\r\n")
        await stream.send_all(b"+PONG\r\n")
        assert await read_until(stream, b"$4\r\nQUIT\r\n")

    connect = await through(await serve(handle))
    async with await connect() as stream:
        await stream.send_all(b"*1\r\n$4\r\nPING\r\n")
        assert await read_until(stream, b"\n") == b"+PONG\r\n"
        await stream.send_all(b"*1\r\n$4\r\nQUIT\r\n")

        assert await read_all(stream) == b""


async def test_tcp_server_first_does_not_stall(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail\r\n")
        assert await read_until(stream, b"\n") == b"EHLO me\r\n"
        await stream.send_all(b"250 ok\r\n")

    connect = await through(await serve(handle))
    started = trio.current_time()
    async with await connect() as stream:
        assert await read_until(stream, b"\n") == b"220 mail\r\n"
        await stream.send_all(b"EHLO me\r\n")

        assert await read_all(stream) == b"250 ok\r\n"
    assert trio.current_time() - started < 0.9


async def test_tcp_half_close_both_ways(serve: Any, through: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        data = await read_all(stream)
        await stream.send_all(b"%d bytes" % len(data))

    connect = await through(await serve(handle))
    async with await connect() as stream:
        await stream.send_all(b"\x00" * 100000)
        await stream.send_eof()

        assert await read_all(stream) == b"100000 bytes"


async def test_tcp_bulk_is_whole_in_both_directions(serve: Any, through: Any) -> None:
    chunk = bytes(range(251)) * 40

    async def handle(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    connect = await through(await serve(handle))
    async with await connect() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(b"\x00")
            for _ in range(300):
                await stream.send_all(chunk)
            await stream.send_eof()

        nursery.start_soon(send)

        assert await read_all(stream) == b"\x00" + chunk * 300


async def test_tcp_connections_close_if_the_client_closes(serve: Any, through: Any) -> None:
    ended = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_all(stream)
        ended.set()

    connect = await through(await serve(handle))
    stream = await connect()
    await stream.send_all(b"\x01\x02")
    await stream.aclose()
    with trio.fail_after(3):
        await ended.wait()


async def test_tls_passes_untouched(serve: Any, through: Any) -> None:
    hello = b"\x16\x03\x01\x00\x05hello"

    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, hello) == hello
        await stream.send_all(b"\x16\x03\x03")

    connect = await through(await serve(handle))

    assert await ask(connect, hello) == b"\x16\x03\x03"


async def test_http2_preface_passes_untouched(serve: Any, through: Any) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, b"SM\r\n\r\n") == preface
        await stream.send_all(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

    connect = await through(await serve(handle))

    assert await ask(connect, preface) == b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


async def test_a_client_of_http10_gets_a_chunked_body_decoded(serve: Any, through: Any) -> None:
    chunks = b"3;e=1\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\nT: 1\r\n\r\n"
    script = Script([b"HTTP/1.1 200 OK\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, OK])
    connect = await through(await serve(script.handle))
    request = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"

    assert await ask(connect, request) == b"HTTP/1.1 200 OK\r\nX: 1\r\n" + CLOSE + b"\r\nabc\r\n\r\n"
    assert await ask(connect, GET, b"ok") == OK
