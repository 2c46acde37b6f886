"""What an application and its clients must not notice: HTTP/2 through one sidecar, and two in a row.

Client and server speak by the h2 library. Nothing here depends on whether a sidecar parses the connection.
"""

import h2.errors
import pytest
import trio
from h2house import LIMIT_S, OK_HEADERS, Headers, Peer, get, h2_server
from reachhouse import Through, Way

pytestmark = pytest.mark.trio


class Client:
    """A connection through a way, for one `async with`."""

    def __init__(self, way: Way) -> None:
        self._way = way

    async def __aenter__(self) -> Peer:
        return Peer(await self._way(), is_client=True)

    async def __aexit__(self, *_: object) -> None:
        pass


def echo(peer: Peer, stream_id: int) -> None:
    """Answer with the request's body, and its headers as the application has heard them."""
    heard = peer.heard[stream_id]
    told = [(b"x-heard-" + name.lstrip(b":"), value) for name, value in heard.headers]
    peer.frames.send_headers(stream_id, OK_HEADERS + told, end_stream=False)
    peer.frames.send_data(stream_id, heard.body, end_stream=not heard.trailers)
    if heard.trailers:
        peer.frames.send_headers(stream_id, [(b"x-sum", b"1")], end_stream=True)


async def talk(way: Way) -> Peer:
    return Peer(await way(), is_client=True)


async def test_http2_requests_and_responses_arrive_as_sent(through: Through) -> None:
    way = await through(h2_server(echo))
    peer = await talk(way)
    async with peer.stream:
        answer = await peer.answer(peer.request(get(b"/a?b=c", b"web", (b"x-one", b"1"), (b"cookie", b"a=b; c=d"))))

        assert answer[b":status"] == b"200"
        assert answer[b"x-heard-path"] == b"/a?b=c"
        assert answer[b"x-heard-authority"] == b"web"
        assert answer[b"x-heard-x-one"] == b"1"
        assert answer[b"x-heard-cookie"] == b"a=b; c=d"
        assert {name for name, _ in answer.headers if name.startswith(b"x-tulle") or name == b"via"} == set()


async def test_http2_target_in_raw_utf8_arrives_as_sent(through: Through) -> None:
    way = await through(h2_server(echo))
    peer = await talk(way)
    async with peer.stream:
        answer = await peer.answer(peer.request(get("/straße?ü=ä".encode(), b"web")))

        assert answer[b"x-heard-path"] == "/straße?ü=ä".encode()


async def test_http2_request_without_authority(through: Through) -> None:
    way = await through(h2_server(echo))
    peer = await talk(way)
    async with peer.stream:
        answer = await peer.answer(peer.request(get(b"/", None, (b"host", b"web"))))

        assert answer[b":status"] == b"200"
        assert answer[b"x-heard-host"] == b"web"


