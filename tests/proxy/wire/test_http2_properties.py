"""HTTP/2 under any split and any order of frames, and with h2 (pure Python, written independently) as the peer."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hpack import Encoder
from http2house import GET, LIMIT_BYTES, OK, POST, PREFACE, START, Notes, data_frame, head, serve, side
from hyperframe.frame import GoAwayFrame, PingFrame, PriorityFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import REASONS, WireFault
from proxy.model import Headers
from proxy.wire.http2 import Http2
from proxy.wire.http2_head import read_request
from proxy.wire.streams import Settings

TRAILERS: Headers = ((b"grpc-status", b"0"),)


def story(notes: Notes) -> dict[object, list[tuple[object, ...]]]:
    """What was heard, stream by stream: closing may overtake only other streams' events."""
    by_stream: dict[object, list[tuple[object, ...]]] = {}
    for kind, *rest in notes.events:
        by_stream.setdefault(rest[0] if rest else kind, []).append((kind, *rest))
    return by_stream


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if b > a]


def _dialogue() -> bytes:
    encoder = Encoder()
    return b"".join(
        (
            START,
            head(encoder, 1, POST, ended=False),
            data_frame(1, b"a" * 100),
            head(encoder, 3, (*GET, (b"x", b"y" * 3000)), piece_bytes=700),
            data_frame(1, b""),
            WindowUpdateFrame(1, window_increment=5).serialize(),
            PingFrame(0, b"12345678").serialize(),
            head(encoder, 5, POST, ended=False),
            RstStreamFrame(5, error_code=8).serialize(),
            head(encoder, 1, TRAILERS),
            b"\0\0\1\xee\0\0\0\0\0?",  # a frame of no known type
            head(encoder, 7, (*GET, (b"connection", b"close"))),
            head(encoder, 9, GET),
            data_frame(9, b"after the end"),
            head(encoder, 11, GET),
        )
    )


DIALOGUE = _dialogue()
WHOLE = serve([DIALOGUE])


def test_the_dialogue_ends_with_its_fault() -> None:
    reason, notes, _ = WHOLE
    assert reason == "http2-protocol"
    assert [kind for kind, *_ in story(notes)[1]] == ["head", "body", "body", "trailers"]
    assert [kind for kind, *_ in story(notes)[5]] == ["head", "reset", "closed"]
    assert 11 not in story(notes)


def test_byte_by_byte_the_same_is_heard() -> None:
    reason, notes, _ = serve([DIALOGUE[i : i + 1] for i in range(len(DIALOGUE))])
    assert (reason, _without_closings(notes)) == (WHOLE[0], _without_closings(WHOLE[1]))


@given(st.lists(st.integers(0, len(DIALOGUE)), max_size=20))
def test_any_split_is_heard_alike(at: list[int]) -> None:
    reason, notes, _ = serve(cut(DIALOGUE, at))
    assert (reason, _without_closings(notes)) == (WHOLE[0], _without_closings(WHOLE[1]))


def _without_closings(notes: Notes) -> list[tuple[object, ...]]:
    """Resets of ours are sent, and heard as closings, when output is taken: that depends on the split."""
    return [event for event in notes.events if event[0] not in ("closed", "malformed")]


stream_ids = st.sampled_from((0, 1, 2, 3, 5, 7, 2**31 - 1))
raw_frames = st.builds(
    lambda kind, flags, stream_id, payload: (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload
    ),
    st.integers(0, 12) | st.integers(0, 255),
    st.sampled_from((0, 1, 4, 5, 8, 0x20, 0x2C)) | st.integers(0, 255),
    stream_ids,
    st.binary(max_size=40)
    | st.sampled_from((b"\0\0\0\0", b"\0\0\0\1", b"\xff" * 4, b"\x82\x86\x84\x41\x01a", bytes(8))),
)
fair_frames = st.one_of(
    st.builds(
        lambda stream_id, fields, ended: head(Encoder(), stream_id, fields, ended),
        st.sampled_from((1, 3, 5, 7)),
        st.sampled_from((GET, POST, TRAILERS, OK, (*POST, (b"content-length", b"3")))),
        st.booleans(),
    ),
    st.builds(data_frame, st.sampled_from((1, 3, 5, 7)), st.binary(max_size=10), st.booleans()),
    st.builds(lambda i, c: RstStreamFrame(i, error_code=c).serialize(), st.sampled_from((1, 3, 5)), st.integers(0, 13)),
    st.builds(
        lambda i, n: WindowUpdateFrame(i, window_increment=n).serialize(), stream_ids, st.sampled_from((1, 2**31 - 1))
    ),
    st.builds(
        lambda v: SettingsFrame(0, settings=v).serialize(), st.dictionaries(st.integers(1, 9), st.integers(0, 99))
    ),
    st.builds(lambda i: GoAwayFrame(0, i, 0).serialize(), st.integers(0, 9)),
    st.builds(lambda i: PriorityFrame(i, depends_on=0, stream_weight=1).serialize(), st.sampled_from((1, 3, 5))),
)


