"""What must hold of each parser for any bytes: the targets of the fuzzers, and of the short run over the corpus.

Each target takes bytes and raises AssertionError, or whatever else escapes, when a promise is broken:

- a parser ends in a known state or in a WireFault, never in another exception;
- however its input is cut, it decides the same;
- a head that goes on, read again, decides the same body (what wire.framing is for).
"""

from collections.abc import Callable
from contextlib import suppress

from proxy.errors import REASONS, WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, Headers, RequestHead, ResponseHead
from proxy.wire import detect, grpc, hello
from proxy.wire.http1 import RequestReader, ResponseReader
from proxy.wire.http2 import Http2
from proxy.wire.http2_head import read_request, read_response
from proxy.wire.streams import Settings

MAX_HEAD_BYTES = 4096
END = b"\r\n\r\n"
"""Behind each input: a head that is odd is judged when it is whole, which pieces of it may be before it is."""

METHODS = (b"GET", b"HEAD", b"CONNECT", b"POST")

Decided = tuple[bytes, int, int, bool]


class Notes:
    """The sink of a reader: what was decided, and the bytes of bodies."""

    def __init__(self) -> None:
        self.heads: list[Decided] = []
        self.body = b""
        self.ends_count = 0

    def on_request(self, head: RequestHead) -> None:
        self.heads.append((head.raw, head.framing, head.length_bytes, head.keep_alive))

    def on_response(self, head: ResponseHead) -> None:
        self.heads.append((head.raw, head.framing, head.length_bytes, head.keep_alive))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_end(self) -> None:
        self.ends_count += 1


def _requests(pieces: list[bytes]) -> tuple[Notes, str]:
    notes = Notes()
    reader = RequestReader(notes, MAX_HEAD_BYTES)
    try:
        for piece in pieces:
            reader.feed(piece)
            while reader.is_done:
                rest = reader.rest
                reader.next_message()
                if not rest:
                    break
    except WireFault as fault:
        return notes, REASONS[fault.reason].word
    return notes, ""


def request(data: bytes) -> None:
    """A client's connection."""
    data += END
    whole, fault = _requests([data])
    for size in (1, 7):
        cut, cut_fault = _requests([data[at : at + size] for at in range(0, len(data), size)])
        assert (cut.heads, cut.ends_count) == (whole.heads, whole.ends_count), "the cut changes what is decided"
        assert bool(cut_fault) == bool(fault), "the cut changes the verdict"
        assert fault or cut.body == whole.body, "the cut changes the body"
    for raw, framing, length_bytes, _ in whole.heads:
        again, again_fault = _requests([raw])
        assert not again_fault, "what goes on is refused"
        assert again.heads[0][:3] == (raw, framing, length_bytes), "what goes on is read in another way"
        _count_fields(raw, framing, must_tell=True)


def _responses(pieces: list[bytes], method: bytes, minor: int) -> tuple[Notes, str, ResponseReader]:
    notes = Notes()
    reader = ResponseReader(notes, MAX_HEAD_BYTES)
    reader.expect(method, minor)
    try:
        for piece in pieces:
            reader.feed(piece)
    except WireFault as fault:
        return notes, REASONS[fault.reason].word, reader
    return notes, "", reader


def response(data: bytes) -> None:
    """A server's connection; the first byte says to what request, of which version, it answers."""
    if not data:
        return
    method, minor = METHODS[data[0] % len(METHODS)], data[0] // len(METHODS) % 2
    data = data[1:] + END
    whole, fault, reader = _responses([data], method, minor)
    for size in (1, 7):
        cut, cut_fault, cut_reader = _responses(
            [data[at : at + size] for at in range(0, len(data), size)], method, minor
        )
        # Bad chunks that come with their head are told in its stead; alone, after it.
        heads = cut.heads[:-1] if fault and len(cut.heads) > len(whole.heads) else cut.heads
        assert heads == whole.heads, "the cut changes what is decided"
        assert cut.ends_count == whole.ends_count, "the cut changes the end"
        assert bool(cut_fault) == bool(fault), "the cut changes the verdict"
        if not fault and not cut_fault:
            assert (cut.body, cut_reader.rest) == (whole.body, reader.rest), "the cut changes the body"
            assert cut_reader.keep_alive is reader.keep_alive
    for raw, framing, length_bytes, _ in whole.heads:
        again, again_fault, _ = _responses([raw], method, minor)
        assert not again_fault, "what goes on is refused"
        assert again.heads[0][:3] == (raw, framing, length_bytes), "what goes on is read in another way"
        _count_fields(raw, framing, must_tell=False)