async def test_http2_rst_stream_is_propagated(through: Through) -> None:
    """The server's code reaches the client, and the connection serves on."""

    def respond(peer: Peer, stream_id: int) -> None:
        if peer.heard[stream_id][b":path"] == b"/reset":
            peer.frames.reset_stream(stream_id, h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        else:
            echo(peer, stream_id)

    way = await through(h2_server(respond))
    peer = await talk(way)
    async with peer.stream:
        reset = await peer.answer(peer.request(get(b"/reset")))
        fine = await peer.answer(peer.request(get(b"/fine")))

        assert reset.reset_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
        assert fine[b":status"] == b"200"


async def test_http2_reset_by_the_client_reaches_the_server(through: Through) -> None:
    codes: list[int | None] = []
    peers: list[Peer] = []

    def respond(peer: Peer, stream_id: int) -> None:
        if peer.heard[stream_id][b":path"] == b"/never":
            peers.append(peer)
        else:
            echo(peer, stream_id)

    way = await through(h2_server(respond))
    peer = await talk(way)
    async with peer.stream:
        first = peer.request(get(b"/never"))
        await peer.answer(peer.request(get(b"/fine")))
        peer.frames.reset_stream(first, h2.errors.ErrorCodes.CANCEL)
        await peer.answer(peer.request(get(b"/fine")))
        with trio.fail_after(LIMIT_S):
            while not codes:
                codes += [heard.reset_code for heard in peers[0].heard.values() if heard.reset_code is not None]
                await trio.sleep(0.01)

    assert codes == [h2.errors.ErrorCodes.CANCEL]


async def test_http2_trailers_of_both_sides_arrive(through: Through) -> None:
    way = await through(h2_server(echo))
    peer = await talk(way)
    async with peer.stream:
        post: Headers = [(b":method", b"POST"), *get()[1:], (b"te", b"trailers")]
        answer = await peer.answer(peer.request(post, b"hello", [(b"x-mine", b"2")]))

        assert answer.body == b"hello"
        assert answer.trailers == [(b"x-sum", b"1")]
        assert answer[b"x-heard-te"] == b"trailers"


async def test_http2_streams_are_answered_in_any_order(through: Through) -> None:
    waiting: list[int] = []

    def respond(peer: Peer, stream_id: int) -> None:
        waiting.append(stream_id)
        if len(waiting) == 10:
            for later in reversed(waiting):
                echo(peer, later)

    way = await through(h2_server(respond))
    peer = await talk(way)
    async with peer.stream:
        streams = [peer.request(get(b"/%d" % number)) for number in range(10)]
        answers = [await peer.answer(stream_id) for stream_id in streams]

        assert [answer[b"x-heard-path"] for answer in answers] == [b"/%d" % number for number in range(10)]


async def test_http2_large_headers_and_bodies_arrive_whole(through: Through) -> None:
    """Larger than a frame, and than a window: CONTINUATION one way, WINDOW_UPDATE both ways."""
    body = bytes(range(256)) * 2048
    large = b"v" * 20000

    def respond(peer: Peer, stream_id: int) -> None:
        peer.frames.send_headers(stream_id, [*OK_HEADERS, (b"x-large", large)], end_stream=False)
        pending[stream_id] = peer.heard[stream_id].body

    pending: dict[int, bytes] = {}

    async def handle(stream: trio.SocketStream) -> None:
        peer = Peer(stream, is_client=False)
        peer.on_request = lambda stream_id: respond(peer, stream_id)
        while not peer.is_over:
            for stream_id in list(pending):
                pending[stream_id] = _send_some(peer, stream_id, pending[stream_id])
                if not pending[stream_id]:
                    del pending[stream_id]
            try:
                await peer.step()
            except (trio.BrokenResourceError, trio.TooSlowError):
                return

    way = await through(handle)
    peer = await talk(way)
    async with peer.stream:
        post: Headers = [(b":method", b"POST"), *get()[1:], (b"x-large", large)]
        stream_id = peer.frames.get_next_available_stream_id()
        peer.frames.send_headers(stream_id, post)
        left = body
        while left:
            left = _send_some(peer, stream_id, left)
            if left:
                await peer.step()
        answer = await peer.answer(stream_id)

        assert answer[b"x-large"] == large
        assert answer.body == body


def _send_some(peer: Peer, stream_id: int, data: bytes) -> bytes:
    """Send what the window has room for; give the rest."""
    while data:
        room = min(peer.frames.local_flow_control_window(stream_id), peer.frames.max_outbound_frame_size)
        if not room:
            return data
        peer.frames.send_data(stream_id, data[:room], end_stream=len(data) <= room)
        data = data[room:]
    return data


async def test_http2_first_data_arrives_before_the_rest_is_sent(through: Through) -> None:
    """Server-sent events over HTTP/2: no buffering on the way."""
    peers: list[tuple[Peer, int]] = []

    def respond(peer: Peer, stream_id: int) -> None:
        peers.append((peer, stream_id))
        peer.frames.send_headers(stream_id, [(b":status", b"200"), (b"content-type", b"text/event-stream")])
        peer.frames.send_data(stream_id, b"data: first\n\n")

    way = await through(h2_server(respond))
    client = await talk(way)
    async with client.stream:
        stream_id = client.request(get(b"/events"))
        heard = client.heard[stream_id]
        await client.until(lambda: client.heard[stream_id].body)
        assert heard.body == b"data: first\n\n"
        server, server_stream = peers[0]
        server.frames.send_data(server_stream, b"data: second\n\n", end_stream=True)
        await server.flush()

        assert (await client.answer(stream_id)).body == b"data: first\n\ndata: second\n\n"


async def test_http2_ping_and_settings_are_answered(through: Through) -> None:
    way = await through(h2_server(echo))
    peer = await talk(way)
    async with peer.stream:
        await peer.answer(peer.request(get()))
        peer.frames.ping(b"12345678")
        peer.frames.update_settings({4: 100000})
        answer = await peer.answer(peer.request(get(b"/again")))

        assert answer[b":status"] == b"200"


async def test_http2_goaway_of_the_server_costs_no_later_request(through: Through) -> None:
    """A server that goes away answers what it has begun; a client that connects anew is served."""

    def respond(peer: Peer, stream_id: int) -> None:
        echo(peer, stream_id)
        peer.frames.close_connection(last_stream_id=stream_id)

    way = await through(h2_server(respond))
    for _ in range(3):
        peer = await talk(way)
        async with peer.stream:
            assert (await peer.answer(peer.request(get())))[b":status"] == b"200"


async def test_http2_extended_connect_carries_a_websocket(through: Through) -> None:
    """RFC 8441: the server offers it, the client's CONNECT with :protocol opens a stream, bytes pass both ways."""

    def respond(peer: Peer, stream_id: int) -> None:
        heard = peer.heard[stream_id]
        if heard.is_ended:
            peer.frames.end_stream(stream_id)
            return
        assert heard[b":protocol"] == b"websocket"
        assert heard[b":authority"] == b"web"
        peer.frames.send_headers(stream_id, [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")])
        peer.frames.send_data(stream_id, b"\x81\x05hello")

    way = await through(h2_server(respond, enable_connect_protocol=1))
    peer = await talk(way)
    async with peer.stream:
        await peer.until(lambda: peer.frames.remote_settings.enable_connect_protocol == 1)
        stream_id = peer.frames.get_next_available_stream_id()
        connect: Headers = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":path", b"/chat"),
            (b":authority", b"web"),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-protocol", b"chat"),
        ]
        peer.frames.send_headers(stream_id, connect)
        await peer.until(lambda: stream_id in peer.heard and peer.heard[stream_id].body)
        heard = peer.heard[stream_id]
        assert heard[b":status"] == b"200"
        assert heard[b"sec-websocket-protocol"] == b"chat"
        assert heard.body == b"\x81\x05hello"
        peer.frames.send_data(stream_id, b"\x81\x80\x00\x00\x00\x00")
        peer.frames.end_stream(stream_id)
        await peer.until(lambda: heard.is_ended)


async def test_http2_tls_like_preface_split_in_two_is_still_http2(through: Through) -> None:
    way = await through(h2_server(echo))
    peer = await talk(way)
    async with peer.stream:
        stream_id = peer.request(get())
        data = peer.frames.data_to_send()
        await peer.stream.send_all(data[:10])
        await trio.sleep(0.02)
        await peer.stream.send_all(data[10:])

        assert (await peer.answer(stream_id))[b":status"] == b"200"
        assert way.counter("tcp_protocol_connections_total", protocol="http/2") >= len(way.sidecars)
