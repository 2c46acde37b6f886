"""One try of an exchange: an endpoint, then a leg to it. Turn.

Reaching an endpoint may take several dials (see connector); the request is counted where it was sent to. An attempt
hears its leg and tells the exchange, which knows whether this is the try that the client will see.
"""

from typing import TYPE_CHECKING, Final

from proxy.channel import SocketChannel
from proxy.connector import Connector, ConnectorUser
from proxy.meter import HttpSeries
from proxy.model import Headers, ResponseHead
from proxy.policy import balance, classify
from proxy.policy.fault import Injection
from proxy.pool import Endpoint
from proxy.seams import Leg, LegUser, Timer
from proxy.server import Server
from proxy.trunks import FinderUser, TrunkFinder, find
from proxy.wire import grpc
from proxy.wire.http1 import ResponseSink

if TYPE_CHECKING:
    from proxy.exchange import Exchange

_CANCELLED: Final = str(grpc.CANCELLED)


def count_failure(series: HttpSeries, status: int, grpc_status: str, latency_s: float) -> None:
    """Count, in place of a response, what the client is told; to gRPC that is a status of its own."""
    if grpc_status:
        series.status(200, False, grpc_status).record(latency_s * 1e3)
    else:
        series.status(status, classify.response(status)).record(latency_s * 1e3)


