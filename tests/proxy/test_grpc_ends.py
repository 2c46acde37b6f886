"""How gRPC calls end when something breaks: in trailers that say why. Watchers try again by those, not by resets."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import trio
from grpchouse import Behaviour, GrpcServer, Seen, call, slow, speaking
from http2house import OK
from multiplexhouse import MultiplexHouse, Peer
from proxyhouse import wait_until
from reachhouse import Through

from proxy.model import Headers
from proxy.wire.streams import INTERNAL_ERROR, REFUSED_STREAM, Settings

CALL: Headers = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"a"),
    (b":path", b"/s/m"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)
PLAIN: Headers = CALL[:4]
ANSWER: Headers = (*OK, (b"content-type", b"application/grpc"))


@pytest.fixture
def serve_grpc() -> Iterator[Any]:
    servers: list[GrpcServer] = []

    def start(behaviours: dict[str, Behaviour], *options: tuple[str, int]) -> GrpcServer:
        servers.append(GrpcServer(behaviours, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    house = MultiplexHouse(http2_window_bytes=65536, request_timeout_s=0.0, stream_idle_timeout_s=300.0, pod_name="web")
    yield house
    house.close()


def begin(house: MultiplexHouse, fields: Headers = CALL, settings: Settings | None = None) -> tuple[Peer, Peer, int]:
    """Make a call whose response has begun and goes on."""
    client, _ = house.client(settings=settings)
    stream_id = client.http2.request(fields, False)
    house.run()
    server = house.server()
    server.http2.respond(1, ANSWER, False)
    server.http2.send_body(1, b"some", False)
    house.run()
    return client, server, stream_id


def told(client: Peer, stream_id: int) -> dict[bytes, bytes]:
    """The trailers of a stream that ended by them, and by nothing else."""
    assert not [code for reset_id, code in client.notes.of("reset") if reset_id == stream_id and code]
    return dict(next(fields for of_id, fields in client.notes.of("trailers") if of_id == stream_id))  # type: ignore[call-overload,no-any-return]


def test_a_stream_whose_server_is_gone_ends_as_unavailable_in_trailers(house: MultiplexHouse) -> None:
    client, server, stream_id = begin(house)
    server.sock.close()
    house.peers.remove(server)
    house.run()

    trailers = told(client, stream_id)
    assert trailers[b"grpc-status"] == b"14"
    assert trailers[b"x-tulle-error"] == b"server-closed"
    assert b"outbound sidecar of pod web: server-closed" in trailers[b"grpc-message"]
    assert client.notes.body(stream_id) == b"some"
    series = house.parts.outbound.take(house.door.dials[0].address).direct[0].http  # type: ignore[union-attr]
    assert [(status.grpc, status.success) for status in series.by_status.values()] == [("14", False)]


def test_a_stream_that_outlives_goaway_and_grace_ends_as_unavailable_in_trailers(house: MultiplexHouse) -> None:
    client, server, stream_id = begin(house)
    server.http2.end()
    house.run()
    assert client.notes.of("trailers") == []
    server.sock.close()
    house.peers.remove(server)
    house.run()

    assert told(client, stream_id)[b"grpc-status"] == b"14"


def test_a_stream_of_no_grpc_is_reset_when_its_server_is_gone(house: MultiplexHouse) -> None:
    client, server, stream_id = begin(house, PLAIN)
    server.sock.close()
    house.peers.remove(server)
    house.run()

    assert client.notes.of("reset") == [(stream_id, INTERNAL_ERROR)]
    assert client.notes.of("trailers") == []


@pytest.mark.parametrize("code", [INTERNAL_ERROR, REFUSED_STREAM, 11])
def test_a_reset_by_a_grpc_server_stays_a_reset(house: MultiplexHouse, code: int) -> None:
    client, server, stream_id = begin(house)
    server.http2.reset(1, code)
    house.run()

    assert client.notes.of("reset") == [(stream_id, code)]
    assert client.notes.of("trailers") == []


def test_a_call_that_no_response_has_come_for_ends_as_unavailable_at_once(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = client.http2.request(CALL, True)
    house.run()
    server = house.server()
    server.sock.close()
    house.peers.remove(server)
    house.run()

    [(of_id, fields, ended)] = client.notes.of("head")
    assert (of_id, ended, dict(fields)[b"grpc-status"]) == (stream_id, True, b"14")  # type: ignore[call-overload]


def test_what_the_server_said_before_it_went_reaches_a_slow_reader_with_the_trailers(house: MultiplexHouse) -> None:
    client, server, stream_id = begin(house, settings=Settings(False, window_bytes=16384))
    client.notes.acknowledges = False
    server.http2.send_body(1, b"d" * 40_000, False)
    house.run()
    server.sock.close()
    house.peers.remove(server)
    house.run()
    assert client.notes.of("trailers") == []
    client.http2.acknowledge(stream_id, len(client.notes.body(stream_id)) - len(b"some"))
    client.notes.acknowledges = True
    house.run()

    assert told(client, stream_id)[b"grpc-status"] == b"14"
    assert len(client.notes.body(stream_id)) == 40_004


def test_a_response_that_turns_out_malformed_ends_as_internal_in_trailers(house: MultiplexHouse) -> None:
    client, server, stream_id = begin(house)
    server.sock.setblocking(True)
    server.sock.sendall(b"\0\0\1\x01\x05\0\0\0\1\x82")  # a second head, of a request
    house.peers.remove(server)
    house.run()

    trailers = told(client, stream_id)
    assert (trailers[b"grpc-status"], trailers[b"x-tulle-error"]) == (b"13", b"bad-response")


def test_a_deadline_that_passes_within_a_stream_is_told_in_trailers(house: MultiplexHouse) -> None:
    client, _, stream_id = begin(house, (*CALL, (b"grpc-timeout", b"2S")))
    house.check(1.9)
    house.check(0.4)

    trailers = told(client, stream_id)
    assert (trailers[b"grpc-status"], trailers[b"x-tulle-error"]) == (b"4", b"caller-timeout")


def test_a_stream_that_nobody_uses_any_more_ends_as_unavailable_in_trailers(house: MultiplexHouse) -> None:
    client, _, stream_id = begin(house)
    house.check(301.0)

    trailers = told(client, stream_id)
    assert (trailers[b"grpc-status"], trailers[b"x-tulle-error"]) == (b"14", b"idle-timeout")


def test_a_stream_that_outlives_the_drain_ends_as_unavailable_in_trailers(house: MultiplexHouse) -> None:
    client, _, stream_id = begin(house)
    [multiplex] = house.parts.sessions
    house.pump.enter(multiplex.abort, "draining")
    house.run()

    trailers = told(client, stream_id)
    assert (trailers[b"grpc-status"], trailers[b"x-tulle-error"]) == (b"14", b"draining")


@pytest.mark.parametrize("is_meshed", [False, True])
def test_only_a_sidecar_may_say_in_trailers_that_the_mesh_failed(house: MultiplexHouse, is_meshed: bool) -> None:
    client, multiplex = house.client()
    multiplex.target.direct[0].is_meshed = is_meshed
    stream_id = client.http2.request(CALL, True)
    house.run()
    server = house.server()
    server.http2.respond(1, ANSWER, False)
    trailers = ((b"grpc-status", b"14"), (b"x-tulle-error", b"server-closed"), (b"x-other", b"1"))
    server.http2.send_trailers(1, trailers)
    house.run()

    heard = told(client, stream_id)
    assert (b"x-tulle-error" in heard) is is_meshed
    assert (heard[b"grpc-status"], heard[b"x-other"]) == (b"14", b"1")


@pytest.mark.parametrize("fields", [CALL, PLAIN], ids=["gRPC", "plain"])
def test_a_client_that_never_takes_the_rest_of_an_answer_is_reset(house: MultiplexHouse, fields: Headers) -> None:
    client, server, stream_id = begin(house, fields, Settings(False, window_bytes=16384))
    client.notes.acknowledges = False
    server.http2.send_body(1, b"d" * 40_000, True)
    house.run()
    house.check(299.0)
    assert client.notes.of("reset") == []
    house.check(2.0)

    assert [of_id for of_id, _ in client.notes.of("reset")] == [stream_id]


@pytest.mark.trio
async def test_a_watch_that_max_connection_age_cuts_is_unavailable_to_the_client(
    through: Through, serve_grpc: Any
) -> None:
    """A real server that says GOAWAY after 0.3 s, waits 0.2 s more and closes, jitter aside."""
    ages = (("grpc.max_connection_age_ms", 300), ("grpc.max_connection_age_grace_ms", 200))
    server = serve_grpc({"stream": speaking(0.0, 10.0)}, *ages)
    way = await through(server.address)

    with trio.fail_after(8):
        seen = await call(way.entry.port, "stream")

    assert (seen.messages, seen.code) == ([b"at 0 s"], grpc.StatusCode.UNAVAILABLE)


@pytest.mark.trio
async def test_a_server_that_stops_in_the_middle_of_a_stream_is_unavailable_to_the_client(
    through: Through, serve_grpc: Any
) -> None:
    server = serve_grpc({"stream": speaking(0.0, 10.0), "unary": slow(10.0)})
    way = await through(server.address)
    stream, unary = Seen(), Seen()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, way.entry.port, "stream", 20.0, stream)
        nursery.start_soon(call, way.entry.port, "unary", 20.0, unary)
        await wait_until(lambda: stream.messages != [])
        await trio.to_thread.run_sync(server.stop)

    assert stream.messages == [b"at 0 s"]
    assert (stream.code, unary.code) == (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
