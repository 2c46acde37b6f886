"""Accepts captured connections and finds out where they were going. Turn.

The two directions have places of their own. When those of the application's own connections are taken, more wait in
the backlog. Inbound they come from strangers, and what waits behind a stranger waits for ever: so each is accepted, and
one gives way to it, or it is reset (contract.seats).

Sources: netfilter's SO_ORIGINAL_DST (linux/netfilter_ipv4.h: option 80 at SOL_IP) and IP6T_SO_ORIGINAL_DST
(linux/netfilter_ipv6/ip6_tables.h: option 80 at SOL_IPV6); tcp(7): options that an accepted socket inherits.
"""

import errno
import socket
import struct
from collections.abc import Callable
from typing import Final

from contract.metrics import INBOUND
from contract.seats import Seats
from proxy.config import Config
from proxy.model import Address, plain_ip
from proxy.parts import Parts
from proxy.pump import READ, Handler
from proxy.session import Session
from proxy.targets import Targets

SO_ORIGINAL_DST: Final = 80

MAX_ACCEPTS_COUNT: Final = 64
"""Accepts in one event; the rest waits for the next turn."""

ACCEPT_REST_S: Final = 0.1
"""Rest after accept ran out of descriptors or memory."""

_RESET: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""struct linger {1, 0}: close with RST."""

OriginalDestination = Callable[[socket.socket], Address | None]
"""Where an accepted connection was going before it was redirected; None when it was not redirected."""


def kernel_original_destination(sock: socket.socket) -> Address | None:
    """Ask connection tracking. A connection made directly to the listener has no entry, or names the listener."""
    own = sock.getsockname()
    own_address = Address(plain_ip(own[0]), own[1])
    try:
        if ":" in own_address.ip:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
            found = Address(socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack_from("!H", raw, 2)[0])
        else:
            raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
            found = Address(socket.inet_ntoa(raw[4:8]), struct.unpack_from("!H", raw, 2)[0])
    except OSError:
        return None
    return None if found == own_address else found


def prepare(sock: socket.socket, config: Config) -> None:
    """Set up a listener, and so all that it accepts: they inherit the options at no cost."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    watch(sock, config)


def watch(sock: socket.socket, config: Config) -> None:
    """Let the kernel find out when the peer is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(config.keepalive_s))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, int(config.keepalive_s))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(config.user_timeout_s * 1000))


def _may_yield(session: Session) -> bool:
    return session.may_yield


class Listener(Handler):
    """Owns one listening socket."""

    def __init__(
        self, parts: Parts, sock: socket.socket, targets: Targets, original_destination: OriginalDestination
    ) -> None:
        prepare(sock, parts.config)
        self.sock: Final = sock
        self._parts = parts
        self._targets = targets
        self._original_destination = original_destination
        self._is_resting = False
        self._is_inbound: bool = targets.direction == INBOUND
        self._seats: Seats[Session] = parts.seats_of(targets.direction)
        self._own_port: int = sock.getsockname()[1]
        parts.pump.register(sock.fileno(), READ, self)

    def on_ready(self, events: int = 0) -> None:  # stop 1
        """Accept what waits, find its original destination, make a session of it."""
        for _ in range(MAX_ACCEPTS_COUNT):
            if self._seats.is_full and not self._is_inbound:
                self._parts.meter.count("accept_pauses_total", (("reason", "sessions"),))
                self._rest()
                return
            try:
                sock, peer = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._parts.meter.count("accept_pauses_total", (("reason", errno.errorcode[error.errno]),))
                    self._parts.pool.shed()
                    self._rest()
                    return
                continue  # this one connection is gone again
            sock.setblocking(False)
            self._admit(sock, plain_ip(peer[0]))

    def _admit(self, sock: socket.socket, source: str) -> None:
        direction = self._targets.direction
        address = self._original_destination(sock)
        if address is None or self._is_loop(address):
            # Nothing captured this connection: to pass it on would be to call ourselves, for ever.
            self._parts.notice(direction, "loop", f"a connection made directly to port {self._own_port}")
            sock.close()
            return
        is_full = self._seats.is_full or (self._is_inbound and self._parts.is_crowded)
        if is_full and not self._make_room(source):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
            return
        target = self._targets.take(address)
        channel = self._parts.channel(sock, target.tcp)
        session = Session(self._parts, channel, target, self._targets)
        self._seats.take(session, source)
        session.begin()

    def _make_room(self, source: str) -> bool:
        """End a connection for one from `source`, or tell that there is none to end."""
        parts = self._parts
        other = self._seats.yielding(source, _may_yield)
        if other is None:
            parts.meter.count("inbound_crowded_out_total", (("what", "newcomer"),))
            parts.notice(INBOUND, "crowded-out", f"{source}, which holds {self._seats.count_of(source)}", "tcp")
            return False
        parts.meter.count("inbound_crowded_out_total", (("what", "idle" if other.may_yield else "busy"),))
        other.give_way()
        return True

    def _is_loop(self, address: Address) -> bool:
        config = self._parts.config
        own_ports = (config.outbound_port, config.inbound_port)
        return address.port in own_ports and (address.ip in config.pod_ips or address.ip in ("127.0.0.1", "::1"))

    def _rest(self) -> None:
        if not self._is_resting:
            self._is_resting = True
            self._parts.pump.modify(self.sock.fileno(), 0)
            self._parts.pump.call_at(self._parts.pump.now_s + ACCEPT_REST_S, self._go_on)

    def _go_on(self) -> None:
        self._is_resting = False
        if self.sock.fileno() >= 0:
            self._parts.pump.modify(self.sock.fileno(), READ)

    def close(self) -> None:
        """Take in what already waits in the backlog (to close over it would reset it), then close."""
        if self.sock.fileno() >= 0:
            self.on_ready()
            self.abandon()

    def abandon(self) -> None:
        """Close at once."""
        if self.sock.fileno() >= 0:
            self._parts.pump.unregister(self.sock.fileno())
            self.sock.close()
