"""One request and its response: the conductor. Turn.

An exchange decides once, by the pure functions of policy/, then moves bytes between its caller and the leg of an
attempt; it knows no protocol (see seams). Request bytes are held (up to `replay_bytes`) until the response begins, so
that a request that met a dying kept-alive connection, or an endpoint that was not there, can go elsewhere without the
client's noticing.

Sources: RFC 9110 sections 9.2.2 (idempotent methods), 15.2 (1xx), 9.3.6 (CONNECT), 7.8 (Upgrade); RFC 9112 section
9.3.1 (retrying on a closed connection); RFC 9113 section 8.7 (requests that are safe to retry).
"""

from collections.abc import Sequence
from typing import Final

from contract.metrics import INBOUND
from proxy.attempt import Attempt
from proxy.errors import REASONS, REPICK_REASONS
from proxy.meter import HttpSeries
from proxy.model import NO_BODY, Headers, RequestHead, ResponseHead
from proxy.policy import balance, classify, route
from proxy.pool import Endpoint
from proxy.seams import Caller, Leg
from proxy.wire.head import is_probe, without_error

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

_REPICK_ERRORS: Final = frozenset(reason.encode() for reason in REPICK_REASONS)

CANCEL: Final = 8
"""RFC 9113 section 7: the stream is no longer needed."""

INTERNAL_ERROR: Final = 2


