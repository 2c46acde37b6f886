"""SPDY/3.1 frames, as kubectl sends them inside a WebSocket for port-forward. Pure: bytes in, events and bytes out.

A machine without sockets: `receive(data)` takes any piece of the byte stream and returns the events that are complete;
`reply`, `send`, `finish`, `reset`, `grant` and `pong` return the bytes to write. It plays the server's half only, and
of the protocol only what a tunnel needs: no push, no priorities, no settings.

Flow control is one-sided on purpose. We grant the peer a window for every byte that we consume (draft section 2.6.8),
but we do not wait for its grants, because kubectl's own SPDY half never sends one: the WebSocket under it is what
holds us back.

Sources: draft-mbelshe-httpbis-spdy-00 (frames 2.2, 2.6; header dictionary 2.6.10.1), SPDY/3.1 (session window, 2.6.8).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_SYN_STREAM: Final = 1
_SYN_REPLY: Final = 2
_RST_STREAM: Final = 3
_PING: Final = 6
_GOAWAY: Final = 7
_WINDOW_UPDATE: Final = 9
_FLAG_FIN: Final = 0x01
_CONTROL: Final = 0x8000
_VERSION: Final = 3

MAX_FRAME_BYTES: Final = 1 << 20
"""Longest frame accepted; kubectl sends at most 32 KiB of data in one."""
MAX_HEADERS_BYTES: Final = 1 << 16
"""Longest header block accepted after decompression; a port-forward stream has three short headers."""
CHUNK_BYTES: Final = 32 * 1024
"""Longest data frame sent."""

_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_NAMES: Final = (
    *_WORDS.split(" "),
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
)
_TAIL: Final = (
    b"10010120120220520630030230330430530630740240540640740840941041141241341441541641750250450520"
    b"3 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    b"404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug "
    b"Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    b"application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset="
    b"utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = b"".join(struct.pack(">I", len(name)) + name.encode() for name in _NAMES) + _TAIL
"""The zlib dictionary of SPDY/3 header blocks: 1423 bytes, Adler-32 e3c6a7c2."""


class SpdyError(Exception):
    """The peer broke the protocol; the tunnel must be closed."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A stream that the peer opened; `headers` have lower-case names; `finished` = it will send nothing on it."""

    stream: int
    headers: dict[str, str]
    finished: bool


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of a stream; `finished` = the last ones. Give the window back with `grant` once they are consumed."""

    stream: int
    data: bytes
    finished: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int


@dataclass(frozen=True, slots=True)
class PingReceived:
    """Answer with `pong(frame)`."""

    number: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer will open no more streams."""


Event = StreamOpened | DataReceived | StreamReset | PingReceived | GoAway


class SpdyServer:
    """One tunnel's framing state: the buffer of half-arrived frames and the two compression contexts."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> Iterator[Event]:
        """Feed a piece of the byte stream; iterate to get the events. Raises SpdyError."""
        self._buffer += data
        while len(self._buffer) >= 8:
            first, second, flags_length = struct.unpack_from(">HHI", self._buffer)
            length = flags_length & 0xFFFFFF
            if length > MAX_FRAME_BYTES:
                raise SpdyError(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
            if len(self._buffer) < 8 + length:
                return
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            finished = bool(flags_length >> 24 & _FLAG_FIN)
            if first & _CONTROL:
                yield from self._control(first & 0x7FFF, second, finished, payload)
            else:
                yield DataReceived((first << 16 | second) & 0x7FFFFFFF, payload, finished)

    def _control(self, version: int, kind: int, finished: bool, payload: bytes) -> Iterator[Event]:
        if version != _VERSION:
            raise SpdyError(f"SPDY version {version} is not {_VERSION}")
        try:
            if kind == _SYN_STREAM:
                (stream,) = struct.unpack_from(">I", payload)
                yield StreamOpened(stream & 0x7FFFFFFF, self._headers(payload[10:]), finished)
            elif kind == _RST_STREAM:
                (stream,) = struct.unpack_from(">I", payload)
                yield StreamReset(stream & 0x7FFFFFFF)
            elif kind == _PING:
                (number,) = struct.unpack(">I", payload)
                yield PingReceived(number)
            elif kind == _GOAWAY:
                yield GoAway()
            # SETTINGS, HEADERS and WINDOW_UPDATE change nothing for a tunnel.
        except struct.error:
            raise SpdyError(f"control frame of type {kind} is too short") from None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS_BYTES)
        except zlib.error as error:
            raise SpdyError(f"header block does not decompress: {error}") from None
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"a header block is longer than {MAX_HEADERS_BYTES} bytes")
        count, position = struct.unpack_from(">I", plain)[0], 4
        headers: dict[str, str] = {}
        for _ in range(count):
            name, position = _text(plain, position)
            headers[name.lower()], position = _text(plain, position)
        return headers

    def reply(self, stream: int) -> bytes:
        """Accept a stream (SYN_REPLY without headers)."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control_frame(_SYN_REPLY, struct.pack(">I", stream) + block)

    def send(self, stream: int, data: bytes) -> bytes:
        """Data frames for `data`, none longer than CHUNK_BYTES."""
        chunks = (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
        return b"".join(struct.pack(">II", stream, len(chunk)) + chunk for chunk in chunks)

    def finish(self, stream: int) -> bytes:
        """Say that we send nothing more on this stream."""
        return struct.pack(">II", stream, _FLAG_FIN << 24)

    def reset(self, stream: int, status: int = 5) -> bytes:
        """Refuse or cancel a stream; 5 = CANCEL, 1 = PROTOCOL_ERROR, 3 = REFUSED_STREAM."""
        return _control_frame(_RST_STREAM, struct.pack(">II", stream, status))

    def grant(self, stream: int, size_bytes: int) -> bytes:
        """Window for `size_bytes` more, on the stream and on the session (stream 0)."""
        return b"".join(
            _control_frame(_WINDOW_UPDATE, struct.pack(">II", target, size_bytes)) for target in (stream, 0)
        )

    def pong(self, number: int) -> bytes:
        return _control_frame(_PING, struct.pack(">I", number))


def _text(plain: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", plain, position)
    start = position + 4
    if start + length > len(plain):
        raise SpdyError("a header block ends inside a header")
    return plain[start : start + length].decode("latin-1"), start + length


def _control_frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", _CONTROL | _VERSION, kind, len(payload)) + payload
