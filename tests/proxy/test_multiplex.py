"""HTTP/2 from a client through the sidecar to a server: heads, bodies, trailers, resets, and nothing held too long."""

from collections.abc import Iterator

import pytest
from http2house import GET, OK, POST
from multiplexhouse import SERVER, MultiplexHouse, Peer

from proxy.model import Headers
from proxy.nearby import Nearby
from proxy.peers import Peers
from proxy.policy.probe import GRPC_TARGET
from proxy.targets import Targets
from proxy.wire.streams import CANCEL, NO_ERROR, REFUSED_STREAM, Settings

TRAILERS: Headers = ((b"grpc-status", b"0"),)
BIG: Headers = tuple((b"x-%d" % i, b"v" * 4000) for i in range(12))
GRPC: Headers = (*POST, (b"content-type", b"application/grpc"), (b"te", b"trailers"))
WEBSOCKET: Headers = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:])
WINDOW_BYTES = 65536


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    house = MultiplexHouse(http2_window_bytes=WINDOW_BYTES)
    yield house
    house.close()


def ask(house: MultiplexHouse, client: Peer, fields: Headers = GET, ended: bool = True) -> int:
    stream_id = client.http2.request(fields, ended)
    house.run()
    return stream_id


def error_of(fields: Headers) -> bytes:
    return dict(fields).get(b"x-tulle-error", b"")


def head_of(peer: Peer, stream_id: int) -> Headers:
    return next(fields for found, fields, _ in peer.notes.of("head") if found == stream_id)  # type: ignore[misc,return-value]


def test_a_request_and_its_response_pass_unchanged(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, POST + BIG, ended=False)
    server = house.server()
    client.http2.send_body(stream_id, b"question", False)
    client.http2.send_trailers(stream_id, TRAILERS + BIG)
    house.run()
    assert server.notes.of("head") == [(1, POST + BIG, False)]
    assert server.notes.body(1) == b"question"
    assert server.notes.of("trailers") == [(1, TRAILERS + BIG)]
    server.http2.inform(1, ((b":status", b"103"), (b"link", b"</a>")))
    server.http2.respond(1, OK + BIG, False)
    server.http2.send_body(1, b"answer", False)
    server.http2.send_trailers(1, TRAILERS + BIG)
    house.run()
    assert client.notes.of("informational") == [(stream_id, ((b":status", b"103"), (b"link", b"</a>")))]
    assert head_of(client, stream_id) == OK + BIG
    assert client.notes.body(stream_id) == b"answer"
    assert client.notes.of("trailers") == [(stream_id, TRAILERS + BIG)]
    assert client.notes.of("closed") == server.notes.of("closed") == [(1, NO_ERROR)]


def test_a_response_that_is_nothing_but_a_head_ends_with_it(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client)
    server = house.server()
    server.http2.respond(1, ((b":status", b"204"),), True)
    house.run()
    assert client.notes.of("head") == [(stream_id, ((b":status", b"204"),), True)]
    assert client.notes.of("body") == []


