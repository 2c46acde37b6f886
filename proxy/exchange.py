"""One request and its response: the conductor. Turn.

An exchange decides once, by the pure functions of policy/, then moves bytes. It is the sink of the server's response
reader; its client side is the conversation that made it. Request bytes are held (up to `replay_bytes`) until the
response begins, so that a request that met a dying kept-alive connection, or an endpoint that was not there, can go
elsewhere without the client's noticing.

Sources: RFC 9110 sections 9.2.2 (idempotent methods), 15.2 (1xx), 9.3.6 (CONNECT), 7.8 (Upgrade); RFC 9112 section
9.3.1 (retrying on a closed connection).
"""

from typing import TYPE_CHECKING, Final

from contract.metrics import INBOUND
from proxy.channel import PAUSED_BY_TURN, SocketChannel
from proxy.connector import Connector
from proxy.errors import REPICK_REASONS
from proxy.meter import HttpSeries
from proxy.model import CHUNKED, NO_BODY, UNTIL_CLOSE, RequestHead, ResponseHead
from proxy.policy import balance, classify, route
from proxy.pool import Endpoint
from proxy.server import Server
from proxy.tunnel import Tunnel
from proxy.wire.head import is_probe, without_chunking, without_error

if TYPE_CHECKING:
    from proxy.conversation import Conversation

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

_REPICK_ERRORS: Final = frozenset(reason.encode() for reason in REPICK_REASONS)

_END_CLOSE: Final = b"Connection: close\r\n\r\n"
_END_KEEP_10: Final = b"Connection: keep-alive\r\n\r\n"
_END: Final = b"\r\n"


