"""One client connection: from accept to the first bytes, then a conversation or a tunnel. Turn.

Theory of operation. The first bytes from either side decide. A client that speaks is judged by wire.detect; while it
is silent its server is dialled, and if that speaks first (SMTP, MySQL) the connection is an opaque tunnel at once,
with no stall and no timeout. If the client then speaks HTTP after all, the new server connection goes into the pool.

Where HTTP is declared, or limited by a policy, what is not HTTP is refused. Inbound that is known a moment after the
first connection to a port: requests do not wait for it, bytes that would pass unread do.
"""

from collections.abc import Callable, Sequence
from typing import Final

from contract.metrics import INBOUND
from proxy.channel import PAUSED_BY_TURN, SocketChannel
from proxy.connector import Connector
from proxy.conversation import Conversation
from proxy.early import EarlyServer, keep
from proxy.errors import WireFault
from proxy.multiplex import Multiplex
from proxy.naming import name_tls
from proxy.parts import Limited, Parts
from proxy.peers import Visitor
from proxy.policy import balance, route
from proxy.pool import Endpoint
from proxy.seams import ChannelUser, Timer
from proxy.targets import Target, Targets
from proxy.tunnel import Tunnel
from proxy.wire import detect, hello

MAX_FIRST_BYTES: Final = 65536
"""Bytes gathered while the destination is not known yet; then the client waits in the kernel."""

FAULT_BYTES: Final = 40
"""Of bytes that are refused, so many are shown."""


