"""For the tests of HTTP/2: a sink that notes what it hears, frames in the raw, and h2 as an independent peer."""

from collections.abc import Iterable

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    SettingsFrame,
)

from proxy.errors import WireFault
from proxy.model import Headers
from proxy.wire.http2 import Http2
from proxy.wire.streams import Settings

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
START = PREFACE + SettingsFrame(0).serialize()

GET: Headers = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/"))
POST: Headers = ((b":method", b"POST"), *GET[1:])
OK: Headers = ((b":status", b"200"),)

LIMIT_BYTES = 2**24


class Notes:
    """A sink: keeps what it hears, bodies joined."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.http2: Http2 | None = None
        self.body_bytes = 0
        self.acknowledges = True

    def on_head(self, stream_id: int, fields: Headers, ended: bool) -> None:
        self.events.append(("head", stream_id, fields, ended))

    def on_informational(self, stream_id: int, fields: Headers) -> None:
        self.events.append(("informational", stream_id, fields))

    def on_body(self, stream_id: int, data: bytes, ended: bool) -> None:
        self.events.append(("body", stream_id, data, ended))
        if data and self.acknowledges and self.http2 is not None:
            self.http2.acknowledge(stream_id, len(data))

    def on_trailers(self, stream_id: int, fields: Headers) -> None:
        self.events.append(("trailers", stream_id, fields))

    def on_reset(self, stream_id: int, code: int) -> None:
        self.events.append(("reset", stream_id, code))

    def on_malformed(self, stream_id: int, code: int) -> None:
        self.events.append(("malformed", stream_id, code))

    def on_closed(self, stream_id: int, code: int) -> None:
        self.events.append(("closed", stream_id, code))

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        self.events.append(("goaway", last_stream_id, code))

    def on_settings(self) -> None:
        self.events.append(("settings",))

    def on_ping_ack(self) -> None:
        self.events.append(("ping-ack",))

    def on_over(self) -> None:
        self.events.append(("over",))

    def of(self, kind: str) -> list[tuple[object, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]

    def body(self, stream_id: int) -> bytes:
        return b"".join(e[2] for e in self.events if e[0] == "body" and e[1] == stream_id)  # type: ignore[misc]


def side(is_server: bool, settings: Settings | None = None) -> tuple[Http2, Notes]:
    """Make one side of a connection and its notes."""
    notes = Notes()
    notes.http2 = http2 = Http2(notes, settings or Settings(is_server), 0.0)
    return http2, notes


def exchange(client: Http2, server: Http2) -> None:
    """Carry bytes both ways until none are left."""
    while True:
        there = client.take_output(LIMIT_BYTES)
        back = server.take_output(LIMIT_BYTES)
        if not there and not back:
            return
        if there:
            server.feed(there, 0.0)
        if back:
            client.feed(back, 0.0)


def pair() -> tuple[Http2, Notes, Http2, Notes]:
    """Make both sides of a connection that has begun."""
    client, client_notes = side(False)
    server, server_notes = side(True)
    exchange(client, server)
    return client, client_notes, server, server_notes


def serve(pieces: Iterable[bytes], at_s: float = 0.0, settings: Settings | None = None) -> tuple[str, Notes, bytes]:
    """Feed a server piece by piece; tell the reason of the fault that ended it, its notes and what it sent."""
    server, notes = side(True, settings)
    sent = b""
    try:
        for piece in pieces:
            server.feed(piece, at_s)
            sent += server.take_output(LIMIT_BYTES)
    except WireFault as fault:
        return fault.reason, notes, sent + server.take_output(LIMIT_BYTES)
    return "", notes, sent


def frames(data: bytes) -> list[Frame]:
    """Parse what a server has sent."""
    found = []
    while data:
        frame, size = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + size]))
        found.append(frame)
        data = data[9 + size :]
    return found


def head(encoder: Encoder, stream_id: int, fields: Headers, ended: bool = True, piece_bytes: int = 2**14) -> bytes:
    """Write a HEADERS frame, and CONTINUATION frames if it does not fit."""
    block = encoder.encode(list(fields))
    pieces = [block[i : i + piece_bytes] for i in range(0, len(block), piece_bytes)] or [b""]
    first: Frame = HeadersFrame(stream_id, pieces[0], flags=["END_STREAM"] if ended else [])
    all_frames = [first, *(ContinuationFrame(stream_id, piece) for piece in pieces[1:])]
    all_frames[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in all_frames)


def data_frame(stream_id: int, data: bytes, ended: bool = False) -> bytes:
    return DataFrame(stream_id, data, flags=["END_STREAM"] if ended else []).serialize()