def test_many_requests_share_one_trunk_and_answer_in_any_order(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    other, _ = house.client()
    for _ in range(5):
        client.http2.request(GET, True)
        other.http2.request(GET, True)
    house.run()
    assert len(house.door.dials) == 1
    server = house.server()
    assert len(server.notes.of("head")) == 10
    for stream_id, _, _ in reversed(server.notes.of("head")):
        server.http2.respond(stream_id, OK, True)  # type: ignore[arg-type]
        house.run()
    assert [found for found, *_ in client.notes.of("head")] == [9, 7, 5, 3, 1]
    assert multiplex.streams == {}
    ask(house, client)
    assert len(house.door.dials) == 1


def test_more_requests_than_the_server_takes_open_another_trunk(house: MultiplexHouse) -> None:
    client, _ = house.client()
    ask(house, client)
    first = house.server(settings=Settings(True, streams_count=2))
    for _ in range(2):
        ask(house, client)
    assert len(house.door.dials) == 2
    second = house.server(settings=Settings(True, streams_count=2))
    assert (len(first.notes.of("head")), len(second.notes.of("head"))) == (2, 1)
    first.http2.respond(1, OK, True)
    house.run()
    ask(house, client)
    assert (len(first.notes.of("head")), len(second.notes.of("head"))) == (3, 1)
    assert len(house.door.dials) == 2


def test_large_bodies_pass_both_ways_at_once(house: MultiplexHouse) -> None:
    client, _ = house.client()
    up, down = b"u" * 3_000_000, b"d" * 3_000_000
    streams = [ask(house, client, POST, ended=False) for _ in range(3)]
    server = house.server()
    for stream_id in streams:
        client.http2.send_body(stream_id, up, True)
        server.http2.respond(stream_id, OK, False)
        server.http2.send_body(stream_id, down, False)
    house.run()
    for stream_id in streams:
        assert server.notes.body(stream_id) == up
        assert client.notes.body(stream_id) == down
        server.http2.send_body(stream_id, b"", True)
    house.run()
    assert sorted(client.notes.of("closed")) == [(stream_id, NO_ERROR) for stream_id in streams]


def test_a_server_that_takes_nothing_holds_its_stream_and_no_other(house: MultiplexHouse) -> None:
    client, _ = house.client()
    slow, quick = ask(house, client, POST, ended=False), ask(house, client, POST, ended=False)
    server = house.server(settings=Settings(True, window_bytes=20000))
    server.notes.acknowledges = False
    client.http2.send_body(slow, b"a" * 1_000_000, True)
    house.run()
    assert len(server.notes.body(slow)) == 20000
    passed_bytes = 1_000_000 - client.http2.queued_bytes(slow)
    assert passed_bytes <= 20000 + WINDOW_BYTES
    client.http2.send_body(quick, b"b" * 15000, True)
    house.run()
    assert len(server.notes.body(quick)) == 15000
    while len(server.notes.body(slow)) < 1_000_000:
        server.http2.acknowledge(slow, 20000)
        house.run()
    assert server.notes.body(slow) == b"a" * 1_000_000


def test_a_client_that_takes_nothing_holds_its_stream_and_no_other(house: MultiplexHouse) -> None:
    client, _ = house.client(settings=Settings(False, window_bytes=20000))
    client.notes.acknowledges = False
    slow, quick = ask(house, client), ask(house, client)
    server = house.server()
    server.http2.respond(slow, OK, False)
    server.http2.send_body(slow, b"a" * 1_000_000, True)
    house.run()
    assert len(client.notes.body(slow)) == 20000
    assert 1_000_000 - server.http2.queued_bytes(slow) <= 20000 + WINDOW_BYTES
    server.http2.respond(quick, OK, False)
    server.http2.send_body(quick, b"b" * 15000, True)
    house.run()
    assert client.notes.body(quick) == b"b" * 15000
    while len(client.notes.body(slow)) < 1_000_000:
        client.http2.acknowledge(slow, 20000)
        house.run()
    assert client.notes.body(slow) == b"a" * 1_000_000


def test_a_body_that_waits_for_its_server_is_bounded_and_whole(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, POST, ended=False)
    client.http2.send_body(stream_id, b"a" * 1_000_000, True)
    house.run()
    assert 1_000_000 - client.http2.queued_bytes(stream_id) == WINDOW_BYTES
    server = house.server()
    house.run()
    assert server.notes.body(1) == b"a" * 1_000_000
    assert server.notes.events[-1] == ("body", 1, server.notes.events[-1][2], True)


@pytest.mark.parametrize("code", [CANCEL, 2, 13])
def test_a_reset_by_the_client_reaches_the_server_with_its_code(house: MultiplexHouse, code: int) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, POST, ended=False)
    server = house.server()
    client.http2.reset(stream_id, code)
    house.run()
    assert server.notes.of("reset") == [(1, code)]
    assert [notice[1] for notice in house.notices] == ["client-closed"]


@pytest.mark.parametrize("code", [NO_ERROR, CANCEL, 2, 11, 13])
def test_a_reset_by_the_server_within_its_response_reaches_the_client(house: MultiplexHouse, code: int) -> None:
    client, _ = house.client()
    stream_id = ask(house, client)
    server = house.server()
    server.http2.respond(1, OK, False)
    server.http2.send_body(1, b"part", False)
    house.run()
    server.http2.reset(1, code)
    house.run()
    assert client.notes.body(stream_id) == b"part"
    assert client.notes.of("reset") == [(stream_id, code or 2)]


@pytest.mark.parametrize("fields", [GET, GRPC])
def test_a_reset_by_the_server_before_its_response_is_passed_on_too(house: MultiplexHouse, fields: Headers) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, fields)
    house.server().http2.reset(1, 11)
    house.run()
    assert client.notes.of("head") == []
    assert client.notes.of("reset") == [(stream_id, 11)]
    assert [notice[1] for notice in house.notices] == ["stream-reset"]