class Answerer(Notes):
    """A server's owner that does something about everything it hears, in and out of season."""

    def on_head(self, stream_id: int, fields: Headers, ended: bool) -> None:
        super().on_head(stream_id, fields, ended)
        http2 = self.http2
        assert http2 is not None
        try:
            read_request(fields, ended, 65536)
        except WireFault:
            http2.reset(stream_id, 1)
            return
        http2.inform(stream_id, ((b":status", b"103"),))
        http2.respond(stream_id, OK, False)
        http2.send_body(stream_id, b"answer", False)

    def on_body(self, stream_id: int, data: bytes, ended: bool) -> None:
        super().on_body(stream_id, data, ended)
        assert self.http2 is not None
        self.http2.send_body(stream_id, data, ended)

    def on_trailers(self, stream_id: int, fields: Headers) -> None:
        super().on_trailers(stream_id, fields)
        assert self.http2 is not None
        self.http2.send_trailers(stream_id, fields)


def answer(sink: Notes, is_server: bool, pieces: Sequence[bytes]) -> None:
    """Feed a side whose owner answers everything: it goes on, or ends with a fault that has a name."""
    sink.http2 = http2 = Http2(sink, Settings(is_server), 0.0)
    if not is_server:
        for _ in range(3):
            http2.request(POST, False)
    try:
        for number, piece in enumerate(pieces):
            http2.feed(piece, number / 10)
            http2.take_output(LIMIT_BYTES)
    except WireFault as fault:
        word = fault.reason
    else:
        return
    assert http2.is_over
    http2.take_output(LIMIT_BYTES)
    assert http2.take_output(LIMIT_BYTES) == b""
    assert REASONS[word].status == 0


@given(st.lists(fair_frames | raw_frames, max_size=15))
@settings(max_examples=300)
def test_any_frames_end_in_a_known_state_of_a_server(pieces: list[bytes]) -> None:
    sink = Answerer()
    answer(sink, True, [START, *pieces])
    heard = [event[1] for event in sink.events if event[0] == "head"]
    assert len(heard) == len(set(heard))


@given(st.lists(fair_frames | raw_frames, max_size=15))
@settings(max_examples=300)
def test_any_frames_end_in_a_known_state_of_a_client(pieces: list[bytes]) -> None:
    answer(Notes(), False, [SettingsFrame(0).serialize(), *pieces])


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_end_in_a_known_state(data: bytes, is_server: bool) -> None:
    answer(Answerer() if is_server else Notes(), is_server, [PREFACE, data] if is_server else [data])


# h2 as the peer

BODY = b"b" * 200000
BIG: Headers = tuple((b"x-%d" % i, b"v" * 4000) for i in range(12))


def h2_events(peer: H2Connection, data: bytes) -> list[object]:
    events: list[object] = list(peer.receive_data(data)) if data else []
    for event in events:
        if isinstance(event, DataReceived):
            peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    return events


def converse(ours: Http2, peer: H2Connection) -> list[object]:
    """Carry bytes both ways until none are left; give what h2 heard."""
    heard: list[object] = []
    while True:
        there = ours.take_output(LIMIT_BYTES)
        heard += h2_events(peer, there)
        back = peer.data_to_send()
        if back:
            ours.feed(back, 0.0)
        elif not there:
            return heard


def h2_client(table_size: int = 4096) -> tuple[Http2, Notes, H2Connection]:
    ours, notes = side(True)
    peer = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    peer.initiate_connection()
    peer.update_settings({SettingCodes.HEADER_TABLE_SIZE: table_size, SettingCodes.MAX_HEADER_LIST_SIZE: 2**20})
    converse(ours, peer)
    return ours, notes, peer


def h2_server(table_size: int = 4096) -> tuple[Http2, Notes, H2Connection]:
    ours, notes = side(False)
    peer = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    peer.initiate_connection()
    peer.update_settings({SettingCodes.HEADER_TABLE_SIZE: table_size, SettingCodes.MAX_HEADER_LIST_SIZE: 2**20})
    converse(ours, peer)
    return ours, notes, peer


def send_all(peer: H2Connection, ours: Http2, stream_id: int, body: bytes) -> None:
    while body:
        size = min(peer.local_flow_control_window(stream_id), peer.max_outbound_frame_size, len(body))
        assert size > 0
        peer.send_data(stream_id, body[:size])
        body = body[size:]
        converse(ours, peer)