class Attempt(LegUser, ConnectorUser, FinderUser, ResponseSink):
    """Over when `finish` or `abandon` has run."""

    __slots__ = (
        "_connector",
        "_is_told",
        "endpoint",
        "ends_s",
        "exchange",
        "fault",
        "grpc_status",
        "is_hedge",
        "is_over",
        "is_sent",
        "latency_s",
        "leg",
        "number",
        "started_s",
        "status",
        "timer",
    )

    def __init__(self, exchange: "Exchange", endpoint: Endpoint, number: int, is_hedge: bool = False) -> None:
        self.exchange = exchange
        self.endpoint = endpoint
        self.number = number
        """1 for the first try."""
        self.is_hedge = is_hedge
        self.started_s = exchange.parts.pump.now_s
        self.leg: Leg | None = None
        self.ends_s = 0.0
        """When its response must have begun; 0.0: no limit of its own."""
        self.timer: Timer | None = None
        self.fault: Injection | None = None
        """What is done to it on purpose."""
        self.is_sent = False
        """Counted as a request of its endpoint."""
        self._is_told = False
        self.is_over = False
        self.status = 0
        self.grpc_status = -1
        self.latency_s = 0.0
        self._connector: Connector | TrunkFinder | None = None

    def take(self) -> None:  # stop 7
        """Send the request on an idle connection of the endpoint, or on a new one; HTTP/2 on a trunk."""
        parts = self.exchange.parts
        endpoint = self.endpoint
        endpoint.in_flight += 1
        head = self.exchange.head
        if head.fields:
            stream = find(endpoint, head)
            if stream is not None:
                self._send(stream)
                return
            self._connector = TrunkFinder(parts, self, head, len(self.exchange.endpoints))
            self._connector.dial(endpoint)
            return
        server = self.exchange.caller.own
        if server is None or not server.can_serve((endpoint,)):
            server = parts.pool.take(endpoint, parts.pump.now_s, self.exchange.is_resendable)
        if server is not None:
            self._send(server)
            return
        self._connector = Connector(parts, self, len(self.exchange.endpoints))
        self._connector.dial(endpoint)

    def take_again(self) -> None:
        """The connection had ended under the request, unheard: send it once more, to the same endpoint."""
        self.leg = None
        self.endpoint.in_flight -= 1
        self.take()

    def pick(self) -> Endpoint:
        return self.exchange.pick()

    def on_channel(self, endpoint: Endpoint, channel: SocketChannel) -> None:
        self._connector = None
        self.endpoint = endpoint
        self._send(Server(channel, endpoint, self.exchange.parts))

    def on_leg(self, endpoint: Endpoint, leg: Leg) -> None:
        self._connector = None
        self.endpoint = endpoint
        self._send(leg)

    def on_no_channel(self, endpoint: Endpoint, reason: str) -> None:
        self._connector = None
        self.endpoint = endpoint
        self.exchange.on_unreached(self, reason)

    def _send(self, leg: Leg) -> None:
        self.leg = leg
        self._count_request()
        self.exchange.send(self, leg)

    def _count_request(self) -> None:
        if not self.is_sent:
            self.is_sent = True
            (self.exchange.probes or self.endpoint.http).requests += 1

    def enter(self, status: int, grpc_status: int) -> None:
        """Take an answer for the server's."""
        self._count_request()
        self.status = status
        self.grpc_status = grpc_status
        self.latency_s = self.exchange.parts.pump.now_s - self.started_s

    # from the leg

    def on_response(self, head: ResponseHead) -> None:
        if head.status >= 200 or head.status == 101:
            self.status = head.status
            self.grpc_status = head.grpc_status
            self.latency_s = self.exchange.parts.pump.now_s - self.started_s
        self.exchange.on_response(self, head)

    def on_body(self, data: bytes) -> None:
        self.exchange.on_body(data)

    def on_end(self, trailers: Headers = ()) -> None:
        self.exchange.finish(self, trailers)

    def on_server_lost(self, reason: str, code: int = 0) -> None:
        self.exchange.on_server_lost(self, reason, code)

    def on_unsent(self) -> None:
        exchange = self.exchange
        if exchange.is_replayable:
            self.take_again()
        else:
            exchange.on_server_lost(self, "server-closed", 0)

    # the end

    def record(self, trailers: Headers, is_left: bool = False) -> None:
        """Enter the response into the balancer's average and the endpoint's series.

        `is_left`: its caller has left in the middle of it. What the server would have said at its end nobody knows, so
        of gRPC it counts as CANCELLED, and speaks neither for nor against the endpoint.
        """
        exchange = self.exchange
        endpoint = self.endpoint
        status = self.status
        now_s = exchange.parts.pump.now_s
        series = exchange.probes or endpoint.http
        if exchange.head.is_grpc:
            code = self.grpc_status if self.grpc_status >= 0 else grpc.status_of(trailers)
            if is_left and self.grpc_status < 0 and status < 300:
                series.status(status, True, _CANCELLED).record(self.latency_s * 1e3)
                return
            is_sound = classify.is_server_sound(status, classify.grpc_status(status, code))
            label = str(code) if code >= 0 else ""
            series.status(status, classify.grpc(status, label), label).record(self.latency_s * 1e3)
        else:
            is_sound = classify.response(status)
            series.status(status, is_sound).record(self.latency_s * 1e3)
        if is_sound:
            balance.observe(endpoint, self.latency_s, now_s)
        else:
            balance.observe_failure(endpoint, self.latency_s, now_s)
        self._tell(is_sound)

    def record_failure(self, reason: str, status: int, grpc_status: int = -1) -> None:
        """Enter that no response came; `status` is what the client was told, or would have been."""
        exchange = self.exchange
        self._count_request()
        series = exchange.probes or self.endpoint.http
        latency_s = exchange.parts.pump.now_s - self.started_s
        code = grpc_status if grpc_status >= 0 else grpc.status_for(reason, status)
        count_failure(series, status, str(code) if exchange.head.is_grpc else "", latency_s)
        balance.observe_failure(self.endpoint, latency_s, exchange.parts.pump.now_s)
        self._tell(False)

    def _tell(self, is_sound: bool) -> None:
        """Let the endpoint's health learn from this try, once."""
        if self.exchange.course is not None and not self._is_told:
            self._is_told = True
            self.exchange.course.observe(self, is_sound)

    def finish(self, is_request_done: bool) -> None:
        """The response is whole: give the connection back."""
        leg = self._end()
        if leg is not None:
            leg.finish(is_request_done, self.exchange.parts.pump.now_s)
        if self.exchange.course is not None:
            self.exchange.course.on_attempt_over()

    def detach(self) -> None:
        """Leave the leg to another owner, and the endpoint counted as in flight for that."""
        self.leg = None
        self.is_over = True

    def abandon(self, code: int, is_beaten: bool = False) -> None:
        """Stop; what was sent is cancelled. `is_beaten`: because another try was faster."""
        if self.is_over:
            return
        if self._connector is not None:
            self._connector.cancel()
            self._connector = None
        leg = self._end()
        if leg is not None:
            leg.cancel(code)
        course = self.exchange.course
        if course is not None:
            if not self._is_told:
                course.overlook(self, is_beaten)
            course.on_attempt_over()

    def _end(self) -> Leg | None:
        self.is_over = True
        self.endpoint.in_flight -= 1
        if self.timer is not None:
            self.timer.cancel()
        leg, self.leg = self.leg, None
        return leg
