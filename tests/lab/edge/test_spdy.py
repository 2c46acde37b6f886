"""SPDY/3.1 framing against a client made from the same specification, whole, byte by byte, and broken."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.api.spdy import (
    DICTIONARY,
    DataReceived,
    GoAway,
    PingReceived,
    SpdyError,
    SpdyServer,
    StreamOpened,
    StreamReset,
)


class Client:
    """The client's half: one compression context for the whole connection."""

    def __init__(self):
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def open(self, stream, headers, *, flags=0):
        pairs = b"".join(_text(name) + _text(value) for name, value in headers.items())
        block = self._deflate.compress(struct.pack(">I", len(headers)) + pairs) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return control(1, struct.pack(">IIBB", stream, 0, 0, 0) + block, flags=flags)


def _text(text):
    return struct.pack(">I", len(text)) + text.encode()


def control(kind, payload, *, flags=0, version=3):
    return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | len(payload)) + payload


def data(stream, payload, *, flags=0):
    return struct.pack(">II", stream, flags << 24 | len(payload)) + payload


HEADERS = {"streamtype": "data", "port": "80", "requestid": "0"}


def conversation():
    client = Client()
    sent = client.open(1, {**HEADERS, "StreamType": "error"}, flags=1) + client.open(3, HEADERS)
    sent += data(3, b"hello") + control(6, struct.pack(">I", 7)) + control(9, struct.pack(">II", 3, 10))
    sent += data(3, b"", flags=1) + control(3, struct.pack(">II", 3, 5)) + control(7, struct.pack(">II", 0, 0))
    expected = [
        StreamOpened(1, {**HEADERS, "streamtype": "error"}, True),
        StreamOpened(3, HEADERS, False),
        DataReceived(3, b"hello", False),
        PingReceived(7),
        DataReceived(3, b"", True),
        StreamReset(3),
        GoAway(),
    ]
    return sent, expected


def test_the_dictionary_is_the_one_of_spdy_3():
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


@given(st.lists(st.integers(1, 60), max_size=40))
def test_events_are_the_same_however_the_bytes_are_cut(cuts):
    sent, expected = conversation()
    server, events, start = SpdyServer(), [], 0
    for size in [*cuts, len(sent)]:
        events += server.receive(sent[start : start + size])
        start += size

    assert events == expected


def test_our_replies_can_be_read_by_one_decompressor_for_the_whole_connection():
    server, inflate = SpdyServer(), zlib.decompressobj(zdict=DICTIONARY)

    for stream in (1, 3, 5):
        frame = server.reply(stream)
        assert struct.unpack_from(">HH", frame) == (0x8003, 2)
        assert struct.unpack_from(">I", frame, 8) == (stream,)
        assert inflate.decompress(frame[12:]) == struct.pack(">I", 0)


def test_long_data_goes_out_in_frames_that_say_their_length():
    sent = SpdyServer().send(3, bytes(70_000)) + SpdyServer().finish(3)

    received = list(SpdyServer().receive(sent))

    assert [len(event.data) for event in received] == [32768, 32768, 4464, 0]
    assert [event.finished for event in received] == [False, False, False, True]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (control(1, b"\0\0"), "too short"),
        (control(1, bytes(10) + b"not zlib"), "does not decompress"),
        (control(6, b"\0"), "too short"),
        (control(6, bytes(4), version=2), "version"),
        (struct.pack(">II", 1, 0xFFFFFF), "longer"),
    ],
)
def test_broken_frames_are_an_error_and_never_a_crash(frame, why):
    with pytest.raises(SpdyError, match=why):
        list(SpdyServer().receive(frame))


def test_a_header_bomb_is_refused():
    bomb = Client().open(1, {"x": "y" * 10_000_000})

    with pytest.raises(SpdyError, match="longer"):
        list(SpdyServer().receive(bomb))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_it_crash(noise):
    try:
        list(SpdyServer().receive(noise))
    except SpdyError:
        return
