"""Ways from a client to a server: through one sidecar or two, with and without discovery, by IPv4 and by IPv6."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from proxyhouse import Controller, Handler, Sidecar, read_all, read_until

from proxy.model import Address

SETUPS = ("outbound", "outbound-discovered", "inbound", "two", "two-discovered", "two-discovered-v6")
"""One sidecar without discovery, and with; the other direction; and between two sidecars."""

OUTBOUND = ("outbound", "outbound-discovered")
INBOUND = ("inbound",)


@dataclass
class Way:
    """What lies between a client and its server; the first sidecar is the client's."""

    kind: str
    server: Address
    sidecars: list[Sidecar] = field(default_factory=list)

    @property
    def entry(self) -> Address:
        """Where a client's captured connection comes in."""
        config = self.sidecars[0].app.config
        port = config.inbound_port if self.kind == "inbound" else config.outbound_port
        return Address("::1" if self.kind.endswith("v6") else "127.0.0.1", port)

    async def __call__(self) -> trio.SocketStream:
        """Connect as a client."""
        return await trio.open_tcp_stream(*self.entry)

    async def ask(self, request: bytes, ending: bytes | None = None) -> bytes:
        """Send on a connection of its own; read to the ending, or to the end."""
        async with await self() as stream:
            await stream.send_all(request)
            return await (read_all(stream) if ending is None else read_until(stream, ending))

    def counter(self, name: str, **labels: str) -> int:
        return sum(sidecar.counter(name, **labels) for sidecar in self.sidecars)


async def listen(nursery: trio.Nursery, handler: Handler, host: str = "127.0.0.1") -> Address:
    """Start a server on a loopback address."""

    async def guarded(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await handler(stream)
            except trio.BrokenResourceError:
                pass

    listeners = await trio.open_tcp_listeners(0, host=host)
    nursery.start_soon(trio.serve_listeners, guarded, listeners)
    return Address(host, listeners[0].socket.getsockname()[1])


@dataclass
class Through:
    """Makes the way of one set-up to a handler, started as a server, or to a server's address."""

    kind: str
    nursery: trio.Nursery
    start_sidecar: Any
    controller: Controller

    @property
    def host(self) -> str:
        """Where a server listens."""
        return "::1" if self.kind.endswith("v6") else "127.0.0.1"

    async def __call__(self, behind: Handler | Address, protocol: str = "detect", **settings: Any) -> Way:
        # A client of a busy machine may be late with its first byte: no server shall meet a dial made in vain.
        settings = {"detect_dial_delay_s": 0.1, **settings}
        server = behind if isinstance(behind, Address) else await listen(self.nursery, behind, self.host)
        way = Way(self.kind, server)
        hop = server
        if self.kind.startswith("two"):
            far = await self.start_sidecar(server, **settings)
            way.sidecars.append(far)
            hop = Address(self.host, far.app.config.inbound_port)
        if "discovered" in self.kind:
            service = Address("fd00::9" if self.kind.endswith("v6") else "10.96.0.9", server.port)
            self.controller.service(service, hop, protocol=protocol)
            near = await self.start_sidecar(service, controller_url=self.controller.url, **settings)
        else:
            near = await self.start_sidecar(hop, **settings)
        way.sidecars.insert(0, near)
        return way


@pytest.fixture(params=SETUPS)
def through(request: Any, nursery: trio.Nursery, start_sidecar: Any, controller: Controller) -> Through:
    """Give what makes the way of each set-up in turn."""
    return Through(request.param, nursery, start_sidecar, controller)
