"""HTTP/2, both roles against each other: what is heard, in which order, and how much may be on its way."""

import pytest
from http2house import GET, LIMIT_BYTES, OK, POST, Notes, exchange, frames, pair, side
from hyperframe.frame import GoAwayFrame

from proxy.errors import WireFault
from proxy.model import Headers
from proxy.wire.http2 import Http2
from proxy.wire.streams import CANCEL, NO_ERROR, REFUSED_STREAM, Settings

TRAILERS: Headers = ((b"grpc-status", b"0"), (b"grpc-message", b"fine"))
BIG: Headers = tuple((b"x-%d" % i, b"v" * 4000) for i in range(12))
"""48 kB: several CONTINUATION frames."""


def test_a_request_and_its_response_pass_whole() -> None:
    client, client_notes, server, server_notes = pair()
    stream_id = client.request(POST, False)
    client.send_body(stream_id, b"question", False)
    client.send_trailers(stream_id, TRAILERS)
    exchange(client, server)
    assert server_notes.of("head") == [(1, POST, False)]
    assert server_notes.of("body") == [(1, b"question", False)]
    assert server_notes.of("trailers") == [(1, TRAILERS)]
    server.inform(1, ((b":status", b"103"), (b"link", b"</a>")))
    server.respond(1, OK, False)
    server.send_body(1, b"answer", False)
    server.send_trailers(1, TRAILERS)
    exchange(client, server)
    heard = [event[0] for event in client_notes.events]
    assert heard == ["settings", "informational", "head", "body", "trailers", "closed"]
    assert client_notes.of("trailers") == [(1, TRAILERS)]
    assert client_notes.of("closed") == server_notes.of("closed") == [(1, NO_ERROR)]


def test_pieces_keep_their_streams_and_their_order_and_the_end_goes_with_the_last() -> None:
    client, notes, server, _ = pair()
    one, two = client.request(GET, True), client.request(GET, True)
    exchange(client, server)
    for stream_id in (one, two):
        server.respond(stream_id, OK, False)
    server.send_body(one, b"a", False)
    server.send_body(two, b"b", False)
    server.send_body(one, b"c", False)
    server.send_body(one, b"", True)
    server.send_body(two, b"d", True)
    exchange(client, server)

    assert notes.of("body") == [(one, b"ac", True), (two, b"bd", True)]
    assert notes.of("closed") == [(one, NO_ERROR), (two, NO_ERROR)]


def test_a_piece_does_not_wait_for_the_next() -> None:
    client, notes, server, _ = pair()
    stream_id = client.request(GET, True)
    exchange(client, server)
    server.respond(stream_id, OK, False)
    server.send_body(stream_id, b"now", False)
    assert (server.queued_bytes(stream_id), server.is_drained(stream_id)) == (3, False)
    exchange(client, server)
    assert notes.of("body") == [(stream_id, b"now", False)]

    server.send_body(stream_id, b"lost", False)
    server.reset(stream_id, CANCEL)
    exchange(client, server)
    assert notes.of("body") == [(stream_id, b"now", False)]
    assert notes.of("reset") == [(stream_id, CANCEL)]


@pytest.mark.parametrize("ended", [True, False])
def test_heads_and_trailers_larger_than_a_frame_pass_whole(ended: bool) -> None:
    client, client_notes, server, server_notes = pair()
    client.request(GET + BIG, ended)
    exchange(client, server)
    server.respond(1, OK + BIG, False)
    server.send_trailers(1, BIG)
    exchange(client, server)
    assert server_notes.of("head") == [(1, GET + BIG, ended)]
    assert client_notes.of("head") == [(1, OK + BIG, False)]
    assert client_notes.of("trailers") == [(1, BIG)]


def test_never_indexed_headers_stay_so() -> None:
    """Whoever forwards the tuple that it heard forwards the mark with it (RFC 7541 section 6.2.3)."""
    from ngh2 import NeverIndexedHeader

    secret = NeverIndexedHeader(b"authorization", b"secret")
    client, _, server, notes = pair()
    client.request((*GET, secret), True)
    exchange(client, server)
    (_, fields, _) = notes.of("head")[0]
    assert isinstance(fields[-1], NeverIndexedHeader)  # type: ignore[index]


def test_a_stream_holds_one_window_until_its_bytes_are_acknowledged() -> None:
    client, _ = side(False)
    server, notes = side(True, Settings(True, window_bytes=65536))
    notes.acknowledges = False
    exchange(client, server)
    first, second = client.request(POST, False), client.request(POST, False)
    client.send_body(first, b"a" * 200000, True)
    client.send_body(second, b"b" * 30000, True)
    exchange(client, server)
    assert len(notes.body(first)) == 65536
    assert len(notes.body(second)) == 30000  # one full stream stops no other
    assert client.queued_bytes(first) == 200000 - 65536
    server.acknowledge(first, 65536)
    exchange(client, server)
    assert len(notes.body(first)) == 131072


def test_many_full_streams_stop_no_other() -> None:
    client, _ = side(False)
    server, notes = side(True, Settings(True, streams_count=101, window_bytes=262144))
    notes.acknowledges = False
    exchange(client, server)
    for stream_id in [client.request(POST, False) for _ in range(100)]:
        client.send_body(stream_id, b"a" * 300000, True)
    exchange(client, server)
    last = client.request(POST, False)
    client.send_body(last, b"b" * 262144, True)
    exchange(client, server)
    assert len(notes.body(last)) == 262144


