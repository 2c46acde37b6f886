"""A client's HTTP/1 connection: its requests in order, one exchange at a time. Turn."""

from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Final

from contract.headers import ERROR
from proxy.channel import PAUSED_BY_TURN, SocketChannel
from proxy.ending import Ending
from proxy.errors import REASONS, WireFault, explain
from proxy.exchange import Exchange
from proxy.model import UNTIL_CLOSE, Direction, Headers, PeerKind, RequestHead, ResponseHead
from proxy.parts import Limited, Parts
from proxy.seams import Caller, ChannelUser, Leg, Timer
from proxy.server import Keeper, Server
from proxy.targets import Target
from proxy.traffic import Place
from proxy.tunnel import Tunnel
from proxy.wire.http1 import RequestReader, RequestSink
from proxy.wire.streams import CANCEL, NO_ERROR

if TYPE_CHECKING:
    from proxy.session import Session

LINGER_S: Final = 1.0
"""After a last answer to a client that may still be sending: how long its bytes are read and dropped, because closing
with unread bytes would reset the connection and destroy the answer on its way (RFC 9112 section 9.6)."""

_END_CLOSE: Final = b"Connection: close\r\n\r\n"
_END_KEEP_10: Final = b"Connection: keep-alive\r\n\r\n"
_END: Final = b"\r\n"