class Exchange:
    """Made for one request; over when `finish`, `fail` or `abort` has run."""

    __slots__ = (
        "_attempt",
        "_has_retried",
        "_held",
        "_held_bytes",
        "_trailers",
        "caller",
        "endpoints",
        "head",
        "is_over",
        "is_request_done",
        "parts",
        "probes",
        "started_s",
        "status",
    )

    def __init__(self, caller: Caller, head: RequestHead) -> None:
        self.caller = caller
        self.head = head
        self.parts = parts = caller.parts
        self.started_s = parts.pump.now_s
        self.is_over = False
        self.is_request_done = head.framing == NO_BODY
        self.status = 0
        """Of the response that the client sees, once it has begun."""
        self.probes: HttpSeries | None = None
        """The series that counts in place of the endpoint's."""
        self.endpoints: Sequence[Endpoint] = ()
        self._attempt: Attempt | None = None
        self._held: list[bytes] | None = None
        self._held_bytes = 0
        self._trailers: Headers = ()
        self._has_retried = False

    # the request

    def on_request(self) -> None:  # stop 4
        """Conduct: route, pick, take, send."""
        head = self.head
        target = self.caller.target
        if target.probes is not None and is_probe(head.raw):
            self.probes = target.probes
        self.endpoints = endpoints = route.match(target.kind, target.known, target.direct)
        if not endpoints:
            self.fail("no-endpoints", f"service {target} has no ready endpoint")
            return
        if head.framing != NO_BODY:
            self._held = []
        self._try(self.pick())

    def pick(self) -> Endpoint:
        """Choose among the endpoints by what is known of them now."""
        return balance.pick(self.endpoints, self.parts.random, self.parts.pump.now_s)

    def _try(self, endpoint: Endpoint) -> None:
        self._attempt = attempt = Attempt(self, endpoint, 1)
        attempt.take()

    def send(self, attempt: Attempt, leg: Leg) -> None:
        """Write the head and what has arrived of the body."""
        held = self._held
        leg.begin(attempt, self.head, self.is_request_done and not held and not self._trailers)
        self.caller.couple(leg)
        if held:
            for data in held:
                leg.write_body(data)
            self.caller.release()
        if self.is_request_done and (held or self._trailers):
            leg.end_request(self._trailers)

    def send_body(self, data: bytes) -> None:
        held = self._held
        attempt = self._attempt
        leg = attempt.leg if attempt is not None else None
        if held is not None:
            held.append(data)
            self._held_bytes += len(data)
            if leg is None:
                if self._held_bytes > self.parts.config.buffer_low_bytes:
                    self.caller.hold()
                return
            if self._held_bytes > self.parts.config.replay_bytes:
                self._held = None
        if leg is not None:
            leg.write_body(data)

    def end_request(self, trailers: Headers = ()) -> None:
        if self.is_request_done:
            return
        self.is_request_done = True
        self._trailers = trailers
        attempt = self._attempt
        if attempt is not None and attempt.leg is not None:
            attempt.leg.end_request(trailers)

    # the response

    def on_response(self, attempt: Attempt, head: ResponseHead) -> None:
        """Pass the head on, unless another try is better."""
        status = head.status
        if status < 200 and status != 101:
            self.caller.pass_informational(head)
            return
        leg = attempt.leg
        if leg is None:
            return
        if head.error:
            if self.caller.direction == INBOUND:  # the application's word, not the mesh's
                head.raw = without_error(head.raw)
            elif status in (502, 504) and head.error in _REPICK_ERRORS and self._try_elsewhere(attempt, head.error):
                return
        self._held = None
        self.status = status
        if status == 101 or (not head.fields and status < 300 and self.head.method == b"CONNECT"):
            self._switch(attempt, leg, head)
        else:
            self.caller.begin_response(head, leg)

    def on_body(self, data: bytes) -> None:  # stop 8
        """Pass the buffer on as it came; the channels hold back whom they must."""
        self.caller.write_body(data)

    def finish(self, attempt: Attempt, trailers: Headers) -> None:  # stop 10
        """Record, give the connection back, let the client go on."""
        attempt.record()
        self._attempt = None
        self.is_over = True
        self.caller.uncouple()
        attempt.finish(self.is_request_done)
        self.caller.end_response(trailers)

    def _switch(self, attempt: Attempt, leg: Leg, head: ResponseHead) -> None:
        """Leave HTTP/1: the server has agreed to another protocol."""
        if head.status == 101 and not self.head.upgrade:
            self.fail("bad-response", "101 without a request to upgrade")
            return
        attempt.record()
        attempt.detach()
        self._attempt = None
        self.is_over = True
        self.caller.uncouple()
        self.caller.switch(head, leg)

    # what goes wrong

    def on_unreached(self, attempt: Attempt, reason: str) -> None:
        """No endpoint could be connected to."""
        self.fail(reason, f"{attempt.endpoint.address}, for {self.caller.target}")

    def on_server_lost(self, attempt: Attempt, reason: str, code: int) -> None:
        """The server's connection, or stream, has ended before the response did."""
        leg = attempt.leg
        word, _, detail = reason.partition(":")
        if self.status:
            self._cut(attempt, word, code)
        elif leg is not None and leg.is_unheard and self._is_replayable(word) and not self._has_retried:
            self._has_retried = True
            self.parts.meter.count("outbound_retry_total", (("reason", "keep-alive-race"),))
            leg.cancel(CANCEL)
            attempt.take_again()
        else:
            self.fail(word, detail or f"{attempt.endpoint.address}, for {self.caller.target}")

    def _is_replayable(self, word: str) -> bool:
        if word not in ("server-closed", "stream-refused") or (self.head.framing != NO_BODY and self._held is None):
            return False
        return word == "stream-refused" or self.head.method in _IDEMPOTENT

    def _try_elsewhere(self, attempt: Attempt, error: bytes) -> bool:
        """Another sidecar could not reach its application: no byte has reached a server, so pick again, once."""
        target = self.caller.target
        is_whole = self.head.framing == NO_BODY or self._held is not None
        failed = attempt.endpoint
        if self._has_retried or not is_whole or not failed.is_meshed or len(target.known) < 2:
            return False
        self._has_retried = True
        balance.bar(failed, self.parts.pump.now_s)
        endpoint = self.pick()
        if endpoint is failed:
            return False
        self.parts.meter.count("outbound_repick_total", (("reason", error.decode()),))
        attempt.abandon(CANCEL)
        attempt.endpoint = endpoint
        attempt.take()
        return True

    def _cut(self, attempt: Attempt, word: str, code: int) -> None:
        """The response broke off after it had begun: so must the client's connection, or it would take it as whole."""
        caller = self.caller
        attempt.record()
        caller.parts.notice(
            caller.direction, "response-cut", f"{word}: {attempt.endpoint.address}, for {caller.target}"
        )
        self._release(code)
        caller.cut(code)

    def fail(self, reason: str, detail: str) -> None:
        """Answer in the server's stead."""
        status = REASONS[reason].status or 502
        self.status = status
        self._count_failure(status)
        self._release(CANCEL)
        self.caller.answer(reason, detail, status)

    def _count_failure(self, status: int) -> None:
        attempt = self._attempt
        series = self.probes or (self.caller.target.http if attempt is None else attempt.endpoint.http)
        if attempt is None or not attempt.is_sent:
            series.requests += 1
        latency_s = self.parts.pump.now_s - self.started_s
        series.status(status, classify.response(status)).record(latency_s * 1e3)

    def expire(self, reason: str) -> None:
        """End for lack of time: answer if the response has not begun, else break off."""
        caller = self.caller
        if not self.status:
            self.fail(reason, f"for {caller.target}")
            return
        caller.parts.notice(caller.direction, reason, f"in the middle of a response, for {caller.target}")
        self.abort()
        caller.cut(CANCEL)

    def abort(self, code: int = CANCEL) -> None:
        """Stop, answering nothing: the client is gone, and has said so with this code."""
        if self.status and self._attempt is not None:
            self._attempt.record()
        self._release(code)

    def _release(self, code: int) -> None:
        self.is_over = True
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abandon(code)
        self.caller.uncouple()

    def check(self, now_s: float) -> None:
        """End what has lasted too long (called by the sweep, a few times a second)."""
        config = self.parts.config
        if not self.status and 0 < config.request_timeout_s < now_s - self.started_s:
            self.expire("request-timeout")
            return
        attempt = self._attempt
        leg = attempt.leg if attempt is not None else None
        active_s = max(self.caller.active_s, leg.active_s if leg is not None else self.started_s)
        if now_s - active_s > config.stream_idle_timeout_s:
            self.expire("idle-timeout")
