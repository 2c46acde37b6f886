"""HTTP/1 messages: bytes in; head, body and end out; one message at a time. Pure.

Theory of operation. llhttp (Node's parser) validates; this module decides where a message ends. A head and a chunked
body always end at a blank line, any other body at a counted byte. So llhttp is fed up to the next such place and
never further: what follows a message stays here, unparsed, until the exchange is over and `next_message` is called.
That makes pipelining, upgrades, HEAD and CONNECT plain cases instead of traps.

llhttp's only callback takes a note. Everything a sink hears is called from `feed`, in order:

    on_request(head) | on_response(head), on_body(data) ..., on_end()

`data` are the buffers that arrived, chunk framing included, and llhttp has found them valid. `feed` raises
`WireFault`; after that the reader is spent. The sink may call `stop` inside any callback.

Sources: RFC 9112; llhttp's strict mode, which httptools uses (tests/proxy pin what it refuses).
"""

from typing import Any, Final, Generic, Protocol, TypeVar

import httptools

from proxy.errors import WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, Framing
from proxy.wire.detect import MAX_EMPTY_BYTES, skip_empty_lines

CRLF: Final = b"\r\n"
BLANK: Final = b"\r\n\r\n"

_ALONE_BYTES: Final = 2048
"""Up to here bytes that end like a head are first taken for nothing but that (fast: bench case `http1`)."""

_OTHER_LINES_COUNT: Final = 3
"""Lines of a head that are no fields: the first, the empty one, and the nothing behind it."""

HEAD: Final = 0
BODY: Final = 1
DONE: Final = 2
STOPPED: Final = 3

_FAULTS: Final = (
    (b"Transfer-Encoding can't be present with", "content-length-and-transfer-encoding"),
    (b"Content-Length can't be present with", "content-length-and-transfer-encoding"),
    (b"Content-Length", "bad-content-length"),
    (b"Transfer-Encoding", "bad-transfer-encoding"),
    (b"chunk", "bad-chunk"),
    (b"Chunk", "bad-chunk"),
    (b"whitespace after header value", "folded-header"),
    (b"space after start line", "folded-header"),
    (b"Missing expected CR", "bare-line-feed"),
    (b"Expected CRLF", "bare-line-feed"),
    (b"header field char", "bare-line-feed"),
    (b"Missing expected LF", "control-character"),
    (b"header value char", "control-character"),
    (b"header token", "control-character"),
    (b"method", "bad-request-line"),
    (b"url", "bad-request-line"),
    (b"HTTP version", "bad-request-line"),
    (b"Expected HTTP/", "bad-request-line"),
    (b"major version", "bad-request-line"),
    (b"minor version", "bad-request-line"),
    (b"status", "bad-response"),
)
"""Part of llhttp's message -> reason word; the first that fits."""


def fault_of(error: httptools.HttpParserError) -> WireFault:
    """Name what llhttp has refused."""
    message = str(error)
    for part, reason in _FAULTS:
        if part.decode() in message:
            return WireFault(reason, message)
    return WireFault("bad-head", message)