def _count_fields(raw: bytes, framing: int, must_tell: bool) -> None:
    """Of framing fields go on the one that was decided, or none; a HEAD's tell of another body."""
    lower = raw.lower()
    lengths, codings = lower.count(b"\r\ncontent-length:"), lower.count(b"\r\ntransfer-encoding:")
    if framing == LENGTH:
        assert (lengths, codings) == (1, 0)
    elif framing == CHUNKED:
        assert (lengths, codings) == (0, 1)
    elif framing == NO_BODY:
        assert lengths + codings <= (0 if must_tell else 1)
    else:
        assert lengths == 0
        assert codings <= 1


class _Http2Notes:
    """Hears a connection of HTTP/2, and reads all heads as the sidecar would."""

    def __init__(self, is_server: bool) -> None:
        self.is_server = is_server
        self.events: list[tuple[object, ...]] = []
        self.http2: Http2 | None = None

    def on_head(self, stream_id: int, fields: Headers, ended: bool) -> None:
        self.events.append(("head", stream_id, fields, ended))
        if self.is_server:
            with suppress(WireFault):
                read_request(fields, ended, MAX_HEAD_BYTES)
            if self.http2 is not None:
                self.http2.respond(stream_id, ((b":status", b"200"),), True)
        else:
            read_response(fields, ended)

    def on_informational(self, stream_id: int, fields: Headers) -> None:
        self.events.append(("informational", stream_id, fields))
        read_response(fields, False)

    def on_body(self, stream_id: int, data: bytes, ended: bool) -> None:
        self.events.append(("body", stream_id, data, ended))
        if data and self.http2 is not None:
            self.http2.acknowledge(stream_id, len(data))

    def on_trailers(self, stream_id: int, fields: Headers) -> None:
        self.events.append(("trailers", stream_id, fields))
        grpc.status_of(fields)

    def on_reset(self, stream_id: int, code: int) -> None:
        self.events.append(("reset", stream_id, code))

    def on_malformed(self, stream_id: int, code: int) -> None: ...
    def on_closed(self, stream_id: int, code: int) -> None: ...
    def on_goaway(self, last_stream_id: int, code: int) -> None: ...
    def on_settings(self) -> None: ...
    def on_ping_ack(self) -> None: ...
    def on_over(self) -> None: ...


def _http2(pieces: list[bytes], is_server: bool) -> tuple[_Http2Notes, str]:
    notes = _Http2Notes(is_server)
    notes.http2 = http2 = Http2(notes, Settings(is_server, 100, 65536, head_bytes=MAX_HEAD_BYTES), 0.0)
    if not is_server:
        for _ in range(3):
            http2.request(
                ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")), ended=True
            )
        http2.take_output(2**20)
    try:
        for piece in pieces:
            http2.feed(piece, 0.0)
            http2.take_output(2**20)
    except WireFault as fault:
        http2.take_output(2**20)
        return notes, REASONS[fault.reason].word
    return notes, ""


def _http2_any(data: bytes, is_server: bool) -> None:
    """Whether the end comes before a fault behind it depends on the cut; what was heard before it does not."""
    found = []
    for pieces in ([data], [data[at : at + 7] for at in range(0, len(data), 7)]):
        notes, _ = _http2(pieces, is_server)
        found.append([event for event in notes.events if event[0] == "head"])
    whole, cut = found
    assert whole[: len(cut)] == cut[: len(whole)], "the cut changes the heads"


def http2_client(data: bytes) -> None:
    """What a client sends, preface and all."""
    _http2_any(data, is_server=True)


def http2_server(data: bytes) -> None:
    """What a server sends, to three requests."""
    _http2_any(data, is_server=False)


def first_bytes(data: bytes) -> None:
    """Detection, and the names in TLS hellos.

    Enough bytes are always told. What is taken for a protocol before all of it has come is taken for the same when it
    is whole; only a method that nobody has registered may pass unread for having come in pieces.
    """
    verdict = detect.protocol(data)
    assert verdict != "more" or data[:1] == b"\x16" or len(data) < detect.UNDECIDED_BYTES, "so many bytes tell nothing"
    start = data[:200]
    by_piece = [detect.protocol(start[: at + 1]) for at in range(len(start))]
    first = next((one for one in by_piece if one != "more"), "more")
    assert first in (detect.protocol(start), "opaque"), "the cut changes the protocol"
    assert detect.leaning(data) in ("http/1", "tls", "opaque"), "time has told nothing"
    hello.parse(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": request,
    "response": response,
    "http2_client": http2_client,
    "http2_server": http2_server,
    "first_bytes": first_bytes,
}
