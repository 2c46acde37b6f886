"""Attempts to hide one message in another, and answers of careless servers, through one sidecar and two.

What must hold: a server hears the requests that the sidecar counted and no other, and no client gets bytes that were
meant for another.
"""

import pytest
import trio
from proxyhouse import GET, OK, Script, read_all, read_until, wait_until
from reachhouse import Through

pytestmark = [pytest.mark.trio, pytest.mark.parametrize("through", ["inbound", "two-discovered"], indirect=True)]

SMUGGLED = b"GET /admin/delete-all HTTP/1.1\r\nHost: web\r\n\r\n"
CLOSE = b"Connection: close\r\n"


class Literal:
    """A server that reads bodies as their heads say, after whatever it answers; it keeps the heads."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = answers
        self.heads: list[bytes] = []
        self.connections_count = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections_count += 1
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                piece = await stream.receive_some(65536)
                if not piece:
                    return
                data += bytes(piece)
            head, _, data = data.partition(b"\r\n\r\n")
            await stream.send_all(self.answers[min(len(self.heads), len(self.answers) - 1)])
            self.heads.append(head)
            size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
            while len(data) < size:
                piece = await stream.receive_some(65536)
                if not piece:
                    return
                data += bytes(piece)
            data = data[size:]

    @property
    def targets(self) -> list[bytes]:
        return [head.split()[1] for head in self.heads]


@pytest.mark.parametrize("fields", [b"Content-Length: %d\r\n" % len(GET), b"Transfer-Encoding: chunked\r\n"])
async def test_a_connect_with_a_body_is_refused_and_reaches_no_server(through: Through, fields: bytes) -> None:
    """Its server would take the next client's request for the body."""
    server = Literal(OK)
    way = await through(server.handle)

    answer = await way.ask(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" + fields + b"\r\n" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-tulle-error: connect-with-body\r\n" in answer
    assert await way.ask(GET, b"ok") == OK
    assert server.targets == [b"/"]
    assert way.counter("http1_faults_total", reason="connect-with-body") == 1


async def test_a_connection_that_carried_a_connect_serves_no_other_request(through: Through) -> None:
    server = Literal(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", OK)
    way = await through(server.handle)

    assert (await way.ask(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
    assert await way.ask(GET, b"ok") == OK
    assert server.connections_count == 2


ODD_FRAMING = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\nContent-Length: 0\r\n",
    b"Content-Length: 9223372036854775813\r\n",
]


@pytest.mark.parametrize("fields", ODD_FRAMING)
async def test_a_request_that_servers_would_frame_differently_reaches_none(through: Through, fields: bytes) -> None:
    server = Literal(OK)
    way = await through(server.handle)

    answer = await way.ask(b"POST / HTTP/1.1\r\nHost: web\r\n" + fields + b"\r\n0\r\n\r\n" + SMUGGLED)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert server.heads == []


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        (b"Transfer-Encoding: ,chunked\r\n", b"Transfer-Encoding: chunked\r\n"),
        (b"Transfer-Encoding:\tCHUNKED\r\n", b"Transfer-Encoding: chunked\r\n"),
        (b"Content-Length:  005 \r\n", b"Content-Length: 5\r\n"),
    ],
)
async def test_a_server_reads_the_framing_that_was_decided(through: Through, came: bytes, goes: bytes) -> None:
    script = Script([OK], read_body_until=b"0\r\n\r\n")
    way = await through(script.handle)

    assert await way.ask(b"POST / HTTP/1.1\r\nHost: web\r\n" + came + b"\r\n0\r\n\r\n", b"ok") == OK
    assert script.received == [b"POST / HTTP/1.1\r\nHost: web\r\n" + goes + b"\r\n0\r\n\r\n"]


HEAD = b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n"
BOTH = b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("request_", "answer", "expected"),
    [
        (HEAD, b"HTTP/1.1 200 OK\r\n" + BOTH, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"),
        (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n", b"HTTP/1.1 200 OK\r\n"),
        (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n", b"HTTP/1.1 200 OK\r\n"),
        (GET, b"HTTP/1.1 204 No\r\n" + BOTH, b"HTTP/1.1 204 No\r\n"),
        (GET, b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n", b"HTTP/1.1 204 No\r\n"),
        (GET, b"HTTP/1.1 304 Not\r\n" + BOTH, b"HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n"),
        (GET, b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\n", b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\n"),
    ],
)
async def test_a_response_without_a_body_passes_whatever_it_says_of_one(
    through: Through, request_: bytes, answer: bytes, expected: bytes
) -> None:
    server = Literal(answer + b"\r\n", OK)
    way = await through(server.handle)

    assert await way.ask(request_ + GET, b"ok") == expected + b"\r\n" + OK


async def test_a_connect_passes_whatever_its_response_says_of_a_body(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + BOTH + b"\r\nhello ")
        await stream.send_all(await read_until(stream, b"ping"))

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nping")
        assert await read_until(stream, b"ping") == b"HTTP/1.1 200 OK\r\n\r\nhello ping"


@pytest.mark.parametrize(
    ("came", "goes", "body", "connections_count"),
    [
        (
            b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"3\r\nabc\r\n0\r\n\r\n",
            2,
        ),
        (b"Content-Length: 3\r\nContent-Length: 3\r\n", b"Content-Length: 3\r\n", b"abc", 1),
        (b"Content-Length: 3, 3\r\n", b"Content-Length: 3\r\n", b"abc", 1),
        (b"Expires : -1\r\nContent-Length: 3\r\n", b"Expires: -1\r\nContent-Length: 3\r\n", b"abc", 1),
        (b"X: a\r\n\tb\r\nContent-Length: 3\r\n", b"X: a b\r\nContent-Length: 3\r\n", b"abc", 1),
    ],
)
async def test_a_careless_response_is_repaired(
    through: Through, came: bytes, goes: bytes, body: bytes, connections_count: int
) -> None:
    server = Literal(b"HTTP/1.1 200 OK\r\n" + came + b"\r\n" + body, OK)
    way = await through(server.handle)

    assert await way.ask(GET, body) == b"HTTP/1.1 200 OK\r\n" + goes + b"\r\n" + body
    assert await way.ask(GET, b"ok") == OK
    assert server.connections_count == connections_count


STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
ODD_RESPONSES = {
    "no response": b"garbage\r\n\r\n",
    "different lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nokok",
    "list of different lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 4\r\n\r\nokok",
    "length below zero": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "length too large": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "both": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + STRAY,
    "chunks twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + STRAY,
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok" + STRAY,
    "204 with a body": b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nHTTP/",
    "a second response": OK + STRAY,
    "HTTP/1.0 with chunks": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + STRAY,
    "control character": b"HTTP/1.1 200 OK\r\nX: a\x01\r\nContent-Length: 2\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "101 unasked": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + STRAY,
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("answer", ODD_RESPONSES.values(), ids=ODD_RESPONSES.keys())
async def test_an_odd_response_poisons_no_connection(through: Through, answer: bytes) -> None:
    """Whatever it did to its own client, the next one gets the answer to its own request."""
    count = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal count
        while await read_until(stream, b"\r\n\r\n"):
            count += 1
            await stream.send_all(answer if count == 1 else OK)
            if b"\r\n" not in answer or b"identity" in answer:
                return

    way = await through(handle)
    with trio.move_on_after(0.3):
        await way.ask(GET)
    assert await way.ask(GET + GET, b"okHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == OK + OK


# Upgrade


async def test_h2c_beside_another_protocol_is_not_asked_onwards(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    asked = b"Connection: upgrade, http2-settings\r\nUpgrade: x, h2c\r\nHTTP2-Settings: a\r\n\r\n"

    assert await way.ask(GET[:-2] + asked, b"ok") == OK
    assert script.received == [b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]


@pytest.mark.parametrize("given", [b"Upgrade: h2c\r\n", b"Upgrade: x, h2c\r\n", b"Upgrade: y\r\n", b""])
async def test_a_101_to_what_was_not_asked_is_refused(through: Through, given: bytes) -> None:
    tunnelled = []

    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\n" + given + b"\r\n")
        tunnelled.append(await read_all(stream))

    way = await through(handle)
    asked = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x, h2c\r\n\r\n"
    async with await way() as stream:
        await stream.send_all(asked)
        answer = await read_until(stream, b"]\n")
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"x-tulle-error: bad-response\r\n" in answer or way.kind != "inbound"
    await wait_until(lambda: tunnelled in ([b""], [b"<reset>"]))


async def test_426_says_what_to_upgrade_to(through: Through) -> None:
    upgrade = b"Connection: upgrade\r\nUpgrade: TLS/1.3, HTTP/1.1\r\n"
    answer = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n" + upgrade + b"\r\n"
    way = await through(Script([answer]).handle)

    assert await way.ask(GET, b"\r\n\r\n") == answer


# Hosts


@pytest.mark.parametrize(
    "host", [b"", b"Host: user@h\r\n", b"Host: h/path\r\n", b"Host: a, b\r\n", b"Host: a\r\nHost: a\r\n"]
)
async def test_a_request_without_one_host_is_refused(through: Through, host: bytes) -> None:
    script = Script([OK])
    way = await through(script.handle)

    answer = await way.ask(b"GET / HTTP/1.1\r\n" + host + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"-host\r\n" in answer
    assert script.received == []


async def test_an_empty_host_is_allowed(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)

    assert await way.ask(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"ok") == OK


async def test_a_target_in_raw_utf8_reaches_the_server_as_it_came(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    request = "GET /straße?ü=ä HTTP/1.1\r\nHost: web\r\n\r\n".encode()

    assert await way.ask(request + request, b"okHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == OK + OK
    assert script.received == [request, request]


# Versions


async def test_chunks_of_a_server_of_http10_come_without_chunks_and_end_with_the_connection(through: Through) -> None:
    answer = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    script = Script([answer])
    way = await through(script.handle)

    assert await way.ask(GET + GET) == b"HTTP/1.0 200 OK\r\nA: b\r\n" + CLOSE + b"\r\nabc"


@pytest.mark.parametrize("kept", [b"", b"Connection: keep-alive\r\n"])
async def test_a_server_of_http10_costs_its_client_no_connection(through: Through, kept: bytes) -> None:
    """And the client learns that its own lives on: from an answer of HTTP/1.0 it would take the opposite."""
    script = Script([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n" + kept + b"\r\nok"])
    way = await through(script.handle)
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"

    assert await way.ask(GET + GET, answer + answer) == answer + answer
    if way.kind in ("outbound", "inbound"):
        assert script.connections_count == (1 if kept else 2)


async def test_what_served_a_client_of_http10_serves_no_other(through: Through) -> None:
    script = Script([OK])
    way = await through(script.handle)
    request = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"

    kept = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"
    assert await way.ask(request + request, kept + kept) == kept + kept
    assert script.connections_count == 2


# What went bad on its way


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_bad_chunk_behind_its_head_is_told_for_what_it_is(through: Through, is_whole: bool) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"zz\r\n" if is_whole else b"")
        )
        if not is_whole:
            await trio.sleep(0.05)
            await stream.send_all(b"zz\r\n")
        await read_all(stream)

    way = await through(handle)
    answer = await way.ask(GET, b"]\n" if is_whole else None)
    if is_whole:
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"bad-response" in answer
        assert b"bad-chunk" in answer
        assert way.counter("inbound_http_errors_total", error="bad-response") + way.counter(
            "outbound_http_errors_total", error="bad-response"
        )
    else:
        assert answer == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n<reset>"


async def test_a_bad_chunk_of_a_request_is_told_for_what_it_is(through: Through) -> None:
    way = await through(Script([OK]).handle)

    answer = await way.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-tulle-error: bad-chunk\r\n" in answer
    assert way.counter("http1_faults_total", reason="bad-chunk") == 1
