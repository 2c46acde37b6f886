"""The lab's DNS server on 10.96.0.10 and its IPv6 twin: datagrams and streams in, `zone.answer` out. Waits.

Bounded: a stream is served for IDLE_S without a question, and CONNECTIONS_COUNT of them at once. Source: RFC 7766.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from .zone import Zone, answer

IDLE_S = 10.0
CONNECTIONS_COUNT = 256
_PLAIN_UDP_BYTES = 512  # RFC 1035 2.3.4, for a client that says nothing of EDNS
_TCP_BYTES = 65535


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: Callable[[], Zone]) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # Python 3.11's own class does not say so

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = answer(self._zone(), data, limit_bytes=_PLAIN_UDP_BYTES)
        if reply is not None:
            self._transport.sendto(reply, addr)


class DnsServer:
    """Serves the zone that `zone()` returns at the moment of the question."""

    def __init__(self, zone: Callable[[], Zone]) -> None:
        self._zone = zone
        self._places = asyncio.Semaphore(CONNECTIONS_COUNT)
        self._transports: list[asyncio.BaseTransport] = []
        self._servers: list[asyncio.Server] = []

    async def open(self, addresses: tuple[str, ...], port: int = 53) -> None:
        """Listen on every address, UDP and TCP. OSError names what is taken."""
        loop = asyncio.get_running_loop()
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self._zone), local_addr=(address, port), family=family
            )
            self._transports.append(transport)
            self._servers.append(await asyncio.start_server(self._on_stream, address, port, family=family))

    def close(self) -> None:
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()

    async def _on_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._places:
                while True:
                    async with asyncio.timeout(IDLE_S):
                        length = int.from_bytes(await reader.readexactly(2), "big")
                        query = await reader.readexactly(length)
                    reply = answer(self._zone(), query, limit_bytes=_TCP_BYTES)
                    if reply is None:
                        return
                    writer.write(len(reply).to_bytes(2, "big") + reply)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()
