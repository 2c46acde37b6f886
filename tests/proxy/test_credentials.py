"""A connection on which a client has authenticated itself (NTLM, Negotiate) serves that client and nobody else."""

import socket

import pytest
import trio
from h2house import OK_HEADERS, Peer, get, h2_server
from proxyhouse import GET, OK, read_until
from reachhouse import Through

from proxy.wire.http1 import RequestReader, ResponseReader

pytestmark = pytest.mark.trio


def with_line(line: bytes) -> bytes:
    return GET.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")


def refusal(challenge: bytes) -> bytes:
    return b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: %b\r\nContent-Length: 1\r\n\r\n." % challenge


class Windows:
    """A server of the kind that authenticates connections in three steps, and then believes all that follows."""

    def __init__(self, scheme: bytes) -> None:
        self.scheme = scheme
        self.connections_count = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections_count += 1
        user = asked = b""
        while head := await read_until(stream, b"\r\n\r\n"):
            token = head.partition(b"\r\nAuthorization: ")[2].partition(b"\r\n")[0]
            if token == self.scheme + b" hello":
                user, asked = b"", b"who?"
            elif token.startswith(self.scheme + b" I-am-") and asked:
                user = token.partition(b"I-am-")[2]
            if user:
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b." % (len(user) + 1, user))
            else:
                await stream.send_all(refusal(self.scheme + b" " + asked if asked else self.scheme))


class Client:
    """A client's connection, which it uses for all its requests."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def ask(self, request: bytes = GET) -> bytes:
        await self.stream.send_all(request)
        return await read_until(self.stream, b".")

    async def log_in(self, scheme: bytes, user: bytes) -> bytes:
        assert b"401" in await self.ask()
        assert b"who?" in await self.ask(with_line(b"Authorization: " + scheme + b" hello"))
        return await self.ask(with_line(b"Authorization: " + scheme + b" I-am-" + user))


@pytest.mark.parametrize("scheme", [b"NTLM", b"Negotiate"])
async def test_a_connection_on_which_a_client_authenticated_itself_serves_no_other(
    through: Through, scheme: bytes
) -> None:
    windows = Windows(scheme)
    way = await through(windows.handle)
    async with await way() as first, await way() as second:
        alice, mallory = Client(first), Client(second)
        assert (await alice.log_in(scheme, b"alice")).endswith(b"alice.")

        assert b" 401 " in await mallory.ask()
        assert (await alice.ask()).endswith(b"alice.")
    async with await way() as third:
        assert b" 401 " in await Client(third).ask()


async def test_clients_that_authenticate_themselves_at_the_same_time_do_so_each_on_their_own_connection(
    through: Through,
) -> None:
    """Steps of one handshake need one connection, whatever another client does meanwhile."""
    windows = Windows(b"NTLM")
    way = await through(windows.handle)
    async with await way() as first, await way() as second:
        alice, bob = Client(first), Client(second)
        for client in (alice, bob):
            assert b"401" in await client.ask()
        for client in (alice, bob):
            assert b"who?" in await client.ask(with_line(b"Authorization: NTLM hello"))
        for client, user in ((alice, b"alice"), (bob, b"bob")):
            told = await client.ask(with_line(b"Authorization: NTLM I-am-" + user))
            assert told.endswith(user + b".")
        for client, user in ((bob, b"bob"), (alice, b"alice")):
            assert (await client.ask()).endswith(user + b".")
    assert windows.connections_count == 2


async def test_a_connection_that_knows_its_client_ends_with_it(through: Through) -> None:
    ended = trio.Event()
    windows = Windows(b"NTLM")

    async def handle(stream: trio.SocketStream) -> None:
        await windows.handle(stream)
        ended.set()

    way = await through(handle)
    async with await way() as stream:
        assert (await Client(stream).log_in(b"NTLM", b"alice")).endswith(b"alice.")
    with trio.fail_after(2):
        await ended.wait()


async def test_a_client_that_its_server_has_forgotten_meets_it_anew(through: Through) -> None:
    """The server closes the idle connection: the client logs in again, on another one."""
    windows = Windows(b"NTLM")
    streams: list[trio.SocketStream] = []

    async def handle(stream: trio.SocketStream) -> None:
        streams.append(stream)
        await windows.handle(stream)

    way = await through(handle)
    async with await way() as stream:
        alice = Client(stream)
        await alice.log_in(b"NTLM", b"alice")
        streams[-1].socket.shutdown(socket.SHUT_RDWR)
        await trio.sleep(0.02)

        assert (await alice.log_in(b"NTLM", b"alice")).endswith(b"alice.")


async def test_http2_shares_connections_whatever_is_negotiated(through: Through) -> None:
    """HTTP/2 authenticates requests, never connections."""

    def respond(peer: Peer, stream_id: int) -> None:
        token = dict(peer.heard[stream_id].headers).get(b"authorization", b"none")
        peer.frames.send_headers(stream_id, [*OK_HEADERS, (b"www-authenticate", token)], end_stream=True)

    way = await through(h2_server(respond))
    async with await way() as one, await way() as other:
        first, second = Peer(one, is_client=True), Peer(other, is_client=True)
        told = await first.answer(first.request(get(b"/", b"web", (b"authorization", b"Negotiate YII="))))
        assert told[b"www-authenticate"] == b"Negotiate YII="
        told = await second.answer(second.request(get()))
        assert told[b"www-authenticate"] == b"none"


class Notes:
    """A sink that keeps what the heads say."""

    def __init__(self) -> None:
        self.is_personal: list[bool] = []

    def on_request(self, head: object) -> None:
        self.is_personal.append(head.is_personal)  # type: ignore[attr-defined]

    def on_response(self, head: object) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...


@pytest.mark.parametrize(
    ("line", "is_personal"),
    [
        (b"Authorization: NTLM TlRM", True),
        (b"authorization:negotiate YII=", True),
        (b"AUTHORIZATION: \t NTLM", True),
        (b"Proxy-Authorization: NTLM TlRM", True),
        (b"Authorization: Bearer abc", False),
        (b"Authorization: NTLMish abc", False),
        (b"Authorization:   NTLM abc", True),
        (b"Authorization:Bearer abc", False),
        (b"Authorization: Basic NTLM", False),
        (b"Authorization: Nothing", False),
        (b"Authorization:", False),
        (b"Authorization-Info: NTLM abc", False),
        (b"Accept-Charset: NTLM", False),
    ],
)
async def test_a_request_with_credentials_of_a_connection_is_told_from_others(line: bytes, is_personal: bool) -> None:
    notes = Notes()
    RequestReader(notes, 65536).feed(with_line(line))

    assert notes.is_personal == [is_personal]


@pytest.mark.parametrize(
    ("line", "is_personal"),
    [
        (b"WWW-Authenticate: NTLM", True),
        (b"WWW-Authenticate: Negotiate", True),
        (b"www-authenticate: Negotiate YII=", True),
        (b'WWW-Authenticate: Basic realm="a", NTLM', True),
        (b"Proxy-Authenticate: NTLM", True),
        (b'WWW-Authenticate: Basic realm="NTLM"', False),
        (b"WWW-Authenticate: Bearer", False),
        (b"WWW-Authenticate:", False),
        (b"Warning: NTLM", False),
    ],
)
async def test_a_challenge_for_credentials_of_a_connection_is_told_from_others(line: bytes, is_personal: bool) -> None:
    reader = ResponseReader(Notes(), 65536)
    reader.feed(OK.replace(b"200 OK", b"401 No\r\n" + line))

    assert reader.is_personal == is_personal
