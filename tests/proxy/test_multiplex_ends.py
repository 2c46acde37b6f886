"""How HTTP/2 connections end: drains, silence, floods, dead servers, and what is bounded meanwhile."""

import gc
import socket
import time
from collections.abc import Iterator

import pytest
from hpack import Encoder
from http2house import GET, OK, POST, PREFACE, START, Notes, data_frame, frames, head
from hyperframe.frame import GoAwayFrame, PingFrame, SettingsFrame
from multiplexhouse import SERVER, MultiplexHouse, Peer

from proxy.exchange import Exchange
from proxy.link import BLIND_BYTES, Link
from proxy.model import Headers
from proxy.multiplex import Multiplex
from proxy.stream import Stream
from proxy.trunk import Trunk
from proxy.trunk_stream import TrunkStream
from proxy.wire.streams import MAX_STREAM_ID, NO_ERROR, PROTOCOL_ERROR, Settings

WEBSOCKET: Headers = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:])


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    house = MultiplexHouse(
        http2_window_bytes=65536,
        http2_ping_interval_s=10.0,
        http2_ping_timeout_s=3.0,
        trunk_idle_timeout_s=60.0,
        request_timeout_s=0.0,
        stream_idle_timeout_s=300.0,
        client_idle_timeout_s=600.0,
    )
    yield house
    house.close()


def ask(house: MultiplexHouse, client: Peer, fields: Headers = GET, ended: bool = True) -> int:
    stream_id = client.http2.request(fields, ended)
    house.run()
    return stream_id


def error_of(notes: Notes, stream_id: int) -> bytes:
    fields = next(event[1] for event in notes.of("head") if event[0] == stream_id)
    return dict(fields).get(b"x-tulle-error", b"")  # type: ignore[call-overload,no-any-return]


def test_a_drain_names_all_streams_then_the_last_and_closes(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client)
    server = house.server()
    house.parts.is_draining = True
    house.check(0.1)
    assert client.notes.of("goaway") == [(MAX_STREAM_ID, NO_ERROR)]
    on_its_way = ask(house, client) or 0
    house.check(house.parts.config.drain_idle_s)
    assert client.notes.of("goaway")[-1] == (max(stream_id, on_its_way), NO_ERROR)
    assert not client.has_ended
    server.http2.respond(1, OK, True)
    house.run()
    assert client.notes.of("head") == [(stream_id, OK, True)]
    assert client.has_ended
    house.check(2.0)
    assert house.parts.sessions == {}


def test_an_unused_client_connection_is_ended_in_order(house: MultiplexHouse) -> None:
    client, _ = house.client()
    house.check(599.0)
    assert client.notes.of("goaway") == []
    house.check(2.0)
    house.check(2.0)
    assert client.notes.of("goaway") == [(MAX_STREAM_ID, NO_ERROR)]
    assert client.has_ended
    house.check(2.0)
    assert house.parts.sessions == {}


def test_what_outlives_the_drain_is_cut_with_an_answer_where_one_is_due(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    begun, waiting = ask(house, client), ask(house, client)
    server = house.server()
    server.http2.respond(1, OK, False)
    house.run()
    house.pump.enter(multiplex.abort, "draining")
    house.run()
    assert client.notes.of("reset") == [(begun, 2)]
    assert error_of(client.notes, waiting) == b"draining"
    assert client.has_ended
    house.run(2.0)
    assert house.parts.sessions == {}


def test_a_client_that_says_goodbye_is_served_to_the_end(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client)
    server = house.server()
    client.http2.end()
    house.run()
    server.http2.respond(1, OK, True)
    house.run()
    assert client.notes.of("head") == [(stream_id, OK, True)]
    house.run(2.0)
    assert house.parts.sessions == {}


def test_a_flood_ends_the_connection_with_a_word(house: MultiplexHouse) -> None:
    client, _ = house.client()
    ask(house, client)
    server = house.server()
    client.sock.setblocking(True)
    client.sock.sendall(PingFrame(0, b"12345678").serialize() * 1000)
    house.run()
    assert client.notes.of("goaway")[0][1] == 11
    assert client.has_ended
    assert server.notes.of("reset") == [(1, 8)]
    labels = (("direction", "outbound"), ("reason", "ping-flood"))
    assert house.meter.counters["http2_faults_total", labels] == 1
    assert [notice[1] for notice in house.notices] == ["ping-flood", "client-closed"]
    house.run(2.0)
    assert house.parts.sessions == {}


def test_a_client_that_never_takes_our_settings_is_given_up(house: MultiplexHouse) -> None:
    fair, _ = house.client()
    theirs, _ = house.connect()
    theirs.sendall(START)
    house.check(house.parts.config.head_timeout_s - 1)
    assert len(house.parts.sessions) == 2
    house.check(2.0)
    house.check(2.0)
    assert len(house.parts.sessions) == 1
    assert [notice[1] for notice in house.notices] == ["head-timeout"]
    assert isinstance(frames(theirs.recv(1000))[-1], GoAwayFrame)
    assert not fair.has_ended


def test_a_client_that_sends_and_does_not_read_is_read_no_further_than_a_bound(house: MultiplexHouse) -> None:
    client, multiplex = house.client(settings=Settings(False, window_bytes=2**24))
    channel = multiplex.link.channel
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    large = ask(house, client)
    server = house.server()
    client.reads = False
    server.http2.respond(1, OK, False)
    server.http2.send_body(1, b"d" * 2_000_000, True)
    house.run()
    assert 0 < channel.queued_bytes <= channel.high_bytes
    before_bytes = channel.series.read_bytes
    for number in range(200):
        client.http2.request((*GET, (b"host", b"other"), (b"x", b"%06d" % number * 1000)), True)
    house.run()
    read_bytes = channel.series.read_bytes - before_bytes
    assert BLIND_BYTES < read_bytes < BLIND_BYTES + 2 * house.parts.config.read_bytes
    client.reads = True
    deadline_s = time.monotonic() + 10
    while len(client.notes.of("head")) < 201 and time.monotonic() < deadline_s:
        house.run()
    assert len(client.notes.of("head")) == 201
    assert len(client.notes.body(large)) == 2_000_000


@pytest.mark.parametrize("authority", [b"a:b", b"a,b:1:2", b"a:65536"])
def test_an_authority_that_is_no_host_is_answered_and_counted(house: MultiplexHouse, authority: bytes) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, (*GET[:2], (b":authority", authority), GET[3]))

    assert error_of(client.notes, stream_id) == b"bad-host"
    assert house.door.dials == []
    faults = {
        dict(labels)["reason"]: count for (name, labels), count in house.meter.counters.items() if "faults" in name
    }
    assert faults == {"bad-host": 1}