def test_bytes_of_a_closed_stream_can_still_be_acknowledged() -> None:
    client, _, server, notes = pair()
    notes.acknowledges = False
    stream_id = client.request(POST, False)
    client.send_body(stream_id, b"a" * 1000, False)
    exchange(client, server)
    client.reset(stream_id, CANCEL)
    exchange(client, server)
    assert notes.of("reset") == notes.of("closed") == [(1, CANCEL)]
    server.acknowledge(stream_id, 1000)
    exchange(client, server)


def test_messages_on_a_stream_that_has_ended_meanwhile_do_nothing() -> None:
    client, _, server, notes = pair()
    stream_id = client.request(POST, False)
    exchange(client, server)
    client.reset(stream_id, CANCEL)
    exchange(client, server)
    server.inform(1, ((b":status", b"100"),))
    server.respond(1, OK, False)
    server.send_body(1, b"x", False)
    server.send_trailers(1, TRAILERS)
    server.reset(1, CANCEL)
    exchange(client, server)
    assert not server.is_over
    assert notes.of("closed") == [(1, CANCEL)]


def test_a_reset_waits_for_the_response_by_asking_whether_it_has_left() -> None:
    """RFC 9113 section 8.1: a complete response, then NO_ERROR, to a request that nobody reads to its end."""
    client, client_notes, server, _ = pair()
    stream_id = client.request(POST, False)
    exchange(client, server)
    server.respond(1, OK, False)
    server.send_body(1, b"x" * 100, False)
    server.send_trailers(1, TRAILERS)
    assert not server.is_drained(1)
    client.feed(server.take_output(LIMIT_BYTES), 0.0)
    assert server.is_drained(1)
    server.reset(1, NO_ERROR)
    exchange(client, server)
    assert [e[0] for e in client_notes.events[1:]] == ["head", "body", "trailers", "reset", "closed"]
    assert client_notes.of("reset") == [(stream_id, NO_ERROR)]


def test_output_comes_in_the_pieces_that_were_asked_for() -> None:
    client, _, server, notes = pair()
    stream_id = client.request(POST, False)
    client.send_body(stream_id, b"a" * 50000, True)
    while piece := client.take_output(1000):
        assert len(piece) <= 1000
        server.feed(piece, 0.0)
    assert len(notes.body(1)) == 50000
    assert client.is_drained(1)


def test_a_goaway_refuses_what_it_does_not_name_and_serves_the_rest() -> None:
    client, client_notes, server, server_notes = pair()
    client.request(GET, True)
    exchange(client, server)
    late = client.request(GET, True)
    on_its_way = client.take_output(LIMIT_BYTES)
    server.end()
    client.feed(server.take_output(LIMIT_BYTES), 0.0)
    server.feed(on_its_way, 0.0)
    assert client_notes.of("goaway") == [(1, NO_ERROR)]
    assert client_notes.of("closed") == [(late, REFUSED_STREAM)]
    assert client.request(GET, True) == 0
    assert len(server_notes.of("head")) == 1
    server.respond(1, OK, True)
    exchange(client, server)
    assert client_notes.of("closed") == [(late, REFUSED_STREAM), (1, NO_ERROR)]
    assert client.is_over
    assert server.is_over
    assert client_notes.events[-1] == server_notes.events[-1] == ("over",)


def test_a_graceful_end_names_all_streams_first() -> None:
    client, client_notes, server, server_notes = pair()
    server.announce_end()
    late = client.request(GET, True)
    exchange(client, server)
    assert client_notes.of("goaway") == [(2**31 - 1, NO_ERROR)]
    assert server_notes.of("head") == [(late, GET, True)]
    server.end()
    server.respond(late, OK, True)
    exchange(client, server)
    assert client_notes.of("goaway")[-1] == (late, NO_ERROR)
    assert client_notes.of("head") == [(late, OK, True)]
    assert server.is_over


def test_a_client_knows_what_its_server_takes() -> None:
    client, notes = side(False)
    server, _ = side(True, Settings(True, streams_count=7))
    assert client.streams_count == 100
    exchange(client, server)
    assert notes.of("settings") == [()]
    assert client.streams_count == 7
    assert client.has_connect_protocol


def test_a_ping_is_answered() -> None:
    client, notes, server, _ = pair()
    client.ping()
    exchange(client, server)
    assert notes.of("ping-ack") == [()]


def test_after_a_fault_come_the_last_words_and_nothing_more() -> None:
    server, notes = side(True)
    server.take_output(LIMIT_BYTES)
    with pytest.raises(WireFault, match="http2-protocol"):
        server.feed(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 24, 0.0)
    assert server.is_over
    (goaway,) = frames(server.take_output(LIMIT_BYTES))
    assert isinstance(goaway, GoAwayFrame)
    assert server.take_output(LIMIT_BYTES) == b""
    server.feed(b"more", 0.0)
    assert notes.events == []


def test_each_side_shows_its_state() -> None:
    assert repr(Http2(Notes(), Settings(True), 0.0)) == "<Http2 server open last=0>"
