"""One HTTP/2 connection, either role: bytes to plain callbacks, calls to bytes. Pure; the only importer of ngh2.

Theory of operation. libnghttp2 (through ngh2) keeps the state of the connection and its streams, HPACK and both flow
controls; it refuses what is malformed. Here its events become calls of a sink, and what it does not limit is limited:
every kind of frame that costs the receiver more than the sender has a token bucket of its own, filled by time and by
honest work, so that each flood can be told from the others and from heavy but honest use.

Flow control. A stream's window opens when its bytes are acknowledged (`acknowledge`), which the owner does when they
have gone on; so a stream holds at most one window. The owner may enlarge it (`enlarge`), and sees to it that the
windows of all streams together are no larger than the connection's: so many full streams cannot stop another one.

Resets overtake: what is queued on a stream is lost when it is reset. Who wants a response to arrive before a reset
asks `is_drained` first. A frame that a peer may not send ends the connection: `feed` or `take_output` raises WireFault,
and `take_output` then gives the last words (GOAWAY) once.

Sources: RFC 9113; RFC 8441 (extended CONNECT); CVE-2023-44487 (rapid reset), CVE-2025-8671 (resets provoked from the
receiver), CVE-2019-9511 to -9518 (dribbles and floods), CVE-2024-27316 (endless CONTINUATION).
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import ngh2

from proxy.errors import WireFault
from proxy.model import Headers
from proxy.wire.bucket import Bucket, Buckets
from proxy.wire.streams import (
    ENHANCE_YOUR_CALM,
    MAX_STREAM_ID,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Http2Sink,
    Settings,
    fault_word,
    goaway_frame,
)

_ENABLE_PUSH: Final = 2
_MAX_CONCURRENT_STREAMS: Final = 3
_INITIAL_WINDOW_SIZE: Final = 4
_MAX_HEADER_LIST_SIZE: Final = 6
_ENABLE_CONNECT_PROTOCOL: Final = 8

_FIRST_STREAMS_COUNT: Final = 100
"""Streams that a peer surely takes before its SETTINGS have come (RFC 9113 section 6.5.2 asks for no fewer)."""

_UNLIMITED: Final = 2**63
_HARD_HEAD_RATIO: Final = 4
"""A head larger than the limit is answered with 431; one this many times larger ends the connection undecoded."""

_PINGS_PER_SEND: Final = 2
_UPDATES_PER_SEND: Final = 10
"""What a peer may answer to each message or piece of a body that we send: gRPC measures bandwidth with a PING for what
it reads, and opens windows for each piece; ten updates for each piece is Envoy's limit too."""

_EMPTY_PER_HEAD: Final = 2

_MAX_ACKS_COUNT: Final = 2000
"""Answers to SETTINGS and PING that may wait for a peer that does not read; more than the bursts of their buckets, so
that these judge first."""

# A name that is imported is looked up each time it is met; a Final one never (fast: bench case `http2`).
_REQUEST: Final = ngh2.RequestReceived
_RESPONSE: Final = ngh2.ResponseReceived
_DATA: Final = ngh2.DataReceived
_CLOSED: Final = ngh2.StreamClosed

_CODES: Final = {3: "flow control", 6: "frame size", 9: "header compression", 11: "too many suspicious frames"}


