"""What an application and its clients must not notice: HTTP/1 through one sidecar, and two in a row.

The names are those of Linkerd's list of the same purpose, so that a promise which people know is found by its name
(`pytest -k http11_upgrades`); every case runs in every set-up of reachhouse. Two names have another meaning here:
connections are shared by endpoint, not by Host, because the endpoint was found by address; and instead of Linkerd's
own header for HTTP/1 inside HTTP/2, which this mesh does not have, no header of ours may leak. For the same reason
`http1_orig_proto_does_not_propagate_rst_stream` is missing: HTTP/1 travels as HTTP/1, with no stream to reset.
"""

from functools import partial
from typing import Any

import pytest
import trio
from proxyhouse import GET, OK, Controller, Script, free_port, read_all, read_until, wait_until
from reachhouse import INBOUND, OUTBOUND, Through

from proxy.model import Address

pytestmark = pytest.mark.trio

CLOSE = b"Connection: close\r\n"
OK_HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("through", OUTBOUND, indirect=True)
async def test_outbound_http1(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)

    assert await way.ask(GET, b"ok") == OK
    assert script.received == [GET]
    assert way.counter("tcp_protocol_connections_total", direction="outbound", protocol="http/1") == 1


@pytest.mark.parametrize("through", INBOUND, indirect=True)
async def test_inbound_http1(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)

    assert await way.ask(GET, b"ok") == OK
    assert script.received == [GET]
    assert way.counter("tcp_protocol_connections_total", direction="inbound", protocol="http/1") == 1


async def test_http1_request_and_response_arrive_as_sent(through: Through) -> None:
    script = Script([b"HTTP/1.1 201 Made\r\nX-One: 1\r\nx-two:  2 \r\nContent-Length: 2\r\n\r\nok"])
    way = await through(script.handle)
    request = b"GET /a?b=c#d HTTP/1.1\r\nHost: web\r\nX-Case: Kept\r\nAccept: */*\r\n\r\n"

    assert await way.ask(request, b"ok") == script.answers[0]
    assert script.received == [request]


