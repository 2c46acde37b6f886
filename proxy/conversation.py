"""A client's HTTP/1 connection: its requests in order, one exchange at a time. Turn."""

from typing import TYPE_CHECKING, Final

from contract.headers import ERROR
from proxy.channel import PAUSED_BY_TURN, SocketChannel
from proxy.errors import REASONS, WireFault
from proxy.exchange import Exchange
from proxy.model import Direction, RequestHead
from proxy.parts import Limited, Parts
from proxy.seams import Timer
from proxy.targets import Target
from proxy.wire.http1 import RequestReader

if TYPE_CHECKING:
    from proxy.session import Session

LINGER_S: Final = 1.0
"""After a last answer to a client that may still be sending: how long its bytes are read and dropped, because closing
with unread bytes would reset the connection and destroy the answer on its way (RFC 9112 section 9.6)."""

_PHRASES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    508: "Loop Detected",
}


class Conversation:
    """Sink of the client's request reader; owns the client's channel until it becomes a tunnel."""

    __slots__ = (
        "_exchange",
        "_head_since_s",
        "_is_lingering",
        "_linger",
        "_reader",
        "channel",
        "direction",
        "has_ended",
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
        self._linger: Timer | None = None
        self._reader = RequestReader(self, self.parts.config.max_head_bytes)
        channel.on_data = self.on_data
        channel.on_eof = self.on_eof
        channel.on_lost = self.on_lost

    # from the channel

    def on_data(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
        except WireFault as fault:
            self._on_fault(fault)
            return
        if reader.rest:
            self.channel.pause(
                PAUSED_BY_TURN
            )  # a later request: it waits here and in the kernel until this one is answered

    def on_eof(self) -> None:
        exchange = self._exchange
        if exchange is None:
            if not self._reader.is_idle:
                self.parts.notice(self.direction, "client-closed", f"within a head, for {self.target}")
            self._close()
        elif self._reader.is_done:
            self.has_ended = True  # a half-closed client still gets its answer
        else:
            exchange.abort()
            self._exchange = None
            self.parts.notice(self.direction, "client-closed", f"within a request, for {self.target}")
            self._close()

    def on_lost(self, _errno: str) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            exchange.abort()
            self.parts.notice(self.direction, "client-closed", f"before its answer, for {self.target}")
        self._close()

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

    def on_exchange_done(self, keep_alive: bool) -> None:
        """Go on to the next request, or end the connection."""
        self._exchange = None
        if not keep_alive:
            self._finish()
        elif self._reader.is_done:
            self._proceed()

    def become(self, tunnel: Limited) -> None:
        """Leave HTTP: another owner takes the channel."""
        self._exchange = None
        self._reader.stop()
        self.session.become(tunnel)

    @property
    def early_bytes(self) -> bytes:
        """What the client has sent after its last request."""
        return self._reader.rest

    def answer(self, reason: str, detail: str, keep_alive: bool, is_head: bool = False) -> int:
        """Answer in the sidecar's own name; return the status."""
        status = REASONS[reason].status or 502
        config = self.parts.config
        body = (
            f"{self.direction} sidecar of pod {config.pod_name or '(unnamed)'}: {reason}: {REASONS[reason].meaning}"
            f" [{detail}]\n"
        ).encode()
        ending = b"\r\n" if keep_alive else b"Connection: close\r\n\r\n"
        head = (
            b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
            % (status, _PHRASES[status].encode(), len(body))
            + ERROR.encode()
            + b": "
            + reason.encode()
            + b"\r\n"
            + ending
        )
        self.channel.write(head if is_head else head + body)
        self.parts.notice(self.direction, reason, detail)
        return status

    def cut(self) -> None:
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
            has_response = exchange.has_response
            exchange.abort()
            if has_response:
                self.cut()
                return
        self.parts.meter.count("http1_faults_total", (("direction", self.direction), ("reason", fault.reason)))
        self.answer(fault.reason, fault.detail, keep_alive=False)
        self._finish()

    def _finish(self) -> None:
        """Close after what was written has left, reading and dropping what still comes."""
        self._reader.stop()
        channel = self.channel
        if self._is_lingering or not channel.is_open:
            return
        self._is_lingering = True
        channel.on_data = _drop
        channel.on_eof = self._on_last_eof
        channel.on_lost = self.on_lost
        channel.on_flushed = self._on_last_flush
        channel.resume(PAUSED_BY_TURN)
        channel.write_eof()

    def _on_last_eof(self) -> None:
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
        self.session.on_done()

    # limits

    def abort(self, reason: str) -> None:
        """End at once, with an answer where one is due."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            self._close()
            return
        has_response = exchange.has_response
        exchange.abort()
        if has_response:
            self.parts.notice(self.direction, reason, f"in the middle of a response, for {self.target}")
            self.cut()
        else:
            self.answer(reason, f"for {self.target}", keep_alive=False)
            self._finish()

    def check(self, now_s: float) -> None:
        """End what has lasted too long (called by the sweep, a few times a second)."""
        config = self.parts.config
        exchange = self._exchange
        if exchange is not None:
            waited_s = 0.0 if exchange.has_response else now_s - exchange.started_s
            if 0 < config.request_timeout_s < waited_s:
                exchange.expire("request-timeout")
            elif now_s - max(self.channel.active_s, exchange.server_active_s) > config.stream_idle_timeout_s:
                exchange.expire("idle-timeout")
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


def _drop(_data: bytes) -> None:
    """Bytes that nobody waits for."""