class Http2:
    """One side of a connection. The owner feeds it what arrives, and sends what `take_output` gives after each call."""

    __slots__ = (
        "_buckets",
        "_connection",
        "_farewell",
        "_heads_count",
        "_kept",
        "_kept_id",
        "_peer_code",
        "_reset_ids",
        "_sends_count",
        "_sink",
        "has_connect_protocol",
        "is_acknowledged",
        "is_over",
        "is_server",
        "is_whole",
        "last_stream_id",
        "now_s",
        "streams_count",
    )

    def __init__(self, sink: Http2Sink, settings: Settings, now_s: float) -> None:
        self._sink = sink
        self.is_server: Final = settings.is_server
        self.is_over = False
        """Nothing more will be heard, and nothing sent after the last words."""
        self.is_acknowledged = False
        """The peer obeys our settings. Until then what it sends beyond them is refused, not a fault: watch the time."""
        self.streams_count = _FIRST_STREAMS_COUNT
        """Streams that the peer takes at once."""
        self.has_connect_protocol = False
        """Whether the peer, a server, takes extended CONNECT."""
        self.last_stream_id = 0
        """The latest request that was heard."""
        self.now_s = now_s
        self._farewell = b""
        self.is_whole = True
        self._peer_code = NO_ERROR
        self._reset_ids: set[int] = set()
        self._sends_count = 0
        self._heads_count = 0
        self._kept = b""
        self._kept_id = 0
        self._buckets = Buckets(now_s)
        self._connection = _connect(settings)

    def __repr__(self) -> str:
        role = "server" if self.is_server else "client"
        return f"<Http2 {role} {'over' if self.is_over else 'open'} last={self.last_stream_id}>"

    # bytes

    def feed(self, data: bytes, now_s: float) -> None:
        """Take what has arrived; raise WireFault after the callbacks of all that came before the fault."""
        if self.is_over:
            return
        self.now_s = now_s
        connection = self._connection
        try:
            connection.receive_data(data)
        except ngh2.NGH2Error as error:
            self._dispatch(connection.events())
            raise self.fault(fault_word(str(error)), str(error)) from None
        self._dispatch(connection.events())

    def take_output(self, limit_bytes: int) -> bytes:
        """Give what can be sent now, up to a limit; may raise WireFault, as `feed` does."""
        if self.is_over:
            farewell, self._farewell = self._farewell, b""
            return farewell
        self._let_go()
        connection = self._connection
        try:
            data = connection.data_to_send(limit_bytes)
        except ngh2.NGH2Error as error:
            raise self.fault("http2-protocol", str(error)) from None
        self.is_whole = len(data) < limit_bytes
        events = connection.events()
        if events:
            self._farewell = data
            self._dispatch(events)
            data, self._farewell = self._farewell, b""  # gone already, if a callback asked for the last words
        return data

    # events

    def _dispatch(self, events: list[Any]) -> None:
        """Call the sink. fast: exact types instead of isinstance, the frequent ones first (bench case `http2`)."""
        sink = self._sink
        for event in events:
            kind = type(event)
            if kind is _REQUEST or kind is _RESPONSE:
                self._heads_count += 1
                stream_id: int = event.stream_id
                if stream_id > self.last_stream_id:
                    self.last_stream_id = stream_id
                sink.on_head(stream_id, event.headers, event.end_stream)
            elif kind is _CLOSED:
                self._on_closed(event.stream_id, event.error_code)
            elif kind is _DATA:
                data: bytes = event.data
                ended: bool = event.end_stream
                if not data and not ended:
                    self._buckets.empty.earn_to(self._heads_count * _EMPTY_PER_HEAD)
                    self._charge(self._buckets.empty, "empty-frames")
                sink.on_body(event.stream_id, data, ended)
            elif kind is ngh2.WindowUpdated:
                self._buckets.updates.earn_to(self._sends_count * _UPDATES_PER_SEND)
                self._charge(self._buckets.updates, "window-flood")
            elif kind is ngh2.TrailersReceived:
                sink.on_trailers(event.stream_id, event.headers)
            else:
                self._on_rare(event)
            if self.is_over:
                return

    def _on_rare(self, event: ngh2.Event) -> None:
        sink = self._sink
        if isinstance(event, ngh2.StreamReset):
            self._reset_ids.add(event.stream_id)
            if self.is_server:
                self._charge(self._buckets.resets, "rapid-reset")
            sink.on_reset(event.stream_id, event.error_code)
        elif isinstance(event, ngh2.InformationalResponseReceived):
            sink.on_informational(event.stream_id, event.headers)
        elif isinstance(event, ngh2.PingReceived):
            self._buckets.pings.earn_to(self._sends_count * _PINGS_PER_SEND)
            self._charge(self._buckets.pings, "ping-flood")
        elif isinstance(event, ngh2.PingAcknowledged):
            self._charge(self._buckets.pings, "ping-flood")
            sink.on_ping_ack()
        elif isinstance(event, ngh2.SettingsReceived):
            self._charge(self._buckets.settings, "settings-flood")
            self._on_settings(event.settings)
        elif isinstance(event, ngh2.SettingsAcknowledged):
            self.is_acknowledged = True
        elif isinstance(event, ngh2.GoAwayReceived):
            self._charge(self._buckets.settings, "settings-flood")
            self._peer_code = event.error_code
            sink.on_goaway(event.last_stream_id, event.error_code)
        elif isinstance(event, ngh2.ConnectionClosed):
            self._on_connection_closed(event.error_code, event.debug_data)

    def _on_settings(self, values: Mapping[int, int]) -> None:
        if self.is_server:
            return
        if _MAX_CONCURRENT_STREAMS in values:
            self.streams_count = values[_MAX_CONCURRENT_STREAMS]
        elif self.streams_count == _FIRST_STREAMS_COUNT:
            self.streams_count = MAX_STREAM_ID
        self.has_connect_protocol = values.get(_ENABLE_CONNECT_PROTOCOL, int(self.has_connect_protocol)) == 1
        self._sink.on_settings()

    def _on_closed(self, stream_id: int, code: int) -> None:
        if code == NO_ERROR:
            self._buckets.resets.earn(1)  # a client that lets most of its requests finish may cancel as many
        elif stream_id in self._reset_ids:
            self._reset_ids.discard(stream_id)
        elif self.is_server:
            self._sink.on_malformed(stream_id, code)
            self._charge(self._buckets.errors, "stream-errors")
        elif code != REFUSED_STREAM:  # by GOAWAY
            self._sink.on_malformed(stream_id, code)
        self._sink.on_closed(stream_id, code)

    def _on_connection_closed(self, code: int, text: bytes) -> None:
        """Either the last stream has ended after a GOAWAY, or libnghttp2 has found a fault and said so."""
        if code in (NO_ERROR, self._peer_code):
            self.is_over = True
            self._sink.on_over()
            return
        detail = text.decode("latin-1") or _CODES.get(code, f"code {code}")
        word = "http2-flood" if code == ENHANCE_YOUR_CALM else "http2-protocol"
        self.is_over = True  # its GOAWAY is the last of what was pulled
        raise WireFault(fault_word(detail, word), detail)

    def _charge(self, bucket: Bucket, word: str) -> None:
        if not bucket.take(self.now_s):
            raise self.fault(word, f"more than {bucket.burst_count:g} and then {bucket.per_s:g} a second")

    def fault(self, word: str, detail: str) -> WireFault:
        """End the connection; `take_output` gives the last words. For the caller to raise, or to treat as raised."""
        self.is_over = True
        code = PROTOCOL_ERROR if word == "http2-protocol" else ENHANCE_YOUR_CALM
        connection = self._connection
        try:
            connection.terminate_connection(code)
            self._farewell += connection.data_to_send()
        except ngh2.NGH2Error:  # it has failed for good, and says nothing any more
            if self.is_whole:
                self._farewell += goaway_frame(self.last_stream_id if self.is_server else 0, code)
        return WireFault(word, detail)

    def release(self, nobody: Http2Sink) -> None:
        """Let the owner go, so that neither waits for the garbage collector."""
        self.is_over = True
        self._sink = nobody

    # the owner's messages; on a stream that has ended meanwhile they do nothing, `on_closed` is on its way

    def request(self, fields: Headers, ended: bool) -> int:
        """Open a stream; give its number, or 0 when the peer takes no more."""
        if self.is_over:
            return 0
        self._sends_count += 1
        try:
            return self._connection.send_request(fields, end_stream=ended)
        except ngh2.NGH2Error:
            return 0

    def respond(self, stream_id: int, fields: Headers, ended: bool) -> None:
        self._sends_count += 1
        try:
            self._connection.send_response(stream_id, fields, end_stream=ended)
        except ngh2.NGH2Error:
            pass

    def inform(self, stream_id: int, fields: Headers) -> None:
        with suppress(ngh2.NGH2Error):
            self._connection.send_informational_response(stream_id, fields)

    def send_body(self, stream_id: int, data: bytes, ended: bool) -> None:
        """Send a piece. It is kept for a moment: mostly the end follows, and both are one call (bench case `http2`)."""
        self._sends_count += 1
        if data or not ended or stream_id != self._kept_id:
            self._let_go()
        if ended:
            self._send(stream_id, data or self._kept, True)
            self._kept = b""
        else:
            self._kept_id, self._kept = stream_id, data

    def _let_go(self) -> None:
        """Send what is kept."""
        if self._kept:
            self._send(self._kept_id, self._kept, False)
            self._kept = b""

    def _send(self, stream_id: int, data: bytes, ended: bool) -> None:
        try:
            self._connection.send_data(stream_id, data, end_stream=ended)
        except ngh2.NGH2Error:
            pass

    def send_trailers(self, stream_id: int, fields: Headers) -> None:
        self._let_go()
        with suppress(ngh2.NGH2Error):
            self._connection.send_trailers(stream_id, fields)

    def reset(self, stream_id: int, code: int) -> None:
        """Break a stream off; what is queued on it is lost (see `is_drained`)."""
        self._let_go()
        self._reset_ids.add(stream_id)
        try:
            self._connection.reset_stream(stream_id, code)
        except ngh2.NGH2Error:
            self._reset_ids.discard(stream_id)

    def acknowledge(self, stream_id: int, size_bytes: int) -> None:
        """Open a stream's window again by bytes that were heard of it; also for a stream that has closed."""
        try:
            self._connection.acknowledge_received_data(size_bytes, stream_id)
        except ngh2.NGH2Error:
            pass

    def enlarge(self, stream_id: int, window_bytes: int) -> None:
        """Let the peer have so much of a stream on its way from now on."""
        with suppress(ngh2.NGH2Error):
            self._connection.set_local_window_size(window_bytes, stream_id=stream_id)

    def queued_bytes(self, stream_id: int) -> int:
        """Tell how much of a stream's body `take_output` has not given yet."""
        self._let_go()
        return self._connection.queued_body_size(stream_id)

    @property
    def held_bytes(self) -> int:
        """All that `take_output` has not given yet of bodies."""
        return self._connection.queued_body_size() + len(self._kept)

    def is_drained(self, stream_id: int) -> bool:
        """Tell whether all that was written on a stream has left."""
        return self.is_whole and self.queued_bytes(stream_id) == 0

    def ping(self) -> None:
        with suppress(ngh2.NGH2Error):
            self._connection.ping()

    def announce_end(self) -> None:
        """Ask for no more streams; those on their way are still served."""
        with suppress(ngh2.NGH2Error):
            self._connection.send_shutdown_notice()

    def end(self) -> None:
        """Serve the streams heard of so far, and no more."""
        with suppress(ngh2.NGH2Error):
            self._connection.send_goaway(NO_ERROR)


