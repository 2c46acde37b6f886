"""Each way to make a server of HTTP/2 work for nothing ends the connection, and is told from the others."""

import time
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from hpack import Encoder
from http2house import GET, OK, POST, START, data_frame, exchange, frames, head, pair, serve, side
from hyperframe.frame import (
    ContinuationFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from proxy.errors import REASONS
from proxy.wire.bucket import Bucket
from proxy.wire.streams import Settings

Pieces = Iterator[bytes]
COUNT = 12000


def rapid_reset() -> Pieces:
    encoder = Encoder()
    for stream_id in range(1, COUNT, 2):
        yield head(encoder, stream_id, GET) + RstStreamFrame(stream_id, error_code=8).serialize()


def resets_provoked_by_length() -> Pieces:
    encoder = Encoder()
    fields = (*POST, (b"content-length", b"1"))
    for stream_id in range(1, COUNT, 2):
        yield head(encoder, stream_id, fields, ended=False) + data_frame(stream_id, b"xx")


def resets_provoked_by_headers() -> Pieces:
    encoder = Encoder()
    for stream_id in range(1, COUNT, 2):
        yield head(encoder, stream_id, (*GET, (b"connection", b"close")))


def settings_frames() -> Pieces:
    yield from [SettingsFrame(0).serialize()] * COUNT


def large_settings() -> Pieces:
    yield b"\0\0\xf0\4\0\0\0\0\0" + b"\0\3\0\0\0\1" * 40


def pings() -> Pieces:
    yield from [PingFrame(0, b"12345678").serialize()] * COUNT


def ping_answers() -> Pieces:
    yield from [PingFrame(0, b"12345678", flags=["ACK"]).serialize()] * COUNT


def goaways() -> Pieces:
    yield head(Encoder(), 1, GET)
    yield from [GoAwayFrame(0, 0, 0).serialize()] * COUNT


def empty_data() -> Pieces:
    yield head(Encoder(), 1, POST, ended=False)
    yield from [data_frame(1, b"")] * COUNT


def padding() -> Pieces:
    yield head(Encoder(), 1, POST, ended=False)
    yield from [b"\0\0\x09\0\x08\0\0\0\1\x08" + bytes(8)] * COUNT


def empty_continuations() -> Pieces:
    yield HeadersFrame(1, b"").serialize()
    yield from [ContinuationFrame(1).serialize()] * COUNT


def windows() -> Pieces:
    yield from [WindowUpdateFrame(0, window_increment=1).serialize()] * COUNT


def hpack_bomb() -> Pieces:
    """One long header in the dynamic table, then a byte for each repetition."""
    block = Encoder().encode([*GET, (b"x", b"a" * 4000)]) + bytes([0x80 | 62]) * 8000
    yield HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]).serialize()


FLOODS = {
    rapid_reset: "rapid-reset",
    resets_provoked_by_length: "stream-errors",
    resets_provoked_by_headers: "stream-errors",
    settings_frames: "settings-flood",
    large_settings: "settings-flood",
    goaways: "settings-flood",
    pings: "ping-flood",
    ping_answers: "ping-flood",
    empty_data: "empty-frames",
    padding: "empty-frames",
    empty_continuations: "continuation-flood",
    windows: "window-flood",
    hpack_bomb: "header-list-too-large",
}


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
@pytest.mark.parametrize("piece", ["frames", "buffers"])
def test_a_flood_ends_the_connection_under_its_own_name(flood: Callable[[], Pieces], piece: str) -> None:
    data = b"".join(flood())
    buffers = [data[i : i + 4096] for i in range(0, len(data), 4096)]
    reason, notes, sent = serve([START, *(flood() if piece == "frames" else buffers)])
    assert reason == FLOODS[flood]
    assert REASONS[reason].status == 0
    assert len(notes.events) < COUNT / 2
    goaway = frames(sent)[-1]
    assert isinstance(goaway, GoAwayFrame)
    assert goaway.error_code == 11


def priorities() -> Pieces:
    """These are not ended: they cost nothing."""
    yield head(Encoder(), 1, GET)
    yield from [PriorityFrame(1, depends_on=0, stream_weight=7, exclusive=False).serialize()] * COUNT