def test_a_whole_response_to_an_unread_request_arrives_and_then_stops_the_client(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    stream_id = ask(house, client, POST, ended=False)
    server = house.server()
    client.http2.send_body(stream_id, b"a" * 40000, False)
    house.run()
    server.http2.respond(1, OK, False)
    server.http2.send_body(1, b"enough", True)
    server.http2.take_output(0)
    house.run()
    assert client.notes.body(stream_id) == b"enough"
    assert client.notes.of("reset") == [(stream_id, NO_ERROR)]
    assert server.notes.of("reset") == [(1, CANCEL)]
    assert multiplex.streams == {}


def test_a_response_larger_than_the_window_arrives_whole_before_the_reset(house: MultiplexHouse) -> None:
    client, _ = house.client(settings=Settings(False, window_bytes=20000))
    stream_id = ask(house, client, POST, ended=False)
    server = house.server()
    server.http2.respond(1, OK, False)
    server.http2.send_body(1, b"d" * 200_000, False)
    server.http2.send_trailers(1, TRAILERS)
    house.run()
    assert client.notes.body(stream_id) == b"d" * 200_000
    assert [event[0] for event in client.notes.events[-3:]] == ["trailers", "reset", "closed"]


def test_what_the_mesh_refuses_is_answered_in_the_stream(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, (*GET, (b"host", b"other")))
    large = ask(house, client, (*GET, *BIG, *BIG))
    assert error_of(head_of(client, stream_id)) == b"host-conflict"
    assert head_of(client, large)[0] == (b":status", b"431")
    assert house.door.dials == []
    labels = (("direction", "outbound"), ("reason", "host-conflict"))
    assert house.meter.counters["http2_faults_total", labels] == 1
    upload = ask(house, client, (*POST, (b"host", b"other")), ended=False)
    assert client.notes.of("reset") == [(upload, NO_ERROR)]


def test_a_failure_is_told_to_grpc_in_its_own_words(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, GRPC, ended=False)
    client.http2.send_body(stream_id, b"message", True)
    house.run()
    house.door.dials[0].fail("connect-refused")
    house.run()
    assert client.notes.of("head")[0][2] is True
    fields = dict(head_of(client, stream_id))
    assert fields[b":status"] == b"200"
    assert fields[b"grpc-status"] == b"14"
    assert fields[b"x-tulle-error"] == b"connect-refused"
    assert b"connect-refused" in fields[b"grpc-message"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [("connect-refused", "14"), ("connect-timeout", "14"), ("server-closed", "14"), ("bad-response", "13")],
)
def test_a_failure_counts_under_the_grpc_status_that_the_client_is_told(
    house: MultiplexHouse, reason: str, told: str
) -> None:
    client, multiplex = house.client()
    stream_id = ask(house, client, GRPC)
    house.door.dials[0].fail(reason)
    house.run()
    assert dict(head_of(client, stream_id))[b"grpc-status"] == told.encode()
    assert list(multiplex.target.direct[0].http.by_status) == [(200, told)]


def test_a_failure_to_a_head_request_has_no_body(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, ((b":method", b"HEAD"), *GET[1:]))
    house.door.dials[0].fail("connect-refused")
    house.run()
    assert client.notes.of("head")[0][2] is True
    assert head_of(client, stream_id)[0] == (b":status", b"502")


def test_a_failed_dial_fails_all_who_waited_for_it(house: MultiplexHouse) -> None:
    client, _ = house.client()
    streams = [ask(house, client) for _ in range(3)]
    house.door.dials[0].fail("connect-refused")
    house.run()
    assert [error_of(head_of(client, stream_id)) for stream_id in streams] == [b"connect-refused"] * 3
    target = house.targets.take(SERVER)
    assert target.direct[0].bars_count <= 1
    assert target.direct[0].in_flight == 0


def test_nobody_dials_for_clients_that_are_gone(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    first, second = ask(house, client), ask(house, client)
    client.http2.reset(first, CANCEL)
    house.run()
    assert not house.door.dials[0].is_cancelled
    client.http2.reset(second, CANCEL)
    house.run()
    assert house.door.dials[0].is_cancelled
    assert multiplex.target.direct[0].in_flight == 0
    ask(house, client)
    assert len(house.door.dials) == 2


def test_an_extended_connect_carries_bytes_both_ways(house: MultiplexHouse) -> None:
    client, _ = house.client()
    ask(house, client)  # so that the server's settings are known
    server = house.server()
    stream_id = ask(house, client, WEBSOCKET, ended=False)
    assert server.notes.of("head")[1] == (3, WEBSOCKET, False)
    server.http2.respond(3, OK, False)
    server.http2.send_body(3, b"hello", False)
    client.http2.send_body(stream_id, b"hello yourself", False)
    house.run()
    assert client.notes.body(stream_id) == b"hello"
    assert server.notes.body(3) == b"hello yourself"


def test_a_refused_stream_is_tried_again_with_its_body(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, POST, ended=False)
    client.http2.send_body(stream_id, b"question", True)
    server = house.server()
    server.http2.reset(1, REFUSED_STREAM)
    house.run()
    assert server.notes.of("head") == [(1, POST, False), (3, POST, False)]
    assert server.notes.body(3) == b"question"
    server.http2.respond(3, OK, True)
    house.run()
    assert client.notes.of("head") == [(stream_id, OK, True)]


def test_requests_above_a_goaway_go_elsewhere_and_those_below_end_in_peace(house: MultiplexHouse) -> None:
    client, _ = house.client()
    early = ask(house, client, POST, ended=False)
    server = house.server()
    server.reads = False
    late = ask(house, client, POST, ended=False)
    client.http2.send_body(late, b"question", True)
    house.run()
    server.http2.end()
    house.run()
    assert len(house.door.dials) == 2
    second = house.server()
    assert second.notes.of("head") == [(1, POST, False)]
    assert second.notes.body(1) == b"question"
    second.http2.respond(1, OK, True)
    server.reads = True
    client.http2.send_body(early, b"more", True)
    house.run()
    server.http2.respond(1, OK, True)
    house.run()
    assert sorted(client.notes.of("head")) == [(early, OK, True), (late, OK, True)]
    assert server.has_ended
    assert len(house.parts.pool.trunks) == 1


def test_a_trunk_that_dies_fails_its_streams_each_as_it_must(house: MultiplexHouse) -> None:
    client, _ = house.client()
    begun, waiting = ask(house, client), ask(house, client, POST)
    server = house.server()
    server.http2.respond(1, OK, False)
    server.http2.send_body(1, b"part", False)
    house.run()
    server.sock.close()
    house.peers.remove(server)
    house.run()
    assert client.notes.of("reset") == [(begun, 2)]
    assert error_of(head_of(client, waiting)) == b"server-closed"
    assert len(house.parts.pool.trunks) == 0
    assert house.targets.take(SERVER).direct[0].trunks == []


def test_a_server_that_breaks_the_protocol_is_a_bad_response(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client)
    server = house.server()
    server.sock.send(b"\0\0\0\xff\xff")
    server.sock.send(b"\0\0\4\x08\0\0\0\0\0\0\0\0\0" * 3)
    house.run()
    assert error_of(head_of(client, stream_id)) == b"bad-response"


def test_a_client_that_goes_away_leaves_nothing_behind(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    for _ in range(3):
        ask(house, client, POST, ended=False)
    server = house.server()
    client.sock.close()
    house.peers.remove(client)
    house.run()
    assert sorted(server.notes.of("reset")) == [(1, CANCEL), (3, CANCEL), (5, CANCEL)]
    assert [notice[1] for notice in house.notices] == ["client-closed"] * 3
    assert multiplex not in house.parts.sessions
    assert house.parts.sessions == {}
    assert multiplex.target.direct[0].in_flight == 0


def test_before_its_application_a_sidecar_knows_probes_and_says_nothing_in_the_meshs_name(
    house: MultiplexHouse,
) -> None:
    house.targets = Targets("inbound", house.pump, house.meter, 10, 1.0, lambda: 0.0, ((80, GRPC_TARGET),))
    house.parts.peers = Peers(house.pump, Nearby(("127.0.0.1",)))
    client, multiplex = house.client()
    probe = tuple((name, GRPC_TARGET if name == b":path" else value) for name, value in GRPC)
    asked, probed = ask(house, client), ask(house, client, probe)
    server = house.server()
    server.http2.respond(asked, (*OK, (b"x-tulle-error", b"no-endpoints"), (b"x", b"y")), True)
    server.http2.respond(probed, (*OK, *TRAILERS), True)
    house.run()
    assert head_of(client, asked) == (*OK, (b"x", b"y"))
    probes = multiplex.target.probes
    assert probes is not None
    assert probes.requests == 1
    assert multiplex.target.direct[0].http.requests == 1