def _connect(settings: Settings) -> ngh2.Connection:
    hard_bytes = settings.head_list_bytes * _HARD_HEAD_RATIO
    config = ngh2.Configuration(
        auto_window_update=False,
        peer_max_concurrent_streams=_FIRST_STREAMS_COUNT,
        max_send_header_block_length=2 * hard_bytes,
        max_outbound_ack=_MAX_ACKS_COUNT,
        max_continuations=max(8, hard_bytes // 16384 + 2),
        stream_reset_rate_limit=(_UNLIMITED, _UNLIMITED),
        max_inbound_header_list_size=hard_bytes,
        max_inbound_header_count=settings.fields_count * _HARD_HEAD_RATIO,
    )
    values = {_INITIAL_WINDOW_SIZE: settings.window_bytes, _MAX_HEADER_LIST_SIZE: settings.head_list_bytes}
    if settings.is_server:
        values[_MAX_CONCURRENT_STREAMS] = settings.streams_count
        values[_ENABLE_CONNECT_PROTOCOL] = 1
    else:
        values[_ENABLE_PUSH] = 0
    connection = ngh2.Connection(ngh2.Role.SERVER if settings.is_server else ngh2.Role.CLIENT, config)
    connection.initiate_connection(values)
    connection.set_local_window_size(settings.connection_window_bytes)
    return connection
