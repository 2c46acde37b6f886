"""The HTTP server: uvicorn behind a doorkeeper, so that no stranger keeps a probe out. Waits."""

import asyncio
import socket
import ssl
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from contract.doorkeeper import Doorkeeper, Limits
from webhook.callers import Protocol


class Server(uvicorn.Server):
    """Accepts by itself; uvicorn parses, runs the application, and ends what is open."""

    def __init__(
        self,
        config: uvicorn.Config,
        limits: Limits,
        on_ended: Callable[[str], None],
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        """`on_ended` counts connections that the doorkeeper ends, by reason; `context` gives the next one's TLS."""
        super().__init__(config)
        self._context = context
        self._keeper = Doorkeeper(limits, self._make, _is_idle, _is_reading, on_ended)
        self._doors: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen on these sockets."""
        await super().startup(sockets=[])
        loop = asyncio.get_running_loop()
        self._doors = [loop.create_task(self._keeper.serve(sock, self._context)) for sock in sockets or ()]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and let what is under way end."""
        for door in self._doors:
            door.cancel()
        await asyncio.gather(*self._doors, return_exceptions=True)
        await super().shutdown(sockets)

    def _make(self) -> HttpToolsProtocol:
        return Protocol(self.config, self.server_state, self.lifespan.state, asyncio.get_running_loop())


def _is_idle(protocol: HttpToolsProtocol) -> bool:
    return protocol.cycle is None or protocol.cycle.response_complete


def _is_reading(protocol: HttpToolsProtocol) -> bool:
    return protocol.cycle.more_body
