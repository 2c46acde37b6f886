"""One request of a client's HTTP/2 connection: the caller of its exchange. Turn."""

from math import ceil
from typing import TYPE_CHECKING, Final

from contract.headers import ERROR
from proxy.errors import REASONS, explain
from proxy.exchange import Exchange
from proxy.link import Mover
from proxy.model import NO_BODY, Direction, Headers, PeerKind, RequestHead, ResponseHead
from proxy.parts import Parts
from proxy.seams import Caller, Leg
from proxy.targets import Target
from proxy.traffic import Place
from proxy.trunk_stream import TrunkStream
from proxy.wire import grpc
from proxy.wire.http2_head import size_of
from proxy.wire.streams import ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR

if TYPE_CHECKING:
    from proxy.multiplex import Multiplex
    from proxy.server import Server
    from proxy.session import Session

_ERROR: Final = ERROR.encode()

_STREAM_BYTES: Final = 2048
"""What a request takes beside its head and body: exchange, attempt, leg."""


class Stream(Caller, Mover):
    """Over when the response is whole, or the stream reset."""

    __slots__ = (
        "_active_s",
        "_is_ended",
        "_leg",
        "_multiplex",
        "direction",
        "exchange",
        "has_grown",
        "moved_bytes",
        "own",
        "parts",
        "reset_code",
        "session",
        "stream_id",
        "target",
        "unacked_bytes",
    )

    def __init__(self, multiplex: "Multiplex", stream_id: int) -> None:
        self.stream_id = stream_id
        self.session: Session = multiplex.session
        self.parts: Parts = multiplex.parts
        self.target: Target = multiplex.target
        self.direction: Direction = multiplex.direction
        self.own: Server | None = None
        self._active_s = self.parts.pump.now_s
        self.unacked_bytes = 0
        """Of the request's body: heard, and not moved on yet."""
        self.reset_code = 0
        """Of the server, when it has reset its stream."""
        self.exchange: Exchange | None = None
        self._multiplex = multiplex
        self._leg: TrunkStream | None = None
        self._is_ended = False
        self.moved_bytes = 0
        """Acknowledged, and perhaps not told to the client yet."""
        self.has_grown = False
        """The window of its request is as large as any can be."""

    def __repr__(self) -> str:
        return f"<Stream {self.stream_id} unacked={self.unacked_bytes} {'ended' if self._is_ended else 'open'}>"

    @property
    def peer_ip(self) -> str:
        return self.session.visitor.ip

    @property
    def peer(self) -> PeerKind:
        return self.session.visitor.kind

    @property
    def active_s(self) -> float:
        return self._active_s

    # the request

    def on_request(self, head: RequestHead) -> None:
        self.exchange = exchange = Exchange(self, head)
        exchange.on_request()

    def on_body(self, data: bytes, ended: bool) -> None:
        exchange = self.exchange
        self._active_s = self.parts.pump.now_s
        self.unacked_bytes += len(data)
        if exchange is None:
            self.acknowledge(0)  # nobody waits for it
            return
        if data:
            exchange.send_body(data)
        if ended:
            exchange.end_request(())

    def acknowledge(self, queued_bytes: int) -> None:
        """Of what was heard only these bytes are still on their way: let the client send more."""
        moved_bytes = self.unacked_bytes - queued_bytes
        if moved_bytes > 0:
            self.unacked_bytes = queued_bytes
            self._active_s = self.parts.pump.now_s
            self._multiplex.acknowledge(self, moved_bytes)

    def abort(self, code: int) -> None:
        """The client has no more use for the answer."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abort(code)
        self.acknowledge(0)

    # the caller of the exchange

    def couple(self, leg: Leg) -> None:
        if isinstance(leg, TrunkStream):
            self._leg = leg
            leg.caller = self

    def uncouple(self) -> None:
        leg, self._leg = self._leg, None
        if leg is not None and leg.caller is self:
            leg.caller = None

    def hold(self) -> None:
        """The window holds the client: nothing is acknowledged that has not moved on."""

    def release(self) -> None:
        """See `hold`."""

    def pass_informational(self, head: ResponseHead) -> None:
        self._multiplex.link.unsent_bytes += head.memory_bytes
        self._multiplex.http2.inform(self.stream_id, head.fields)
        self._multiplex.link.touch()

    def begin_response(self, head: ResponseHead, leg: Leg) -> None:
        ended = head.framing == NO_BODY
        self._is_ended = ended
        self._active_s = self.parts.pump.now_s
        self._multiplex.link.unsent_bytes += head.memory_bytes
        self._multiplex.http2.respond(self.stream_id, head.fields, ended)
        self._multiplex.link.touch()

    def write_body(self, data: bytes) -> None:
        multiplex = self._multiplex
        leg = self._leg
        self._active_s = self.parts.pump.now_s
        multiplex.http2.send_body(self.stream_id, data, False)
        if leg is not None and leg.unacked_bytes > multiplex.lazy_bytes:
            multiplex.link.watch(self)
        multiplex.link.touch()

    def end_response(self, trailers: Headers) -> None:
        """The response is whole; if the client is still sending its request, tell it that nobody reads on."""
        multiplex = self._multiplex
        exchange, self.exchange = self.exchange, None
        if not self._is_ended:
            self._is_ended = True
            if trailers:
                multiplex.link.unsent_bytes += size_of(trailers)
                multiplex.http2.send_trailers(self.stream_id, trailers)
            else:
                multiplex.http2.send_body(self.stream_id, b"", True)
            multiplex.link.touch()
        if exchange is not None and not exchange.is_request_done:
            multiplex.link.part(self.stream_id, NO_ERROR)
        self.acknowledge(0)

    def switch(self, head: ResponseHead, leg: Leg, place: Place | None) -> None:
        raise AssertionError("HTTP/2 leaves by extended CONNECT, within the stream")

    def answer(
        self, reason: str, detail: str, status: int = 0, grpc_status: int = -1, retry_after_s: float = 0.0
    ) -> None:
        """Answer in the sidecar's own name, which ends the exchange; to gRPC with a status of its own."""
        exchange = self.exchange
        head = exchange.head if exchange is not None else None
        self.parts.notice(self.direction, reason, detail)
        if reason == "stream-reset":
            self.cut(self.reset_code)  # the server's own word says more than an answer could
            return
        status = status or REASONS[reason].status or 502
        body = explain(self.direction, self.parts.config.pod_name, reason, detail)
        extra: Headers = ((_ERROR, reason.encode()),)
        if retry_after_s:
            extra = (*extra, (b"retry-after", b"%d" % ceil(retry_after_s)))
        if head is not None and head.is_grpc:
            if retry_after_s:
                extra = (*extra, (b"grpc-retry-pushback-ms", b"%d" % ceil(retry_after_s * 1e3)))
            code = grpc_status if grpc_status >= 0 else grpc.status_for(reason, status)
            self._respond((*grpc.failure(code, body.decode().strip()), *extra), b"")
        else:
            kind = (b"content-type", b"text/plain; charset=utf-8")
            fields = ((b":status", b"%d" % status), kind, (b"content-length", b"%d" % len(body)), *extra)
            self._respond(fields, b"" if head is not None and head.method == b"HEAD" else body)

    def _respond(self, fields: Headers, body: bytes) -> None:
        http2 = self._multiplex.http2
        self._is_ended = not body
        http2.respond(self.stream_id, fields, self._is_ended)
        if body:
            http2.send_body(self.stream_id, body, False)
        self._multiplex.link.touch()
        self.end_response(())

    def cut(self, code: int, trailers: Headers = ()) -> None:
        """Break the stream off, so that the client cannot take a part for the whole."""
        if trailers and not self._is_ended:
            self.end_response(trailers)
            return
        self.exchange = None
        self._is_ended = True
        self._multiplex.http2.reset(self.stream_id, code or INTERNAL_ERROR)
        self._multiplex.link.touch()
        self.acknowledge(0)

    @property
    def held_bytes(self) -> int:
        """What is held for it, the queue of its response aside."""
        exchange = self.exchange
        if exchange is None:
            return _STREAM_BYTES
        if exchange.is_request_done and not self.unacked_bytes:
            return _STREAM_BYTES + exchange.head.memory_bytes
        return _STREAM_BYTES + exchange.held_bytes

    def shed(self) -> None:
        """End, since what it holds takes too much memory."""
        exchange = self.exchange
        told = f"stream {self.stream_id}, for {self.target}"
        if exchange is not None and not exchange.status:
            exchange.fail("memory-shed", told)
            return
        self.parts.notice(self.direction, "memory-shed", told)
        if exchange is not None:
            exchange.abort()
        self.cut(ENHANCE_YOUR_CALM)

    # from the link

    def on_moved(self, queued_bytes: int) -> None:
        """The client has taken more of the response: let the server send more."""
        leg = self._leg
        self._active_s = self.parts.pump.now_s
        if leg is not None:
            leg.acknowledge(queued_bytes)
