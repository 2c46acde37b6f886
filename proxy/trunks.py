"""Finding a trunk for a request: one with room, or a dial that all who need one share. Turn.

A failed dial is always safe to repeat elsewhere: no byte has reached a server. So each request that waited picks
again, as connector does for HTTP/1.
"""

import socket
from collections.abc import Callable
from typing import Final, Protocol

from proxy.connector import MAX_DIALS_COUNT
from proxy.model import RequestHead
from proxy.parts import Parts
from proxy.policy import balance
from proxy.pool import Endpoint
from proxy.seams import Dial, Dialler
from proxy.trunk import Trunk
from proxy.trunk_stream import TrunkStream
from proxy.wire.http2_head import protocol


def find(endpoint: Endpoint, head: RequestHead) -> TrunkStream | None:
    """Give a stream on the endpoint's first trunk with room, or nothing."""
    for trunk in endpoint.trunks:
        if trunk.has_room and (trunk.is_settled or not needs_settings(head)):
            return TrunkStream(trunk)
    return None


def needs_settings(head: RequestHead) -> bool:
    """Tell whether a request may only be sent when the server has said what it takes (RFC 8441 section 3)."""
    return head.method == b"CONNECT" and protocol(head.fields) != b""


class TrunkDial(Dialler):
    """A trunk on its way, and who waits for it."""

    __slots__ = ("_dial", "_endpoint", "_parts", "waiters")

    def __init__(self, parts: Parts, endpoint: Endpoint) -> None:
        self._parts = parts
        self._endpoint = endpoint
        self.waiters: dict[TrunkFinder, None] = {}
        endpoint.trunk_dial = self
        self._dial: Dial = parts.door.dial(endpoint.address, self)

    def leave(self, finder: "TrunkFinder") -> None:
        """Somebody waits no longer; when nobody does, there is no dial."""
        self.waiters.pop(finder, None)
        if not self.waiters and self._endpoint.trunk_dial is self:
            self._endpoint.trunk_dial = None
            self._dial.cancel()

    def on_connected(self, sock: socket.socket) -> None:
        endpoint = self._endpoint
        endpoint.trunk_dial = None
        endpoint.on_answer()
        Trunk(self._parts, endpoint, self._parts.channel(sock, endpoint.tcp))
        self._tell(TrunkFinder.on_trunk)

    def on_dial_failed(self, reason: str) -> None:
        endpoint = self._endpoint
        endpoint.trunk_dial = None
        balance.bar(endpoint, self._parts.pump.now_s)
        self._tell(lambda finder: finder.on_dial_failed(reason))

    def _tell(self, what: Callable[["TrunkFinder"], None]) -> None:
        waiters, self.waiters = self.waiters, {}
        for finder in waiters:
            what(finder)


class FinderUser(Protocol):
    """Who needs a stream: an attempt."""

    __slots__ = ()

    def pick(self) -> Endpoint:
        """Choose another endpoint, after the one that was dialled has failed and was barred."""
        ...

    def on_leg(self, endpoint: Endpoint, leg: TrunkStream) -> None: ...
    def on_no_channel(self, endpoint: Endpoint, reason: str) -> None: ...


class TrunkFinder:
    """One search, over when one of the user's callbacks was called, or `cancel`."""

    __slots__ = ("_dials_left_count", "_endpoint", "_head", "_parts", "_user", "_waits_for")

    def __init__(self, parts: Parts, user: FinderUser, head: RequestHead, endpoints_count: int) -> None:
        self._parts: Final = parts
        self._user: Final = user
        self._head: Final = head
        self._dials_left_count = min(MAX_DIALS_COUNT, endpoints_count)
        self._waits_for: TrunkDial | Trunk | None = None

    def dial(self, endpoint: Endpoint) -> None:
        """Wait for a trunk to this endpoint first; the one on its way, if there is one."""
        self._endpoint = endpoint
        self._dials_left_count -= 1
        self._wait()

    def _wait(self) -> None:
        endpoint = self._endpoint
        waits_for: TrunkDial | Trunk | None = endpoint.trunk_dial
        for trunk in endpoint.trunks:
            if trunk.is_congested or (trunk.has_room and not trunk.is_settled):
                waits_for = waits_for or trunk
        waits_for = waits_for or TrunkDial(self._parts, endpoint)
        waits_for.waiters[self] = None
        self._waits_for = waits_for

    def cancel(self) -> None:
        waits_for, self._waits_for = self._waits_for, None
        if isinstance(waits_for, TrunkDial):
            waits_for.leave(self)
        elif waits_for is not None:
            waits_for.waiters.pop(self, None)

    def on_trunk(self) -> None:
        if self._waits_for is None:
            return  # cancelled by what an earlier waiter did
        stream = find(self._endpoint, self._head)
        if stream is None:
            self._wait()  # those before have filled it
            return
        self._waits_for = None
        self._user.on_leg(self._endpoint, stream)

    def on_dial_failed(self, reason: str) -> None:
        if self._waits_for is None:
            return
        self._waits_for = None
        failed = self._endpoint
        if self._dials_left_count > 0:
            endpoint = self._user.pick()
            if endpoint is not failed:
                self._parts.meter.count("outbound_repick_total", (("reason", reason),))
                failed.in_flight -= 1
                endpoint.in_flight += 1
                stream = find(endpoint, self._head)
                if stream is not None:
                    self._user.on_leg(endpoint, stream)
                else:
                    self.dial(endpoint)
                return
        self._user.on_no_channel(failed, reason)