class Conversation(Caller, Keeper, RequestSink, ChannelUser, Limited):
    """Sink of the client's request reader, caller of its exchanges; owns the channel until a tunnel takes it."""

    __slots__ = (
        "_exchange",
        "_head_since_s",
        "_is_lingering",
        "_keep_alive",
        "_linger",
        "_reader",
        "channel",
        "direction",
        "has_ended",
        "own",
        "parts",
        "session",
        "target",
    )

    def __init__(self, session: "Session", channel: SocketChannel, target: Target) -> None:
        self.session = session
        self.parts: Parts = session.parts
        self.channel = channel
        self.target = target
        self.direction: Direction = target.direction
        self.has_ended = False
        """The client has ended its direction."""
        self._exchange: Exchange | None = None
        self._head_since_s = 0.0
        self._is_lingering = False
        self._keep_alive = False
        """Whether the connection lives on after the answer that has begun."""
        self._linger: Timer | None = None
        self.own: Server | None = None
        self._reader = RequestReader(self, self.parts.config.max_head_bytes, self.parts.config.max_fields_count)
        channel.user = self

    # from the channel

    def on_data(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
        except WireFault as fault:
            self._on_fault(fault)
            return
        if reader.rest:  # a later request: it waits here and in the kernel until this one is answered
            self.channel.pause(PAUSED_BY_TURN)
        elif not reader.is_done and not reader.is_idle:
            self.channel.ack(len(data))

    def on_eof(self) -> None:
        exchange = self._exchange
        if exchange is None:
            if not self._reader.is_idle:
                self.parts.notice(self.direction, "client-closed", f"within a head, for {self.target}")
            self._close()
        elif not self._reader.is_done:
            self._on_client_gone(exchange, NO_ERROR, "within a request")
        elif self.parts.config.on_client_end == "cancel":
            self._on_client_gone(exchange, CANCEL, "before its answer")
        else:
            self.has_ended = True  # a half-closed client still gets its answer

    def on_lost(self, errno: str) -> None:
        if self._exchange is None:
            self._close()
        else:
            self._on_client_gone(self._exchange, CANCEL, "before its answer")

    def _on_client_gone(self, exchange: Exchange, code: int, when: str) -> None:
        """Nobody waits for the answer any more: neither must the server work on it (`code`: see Server.cancel)."""
        self._exchange = None
        exchange.abort(code)
        self.parts.notice(self.direction, "client-closed", f"{when}, for {self.target}")
        self._close()

    def refuse(self, fault: WireFault) -> None:
        """Answer bytes that are no request where only requests may come, and end."""
        self._on_fault(fault)

    # from the reader

    def on_request(self, head: RequestHead) -> None:
        self._exchange = exchange = Exchange(self, head)
        exchange.on_request()

    def on_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.send_body(data)

    def on_end(self) -> None:
        exchange = self._exchange
        if exchange is None:
            self._proceed()
        else:
            exchange.end_request()

    # from the exchange

    @property
    def is_ending(self) -> bool:
        """Whether the next answer is the last on this connection."""
        return self.has_ended or self.parts.is_draining

    @property
    def peer_ip(self) -> str:
        return self.session.visitor.ip

    @property
    def peer(self) -> PeerKind:
        return self.session.visitor.kind

    @property
    def active_s(self) -> float:
        return self.channel.active_s

    def couple(self, leg: Leg) -> None:
        if isinstance(leg, Server):
            self.channel.feed_from(leg.channel)
            leg.channel.feed_from(self.channel)
            leg.keeper = self

    def uncouple(self) -> None:
        self.channel.feed_from(None)

    def keep(self, server: Server) -> None:
        own, self.own = self.own, server
        if own is not None and own is not server:
            own.close()

    def hold(self) -> None:
        self.channel.pause(PAUSED_BY_TURN)

    def release(self) -> None:
        self.channel.resume(PAUSED_BY_TURN)

    def pass_informational(self, head: ResponseHead) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.head.minor == 1:
            self.channel.write(head.raw)

    def begin_response(self, head: ResponseHead, leg: Leg) -> None:
        """Write the head; what it says of the connection concerns this one alone."""
        exchange = self._exchange
        if exchange is None:
            return
        request = exchange.head
        raw = head.raw
        keep_alive = (
            request.keep_alive and head.framing != UNTIL_CLOSE and exchange.is_request_done and not self.is_ending
        )
        self._keep_alive = keep_alive
        if keep_alive:
            # Where either speaks HTTP/1.0 a connection that lives on must be said to (RFC 9112 section 9.3).
            self.channel.write(raw if request.minor == 1 and head.minor == 1 else raw[:-2] + _END_KEEP_10)
        else:
            self.channel.write(raw[:-2] + _END_CLOSE)

    def write_body(self, data: bytes) -> None:
        self.channel.write(data)

    def end_response(self, trailers: Headers) -> None:
        """Go on to the next request, or end the connection."""
        self._exchange = None
        if not self._keep_alive:
            self._finish()
        elif self._reader.is_done:
            self._proceed()

    def switch(self, head: ResponseHead, leg: Leg, place: Place | None) -> None:
        """Leave HTTP: a tunnel takes both channels."""
        if not isinstance(leg, Server):
            raise AssertionError("HTTP/1 switches on connections of its own")
        self._exchange = None
        self.channel.write(head.raw)
        leg.reader.release()
        leg.channel.feed_from(None)
        self._leave_own(leg)
        early = self._reader.rest
        tunnel = Tunnel(self.session, self.channel, leg.endpoint, place)
        self._reader.release()
        self.session.become(tunnel)
        tunnel.join(leg.channel, early, leg.reader.rest)

    def answer(
        self, reason: str, detail: str, status: int = 0, grpc_status: int = -1, retry_after_s: float = 0.0
    ) -> None:
        """Answer in the sidecar's own name."""
        exchange = self._exchange
        keep_alive = (
            exchange is not None and exchange.is_request_done and exchange.head.keep_alive and not self.is_ending
        )
        self._keep_alive = keep_alive
        status = status or REASONS[reason].status or 502
        body = explain(self.direction, self.parts.config.pod_name, reason, detail)
        head = b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%s: %s\r\n" % (
            status,
            _phrase(status),
            len(body),
            ERROR.encode(),
            reason.encode(),
        )
        if retry_after_s:
            head += b"Retry-After: %d\r\n" % ceil(retry_after_s)
        is_head = exchange is not None and exchange.head.method == b"HEAD"
        self.channel.write(head + (_END if keep_alive else _END_CLOSE) + (b"" if is_head else body))
        self.parts.notice(self.direction, reason, detail)
        self.end_response(())

    def cut(self, code: int, trailers: Headers = ()) -> None:
        """Break the connection off, so that the client cannot take a part for the whole."""
        self._exchange = None
        self.channel.abort()
        self._leave()

    # going on, and the end

    def _proceed(self) -> None:
        reader = self._reader
        if self.has_ended and not reader.rest:
            self._finish()
        elif reader.rest:
            self.parts.pump.defer(self._next)
        else:
            reader.next_message()
            self._head_since_s = 0.0

    def _next(self) -> None:
        if not self.channel.is_open:
            return
        try:
            self._reader.next_message()
        except WireFault as fault:
            self._on_fault(fault)
            return
        if not self._reader.rest:
            self.channel.resume(PAUSED_BY_TURN)

    def _on_fault(self, fault: WireFault) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            has_response = exchange.status != 0
            exchange.abort()
            if has_response:
                self.cut(CANCEL)
                return
        self.parts.meter.count("http1_faults_total", (("direction", self.direction), ("reason", fault.reason)))
        self.answer(fault.reason, fault.detail)

    def _finish(self) -> None:
        """Close after what was written has left, reading and dropping what still comes."""
        self._reader.stop()
        channel = self.channel
        if self._is_lingering or not channel.is_open:
            return
        self._is_lingering = True
        channel.user = Ending(self)
        channel.on_flushed = self._on_last_flush
        channel.resume(PAUSED_BY_TURN)
        channel.write_eof()

    def on_last_eof(self) -> None:
        """The client has ended too (from `Ending`)."""
        if not self.channel.queued_bytes:
            self._close()

    def _on_last_flush(self) -> None:
        if self.channel.has_read_eof:
            self._close()
        else:
            self._linger = self.parts.pump.call_at(self.parts.pump.now_s + LINGER_S, self._close)

    def _close(self) -> None:
        self.channel.close()
        self._leave()

    def _leave(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._reader.release()
        self._leave_own(None)
        self.session.on_done()

    def _leave_own(self, leg: Server | None) -> None:
        """Close the connection that knows this client, unless a tunnel goes on with it."""
        own, self.own = self.own, None
        if own is not None and own is not leg:
            own.close()

    # limits

    @property
    def is_idle(self) -> bool:
        return self._exchange is None

    def abort(self, reason: str) -> None:
        """End at once, with an answer where one is due."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            if not self._reader.is_idle:
                self.parts.notice(self.direction, reason, f"within a head, for {self.target}")
            self._close()
            return
        has_response = exchange.status != 0
        exchange.abort()
        if has_response:
            self.parts.notice(self.direction, reason, f"in the middle of a response, for {self.target}")
            self.cut(CANCEL)
        else:
            self.answer(reason, f"for {self.target}")

    @property
    def source(self) -> str:
        return self.session.source

    @property
    def held_bytes(self) -> int:
        held_bytes = self.channel.queued_bytes + self._reader.held_bytes
        return held_bytes if self._exchange is None else held_bytes + self._exchange.held_bytes

    def check(self, now_s: float) -> None:
        """End what has lasted too long (called by the sweep, a few times a second)."""
        config = self.parts.config
        exchange = self._exchange
        if exchange is not None:
            exchange.check(now_s)
        elif self._is_lingering:
            if now_s - self.channel.active_s > config.stream_idle_timeout_s:
                self._close()
        elif not self._reader.is_idle:
            self._head_since_s = self._head_since_s or now_s
            if now_s - self._head_since_s > config.head_timeout_s:
                self._on_fault(WireFault("head-timeout", f"{config.head_timeout_s:g} s"))
        else:
            self._head_since_s = 0.0
            limit_s = config.drain_idle_s if self.parts.is_draining else config.client_idle_timeout_s
            if now_s - self.channel.active_s > limit_s:
                self._close()


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unassigned"
