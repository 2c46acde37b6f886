"""What the two sides of an HTTP/2 connection say to each other, as calls and words. Pure: no state."""

from typing import Final, NamedTuple, Protocol

from proxy.model import Headers

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
ENHANCE_YOUR_CALM: Final = 11
MAX_STREAM_ID: Final = 2**31 - 1
MAX_WINDOW_BYTES: Final = 2**31 - 1
"""Codes of RST_STREAM and GOAWAY; the largest number of a stream, and of a window's bytes."""
FIELD_BYTES: Final = 32
"""What each field of a head counts for beside its name and value (RFC 9113 section 6.5.2)."""

_FAULTS: Final = (
    ("CONTINUATION", "continuation-flood"),
    ("header list", "header-list-too-large"),
    ("too many setting", "settings-flood"),
    ("Flooding", "http2-flood"),
)
"""What libnghttp2's reasons for its own limits contain, and our words; all other reasons are `http2-protocol`."""


class Settings(NamedTuple):
    """What this side tells the peer."""

    is_server: bool
    streams_count: int = 250
    """Streams that the peer may have open at once."""
    window_bytes: int = 262144
    """Of each stream: what the peer may send before it is acknowledged, unless the window is enlarged."""
    connection_window_bytes: int = MAX_WINDOW_BYTES
    """The same, of all streams together."""
    head_bytes: int = 65536
    """Largest head, as HTTP/1 would write it (see http2_head)."""
    fields_count: int = 2048
    """Most fields of a head."""

    @property
    def head_list_bytes(self) -> int:
        """The largest head with the most fields, as RFC 9113 section 6.5.2 counts."""
        return self.head_bytes + FIELD_BYTES * self.fields_count


class Http2Sink(Protocol):
    """Who hears a connection. A stream may be heard of once more after it was reset or forgotten: ignore it."""

    __slots__ = ()

    def on_head(self, stream_id: int, fields: Headers, ended: bool) -> None:
        """A request (to a server) or a final response (to a client)."""
        ...

    def on_informational(self, stream_id: int, fields: Headers) -> None: ...
    def on_body(self, stream_id: int, data: bytes, ended: bool) -> None: ...

    def on_trailers(self, stream_id: int, fields: Headers) -> None:
        """The peer's direction has ended, with these."""
        ...

    def on_reset(self, stream_id: int, code: int) -> None:
        """The peer has reset the stream; `on_closed` follows."""
        ...

    def on_closed(self, stream_id: int, code: int) -> None:
        """Both directions are over."""
        ...

    def on_malformed(self, stream_id: int, code: int) -> None:
        """What the peer sent on the stream was malformed, and is answered by a reset with this code; `on_closed`
        follows. Mostly nothing was heard of the stream before. What exactly was wrong libnghttp2 does not tell."""
        ...

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """The peer takes no more requests; it has not seen those above `last_stream_id`."""
        ...

    def on_settings(self) -> None:
        """`streams_count` and `has_connect_protocol` may have changed."""
        ...

    def on_ping_ack(self) -> None: ...

    def on_over(self) -> None:
        """A GOAWAY was sent or heard and no stream is left: the connection can be closed."""
        ...


def fault_word(text: str, otherwise: str = "http2-protocol") -> str:
    """Find our word for what libnghttp2 says."""
    for part, word in _FAULTS:
        if part in text:
            return word
    return otherwise


def goaway_frame(last_stream_id: int, code: int) -> bytes:
    """Write a GOAWAY by hand, for a connection whose state is lost."""
    return b"\0\0\x08\x07\0\0\0\0\0" + last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big")