@pytest.mark.parametrize("flood", [*FLOODS, priorities], ids=lambda flood: flood.__name__)
def test_a_flood_costs_less_than_a_tenth_of_a_second(flood: Callable[[], Pieces]) -> None:
    data = b"".join(flood())
    buffers = [START, *(data[i : i + 65536] for i in range(0, len(data), 65536))]
    costs_s = []
    for _ in range(3):
        begun_s = time.process_time()
        serve(buffers)
        costs_s.append(time.process_time() - begun_s)
    assert min(costs_s) < 0.1


@pytest.mark.parametrize("flood", [rapid_reset, settings_frames, pings, empty_data, windows])
def test_the_same_frames_over_an_hour_are_no_flood(flood: Callable[[], Pieces]) -> None:
    server, notes = side(True)
    server.feed(START, 0.0)
    for number, piece in enumerate(islice(flood(), 5000)):
        server.feed(piece, number * 0.3)
        server.take_output(2**20)
    assert not server.is_over
    assert notes.events or flood in (settings_frames, pings, windows)


def test_a_client_that_cancels_half_of_its_requests_is_no_flood() -> None:
    encoder = Encoder()
    server, notes = side(True)
    server.feed(START, 0.0)
    for stream_id in range(1, COUNT, 4):
        server.feed(head(encoder, stream_id, GET) + head(encoder, stream_id + 2, GET), 0.0)
        server.respond(stream_id, OK, True)
        server.take_output(2**20)
        server.feed(RstStreamFrame(stream_id + 2, error_code=8).serialize(), 0.0)
    assert len(notes.of("reset")) == COUNT / 4


def test_pings_that_measure_what_was_sent_are_no_flood() -> None:
    """gRPC pings for each piece of a body that it reads, and opens two windows for it."""
    client, _, server, notes = pair()
    client.request(GET, True)
    exchange(client, server)
    server.respond(1, OK, False)
    nuisance = PingFrame(0, b"12345678").serialize() + WindowUpdateFrame(1, window_increment=1).serialize() * 2
    for _ in range(5000):
        server.send_body(1, b"a", False)
        server.take_output(2**20)
        server.feed(nuisance, 0.0)
    assert not server.is_over
    assert notes.of("reset") == []


def test_a_server_that_resets_all_its_streams_is_the_business_of_their_owners() -> None:
    client, notes, server, _ = pair()
    for _ in range(3000):
        stream_id = client.request(GET, True)
        exchange(client, server)
        server.reset(stream_id, 7)
        exchange(client, server)
    assert len(notes.of("reset")) == 3000


def test_heads_up_to_the_hard_limit_are_heard() -> None:
    """A head over the soft limit is still decoded, so that the stream gets an answer and its siblings live."""
    large = tuple((b"x-%d" % i, b"v" * 1000) for i in range(6))
    settings = Settings(True, head_bytes=2048, fields_count=16)
    reason, notes, _ = serve([START, head(Encoder(), 1, GET + large)], 0.0, settings)
    assert reason == ""
    assert notes.of("head") == [(1, GET + large, True)]
    reason, _, _ = serve([START, head(Encoder(), 1, GET + large + large)], 0.0, settings)
    assert reason == "header-list-too-large"


def test_more_streams_than_agreed_end_the_connection() -> None:
    encoder = Encoder()
    requests = [head(encoder, 2 * i + 1, GET, ended=False) for i in range(9)]
    settings = Settings(True, streams_count=8)
    reason, notes, _ = serve([START, SettingsFrame(0, flags=["ACK"]).serialize(), *requests], 0.0, settings)
    assert reason == "http2-protocol"
    assert len(notes.of("head")) == 8


def test_streams_sent_before_the_limit_was_known_are_refused_one_by_one() -> None:
    encoder = Encoder()
    requests = [head(encoder, 2 * i + 1, GET, ended=False) for i in range(9)]
    reason, notes, sent = serve([START, *requests], 0.0, Settings(True, streams_count=8))
    assert reason == ""
    assert len(notes.of("head")) == 8
    refusal = frames(sent)[-1]
    assert isinstance(refusal, RstStreamFrame)
    assert refusal.error_code == 7


def test_a_bucket_fills_with_time_and_work_and_no_further() -> None:
    bucket = Bucket(2, 1, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(1.0)
    assert not bucket.take(1.5)
    bucket.earn_to(2)
    bucket.earn_to(2)
    assert [bucket.take(1.5) for _ in range(3)] == [True, True, False]
    bucket.earn(100)
    assert repr(bucket) == "<Bucket 2 of 2, 1/s>"