@pytest.mark.parametrize("table_size", [0, 4096])
def test_a_client_of_h2_is_understood_and_understands(table_size: int) -> None:
    ours, notes, peer = h2_client(table_size)
    for stream_id in (1, 3, 5):  # the second and third time from the dynamic table, if there is one
        peer.send_headers(stream_id, [*POST, *BIG])
        send_all(peer, ours, stream_id, BODY)
        peer.send_headers(stream_id, [*TRAILERS, *BIG], end_stream=True)
        converse(ours, peer)
        assert notes.of("head")[-1] == (stream_id, POST + BIG, False)
        assert notes.body(stream_id) == BODY
        assert notes.of("trailers")[-1] == (stream_id, TRAILERS + BIG)
        ours.inform(stream_id, ((b":status", b"103"), (b"link", b"</a>")))
        ours.respond(stream_id, OK + BIG, False)
        ours.send_body(stream_id, BODY, False)
        ours.send_trailers(stream_id, TRAILERS + BIG)
        heard = converse(ours, peer)
        kinds = [type(event) for event in heard]
        assert InformationalResponseReceived in kinds
        (response,) = [event for event in heard if isinstance(event, ResponseReceived)]
        assert tuple(response.headers or ()) == OK + BIG
        assert b"".join(event.data or b"" for event in heard if isinstance(event, DataReceived)) == BODY
        (trailers,) = [event for event in heard if isinstance(event, TrailersReceived)]
        assert tuple(trailers.headers or ()) == TRAILERS + BIG
        assert StreamEnded in kinds
        assert notes.of("closed")[-1] == (stream_id, 0)


@pytest.mark.parametrize("table_size", [0, 4096])
def test_a_server_of_h2_is_understood_and_understands(table_size: int) -> None:
    ours, notes, peer = h2_server(table_size)
    for _ in range(3):
        stream_id = ours.request(POST + BIG, False)
        ours.send_body(stream_id, BODY, False)
        ours.send_trailers(stream_id, TRAILERS + BIG)
        heard = converse(ours, peer)
        (request,) = [event for event in heard if isinstance(event, RequestReceived)]
        assert tuple(request.headers or ()) == POST + BIG
        assert b"".join(event.data or b"" for event in heard if isinstance(event, DataReceived)) == BODY
        assert any(isinstance(event, TrailersReceived) for event in heard)
        peer.send_headers(stream_id, [(b":status", b"103"), (b"link", b"</a>")])
        peer.send_headers(stream_id, [*OK, *BIG])
        send_all(peer, ours, stream_id, BODY)
        peer.send_headers(stream_id, [*TRAILERS, *BIG], end_stream=True)
        converse(ours, peer)
        assert notes.of("informational")[-1] == (stream_id, ((b":status", b"103"), (b"link", b"</a>")))
        assert notes.of("head")[-1] == (stream_id, OK + BIG, False)
        assert notes.body(stream_id) == BODY
        assert notes.of("trailers")[-1] == (stream_id, TRAILERS + BIG)
        assert notes.of("closed")[-1] == (stream_id, 0)


def test_resets_keep_their_codes_both_ways() -> None:
    ours, notes, peer = h2_client()
    peer.send_headers(1, list(POST))
    peer.send_headers(3, list(POST))
    converse(ours, peer)
    peer.reset_stream(1, ErrorCodes.INADEQUATE_SECURITY)
    ours.reset(3, 13)
    heard = converse(ours, peer)
    assert notes.of("reset") == [(1, 12)]
    assert [(e.stream_id, e.error_code) for e in heard if isinstance(e, StreamReset)] == [(3, 13)]
    assert sorted(notes.of("closed")) == [(1, 12), (3, 13)]


def test_goaway_passes_both_ways() -> None:
    ours, _, peer = h2_client()
    peer.send_headers(1, list(GET), end_stream=True)
    converse(ours, peer)
    ours.respond(1, OK, True)
    converse(ours, peer)
    ours.announce_end()
    ours.end()
    heard = [event for event in converse(ours, peer) if isinstance(event, ConnectionTerminated)]
    assert [(event.last_stream_id, event.error_code) for event in heard] == [(2**31 - 1, 0), (1, 0)]
    ours, notes, peer = h2_server()
    ours.request(GET, True)
    converse(ours, peer)
    peer.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, last_stream_id=0)
    ours.feed(peer.data_to_send(), 0.0)
    assert notes.of("goaway") == [(0, 11)]
    assert notes.of("closed") == [(1, 7)]
    assert notes.of("over") == [()]