class Exchange:
    """Made for one request; over when `finish`, `fail` or `abort` has run."""

    __slots__ = (
        "_connector",
        "_endpoint",
        "_has_retried",
        "_held",
        "_held_bytes",
        "_is_counted",
        "_is_request_done",
        "_keep_alive",
        "_latency_s",
        "_probes",
        "_server",
        "_server_keep_alive",
        "_status",
        "client",
        "head",
        "is_over",
        "started_s",
    )

    def __init__(self, client: "Conversation", head: RequestHead) -> None:
        self.client = client
        self.head = head
        self.started_s = client.parts.pump.now_s
        self.is_over = False
        self._server: Server | None = None
        self._connector: Connector | None = None
        self._endpoint: Endpoint | None = None
        # The series that counts in place of the endpoint's.
        self._probes: HttpSeries | None = None
        self._held: list[bytes] | None = None
        self._held_bytes = 0
        self._has_retried = False
        self._is_counted = False
        self._is_request_done = head.framing == NO_BODY
        self._keep_alive = False
        self._server_keep_alive = False
        self._latency_s = 0.0
        self._status = 0

    # the request

    def on_request(self) -> None:  # stop 4
        """Conduct: route, pick, take, send."""
        client = self.client
        target = client.target
        if target.probes is not None and is_probe(self.head.raw):
            self._probes = target.probes
        endpoints = route.match(target.kind, target.known, target.direct)
        if not endpoints:
            self.fail("no-endpoints", f"service {target} has no ready endpoint")
            return
        parts = client.parts
        endpoint = balance.pick(endpoints, parts.random, self.started_s)
        if self.head.framing != NO_BODY:
            self._held = []
        self.take(endpoint)

    def take(self, endpoint: Endpoint) -> None:  # stop 7
        """Send the request on an idle connection of the endpoint, or on a new one."""
        parts = self.client.parts
        self._endpoint = endpoint
        endpoint.in_flight += 1
        server = parts.pool.take(endpoint, self.started_s)
        if server is not None:
            self._send(server)
            return
        target = self.client.target
        self._connector = Connector(parts, self, route.match(target.kind, target.known, target.direct) or (endpoint,))
        self._connector.dial(endpoint)

    def on_channel(self, endpoint: Endpoint, channel: SocketChannel) -> None:
        self._connector = None
        self._endpoint = endpoint
        parts = self.client.parts
        self._send(Server(channel, endpoint, parts.pool, parts.config.max_head_bytes))

    def on_no_channel(self, endpoint: Endpoint, reason: str) -> None:
        self._connector = None
        self._endpoint = endpoint
        self.fail(reason, f"{endpoint.address}, for {self.client.target}")

    def _send(self, server: Server) -> None:
        """Write the head and what has arrived of the body."""
        self._server = server
        head = self.head
        if not self._is_counted:
            self._is_counted = True
            (self._probes or server.endpoint.http).requests += 1
        server.begin(self, head.method)
        channel = server.channel
        client_channel = self.client.channel
        client_channel.feed_from(channel)
        channel.feed_from(client_channel)
        channel.write(head.raw)
        if self._held:
            for data in self._held:
                channel.write(data)
            client_channel.resume(PAUSED_BY_TURN)

    def send_body(self, data: bytes) -> None:
        held = self._held
        if held is not None:
            held.append(data)
            self._held_bytes += len(data)
            if self._server is None:
                if self._held_bytes > self.client.parts.config.buffer_low_bytes:
                    self.client.channel.pause(PAUSED_BY_TURN)
                return
            if self._held_bytes > self.client.parts.config.replay_bytes:
                self._held = None
        if self._server is not None:
            self._server.channel.write(data)

    def end_request(self) -> None:
        self._is_request_done = True

    # the response

    def on_response(self, head: ResponseHead) -> None:
        status = head.status
        if status < 200 and status != 101:
            if self.head.minor == 1:
                self.client.channel.write(head.raw + _END)
            return
        client = self.client
        if head.error:
            if client.direction == INBOUND:  # the application's word, not the mesh's
                head.raw = without_error(head.raw)
            elif status in (502, 504) and head.error in _REPICK_ERRORS and self._try_elsewhere(head.error):
                return
        server = self._server
        self._held = None
        self._status = status
        self._server_keep_alive = head.keep_alive
        self._latency_s = client.parts.pump.now_s - self.started_s
        if status == 101 or (self.head.method == b"CONNECT" and status < 300):
            self._switch(head)
            return
        raw = head.raw
        keep_alive = (
            self.head.keep_alive and head.framing != UNTIL_CLOSE and self._is_request_done and not client.is_ending
        )
        if self.head.minor == 0 and head.framing == CHUNKED and server is not None:
            server.reader.decode_chunks()  # a client of HTTP/1.0 knows no chunks: its body ends with the connection
            raw = without_chunking(raw)
            keep_alive = False
        self._keep_alive = keep_alive
        if keep_alive:
            client.channel.write(raw + (_END if self.head.minor == 1 else _END_KEEP_10))
        else:
            client.channel.write(raw + _END_CLOSE)

    def on_body(self, data: bytes) -> None:  # stop 8
        """Pass the buffer on as it came; the channels hold back whom they must."""
        self.client.channel.write(data)

    def on_end(self) -> None:
        server = self._server
        if server is not None:
            self.finish(server)

    def finish(self, server: Server) -> None:  # stop 10
        """Record, give the connection back, let the conversation go on."""
        client = self.client
        now_s = client.parts.pump.now_s
        self._record()
        self._server = None
        self.is_over = True
        server.endpoint.in_flight -= 1
        client.channel.feed_from(None)
        server.end(self._is_request_done and self._server_keep_alive, now_s)
        client.on_exchange_done(self._keep_alive)

    def _record(self) -> None:
        endpoint = self._endpoint
        status = self._status
        if endpoint is not None:
            balance.observe(endpoint, self._latency_s, self.client.parts.pump.now_s)
            (self._probes or endpoint.http).status(status, classify.response(status)).record(self._latency_s * 1e3)

    # leaving HTTP

    def _switch(self, head: ResponseHead) -> None:
        """Turn into a tunnel: the server has agreed to another protocol."""
        server = self._server
        client = self.client
        if server is None or (head.status == 101 and not self.head.upgrade):
            self.on_server_lost("bad-response:101 without a request to upgrade")
            return
        client.channel.write(head.raw + _END)
        self._record()
        server.reader.stop()
        early = server.reader.rest
        self._server = None
        self.is_over = True
        client.channel.feed_from(None)
        server.channel.feed_from(None)
        early_client = client.early_bytes
        tunnel = Tunnel(client.session, client.channel, server.endpoint)
        client.become(tunnel)
        tunnel.join(server.channel, early_client, early)

    # what goes wrong

    def on_server_lost(self, reason: str) -> None:
        """The server's connection has ended before the response did."""
        server = self._server
        if server is None:
            return
        self._server = None
        server.channel.abort()
        word, _, detail = reason.partition(":")
        if self._status:
            self._cut(server, word)
            return
        nothing_came = server.reader.is_idle and word == "server-closed"
        if nothing_came and server.is_reused and self._is_replayable and not self._has_retried:
            self._has_retried = True
            server.endpoint.in_flight -= 1
            self.client.parts.meter.count("outbound_retry_total", (("reason", "keep-alive-race"),))
            self.take(server.endpoint)
            return
        self.fail(word, detail or f"{server.endpoint.address}, for {self.client.target}")

    @property
    def _is_replayable(self) -> bool:
        return self.head.method in _IDEMPOTENT and (self.head.framing == NO_BODY or self._held is not None)

    def _try_elsewhere(self, error: bytes) -> bool:
        """Another sidecar could not reach its application: no byte has reached a server, so pick again, once."""
        target = self.client.target
        server = self._server
        is_whole = self.head.framing == NO_BODY or self._held is not None
        if server is None or self._has_retried or not is_whole:
            return False
        if not server.endpoint.is_meshed or len(target.known) < 2:
            return False
        self._has_retried = True
        parts = self.client.parts
        now_s = parts.pump.now_s
        failed = server.endpoint
        balance.bar(failed, now_s)
        endpoint = balance.pick(target.known, parts.random, now_s)
        if endpoint is failed:
            return False
        parts.meter.count("outbound_repick_total", (("reason", error.decode()),))
        failed.in_flight -= 1
        self._server = None
        server.reader.stop()
        server.close()
        self.take(endpoint)
        return True

    def _cut(self, server: Server, word: str) -> None:
        """The response broke off after it had begun: so must the client's connection, or it would take it as whole."""
        client = self.client
        self._record()
        self.is_over = True
        server.endpoint.in_flight -= 1
        client.channel.feed_from(None)
        client.parts.notice(client.direction, "response-cut", f"{word}: {server.endpoint.address}, for {client.target}")
        client.cut()

    def fail(self, reason: str, detail: str) -> None:
        """Answer in the server's stead."""
        client = self.client
        self._keep_alive = self._is_request_done and self.head.keep_alive and not client.is_ending
        self._status = client.answer(reason, detail, self._keep_alive, self.head.method == b"HEAD")
        self._count_failure()
        self._release()
        client.on_exchange_done(self._keep_alive)

    def _count_failure(self) -> None:
        endpoint = self._endpoint
        series = self._probes or (self.client.target.http if endpoint is None else endpoint.http)
        if not self._is_counted:
            series.requests += 1
        latency_s = self.client.parts.pump.now_s - self.started_s
        series.status(self._status, classify.response(self._status)).record(latency_s * 1e3)

    def expire(self, reason: str) -> None:
        """End for lack of time: answer if the response has not begun, else break off."""
        if not self._status:
            self.fail(reason, f"for {self.client.target}")
            return
        client = self.client
        client.parts.notice(client.direction, reason, f"in the middle of a response, for {client.target}")
        self.abort()
        client.cut()

    def abort(self) -> None:
        """Stop, answering nothing: the client is gone."""
        if self._status:
            self._record()
        self._release()

    def _release(self) -> None:
        self.is_over = True
        if self._connector is not None:
            self._connector.cancel()
            self._connector = None
        server, self._server = self._server, None
        if self._endpoint is not None:
            self._endpoint.in_flight -= 1
        self.client.channel.feed_from(None)
        if server is not None:
            server.close()

    @property
    def has_response(self) -> bool:
        """Whether the response has begun."""
        return self._status != 0

    @property
    def server_active_s(self) -> float:
        return self._server.channel.active_s if self._server is not None else self.started_s