class MessageSink(Protocol):
    """Who hears a reader."""

    __slots__ = ()

    def on_body(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...


S = TypeVar("S", bound=MessageSink)


class MessageReader(Generic[S]):
    """What the two readers share: cutting the bytes at the ends of heads and bodies."""

    __slots__ = (
        "_complete",
        "_held",
        "_left_bytes",
        "_max_fields_count",
        "_max_head_bytes",
        "_parser",
        "_payload",
        "_skipped_bytes",
        "_state",
        "_tail",
        "framing",
        "rest",
        "sink",
    )

    def __init__(self, sink: S, max_head_bytes: int, max_fields_count: int) -> None:
        self.sink = sink
        self._max_head_bytes = max_head_bytes
        self._max_fields_count = max_fields_count
        self._state = HEAD
        self._held = b""
        self._tail = b""
        self._skipped_bytes = 0
        """Of empty lines before the head that is awaited."""
        self._complete = False
        self._left_bytes = 0
        self._payload: list[bytes] | None = None
        """Decoded chunks, when the sink wants these instead of the bytes as they came."""
        self.framing: Framing = NO_BODY
        self.rest = b""
        """Bytes that arrived after the end of the message."""
        self._renew()

    # llhttp's callback; that a head is complete its blank line tells

    def on_message_complete(self) -> None:
        self._complete = True

    # the machine

    def feed(self, data: bytes) -> None:  # stop 3
        """Take the next bytes; raise WireFault. Within each callback `rest` is all that follows the message so far."""
        if self._state >= DONE:
            self.rest = self.rest + data if self.rest else data
            return
        while True:
            if self._state == HEAD:
                self._feed_head(data)
            else:
                self._feed_body(data)
            if not self.rest or self._state >= DONE:
                return
            data, self.rest = self.rest, b""

    def next_message(self) -> None:
        """Go on to the next message, with the bytes that have already arrived for it; raise WireFault."""
        self._state = HEAD
        if self.rest:
            data, self.rest = self.rest, b""
            self.feed(data)

    def stop(self) -> None:
        """Read no more; further bytes gather in `rest`."""
        self._state = STOPPED

    def release(self) -> None:
        """Read no more, and let go of parser and sink, which hold this reader."""
        self._state = STOPPED
        self._parser = None

    @property
    def held_bytes(self) -> int:
        """Bytes of a head that is not complete, and of what follows the message."""
        return len(self._held) + len(self.rest)

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a message has arrived; one empty line is none, more of them are taken for a beginning."""
        return self._state == HEAD and not self._held and self._skipped_bytes <= 2

    @property
    def is_done(self) -> bool:
        return self._state >= DONE

    def _feed_head(self, data: bytes) -> None:
        held = self._held
        lines: list[bytes] | None = None
        if held:
            whole = held + data
            end = whole.find(BLANK, max(0, len(held) - 3))
        else:
            whole = data
            lines = _lines_of(data)
            end = len(data) - 4 if lines is not None else data.find(BLANK)
        if whole[0] == 13 or whole[0] == 10:
            self._skip_empty_lines(whole)
            return
        size = end + 4 if end >= 0 else len(whole)
        if size > self._max_head_bytes:
            raise WireFault("head-too-large", f"more than {self._max_head_bytes} bytes")
        head = whole
        if size < len(whole):
            head, self.rest = whole[:size], whole[size:]
        self._validate(held, head)
        if end >= 0:
            self._held = b""
            self._skipped_bytes = 0
            if lines is None:
                lines = head.split(CRLF)
            if len(lines) > self._max_fields_count + _OTHER_LINES_COUNT:
                raise WireFault("head-too-large", f"more than {self._max_fields_count} fields")
            self._on_head(head, lines)
        else:
            self._held = whole

    def _skip_empty_lines(self, data: bytes) -> None:
        """Pass over a few empty lines before the start line: RFC 9112 section 2.2."""
        end = skip_empty_lines(data)
        if end < 0:
            raise WireFault("bad-head", "a carriage return before the start line")
        self._skipped_bytes += end
        if self._skipped_bytes > MAX_EMPTY_BYTES:
            raise WireFault("bad-head", f"more than {MAX_EMPTY_BYTES} bytes of empty lines before the start line")
        if len(data) - end == 1 and data[end] == 13:
            self._held = data[end:]
        else:
            self._held, self.rest = b"", data[end:]

    def _feed_body(self, data: bytes) -> None:
        framing = self.framing
        if framing == LENGTH:
            self._feed_counted(data)
        elif framing == CHUNKED:
            self._feed_chunked(data)
        else:
            self.sink.on_body(data)

    def _feed_counted(self, data: bytes) -> None:
        left = self._left_bytes
        if len(data) > left:
            data, self.rest = data[:left], data[left:]
        self._left_bytes = left = left - len(data)
        self._parse(data)
        self.sink.on_body(data)
        if left == 0:
            self._finish()

    def _feed_chunked(self, data: bytes) -> None:
        self.sink.on_body(self._take_chunks(data))
        if self._complete:
            self._finish()

    def _take_chunks(self, data: bytes) -> bytes:
        """Have chunks validated; give what of them goes on, keep in `rest` what follows the last."""
        # The last chunk ends with a blank line, but so may any data: llhttp says which blank line was the last.
        whole = self._tail + data
        start = position = len(self._tail)
        size = len(whole)
        while not self._complete and position < size:
            end = whole.find(BLANK, max(0, position - 3))
            cut = end + 4 if end >= 0 else size
            self._parse(whole[position:cut])
            position = cut
        self._tail = whole[-3:]
        if position < size:
            data, self.rest = whole[start:position], whole[position:]
        if self._payload is not None:
            data = b"".join(self._payload)
            self._payload.clear()
        return data

    def _begin_body(self, framing: Framing, length_bytes: int) -> None:
        self.framing = framing
        if framing == NO_BODY or (framing == LENGTH and length_bytes == 0):
            if self._state < DONE:
                self._state = DONE
                self.sink.on_end()
        elif self._state == HEAD:
            self._state = BODY
            self._left_bytes = length_bytes
            self._tail = b""

    def _finish(self) -> None:
        if self._state < DONE:
            self._state = DONE
            self.sink.on_end()

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise fault_of(error) from None

    # what a request and a response do differently

    _parser: Any

    def _renew(self) -> None:
        raise NotImplementedError

    def _validate(self, held: bytes, head: bytes) -> None:
        """Let llhttp see what it has not seen of a head yet."""
        raise NotImplementedError

    def _on_head(self, raw: bytes, lines: list[bytes]) -> None:
        """Read a head, whole and cut into its lines."""
        raise NotImplementedError


def _lines_of(data: bytes) -> list[bytes] | None:
    """Cut into lines what is one head and nothing else; None for all that is not."""
    if len(data) > _ALONE_BYTES or not data.endswith(BLANK):
        return None
    lines = data.split(CRLF)
    for at in range(len(lines) - 2):
        if not lines[at]:
            return None
    return lines