@pytest.mark.parametrize("body", [b"too much", b"few"])
def test_a_body_that_breaks_its_length_is_told_for_what_it_is(house: MultiplexHouse, body: bytes) -> None:
    """The head has gone: what is left to say it with is the code of the reset, and the log."""
    client, _ = house.client()
    stream_id = ask(house, client)
    server = house.door.dials[-1].connect()
    house.sockets.append(server)
    told = head(Encoder(), 1, (*OK, (b"content-length", b"5")), ended=False)
    server.sendall(SettingsFrame(0).serialize() + told)
    house.run()
    server.sendall(data_frame(1, body, ended=True))
    house.run()

    assert client.notes.of("reset") == [(stream_id, PROTOCOL_ERROR)]
    assert [(word, detail.split(":")[0]) for _, word, detail in house.notices] == [("response-cut", "bad-response")]


def test_a_silent_sidecar_is_asked_and_its_streams_fail_when_it_is_dead(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    multiplex.target.direct[0].is_meshed = True
    stream_id = ask(house, client)
    server = house.server()
    house.check(11.0)
    house.check(2.0)
    assert len(house.parts.pool.trunks) == 1  # it has answered
    server.reads = False
    house.check(11.0)
    house.check(2.0)
    assert client.notes.of("head") == []
    house.check(2.0)
    assert error_of(client.notes, stream_id) == b"ping-timeout"
    assert len(house.parts.pool.trunks) == 0
    ask(house, client)
    assert len(house.door.dials) == 2


@pytest.mark.parametrize("is_meshed", [False, True])
def test_no_server_but_a_sidecar_is_ever_asked_by_ping(house: MultiplexHouse, is_meshed: bool) -> None:
    """Not even one that a meshed pod lets skip its sidecar: it takes no extended CONNECT, as a gRPC server's SETTINGS
    say."""
    _, multiplex = house.client()
    multiplex.target.direct[0].is_meshed = is_meshed
    client = house.peers[0]
    ask(house, client)
    theirs = house.door.dials[-1].connect()
    house.sockets.append(theirs)
    theirs.sendall(SettingsFrame(0).serialize())
    for _ in range(8):
        house.check(30.0)
    sent = theirs.recv(100_000)
    assert not [frame for frame in frames(sent.removeprefix(PREFACE)) if isinstance(frame, PingFrame)]
    assert len(house.parts.pool.trunks) == 1
    theirs.sendall(head(Encoder(), 1, OK))
    house.run()
    assert client.notes.of("head") == [(1, OK, True)]


def test_an_unused_trunk_is_asked_nothing_and_closed_after_a_while(house: MultiplexHouse) -> None:
    client, _ = house.client()
    ask(house, client)
    server = house.server()
    server.http2.respond(1, OK, True)
    house.run()
    server.reads = False
    house.check(59.0)
    house.check(0.5)
    assert len(house.parts.pool.trunks) == 1
    house.check(2.0)
    assert len(house.parts.pool.trunks) == 0
    server.reads = True
    house.run()
    assert server.has_ended


def test_an_endpoint_that_is_gone_lets_its_last_streams_end(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    stream_id = ask(house, client)
    server = house.server()
    endpoint = multiplex.target.direct[0]
    house.pump.enter(endpoint.retire)
    house.run()
    assert not server.has_ended
    server.http2.respond(1, OK, True)
    house.run()
    assert client.notes.of("head") == [(stream_id, OK, True)]
    assert server.has_ended
    assert house.parts.pool.trunks == {}


def test_an_extended_connect_waits_for_the_settings_of_a_new_trunk(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, WEBSOCKET, ended=False)
    client.http2.send_body(stream_id, b"early", False)
    server = house.server()
    assert server.notes.of("head") == [(1, WEBSOCKET, False)]
    assert server.notes.body(1) == b"early"


def test_an_extended_connect_that_the_server_does_not_take_is_answered(house: MultiplexHouse) -> None:
    client, _ = house.client()
    stream_id = ask(house, client, WEBSOCKET, ended=False)
    theirs = house.door.dials[0].connect()
    house.sockets.append(theirs)
    house.run()
    assert client.notes.of("head") == []
    theirs.sendall(SettingsFrame(0).serialize())
    house.run()
    assert client.notes.of("head")[0][1][0] == (b":status", b"501")  # type: ignore[index]
    assert error_of(client.notes, stream_id) == b"no-extended-connect"


def test_an_extended_connect_fails_with_the_trunk_it_waits_for(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    stream_id = ask(house, client, WEBSOCKET, ended=False)
    theirs = house.door.dials[0].connect()
    house.run()
    theirs.close()
    house.run()
    assert error_of(client.notes, stream_id) == b"server-closed"
    assert multiplex.target.direct[0].in_flight == 0


def test_an_exchange_that_moves_no_byte_expires_and_its_neighbours_do_not(house: MultiplexHouse) -> None:
    client, _ = house.client()
    silent, busy = ask(house, client), ask(house, client)
    server = house.server()
    server.http2.respond(3, OK, False)
    for _ in range(31):
        server.http2.send_body(3, b"tick", False)
        house.check(10.0)
    assert error_of(client.notes, silent) == b"idle-timeout"
    assert server.notes.of("reset") == [(1, 8)]
    assert len(client.notes.body(busy)) == 31 * 4


def test_the_preface_may_come_with_the_first_request_in_any_pieces(house: MultiplexHouse) -> None:
    theirs, multiplex = house.connect()
    said = START + head(Encoder(), 1, POST, ended=False) + data_frame(1, b"question", True)
    house.pump.enter(multiplex.on_data, said[:10])
    for byte in said[10:]:
        theirs.send(bytes((byte,)))
        house.run()
    server = house.server()
    assert server.notes.events == [("head", 1, POST, False), ("body", 1, b"question", True)]


def test_closed_connections_wait_for_no_garbage_collector(house: MultiplexHouse) -> None:
    kinds = (Multiplex, Stream, Trunk, TrunkStream, Link, Exchange)
    gc.collect()
    gc.disable()
    try:
        client = house.client()[0]
        large = ask(house, client, POST, ended=False)
        client.http2.send_body(large, b"a" * 300_000, True)
        server = house.server()
        server.http2.respond(1, OK, False)
        server.http2.send_body(1, b"d" * 300_000, True)
        house.run()
        cut = ask(house, client)
        client.http2.reset(cut, 8)
        house.run()
        server.sock.close()
        client.sock.close()
        house.peers.clear()
        house.run()
        del client, server
        left = [thing for thing in gc.get_objects() if isinstance(thing, kinds)]
    finally:
        gc.enable()
    assert left == []
    assert house.parts.sessions == {}


def test_a_drained_client_is_told_its_last_stream_once(house: MultiplexHouse) -> None:
    client, _ = house.client()
    ask(house, client)
    house.parts.is_draining = True
    for _ in range(10):
        house.check(1.0)
    assert len(client.notes.of("goaway")) == 2


def test_a_server_dialled_while_its_client_was_silent_gets_its_requests(house: MultiplexHouse) -> None:
    theirs = house.accept(SERVER)
    house.spin(house.parts.config.detect_dial_delay_s + 0.001)
    patient = house.door.dials[0].connect()
    house.sockets.append(patient)
    client = Peer(theirs, Settings(False))
    house.peers.append(client)
    stream_id = ask(house, client)
    server = Peer(patient, Settings(True))
    house.peers.append(server)
    house.run()
    assert len(house.door.dials) == 1
    assert server.notes.of("head") == [(1, GET, True)]
    server.http2.respond(1, OK, True)
    house.run()
    assert client.notes.of("head") == [(stream_id, OK, True)]
    assert house.targets.take(SERVER).direct[0].in_flight == 0
