"""The HTTP/1 readers: every case whole, byte by byte and re-chunked; what llhttp refuses is pinned with raw bytes."""

from collections.abc import Callable
from time import perf_counter

import h11
import pytest
from http1house import Event, Notes, read_requests, single_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import REASONS, WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, RequestHead, ResponseHead
from proxy.wire.http1 import RequestReader, ResponseReader

HOST = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED_POST = POST + b"Transfer-Encoding: chunked\r\n\r\n"

BAD_REQUESTS = {
    "content length, then transfer encoding": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length-and-transfer-encoding",
    ),
    "transfer encoding, then content length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "content-length-and-transfer-encoding",
    ),
    "content length twice": (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "bad-content-length"),
    "content length list": (POST + b"Content-Length: 3, 3\r\n\r\nabc", "bad-content-length"),
    "content length with sign": (POST + b"Content-Length: +3\r\n\r\nabc", "bad-content-length"),
    "content length negative": (POST + b"Content-Length: -3\r\n\r\nabc", "bad-content-length"),
    "content length empty": (POST + b"Content-Length: \r\n\r\n", "bad-content-length"),
    "content length too large": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", "bad-content-length"),
    "transfer encoding gzip": (POST + b"Transfer-Encoding: gzip\r\n\r\n", "bad-transfer-encoding"),
    "chunked not at last": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", "bad-transfer-encoding"),
    "gzip, then chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "unknown-transfer-coding"),
    "transfer encoding twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad-transfer-encoding",
    ),
    "transfer encoding almost chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n", "bad-transfer-encoding"),
    "transfer encoding in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad-transfer-encoding",
    ),
    "folded header": (POST + b"X: a\r\n b\r\n\r\n", "folded-header"),
    "folded by tab": (POST + b"X: a\r\n\tb\r\n\r\n", "folded-header"),
    "folded first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded-header"),
    "bare line feeds only": (b"GET / HTTP/1.1\nHost: a\n\n", "bare-line-feed"),
    "bare line feed in headers": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "bare-line-feed"),
    "bare line feed before the end": (POST + b"\n", "bare-line-feed"),
    "bare carriage return": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "control-character"),
    "two hosts": (POST + b"Host: a\r\n\r\n", "duplicate-host"),
    "two hosts in other spellings": (POST + b"hOST:b\r\n\r\n", "duplicate-host"),
    "control character in a value": (POST + b"X: a\x01b\r\n\r\n", "control-character"),
    "NUL in a value": (POST + b"X: a\x00b\r\n\r\n", "control-character"),
    "DEL in a value": (POST + b"X: a\x7fb\r\n\r\n", "control-character"),
    "control character in a name": (POST + b"X\x01: a\r\n\r\n", "control-character"),
    "space before the colon": (POST + b"X : a\r\n\r\n", "control-character"),
    "empty name": (POST + b": a\r\n\r\n", "control-character"),
    "control character in the target": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line"),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line"),
    "HTTP/0.9": (b"GET /\r\n\r\n", "bad-request-line"),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "bad-request-line"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "bad-request-line"),
    "no token for a method": (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line"),
    "many empty lines before the request": (b"\r\n" * 9 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-head"),
    "many line feeds before the request": (b"\n" * 17 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-head"),
    "carriage return before the request": (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-head"),
    "chunk size with sign": (CHUNKED_POST + b"+3\r\nabc\r\n", "bad-chunk"),
    "chunk size negative": (CHUNKED_POST + b"-3\r\nabc\r\n", "bad-chunk"),
    "chunk size with 0x": (CHUNKED_POST + b"0x3\r\nabc\r\n", "bad-chunk"),
    "chunk size empty": (CHUNKED_POST + b"\r\nabc\r\n", "bad-chunk"),
    "chunk size too large": (CHUNKED_POST + b"FFFFFFFFFFFFFFFFF\r\nabc", "bad-chunk"),
    "chunk size with a space": (CHUNKED_POST + b"3 \r\nabc\r\n0\r\n\r\n", "bad-chunk"),
    "chunk longer than told": (CHUNKED_POST + b"3\r\nabcd\r\n0\r\n\r\n", "bad-chunk"),
    "chunk size ended by a line feed": (CHUNKED_POST + b"3\nabc\r\n0\r\n\r\n", "bad-chunk"),
    "chunk ended by a line feed": (CHUNKED_POST + b"3\r\nabc\n0\r\n\r\n", "bad-chunk"),
    "chunk extension with a line feed": (CHUNKED_POST + b"3;a\nabc\r\n0\r\n\r\n", "bad-chunk"),
    "content length in trailers": (
        CHUNKED_POST + b"0\r\nContent-Length: 5\r\n\r\n",
        "content-length-and-transfer-encoding",
    ),
    "folded trailer": (CHUNKED_POST + b"0\r\nX: y\r\n z\r\n\r\n", "folded-header"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "reason"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused_with_its_reason_however_it_is_cut(raw: bytes, reason: str) -> None:
    assert read_requests([raw])[-1][0] == reason
    assert read_requests(single_bytes(raw))[-1][0] == reason
    assert read_requests([raw + b"GET / HTTP/1.1\r\n\r\n"])[-1][0] == reason


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = POST + b"Content-Length: 7\r\n\r\na\r\n\r\nbc"
CHUNKS = CHUNKED_POST + b"6;x=y\r\na\r\n\r\nb\r\n1\r\nz\r\n0\r\nX-Sum: 1\r\n\r\n"
EMPTY_CHUNKS = CHUNKED_POST + b"0\r\n\r\n"
UPGRADE_WITH_BODY = (
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\nContent-Length: 3\r\n\r\nabc"
)

GOOD_REQUESTS = [
    GET,
    BODY,
    CHUNKS,
    EMPTY_CHUNKS,
    b"\r\n" + GET,
    b"\n" + GET,
    b"\n\r\n\n" + GET,
    b"\r\n" * 8 + GET,
    b"MADE-UP /x HTTP/1.1\r\nHost: a\r\n\r\n",
    POST + b"Content-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("raw", GOOD_REQUESTS)
def test_a_good_request_passes_unchanged_however_it_is_cut(raw: bytes) -> None:
    whole = read_requests([raw])

    assert whole[-1] == ("end", b"")
    assert b"".join(data for _, data in whole) == raw.lstrip(b"\r\n")
    assert whole == read_requests(single_bytes(raw))
    assert [*whole, *whole] == read_requests([raw + raw])


@pytest.mark.parametrize("before", [b"", GET])
def test_megabytes_of_empty_lines_are_refused_at_the_first_few_bytes(before: bytes) -> None:
    began_s = perf_counter()
    events = read_requests([before + b"\r\n" * 2**20])

    assert events[-1] == ("bad-head", b"")
    assert perf_counter() - began_s < 0.2  # each line cost a copy of all that followed: minutes


def test_a_trickle_of_empty_lines_is_the_beginning_of_a_request() -> None:
    reader = RequestReader(Notes(), 65536)
    reader.feed(b"\r\n")
    assert reader.is_idle  # some clients send one behind a body, and then nothing for long

    reader.feed(b"\n")

    assert not reader.is_idle


def test_a_body_after_a_request_to_upgrade_is_read_as_a_body() -> None:
    expected = read_requests([UPGRADE_WITH_BODY + GET])

    assert [name for name, _ in expected] == ["head", "body", "end", "head", "end"]
    assert expected == read_requests(single_bytes(UPGRADE_WITH_BODY + GET))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_cut_of_any_sequence_of_requests_reads_the_same(data: st.DataObject) -> None:
    raw = b"".join(data.draw(st.lists(st.sampled_from([*GOOD_REQUESTS, UPGRADE_WITH_BODY]), min_size=1, max_size=4)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]

    assert read_requests(pieces) == read_requests([raw])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([raw for raw, _ in BAD_REQUESTS.values()] + GOOD_REQUESTS),
    st.integers(0, 200),
    st.binary(min_size=0, max_size=3),
    st.integers(1, 60),
)
def test_mutated_bytes_end_in_a_known_fault_and_no_cut_changes_the_verdict(
    raw: bytes, position: int, change: bytes, size: int
) -> None:
    position %= len(raw)
    # With an end behind it: a head that is odd is judged when it is whole, which pieces of it may be before.
    mutated = raw[:position] + change + raw[position + 1 :] + b"\r\n\r\n"
    pieces = [mutated[i : i + size] for i in range(0, len(mutated), size)]

    verdict = read_requests([mutated])
    again = read_requests(pieces)

    assert [name for name, _ in verdict if name in ("head", "end")] == [n for n, _ in again if n in ("head", "end")]
    assert (verdict[-1:] and verdict[-1][0] in REASONS) == (again[-1:] and again[-1][0] in REASONS)


@pytest.mark.parametrize("raw", [raw for raw in GOOD_REQUESTS if b"MADE-UP" not in raw])
def test_h11_reads_what_we_pass_on_as_the_same_message(raw: bytes) -> None:
    """h11 is the oracle: what goes to the server has the same method, target and body for it as for us."""
    events = read_requests([raw])
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"".join(data for _, data in events))
    request = connection.next_event()
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)

    assert isinstance(request, h11.Request)
    assert isinstance(event, h11.EndOfMessage)
    assert body == {BODY: b"a\r\n\r\nbc", CHUNKS: b"a\r\n\r\nbz"}.get(raw, b"")


def test_a_head_larger_than_the_limit_is_refused_even_without_an_end() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2000

    assert read_requests([head], max_head_bytes=1024) == [("head-too-large", b"")]
    assert read_requests([head[:900], head[900:]], max_head_bytes=1024) == [("head-too-large", b"")]
    assert read_requests([head + b"\r\n\r\n"], max_head_bytes=4096)[-1] == ("end", b"")


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_a_reader_keeps_no_copy_of_a_usual_method(method: bytes) -> None:
    """Every open connection has a reader, and it would be one more small object of each."""
    methods = []
    for _ in range(2):
        notes = Notes()
        RequestReader(notes, 65536).feed(method + b" / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
        methods += [head.method for head in notes.heads if isinstance(head, RequestHead)]

    assert methods == [method, method]
    assert methods[0] is methods[1]


def test_what_follows_a_message_waits_unparsed() -> None:
    notes = Notes()
    reader = RequestReader(notes, 65536)
    reader.feed(GET + b"GET / HTTP/9 nonsense")

    assert reader.rest == b"GET / HTTP/9 nonsense"
    assert notes.events[-1] == ("end", b"")


# Heads


def head_of(raw: bytes) -> RequestHead:
    notes = Notes()
    RequestReader(notes, 65536).feed(raw)
    head = notes.heads[0]
    assert isinstance(head, RequestHead)
    return head


@pytest.mark.parametrize(
    ("raw", "framing", "keep_alive"),
    [
        (GET, NO_BODY, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", NO_BODY, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: Close\r\n\r\n", NO_BODY, False),
        (b"GET / HTTP/1.0\r\n\r\n", NO_BODY, False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", NO_BODY, True),
        (POST + b"Content-Length: 3\r\n\r\n", LENGTH, True),
        (CHUNKED_POST, CHUNKED, True),
    ],
)
def test_a_head_tells_framing_and_persistence(raw: bytes, framing: int, keep_alive: bool) -> None:
    head = head_of(raw)

    assert (framing, keep_alive) == (head.framing, head.keep_alive)


def test_a_client_cannot_have_framing_or_host_dropped_by_naming_them_in_connection() -> None:
    head = head_of(POST + b"Connection: content-length, host, x-a\r\nContent-Length: 3\r\nX-A: 1\r\n\r\n")

    assert head.raw == POST + b"Content-Length: 3\r\n\r\n"


SPELLINGS = st.sampled_from([bytes.lower, bytes.upper, bytes.title, bytes.swapcase])
OF_ONE_CONNECTION = (b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te")
# The first letter and the length of a telling name, and not the name; and names that are alike in neither.
OTHERS = (b"cookie", b"connectors", b"contents-height", b"kept-alive", b"keep-alice", b"proxy-collection", b"up")
OTHERS += (b"tf", b"ti", b"upgradf", b"transfer-encodinh", b"hast", b"x-tullf-a", b"x-tulle", b"a", b"x", b"accept")
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(OF_ONE_CONNECTION + OTHERS), SPELLINGS, st.sampled_from([b"close", b" keep-alive", b"a:b"])
    )
)


@given(FIELDS, SPELLINGS, st.sampled_from([b"3", b"  3 ", b"\t3"]))
def test_headers_of_one_connection_stay_behind_and_no_others_however_they_are_spelled(
    fields: list[tuple[bytes, Callable[[bytes], bytes], bytes]], spell: Callable[[bytes], bytes], length: bytes
) -> None:
    lines = [(name, spell_it(name) + b":" + value) for name, spell_it, value in fields]
    lines.insert(len(lines) // 2, (b"content-length", spell(b"content-length") + b":" + length))
    lines.append((b"x-tulle-timeout-ms", spell(b"x-tulle-timeout-ms") + b": 5"))
    head = head_of(POST + b"".join(line + b"\r\n" for _, line in lines) + b"\r\n")

    lines = [(name, b"Content-Length: 3" if line.endswith((b"  3 ", b"\t3")) else line) for name, line in lines]
    kept = [line for name, line in lines if name not in OF_ONE_CONNECTION]
    assert head.raw == POST + b"".join(line + b"\r\n" for line in kept) + b"\r\n"
    assert (head.framing, head.length_bytes, head.has_marks) == (LENGTH, 3, True)


def test_te_passes_only_for_trailers_and_proxy_credentials_pass_to_the_proxy_they_are_for() -> None:
    kept = b"TE: trailers\r\nProxy-Authorization: Basic x\r\n"
    head = head_of(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: te\r\n" + kept + b"TE: gzip\r\n\r\n")

    assert head.raw == b"GET / HTTP/1.1\r\nHost: a\r\n" + kept + b"\r\n"


# Responses


def read_response(pieces: list[bytes], method: bytes = b"GET", eof: bool = False) -> tuple[list[Event], bytes]:
    notes = Notes()
    reader = ResponseReader(notes, 65536)
    reader.expect(method)
    try:
        for piece in pieces:
            reader.feed(piece)
        if eof and not reader.feed_eof():
            notes.events.append(("cut", b""))
    except WireFault as fault:
        notes.events.append((fault.reason, b""))
    return notes.events, reader.rest


R200 = b"HTTP/1.1 200 OK\r\n"
RESPONSES = {
    "length": (R200 + b"Content-Length: 3\r\n\r\n", b"abc", b"GET"),
    "chunked": (R200 + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"GET"),
    "none": (b"HTTP/1.1 204 None\r\n\r\n", b"", b"GET"),
    "not modified with a length": (b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", b"", b"GET"),
    "head with a length": (R200 + b"Content-Length: 9\r\n\r\n", b"", b"HEAD"),
    "head chunked": (R200 + b"Transfer-Encoding: chunked\r\n\r\n", b"", b"HEAD"),
    "connect": (R200 + b"Content-Length: 9\r\n\r\n", b"", b"CONNECT"),
    "switching": (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"", b"GET"),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", b"GET"),
}


@pytest.mark.parametrize("size_bytes", range(9, 20))
def test_a_mark_in_a_response_says_nothing_of_its_framing_however_long_its_name_is(size_bytes: int) -> None:
    mark = b"x-tulle-".ljust(size_bytes, b"y") + b": 5\r\n"
    notes = Notes()
    ResponseReader(notes, 65536).feed(R200 + b"Content-Length: 3\r\n" + mark + b"\r\nabc")

    assert isinstance(notes.heads[0], ResponseHead)
    assert (notes.heads[0].framing, notes.heads[0].length_bytes, notes.heads[0].error) == (LENGTH, 3, b"")
    assert notes.events[1:] == [("body", b"abc"), ("end", b"")]
    assert mark in notes.heads[0].raw


@pytest.mark.parametrize(("head", "body", "method"), RESPONSES.values(), ids=RESPONSES.keys())
def test_a_response_ends_where_it_should_and_the_rest_waits(head: bytes, body: bytes, method: bytes) -> None:
    for pieces in (
        [head + body + b"REST"],
        [*single_bytes(head + body), b"REST"],
        [head, *single_bytes(body + b"REST")],
    ):
        events, rest = read_response(pieces, method)

        assert [name for name, _ in events] == (["head", "body", "end"] if body else ["head", "end"])
        assert rest == b"REST"
        if body:
            assert events[1] == ("body", body)


def test_informational_responses_come_before_the_final_one() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + R200 + b"Content-Length: 0\r\n\r\n"

    for pieces in ([raw], single_bytes(raw)):
        assert [name for name, _ in read_response(pieces)[0]] == ["head", "head", "head", "end"]


def test_a_response_without_framing_ends_with_the_connection_and_a_cut_one_is_told() -> None:
    assert read_response([R200 + b"\r\nabc"], eof=True)[0][-2:] == [("body", b"abc"), ("end", b"")]
    assert read_response([R200 + b"Content-Length: 9\r\n\r\nabc"], eof=True)[0][-1] == ("cut", b"")
    assert read_response([R200 + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc"], eof=True)[0][-1] == ("cut", b"")


@pytest.mark.parametrize(
    "raw",
    [
        R200 + b"Content-Length: x\r\n\r\n",
        R200 + b" X: a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 99 x\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_bad_response_is_refused(raw: bytes) -> None:
    assert read_response([raw])[0][-1][0] in REASONS
    assert read_response(single_bytes(raw))[0][-1][0] in REASONS