class Session(Limited, ChannelUser):
    """Owns a client's channel until a conversation or a tunnel takes it, and its place in the list of sessions."""

    __slots__ = (
        "_channel",
        "_connect_s",
        "_connector",
        "_dialled_s",
        "_endpoint",
        "_endpoints",
        "_fault",
        "_first",
        "_is_held",
        "_is_judging",
        "_is_named",
        "_is_opaque",
        "_is_over",
        "_owner",
        "_server",
        "_targets",
        "_timer",
        "parts",
        "target",
        "visitor",
    )

    def __init__(self, parts: Parts, channel: SocketChannel, target: Target, targets: Targets) -> None:
        self.parts = parts
        self.target = target
        self._targets = targets
        self._channel = channel
        self._first = b""
        self._is_opaque = False
        """Decided: the bytes are not ours to read."""
        self._is_judging = False
        """First bytes are there that tell nothing yet; the timer runs from the first of them."""
        self._is_held = False
        """The bytes are no HTTP, and discovery must say whether they may pass."""
        self._connector: Connector | None = None
        self._endpoints: Sequence[Endpoint] = ()
        self._endpoint: Endpoint | None = None
        """Counted as in flight for this session."""
        self._server: SocketChannel | None = None
        self._dialled_s = self._connect_s = 0.0
        self._fault = ""
        """Why there is no server, while it is not yet known how to tell the client."""
        self._timer: Timer | None = None
        self._is_over = False
        self._owner: Limited | None = self
        self.visitor = Visitor(parts.peers, channel.sock, target.direction, parts.pump)
        self._is_named = False
        """Counted as opened, in the series that it belongs to."""
        channel.series.opened -= 1
        channel.user = self
        parts.sessions[self] = None

    def begin(self) -> None:
        """Go on as soon as it is known what stands behind the destination."""
        target = self.target
        if self._is_over:
            return
        if not target.is_settled:
            target.waiters.append(self.begin)
        elif self._standing() == "opaque":
            self._relay("opaque")
        elif self._channel.has_read_eof:
            self.on_eof()
        elif self._first:
            self._detect()
        else:
            self._wait(self.parts.config.detect_dial_delay_s, self._on_silence)

    def _standing(self) -> route.Standing:
        is_listed = self.target.address.port in self.parts.config.opaque_ports
        return route.standing(self.target.direction == INBOUND, self.target.protocol, is_listed, self.target.is_limited)

    def _on_silence(self) -> None:
        """The client waits for a word: dial the server, where that may speak first."""
        self._timer = None
        if self._is_over or self._owner is not self or self._first:
            return
        if not self.target.is_told:
            self.target.waiters.append(self._on_silence)
        elif self._standing() != "http":
            self._dial()

    # the client speaks

    def on_data(self, data: bytes) -> None:  # stop 2
        """Gather the first bytes and judge them."""
        self._first = self._first + data if self._first else data
        if self._is_opaque or self._is_held or not self.target.is_settled:
            if len(self._first) >= MAX_FIRST_BYTES:
                self._channel.pause(PAUSED_BY_TURN)
        else:
            self._detect()

    def on_eof(self) -> None:
        if not self.target.is_settled or self._is_opaque or self._is_held:
            return  # begin, or the tunnel, sees it
        self._lean()

    def _detect(self) -> None:
        verdict = detect.protocol(self._first)
        if verdict == "http/1":
            self._converse()
        elif verdict == "http/2":
            self._multiplex()
        elif verdict != "more":
            self._pass_unread(verdict)
        elif not self._is_judging:
            self._is_judging = True
            self._wait(self.parts.config.detect_timeout_s, self._on_detect_timeout)

    def _on_detect_timeout(self) -> None:
        self.parts.meter.count("detect_timeouts_total", (("direction", self.target.direction),))
        self._lean()

    def _lean(self) -> None:
        """Decide by what there is: more will not come, or not soon."""
        if self._first and (self._standing() == "http" or detect.leaning(self._first) == "http/1"):
            self._converse()
        else:
            self._pass_unread("opaque")

    def _pass_unread(self, protocol: str) -> None:
        """Relay bytes that are no HTTP, where they may pass."""
        self._stop_waiting()
        if not self.target.is_told:
            self._is_held = True
            self.target.waiters.append(self._on_told)
        elif self._standing() == "http" and self._first:
            self._count(protocol)
            found = "a TLS hello" if protocol == "tls" else repr(self._first[:FAULT_BYTES])[1:]
            self._hand_over().refuse(WireFault("not-http", f"{found}, to {self.target}"))
        else:
            self._relay(protocol)

    def _on_told(self) -> None:
        if self._is_held and not self._is_over:
            self._is_held = False
            self._pass_unread("tls" if detect.protocol(self._first) == "tls" else "opaque")

    def _converse(self) -> None:
        """The client speaks HTTP/1."""
        self._count("http/1")
        conversation = self._hand_over()
        conversation.on_data(self._first)
        self._first = b""
        if self._channel.has_read_eof and self._channel.is_open:
            conversation.on_eof()

    def _hand_over(self) -> Conversation:
        """Give the client's channel to a conversation."""
        self._stop_waiting()
        self._keep_server()
        conversation = Conversation(self, self._channel, self.target)
        self.become(conversation)
        return conversation

    def _multiplex(self) -> None:
        """The client speaks HTTP/2."""
        self._stop_waiting()
        self._count("http/2")
        self._keep_server(is_http2=True)
        multiplex = Multiplex(self, self._channel, self.target)
        self.become(multiplex)
        multiplex.on_data(self._first)
        self._first = b""
        if self._channel.has_read_eof and self._channel.is_open:
            multiplex.on_eof()

    def _keep_server(self, is_http2: bool = False) -> None:
        """Keep a connection dialled in vain for requests."""
        server, endpoint = self._server, self._endpoint
        if server is not None and endpoint is not None and keep(self.parts, server, endpoint, is_http2):
            self._server = None
        self._leave_server()

    # the server speaks first, or the bytes are opaque

    def _dial(self) -> None:
        target = self.target
        self._endpoints = endpoints = route.match(target.kind, target.known, target.direct)
        if not endpoints:
            self._on_fault("no-endpoints")
            return
        self._endpoint = endpoint = self.pick()
        endpoint.in_flight += 1
        self._connector = Connector(self.parts, self, len(endpoints))
        self._connector.dial(endpoint)

    def pick(self) -> Endpoint:
        self._dialled_s = self.parts.pump.now_s
        return balance.pick(self._endpoints, self.parts.random, self.parts.pump.now_s)

    def on_channel(self, endpoint: Endpoint, channel: SocketChannel) -> None:
        self._connector = None
        self._endpoint = endpoint
        self._server = channel
        self._connect_s = self.parts.pump.now_s - self._dialled_s
        if self._is_opaque:
            self._join(b"")
        else:
            channel.user = EarlyServer(self)

    def on_no_channel(self, endpoint: Endpoint, reason: str) -> None:
        self._connector = None
        self._endpoint = endpoint
        self._on_fault(reason)

    def on_server_data(self, data: bytes) -> None:
        """The server speaks before the client is known (from `EarlyServer`); nothing: it has ended."""
        if detect.serves_http2(data):
            self._leave_server()  # it says so to every client, before it has heard one: the client's word decides
            return
        self._stop_waiting()
        self._count("opaque")
        self._is_opaque = True
        self._join(data)

    def on_server_lost(self) -> None:
        self._server = None
        self._on_fault("server-closed")

    def _relay(self, protocol: str) -> None:
        """The bytes are opaque: bring them to the server as they are."""
        self._stop_waiting()
        self._count(protocol)
        self._is_opaque = True
        if self._server is not None:
            self._join(b"")
        elif self._fault:
            self._refuse()
        elif self._connector is None:
            self._dial()

    def _join(self, from_server: bytes) -> None:
        server, endpoint = self._server, self._endpoint
        if server is None or endpoint is None:
            raise AssertionError("a tunnel needs a server")
        self._server = self._endpoint = None
        balance.observe(endpoint, self._connect_s, self.parts.pump.now_s)  # all that tells of an opaque server's load
        tunnel = Tunnel(self, self._channel, endpoint)
        self.become(tunnel)
        tunnel.join(server, self._first, from_server)
        self._first = b""

    def _on_fault(self, reason: str) -> None:
        self._fault = reason
        self._leave_server()
        if self._is_opaque:
            self._refuse()
        elif not self._is_judging:
            # A client that is about to speak HTTP gets a proper answer; a silent one is reset after a while.
            self._wait(self.parts.config.detect_timeout_s, self._refuse)

    def _refuse(self) -> None:
        """Reset the client, as it would have been without a sidecar."""
        self.parts.notice(self.target.direction, self._fault, f"for {self.target}", "tcp")
        self._channel.abort()
        self.on_done()

    # the list of sessions

    def become(self, owner: Limited) -> None:
        """Hand the channel over."""
        sessions = self.parts.sessions
        if self._owner is not None:
            sessions.pop(self._owner, None)
        self._owner = owner
        sessions[owner] = None

    def on_done(self) -> None:
        """The client's connection is over."""
        if self._is_over:
            return
        self._is_over = True
        self._stop_waiting()
        self._leave_server()
        self._name(None)
        if self._owner is not None:
            self.parts.sessions.pop(self._owner, None)
            self._owner = None
        self._targets.give(self.target)
        self.parts.seats_of(self.target.direction).give(self)

    def on_lost(self, errno: str) -> None:
        """The client was reset: so is the server that was dialled for it."""
        if self._server is not None:
            self._server.abort()
        self.on_done()

    def _leave_server(self) -> None:
        if self._connector is not None:
            self._connector.cancel()
            self._connector = None
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._endpoint is not None:
            self._endpoint.in_flight -= 1
            self._endpoint = None

    # limits

    @property
    def is_idle(self) -> bool:
        return not self._is_opaque

    @property
    def may_yield(self) -> bool:
        """Whether its owner's end would cost the client nothing but another connection."""
        return self._owner is None or self._owner.is_idle

    def give_way(self) -> None:
        """End for a newcomer's sake: all connections are taken."""
        self.parts.seats_of(self.target.direction).give(self)
        if self._owner is not None:
            self._owner.abort("crowded-out")

    def _wait(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._stop_waiting()
        self._timer = self.parts.pump.call_at(self.parts.pump.now_s + delay_s, callback)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self, protocol: str) -> None:
        labels = (("direction", self.target.direction), ("protocol", protocol))
        self.parts.meter.count("tcp_protocol_connections_total", labels)
        self._name(hello.parse(self._first) if protocol == "tls" else None)

    def _name(self, told: hello.Hello | None) -> None:
        """Count the client's connection as opened, now that it is known in which series."""
        if not self._is_named:
            self._is_named = True
            self._channel.series.opened += 1
            if told is not None:
                name_tls(self.parts.meter, self._channel, told.sni)

    @property
    def source(self) -> str:
        return f"{self.target.direction} {self.visitor.ip}"

    @property
    def held_bytes(self) -> int:
        return len(self._first) + self._channel.queued_bytes

    def check(self, now_s: float) -> None:
        """End a connection on which neither side has said a word; every other wait has its own timer."""
        config = self.parts.config
        limit_s = config.drain_idle_s if self.parts.is_draining else config.client_idle_timeout_s
        is_waiting = self._timer is None and self._connector is None and self.target.is_settled
        if is_waiting and now_s - self._channel.active_s > limit_s:
            self._channel.close()
            self.on_done()

    def abort(self, reason: str) -> None:
        self._fault = reason
        self._refuse()