async def test_http1_removes_connection_headers(through: Through) -> None:
    script = Script(
        [
            b"HTTP/1.1 200 OK\r\nConnection: x-gone\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\n"
            b"Content-Length: 0\r\n\r\n"
        ]
    )
    way = await through(script.handle)
    removed = b"Connection: x-foo, keep-alive\r\nX-Foo: 1\r\nKeep-Alive: 1\r\nProxy-Connection: a\r\nTE: x\r\n"
    request = GET[:-2] + removed + b"X-Bar: 2\r\n\r\n"

    assert await way.ask(request, b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert script.received == [b"GET / HTTP/1.1\r\nHost: web\r\nX-Bar: 2\r\n\r\n"]


@pytest.mark.parametrize("host", [b"Host: web\r\n", b""], ids=["http10_with_host", "http10_without_host"])
async def test_http10(through: Through, host: bytes) -> None:
    script = Script([b"HTTP/1.0 200 OK\r\n\r\nbody"])
    way = await through(script.handle)
    request = b"GET / HTTP/1.0\r\n" + host + b"\r\n"

    assert await way.ask(request) == b"HTTP/1.0 200 OK\r\n" + CLOSE + b"\r\nbody"
    assert script.received == [request]


async def test_http11_absolute_uri_differs_from_host(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    request = b"GET http://other.example/x HTTP/1.1\r\nA: b\r\nHost: web\r\n\r\n"

    assert await way.ask(request, b"ok") == OK
    assert script.received == [request.replace(b"Host: web", b"Host: other.example")]


async def test_http11_upgrades(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        request = await read_until(stream, b"\r\n\r\n")
        assert b"Upgrade: chat" in request
        assert b"onnection: upgrade" in request
        await stream.send_all(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhello ")
        assert await read_until(stream, b"ping") == b"ping"
        await stream.send_all(b"pong")

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        head = await read_until(stream, b"hello ")
        await stream.send_all(b"ping")

        assert head.startswith(b"HTTP/1.1 101 S\r\n")
        assert b"Upgrade: chat" in head
        assert await read_all(stream) == b"pong"


async def test_http11_upgrade_h2_stripped(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    request = GET[:-2] + b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"

    assert await way.ask(request, b"ok") == OK
    assert script.received == [GET]


async def test_an_upgrade_that_the_server_ignores_is_an_ordinary_request(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    upgrade = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"

    assert await way.ask(upgrade + GET, b"okHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == OK + OK
    assert len(script.received) == 2


async def test_http11_connect(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, b"\r\n\r\n") == b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhi ")
        assert await read_until(stream, b"ping") == b"ping"
        await stream.send_all(b"pong")

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        await read_until(stream, b"hi ")
        await stream.send_all(b"ping")

        assert await read_all(stream) == b"pong"


async def test_a_refused_connect_is_an_ordinary_response(through: Through) -> None:
    script = Script([b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", OK])
    way = await through(script.handle)
    request = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"

    assert await way.ask(request + GET, b"ok") == b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno" + OK


async def test_http1_request_with_body_content_length(through: Through) -> None:
    script = Script([OK], read_body_until=b"hello")
    way = await through(script.handle)
    request = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"

    assert await way.ask(request, b"ok") == OK
    assert script.received == [request]


async def test_http1_request_with_body_chunked_trailers_and_extensions(through: Through) -> None:
    script = Script([OK], read_body_until=b"X-Sum: 1\r\n\r\n")
    way = await through(script.handle)
    request = (
        b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;a=b\r\nhe\r\n\r\r\n2\r\nxy\r\n0\r\nX-Sum: 1\r\n\r\n"
    )

    assert await way.ask(request, b"ok") == OK
    assert script.received == [request]


async def test_http1_requests_without_body_doesnt_add_transfer_encoding(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    for method in (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"PURGE", b"MADE-UP"):
        request = method + b" / HTTP/1.1\r\nHost: web\r\n\r\n"
        await way.ask(request, b"\r\n\r\n" if method == b"HEAD" else b"ok")

        assert script.received[-1] == request


async def test_http1_content_length_zero_is_preserved(through: Through) -> None:
    script = Script([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    way = await through(script.handle)
    request = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n"

    assert await way.ask(request, b"\r\n\r\n") == script.answers[0]
    assert script.received == [request]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_http1_bodyless_responses(through: Through, status: bytes) -> None:
    script = Script([b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n", OK])
    way = await through(script.handle)

    assert await way.ask(GET + GET, b"ok") == b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n" + OK


@pytest.mark.parametrize("framing", [b"Content-Length: 55\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_http1_head_responses(through: Through, framing: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n"
    script = Script([answer, OK])
    way = await through(script.handle)
    request = b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n"

    assert await way.ask(request + GET, b"ok") == answer + OK


async def test_http1_response_end_of_file(through: Through) -> None:
    script = Script([b"HTTP/1.1 200 OK\r\n\r\nbody until the end", b"HTTP/1.0 200 OK\r\n\r\nand another"])
    way = await through(script.handle)

    assert await way.ask(GET) == b"HTTP/1.1 200 OK\r\n" + CLOSE + b"\r\nbody until the end"
    assert await way.ask(GET) == b"HTTP/1.0 200 OK\r\n" + CLOSE + b"\r\nand another"


async def test_chunked_response_with_trailers(through: Through) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
    script = Script([answer])
    way = await through(script.handle)

    assert await way.ask(GET + GET, answer + answer) == answer + answer


async def test_expect_100_continue(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        assert b"Expect: 100-continue" in await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await read_until(stream, b"body") == b"body"
        await stream.send_all(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK)

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"PUT / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"body")

        assert await read_until(stream, b"ok") == b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK


async def test_pipelined_requests_are_answered_in_order(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        while True:
            head = await read_until(stream, b"\r\n\r\n")
            if not head:
                return
            number = head.split()[1][1:]
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(number), number))

    way = await through(handle)
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: web\r\n\r\n" % n for n in range(100))

    answer = await way.ask(requests, b"\r\n\r\n99")
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"%d" % n for n in range(100)]


async def test_client_that_half_closes_gets_its_answer(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    async with await way() as stream:
        await stream.send_all(GET)
        await stream.send_eof()

        assert (await read_all(stream)).endswith(b"\r\n\r\nok")


async def test_early_response_before_the_request_is_whole(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n")

        assert await read_all(stream) == b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n" + CLOSE + b"\r\nno"


async def test_large_bodies_both_ways(through: Through) -> None:
    body = bytes(range(256)) * 20000 + b"the end"

    async def handle(stream: trio.SocketStream) -> None:
        data = await read_until(stream, b"the end")
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + data.partition(b"\r\n\r\n")[2]
        )

    way = await through(handle)
    async with await way() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(
            stream.send_all, b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        answer = await read_until(stream, b"the end")

        assert answer.partition(b"\r\n\r\n")[2] == body


async def test_request_dribbled_byte_by_byte(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    async with await way() as stream:
        for byte in GET:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.001)

        assert await read_until(stream, b"ok") == OK
        assert script.received == [GET]


async def test_a_client_of_http10_gets_a_chunked_body_decoded(through: Through) -> None:
    chunks = b"3;e=1\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\nT: 1\r\n\r\n"
    script = Script([b"HTTP/1.1 200 OK\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, OK])
    way = await through(script.handle)
    request = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"

    assert await way.ask(request) == b"HTTP/1.1 200 OK\r\nX: 1\r\n" + CLOSE + b"\r\nabc\r\n\r\n"
    assert await way.ask(GET, b"ok") == OK


async def test_http1_request_with_body_chunked(through: Through) -> None:
    answer = OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n"
    script = Script([answer], read_body_until=b"0\r\n\r\n")
    way = await through(script.handle)
    request = b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

    assert await way.ask(request, b"0\r\n\r\n") == answer
    assert script.received == [request]


@pytest.mark.parametrize("framing", [b"content-length: 0", b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_http11_connect_headers_stripped(through: Through, framing: bytes) -> None:
    """A tunnel has no framing, so a client that heeds such a header would wait for a body, or take none."""

    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(OK_HEAD + framing + b"\r\nX-Kept: 1\r\n\r\n")
        await stream.send_all(await read_until(stream, b"ping"))

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        head = (await read_until(stream, b"\r\n\r\n")).lower()
        await stream.send_all(b"ping")

        assert b"x-kept: 1" in head
        assert b"content-length" not in head
        assert b"transfer-encoding" not in head
        assert await read_all(stream) == b"ping"


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT /origin-form HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b"CONNECT http://test/bar HTTP/1.1",
        b"CONNECT http://test HTTP/1.1",
        b"CONNECT * HTTP/1.1",
        b"CONNECT test:1 HTTP/1.0",
        b"GET test HTTP/1.1",
        b"GET test:80 HTTP/1.1",
    ],
)
async def test_http11_connect_bad_requests(through: Through, line: bytes) -> None:
    script = Script([OK])
    way = await through(script.handle)

    answer = await way.ask(line + b"\r\nHost: test\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"bad-request-line" in answer
    assert script.received == []


async def test_l5d_orig_proto_header_isnt_leaked(through: Through) -> None:
    """Nothing of the mesh is added to what a server hears, nor to what its client does."""
    script = Script([OK_HEAD + b"X-Own: 1\r\nContent-Length: 2\r\n\r\nok"])
    way = await through(script.handle)

    assert await way.ask(GET, b"ok") == script.answers[0]
    assert script.received == [GET]


async def test_http1_inbound_timeout(through: Through) -> None:
    """A server that never answers costs its client a 504 and no more."""

    async def handle(stream: trio.SocketStream) -> None:
        await read_all(stream)

    way = await through(handle, request_timeout_s=0.1)

    answer = await way.ask(GET, b"]\n")

    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"request-timeout" in answer


async def test_http1_one_connection_per_host(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    for host in (b"foo.bar", b"foo.bar", b"bar.baz", b"quuuux.com"):
        assert await way.ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", b"ok") == OK

    assert script.connections_count == 1


async def test_http1_requests_without_host_have_unique_connections(start_sidecar: Any, serve: Any) -> None:
    """What names no host goes where its own connection was going, and never shares one with what went elsewhere."""
    scripts = [Script([OK_HEAD + b"Content-Length: 1\r\n\r\n%d" % number]) for number in range(2)]
    servers = [await serve(script.handle) for script in scripts]
    sidecar = await start_sidecar(servers[0])
    for number in (0, 1, 0, 1):
        sidecar.destination = servers[number]
        async with await sidecar.connect() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost:\r\n\r\n")
            assert await read_until(stream, b"\r\n\r\n%d" % number) == scripts[number].answers[0]

    assert [script.connections_count for script in scripts] == [1, 1]


async def test_retry_reconnect_errors(start_sidecar: Any, controller: Controller, nursery: trio.Nursery) -> None:
    """A server that is not there yet costs no client anything while another is; once it listens it is used."""
    late, good = Script([OK]), Script([OK])
    late_port = free_port()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    service = Address("10.96.0.8", 80)
    controller.service(service, Address("127.0.0.1", late_port), Address(*listener.socket.getsockname()[:2]))
    sidecar = await start_sidecar(service, controller_url=controller.url)

    async def ask() -> bytes:
        async with await sidecar.connect() as stream:
            await stream.send_all(GET[:-2] + b"Connection: close\r\n\r\n")
            return (await read_all(stream))[-2:]

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as only:
            only.start_soon(trio.serve_listeners, good.handle, [listener])
            assert [await ask() for _ in range(10)] == [b"ok"] * 10
            scope.cancel()
    nursery.start_soon(partial(trio.serve_tcp, late.handle, late_port, host="127.0.0.1"))
    with trio.fail_after(5):
        while not late.received:
            await ask()


@pytest.mark.parametrize("inbound", [False, True], ids=["loop_outbound_http1", "loop_inbound_http1"])
async def test_an_http1_request_that_would_loop_is_refused_at_once(start_sidecar: Any, inbound: bool) -> None:
    """The destination is the listener itself: without a refusal the request would come back for ever."""
    sidecar = await start_sidecar(Address("127.0.0.1", 1))
    config = sidecar.app.config
    sidecar.destination = Address("127.0.0.1", config.inbound_port if inbound else config.outbound_port)
    async with await sidecar.connect(inbound) as stream:
        try:
            await stream.send_all(GET)
        except trio.BrokenResourceError:
            pass
        assert await read_all(stream) in (b"", b"<reset>")

    direction = "inbound" if inbound else "outbound"
    await wait_until(lambda: sidecar.counter(f"{direction}_http_errors_total", error="loop") >= 1)
