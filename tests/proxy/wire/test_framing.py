"""What is decided about a message's end and what goes on say the same: all who read it find its end in one place."""

from contextlib import suppress

import pytest
from http1house import Event, Notes, read_requests, single_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import REASONS, WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, RequestHead, ResponseHead
from proxy.wire.http1 import RequestReader, ResponseReader

LINE = b"POST / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"

REQUESTS: dict[str, tuple[bytes, str | bytes]] = {
    # framing fields, and what goes on in their place, or the reason for which the request is refused
    "usual length": (b"Content-Length: 5\r\n", b"Content-Length: 5\r\n"),
    "length in another spelling": (b"content-length:5\r\n", b"content-length:5\r\n"),
    "length zero": (b"Content-Length: 0\r\n", b"Content-Length: 0\r\n"),
    "length with leading zeros": (b"Content-Length: 0005\r\n", b"Content-Length: 5\r\n"),
    "length of zeros": (b"Content-Length: 00\r\n", b"Content-Length: 0\r\n"),
    "length behind two spaces": (b"Content-Length:  5\r\n", b"Content-Length: 5\r\n"),
    "length before a space": (b"Content-Length: 5 \r\n", b"Content-Length: 5\r\n"),
    "length between tabs": (b"Content-Length:\t5\t\r\n", b"Content-Length: 5\r\n"),
    "largest length": (b"Content-Length: 9223372036854775807\r\n", b"Content-Length: 9223372036854775807\r\n"),
    "length of 2^63": (b"Content-Length: 9223372036854775808\r\n", "bad-content-length"),
    "length of 2^64-1": (b"Content-Length: 18446744073709551615\r\n", "bad-content-length"),
    "length of 2^64+5": (b"Content-Length: 18446744073709551621\r\n", "bad-content-length"),
    "length with a sign": (b"Content-Length: +5\r\n", "bad-content-length"),
    "length below zero": (b"Content-Length: -5\r\n", "bad-content-length"),
    "length in hexadecimal": (b"Content-Length: 0x5\r\n", "bad-content-length"),
    "length with a separator": (b"Content-Length: 1_0\r\n", "bad-content-length"),
    "length with an exponent": (b"Content-Length: 1e1\r\n", "bad-content-length"),
    "length with a fraction": (b"Content-Length: 5.0\r\n", "bad-content-length"),
    "length in other digits": ("Content-Length: \u0665\r\n".encode(), "bad-content-length"),
    "length in quotes": (b'Content-Length: "5"\r\n', "bad-content-length"),
    "length behind a vertical tab": (b"Content-Length: \x0b5\r\n", "bad-content-length"),
    "two numbers": (b"Content-Length: 5 6\r\n", "bad-content-length"),
    "equal lengths": (b"Content-Length: 5\r\nContent-Length: 5\r\n", "bad-content-length"),
    "lengths in other cases": (b"Content-Length: 5\r\ncONTENT-lENGTH: 5\r\n", "bad-content-length"),
    "list of lengths": (b"Content-Length: 5, 5\r\n", "bad-content-length"),
    "list with an empty length": (b"Content-Length: 5,\r\n", "bad-content-length"),
    "empty length": (b"Content-Length:\r\n", "bad-content-length"),
    "length with a space before the colon": (b"Content-Length : 5\r\n", "control-character"),
    "length with a tab before the colon": (b"Content-Length\t: 5\r\n", "control-character"),
    "length with an underscore": (b"Content_Length: 5\r\n", b"Content_Length: 5\r\n"),
    "folded length": (b"Content-Length:\r\n 5\r\n", "folded-header"),
    "usual chunks": (b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\n"),
    "chunks in another spelling": (b"TRANSFER-ENCODING:chunked\r\n", b"TRANSFER-ENCODING:chunked\r\n"),
    "chunks in capitals": (b"Transfer-Encoding: CHUNKED\r\n", b"Transfer-Encoding: chunked\r\n"),
    "chunks behind a comma": (b"Transfer-Encoding: ,chunked\r\n", b"Transfer-Encoding: chunked\r\n"),
    "chunks behind commas": (b"Transfer-Encoding: , ,\tchunked\r\n", b"Transfer-Encoding: chunked\r\n"),
    "chunks behind a tab": (b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: chunked\r\n"),
    "chunks before a space": (b"Transfer-Encoding: chunked \r\n", b"Transfer-Encoding: chunked\r\n"),
    "chunks behind a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", "control-character"),
    "chunks before a form feed": (b"Transfer-Encoding: chunked\x0c\r\n", "control-character"),
    "chunks behind NUL": (b"Transfer-Encoding: \x00chunked\r\n", "control-character"),
    "chunks with a parameter": (b"Transfer-Encoding: chunked;q=1\r\n", "bad-transfer-encoding"),
    "chunks in quotes": (b'Transfer-Encoding: "chunked"\r\n', "bad-transfer-encoding"),
    "chunks twice": (b"Transfer-Encoding: chunked, chunked\r\n", "bad-transfer-encoding"),
    "chunks in two fields": (
        b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "bad-transfer-encoding",
    ),
    "chunks, then no coding": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "bad-transfer-encoding"),
    "no coding, then chunks": (b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", "unknown-transfer-coding"),
    "gzip, then chunks": (b"Transfer-Encoding: gzip, chunked\r\n", "unknown-transfer-coding"),
    "identity, then chunks": (b"Transfer-Encoding: identity, chunked\r\n", "unknown-transfer-coding"),
    "identity": (b"Transfer-Encoding: identity\r\n", "bad-transfer-encoding"),
    "empty coding": (b"Transfer-Encoding:\r\n", "bad-transfer-encoding"),
    "chunks with a space before the colon": (b"Transfer-Encoding : chunked\r\n", "control-character"),
    "folded chunks": (b"Transfer-Encoding:\r\n chunked\r\n", "folded-header"),
    "length and chunks": (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "content-length-and-transfer-encoding",
    ),
    "chunks and length": (
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "content-length-and-transfer-encoding",
    ),
    "length and chunks behind a comma": (
        b"Content-Length: 5\r\nTransfer-Encoding: ,chunked\r\n",
        "content-length-and-transfer-encoding",
    ),
    "fields that Connection names": (
        b"Connection: content-length, host\r\nContent-Length: 05\r\n",
        b"Content-Length: 5\r\n",
    ),
    "neither": (b"", b""),
    "neither, but a name that is nearly one": (
        b"Transfer-Encoding-X: chunked\r\n",
        b"Transfer-Encoding-X: chunked\r\n",
    ),
}


@pytest.mark.parametrize(("fields", "expected"), REQUESTS.values(), ids=REQUESTS.keys())
def test_an_odd_request_is_refused_or_goes_on_with_the_framing_that_was_decided(
    fields: bytes, expected: str | bytes
) -> None:
    raw = LINE + HOST + fields + b"A: b\r\n\r\n"
    whole = read_requests([raw])

    assert whole == read_requests(single_bytes(raw))
    if isinstance(expected, str):
        assert [name for name, _ in whole] == [expected]
        assert REASONS[expected].status in (400, 501)
    else:
        assert whole[0] == ("head", LINE + HOST + expected + b"A: b\r\n\r\n")
        assert read_requests([whole[0][1]]) == whole


def test_transfer_encoding_in_http10_is_refused_however_it_is_spelled() -> None:
    for line in (b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: ,chunked\r\n"):
        assert read_requests([b"POST / HTTP/1.0\r\n" + line + b"\r\n"]) == [("bad-transfer-encoding", b"")]


@pytest.mark.parametrize("fields", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_connect_that_announces_a_body_is_refused(fields: bytes) -> None:
    raw = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" + fields + b"\r\n"

    assert read_requests([raw]) == read_requests(single_bytes(raw)) == [("connect-with-body", b"")]


def test_a_connect_that_announces_no_byte_goes_on_without_saying_so() -> None:
    raw = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n"

    assert read_requests([raw])[0] == ("head", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")


# Responses


def read(pieces: list[bytes], method: bytes = b"GET", minor: int = 1) -> tuple[list[Event], ResponseReader, Notes]:
    """Read one response; a fault is the last event."""
    notes = Notes()
    reader = ResponseReader(notes, 65536)
    reader.expect(method, minor)
    try:
        for piece in pieces:
            reader.feed(piece)
    except WireFault as fault:
        notes.events.append((fault.reason, b""))
    return notes.events, reader, notes


OK = b"HTTP/1.1 200 OK\r\n"
NEXT = OK + b"Content-Length: 2\r\n\r\nok"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
LENGTH_3 = b"Content-Length: 3\r\n"
CODED = b"Transfer-Encoding: chunked\r\n"

REPAIRED: dict[str, tuple[bytes, bytes, bytes, bytes, bytes, bool]] = {
    # the method asked, the status line, fields that came, fields that go on, the body, whether the connection is kept
    "HEAD with both": (b"HEAD", OK, LENGTH_3 + CODED, CODED, b"", False),
    "HEAD with equal lengths": (b"HEAD", OK, LENGTH_3 + LENGTH_3, LENGTH_3, b"", True),
    "HEAD with different lengths": (b"HEAD", OK, LENGTH_3 + b"Content-Length: 4\r\n", b"", b"", False),
    "HEAD with identity": (b"HEAD", OK, b"Transfer-Encoding: identity\r\n", b"", b"", True),
    "HEAD with no number": (b"HEAD", OK, b"Content-Length: x\r\n", b"", b"", False),
    "HEAD with no coding": (b"HEAD", OK, b"Transfer-Encoding: chun ked\r\n", b"", b"", True),
    "HEAD with an empty coding": (b"HEAD", OK, b"Transfer-Encoding:\r\n", b"", b"", True),
    "304 with both": (b"GET", b"HTTP/1.1 304 N\r\n", b"Content-Length: 0\r\n" + CODED, CODED, b"", False),
    "304 with a length": (b"GET", b"HTTP/1.1 304 N\r\n", LENGTH_3, LENGTH_3, b"", True),
    "204 with no length": (b"GET", b"HTTP/1.1 204 N\r\n", b"Content-Length: 0\r\n", b"", b"", True),
    "204 with a length": (b"GET", b"HTTP/1.1 204 N\r\n", LENGTH_3, b"", b"", False),
    "204 with chunks": (b"GET", b"HTTP/1.1 204 N\r\n", CODED, b"", b"", False),
    "204 with both": (b"GET", b"HTTP/1.1 204 N\r\n", b"Content-Length: 0\r\n" + CODED, b"", b"", False),
    "204 with different lengths": (b"GET", b"HTTP/1.1 204 N\r\n", LENGTH_3 + b"Content-Length: 4\r\n", b"", b"", False),
    "CONNECT with both": (b"CONNECT", OK, LENGTH_3 + CODED, b"", b"", False),
    "both": (b"GET", OK, LENGTH_3 + CODED, CODED, CHUNKS, False),
    "both, the other way round": (b"GET", OK, CODED + b"Content-Length: 0\r\n", CODED, CHUNKS, False),
    "equal lengths": (b"GET", OK, LENGTH_3 + b"content-length:  3\r\n", LENGTH_3, b"abc", True),
    "list of equal lengths": (b"GET", OK, b"Content-Length: 3, 3\r\n", LENGTH_3, b"abc", True),
    "leading zeros": (b"GET", OK, b"Content-Length: 003\r\n", LENGTH_3, b"abc", True),
    "a space before the colon": (b"GET", OK, b"E : -1\r\n" + LENGTH_3, b"E: -1\r\n" + LENGTH_3, b"abc", True),
    "a space before the length's colon": (b"GET", OK, b"Content-Length : 3\r\n", LENGTH_3, b"abc", True),
    "a space before the coding's colon": (b"GET", OK, b"Transfer-Encoding\t: chunked\r\n", CODED, CHUNKS, True),
    "a field over two lines": (
        b"GET",
        OK,
        b"X: a;\r\n\tb\r\n  c\r\n" + LENGTH_3,
        b"X: a; b c\r\n" + LENGTH_3,
        b"abc",
        True,
    ),
    "a coding over two lines": (b"GET", OK, b"Transfer-Encoding:\r\n chunked\r\n", CODED, CHUNKS, True),
    "a length in the line of another field": (
        b"GET",
        OK,
        b"X: a\r\n Content-Length: 9\r\n" + LENGTH_3,
        b"X: a Content-Length: 9\r\n" + LENGTH_3,
        b"abc",
        True,
    ),
    "chunks behind a comma": (b"GET", OK, b"Transfer-Encoding: ,chunked\r\n", CODED, CHUNKS, True),
    "chunks before a tab": (b"GET", OK, b"Transfer-Encoding: Chunked\t\r\n", CODED, CHUNKS, True),
    "gzip, then chunks": (
        b"GET",
        OK,
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        CHUNKS,
        True,
    ),
    "identity, then chunks": (b"GET", OK, b"Transfer-Encoding: identity,chunked\r\n", CODED, CHUNKS, True),
}  # fmt: skip


@pytest.mark.parametrize(("method", "line", "came", "goes", "body", "is_kept"), REPAIRED.values(), ids=REPAIRED.keys())
def test_an_odd_response_goes_on_with_what_was_decided(
    method: bytes, line: bytes, came: bytes, goes: bytes, body: bytes, is_kept: bool
) -> None:
    raw = line + came + b"A: b\r\n\r\n" + body
    for pieces in ([raw + NEXT], single_bytes(raw + NEXT), [raw, NEXT]):
        events, reader, _ = read(pieces, method)

        assert events[0] == ("head", line + goes + b"A: b\r\n\r\n")
        assert [name for name, _ in events] == (["head", "body", "end"] if body else ["head", "end"])
        assert b"".join(data for name, data in events if name == "body") == body
        assert reader.keep_alive is (is_kept and method != b"CONNECT")
        assert reader.rest == NEXT
        reader.expect(b"GET")
        reader.next_message()
        assert events[-2:] == [("body", b"ok"), ("end", b"")]
    assert read([events[0][1] + body], method)[0][: len(events) - 3] == events[:-3]


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        (b"Transfer-Encoding: identity\r\n", b""),
        (b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: gzip\r\n"),
        (b"Transfer-Encoding: chunked, gzip\r\n", b"Transfer-Encoding: chunked, gzip\r\n"),
        (b"Content-Length: 3\r\nTransfer-Encoding: identity\r\n", b""),
    ],
)
def test_a_response_whose_last_coding_is_not_chunked_ends_with_its_connection(came: bytes, goes: bytes) -> None:
    for pieces in ([OK + came + b"\r\nabc"], single_bytes(OK + came + b"\r\nabc")):
        events, reader, notes = read(pieces)

        assert events == [("head", OK + goes + b"\r\n"), ("body", b"abc")]
        assert notes.heads[0].framing == UNTIL_CLOSE
        assert not reader.keep_alive
        assert reader.feed_eof()


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3, 4\r\n",
        b"Content-Length: 3,\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length: 9223372036854775808\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length:\r\n",
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: chun\r\n ked\r\n",
        b'Transfer-Encoding: x;a="b, chunked\r\n',
        b"Transfer-Encoding: (x), chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: chunked, \x7f\r\nContent-Length: 3\r\n",
        b"X\x01: a\r\n",
        b"X y: a\r\n",
        b"Expires : -1\r\nX: a\x00b\r\n",
        b": a\r\n",
    ],
)
def test_a_response_that_cannot_be_repaired_is_refused_however_it_is_cut(fields: bytes) -> None:
    raw = OK + b"A: b\r\n" + fields + b"\r\nabc"

    assert read([raw])[0][0][0] in REASONS
    assert read(single_bytes(raw))[0][0][0] in REASONS


def test_garbage_is_not_waited_for() -> None:
    """What no repair can mend is refused at its first byte, not when the head is whole."""
    assert read([OK + b"A: b\r\n\x01"])[0] == [("control-character", b"")]
    assert read([b"SSH-2.0-x\r\n"])[0][0][0] in REASONS


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("line", [b"HTTP/1.0 200 OK\r\n", OK])
def test_chunks_are_taken_off_where_either_side_speaks_http10(line: bytes, minor: int) -> None:
    raw = line + b"Trailer: X\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nX: 1\r\n\r\n"
    if line == OK and minor == 1:
        return
    for pieces in ([raw], single_bytes(raw)):
        events, reader, notes = read(pieces, minor=minor)

        assert (events[0], events[-1]) == (("head", line + b"A: b\r\n\r\n"), ("end", b""))
        assert b"".join(data for name, data in events if name == "body") == b"abcde"
        assert notes.heads[0].framing == UNTIL_CLOSE
        assert not reader.keep_alive


def test_chunks_that_break_off_are_no_whole_body_for_http10_either() -> None:
    _, reader, _ = read([OK + CODED + b"\r\n3\r\nab"], minor=0)

    assert not reader.feed_eof()


def test_a_connection_that_carried_http10_is_not_kept() -> None:
    """Its server closes it, whatever version it answers with (RFC 9112 section 9.3)."""
    assert not read([NEXT], minor=0)[1].keep_alive
    assert read([NEXT], minor=1)[1].keep_alive


@pytest.mark.parametrize(
    "hint",
    [
        b"HTTP/1.1 103 Hints\r\nLink: x\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nLink: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nLink: x\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nLink : x\r\n\r\n",
    ],
)
def test_an_informational_response_has_no_body_and_ends_nothing(hint: bytes) -> None:
    for pieces in ([hint + NEXT], single_bytes(hint + NEXT)):
        events, reader, _ = read(pieces)

        assert events[0] == ("head", b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n")
        assert events[1:] == [("head", NEXT[:-2]), ("body", b"ok"), ("end", b"")]
        assert reader.keep_alive


def test_bad_chunks_that_come_with_their_head_are_told_before_it() -> None:
    """Nothing has gone to the client then: it can still be told what is wrong."""
    assert read([OK + CODED + b"\r\nzz\r\n"])[0] == [("bad-chunk", b"")]
    assert read([OK + CODED + b"\r\n3\r\nab", b"cd\r\n"])[0][-1] == ("bad-chunk", b"")


# Any mixture of all that

VALUES = st.sampled_from(
    [
        b"3",
        b" 3",
        b"03",
        b" 3, 3",
        b" 4",
        b" +3",
        b" x",
        b"",
        b" chunked",
        b" ,chunked",
        b" gzip, chunked",
        b" identity",
    ]
)
NAMES = st.sampled_from([b"Content-Length", b"content-length", b"Transfer-Encoding", b"X", b"Connection", b"Trailer"])
SEPARATORS = st.sampled_from([b":", b":", b":", b" :", b":\r\n "])
FIELDS = st.lists(st.tuples(NAMES, SEPARATORS, VALUES), max_size=4)


def joined(fields: list[tuple[bytes, bytes, bytes]]) -> bytes:
    return b"".join(name + separator + value + b"\r\n" for name, separator, value in fields)


@settings(max_examples=400, deadline=None)
@given(FIELDS, st.sampled_from([b"GET", b"POST", b"CONNECT"]), st.sampled_from([b"0", b"1"]), st.integers(1, 40))
def test_any_request_that_goes_on_is_read_again_as_it_was_decided(
    fields: list[tuple[bytes, bytes, bytes]], method: bytes, minor: bytes, size: int
) -> None:
    target = b"a:1" if method == b"CONNECT" else b"/"
    raw = method + b" " + target + b" HTTP/1." + minor + b"\r\nHost: a\r\n" + joined(fields) + b"\r\n"
    heads = []
    for pieces in ([raw], [raw[at : at + size] for at in range(0, len(raw), size)]):
        notes = Notes()
        reader = RequestReader(notes, 65536)
        with suppress(WireFault):
            for piece in pieces:
                reader.feed(piece)
        heads.append([head_of(head) for head in notes.heads])
    assert heads[0] == heads[1]
    for head in heads[0]:
        again = Notes()
        RequestReader(again, 65536).feed(head[0])
        assert [head_of(one)[:3] for one in again.heads] == [head[:3]]
        assert head[0].lower().count(b"\r\ncontent-length:") == (head[1] == LENGTH)
        assert head[0].lower().count(b"\r\ntransfer-encoding:") == (head[1] == CHUNKED)


def head_of(head: RequestHead | ResponseHead) -> tuple[bytes, int, int, bool]:
    return head.raw, head.framing, head.length_bytes, head.keep_alive


@settings(max_examples=400, deadline=None)
@given(
    FIELDS,
    st.sampled_from([b"GET", b"HEAD", b"CONNECT"]),
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 204 N", b"HTTP/1.1 304 N", b"HTTP/1.0 200 OK", b"HTTP/1.1 404 N"]),
    st.integers(1, 40),
)
def test_any_response_that_goes_on_is_read_again_as_it_was_decided(
    fields: list[tuple[bytes, bytes, bytes]], method: bytes, line: bytes, size: int
) -> None:
    raw = line + b"\r\n" + joined(fields) + b"\r\n"
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    heads = [[head_of(head) for head in read(cut, method)[2].heads] for cut in ([raw], pieces)]
    assert heads[0] == heads[1]
    for head in heads[0]:
        again = [head_of(one) for one in read([head[0]], method)[2].heads]
        assert [one[:3] for one in again] == [head[:3]]
        if head[1] == LENGTH:
            assert head[0].lower().count(b"\r\ncontent-length:") == 1
        if head[1] != NO_BODY:
            assert (b"\r\ncontent-length:" in head[0].lower()) + (b"\r\ntransfer-encoding:" in head[0].lower()) < 2
