"""Finds an endpoint and a new connection to it: picks, dials, and picks again when a dial fails. Turn.

A failed dial is always safe to repeat elsewhere, because no byte has reached a server. The endpoint that failed is
left out for a while (policy.balance.bar), so the next pick takes another if there is one.
"""

import socket
from typing import Final, Protocol

from proxy.channel import SocketChannel
from proxy.parts import Parts
from proxy.policy import balance
from proxy.pool import Endpoint
from proxy.seams import Dial, Dialler

MAX_DIALS_COUNT: Final = 3
"""Dials for one request: with a connect timeout of a second a client waits three at the most."""


class ConnectorUser(Protocol):
    """Who needs a connection."""

    __slots__ = ()

    def pick(self) -> Endpoint:
        """Choose another endpoint, after the one that was dialled has failed and was barred."""
        ...

    def on_channel(self, endpoint: Endpoint, channel: SocketChannel) -> None: ...
    def on_no_channel(self, endpoint: Endpoint, reason: str) -> None: ...


class Connector(Dialler):
    """One search, over when one of the two callbacks was called or `cancel`."""

    __slots__ = ("_dial", "_dials_left_count", "_endpoint", "_parts", "_user")

    def __init__(self, parts: Parts, user: ConnectorUser, endpoints_count: int) -> None:
        self._parts = parts
        self._user = user
        self._dials_left_count = min(MAX_DIALS_COUNT, endpoints_count)
        self._dial: Dial | None = None

    def dial(self, endpoint: Endpoint) -> None:
        """Ask the door for a connection to this endpoint first."""
        self._endpoint = endpoint
        self._dials_left_count -= 1
        self._dial = self._parts.door.dial(endpoint.address, self)

    def cancel(self) -> None:
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None

    def on_connected(self, sock: socket.socket) -> None:
        self._dial = None
        endpoint = self._endpoint
        endpoint.on_answer()
        self._user.on_channel(endpoint, self._parts.channel(sock, endpoint.tcp))

    def on_dial_failed(self, reason: str) -> None:
        self._dial = None
        failed = self._endpoint
        parts = self._parts
        balance.bar(failed, parts.pump.now_s)
        if self._dials_left_count > 0:
            endpoint = self._user.pick()
            if endpoint is not failed:
                parts.meter.count("outbound_repick_total", (("reason", reason),))
                failed.in_flight -= 1
                endpoint.in_flight += 1
                self.dial(endpoint)
                return
        self._user.on_no_channel(failed, reason)
