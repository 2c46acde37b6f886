"""port-forward: TCP connections into a pod through one WebSocket. Waits.

Two dialects. kubectl from 1.31 tunnels SPDY/3.1 through binary messages (the subprotocol below): it opens a pair of
streams for each connection, one for errors and one for data, tied by a request id. The Python client speaks
v4.channel.k8s.io: channel 2i carries the bytes and 2i + 1 the errors of port i, one connection a port, and each
channel starts with its port.

Every connection has a bounded queue toward the pod; when it is full the tunnel is read no further, which holds the
client back.

Source: the port-forward constants of kubelet and kubectl; the framing is in `spdy`.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from lab.api import errors
from lab.api.errors import ApiError
from lab.api.gate import Gate
from lab.api.spdy import DataReceived, Event, PingReceived, SpdyError, SpdyServer, StreamOpened, StreamReset

SPDY_PROTOCOL: Final = "SPDY/3.1+portforward.k8s.io"
CHANNEL_PROTOCOL: Final = "v4.channel.k8s.io"
CHUNK_BYTES: Final = 64 * 1024
"""Most bytes read from a pod at once."""
QUEUE_COUNT: Final = 8
"""Messages that wait for a slow pod, for each connection; kubectl's are of 32 KiB at most."""
MAX_CONNECTIONS_COUNT: Final = 512
"""Connections through one tunnel; further ones are refused."""

_GONE: Final = (WebSocketDisconnect, OSError, RuntimeError)

Connect = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Send = Callable[[bytes], Awaitable[None]]


async def forward(gate: Gate, websocket: WebSocket) -> None:
    """Serve one port-forward request. Raises ApiError before the handshake is accepted."""
    pod = await gate.pod(websocket, "portforward", "get", "create")
    metadata = pod["metadata"]
    phase = (pod.get("status") or {}).get("phase")
    if phase != "Running":
        raise errors.bad_request(f"unable to forward port because pod is not running. Current status={phase}")

    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await gate.kubelet.connect(metadata["namespace"], metadata["name"], port)

    offered = websocket.scope.get("subprotocols") or []
    if SPDY_PROTOCOL in offered:
        await websocket.accept(SPDY_PROTOCOL)
        await _SpdyTunnel(websocket, connect).run()
    elif CHANNEL_PROTOCOL in offered:
        ports = _ports(websocket.query_params.getlist("ports"))
        await websocket.accept(CHANNEL_PROTOCOL)
        await _run_channels(websocket, connect, ports)
    else:
        known = f"{SPDY_PROTOCOL} or {CHANNEL_PROTOCOL}"
        raise errors.bad_request(f"none of the subprotocols {offered} is spoken here: offer {known}")


def _ports(values: list[str]) -> list[int]:
    texts = [text for value in values for text in value.split(",") if text]
    if not texts:
        raise errors.bad_request("ports: query parameter is required: the ports to forward to")
    return [port_number(text) for text in texts]


def port_number(text: str) -> int:
    """A TCP port from its decimal text. Raises ApiError 400."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise errors.bad_request(f"ports: {text!r} is not a port (1 to 65535)")
    return int(text)


@dataclass(slots=True)
class _Connection:
    """The way toward the pod of one connection; None in the queue is the end of the client's bytes."""

    inbox: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_COUNT))
    task: asyncio.Task[None] | None = None


async def _carry(
    port: int, connect: Connect, connection: _Connection, send: Send, consumed: Callable[[int], Awaitable[None]]
) -> str:
    """Carry one connection until the pod closes it. Returns "" or what went wrong, for the error stream."""
    try:
        reader, writer = await connect(port)
    except (OSError, ApiError) as error:
        return f"an error occurred forwarding to port {port}: {error}"
    feeding = asyncio.create_task(_feed(connection.inbox, writer, consumed))
    try:
        while data := await reader.read(CHUNK_BYTES):
            await send(data)
    except ConnectionResetError:
        return ""  # the pod's reset ends the connection like its close does
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        writer.close()
    return ""


async def _feed(
    inbox: asyncio.Queue[bytes | None], writer: asyncio.StreamWriter, consumed: Callable[[int], Awaitable[None]]
) -> None:
    while (data := await inbox.get()) is not None:
        try:
            writer.write(data)
            await writer.drain()
        except OSError:
            continue  # the pod reads no more: what still comes is dropped, so that the tunnel stays readable
        await consumed(len(data))
    if writer.can_write_eof():
        writer.write_eof()


async def _put(connection: _Connection, item: bytes | None) -> None:
    """Wait for room, or for the end of the connection, after which nobody takes anything."""
    if connection.task is None or connection.task.done():
        return
    if not connection.inbox.full():
        connection.inbox.put_nowait(item)
        return
    putting = asyncio.ensure_future(connection.inbox.put(item))
    await asyncio.wait({putting, connection.task}, return_when=asyncio.FIRST_COMPLETED)
    putting.cancel()


class _SpdyTunnel:
    """The streams of one kubectl port-forward."""

    def __init__(self, websocket: WebSocket, connect: Connect) -> None:
        self._websocket = websocket
        self._connect = connect
        self._spdy = SpdyServer()
        self._error_streams: dict[str, int] = {}
        self._connections: dict[int, _Connection] = {}

    async def run(self) -> None:
        """Until the client goes away or breaks the protocol."""
        try:
            while (data := await _receive(self._websocket)) is not None:
                for event in self._spdy.receive(data):
                    await self._on_event(event)
        except SpdyError as error:
            await self._websocket.close(1002, str(error)[:100])
        except _GONE:
            return
        finally:
            tasks = [item.task for item in self._connections.values() if item.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _on_event(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            await self._on_data(event)
        elif isinstance(event, StreamOpened):
            await self._on_stream(event)
        elif isinstance(event, StreamReset):
            connection = self._connections.get(event.stream)
            if connection is not None and connection.task is not None:
                connection.task.cancel()
        elif isinstance(event, PingReceived):
            await self._websocket.send_bytes(self._spdy.pong(event.number))

    async def _on_data(self, event: DataReceived) -> None:
        connection = self._connections.get(event.stream)
        if connection is None:
            if event.data:  # late bytes of a closed connection still used up the session's window
                await self._websocket.send_bytes(self._spdy.grant(event.stream, len(event.data)))
            return
        if event.data:
            await _put(connection, event.data)
        if event.finished:
            await _put(connection, None)

    async def _on_stream(self, event: StreamOpened) -> None:
        request, kind = event.headers.get("requestid", ""), event.headers.get("streamtype", "")
        open_count = len(self._connections) + len(self._error_streams)
        too_many = kind == "error" and open_count >= MAX_CONNECTIONS_COUNT
        try:
            port = port_number(event.headers.get("port", ""))
        except ApiError:
            port = 0
        if kind not in ("error", "data") or not port or too_many:
            await self._websocket.send_bytes(self._spdy.reset(event.stream, 3))
            return
        await self._websocket.send_bytes(self._spdy.reply(event.stream))
        if kind == "error":
            self._error_streams[request] = event.stream
            return
        connection = self._connections[event.stream] = _Connection()
        errors_on = self._error_streams.pop(request, 0)
        connection.task = asyncio.create_task(self._serve(event.stream, errors_on, port, connection))

    async def _serve(self, stream: int, error_stream: int, port: int, connection: _Connection) -> None:
        async def send(data: bytes) -> None:
            await self._websocket.send_bytes(self._spdy.send(stream, data))

        async def consumed(size_bytes: int) -> None:
            await self._websocket.send_bytes(self._spdy.grant(stream, size_bytes))

        try:
            failure = await _carry(port, self._connect, connection, send, consumed)
            last = self._spdy.finish(stream)
            if error_stream:
                last += self._spdy.send(error_stream, failure.encode()) + self._spdy.finish(error_stream)
            await self._websocket.send_bytes(last)
        except _GONE:
            return
        except asyncio.CancelledError:
            if error_stream:
                await _quietly(self._websocket.send_bytes(self._spdy.finish(error_stream)))
            raise
        finally:
            self._connections.pop(stream, None)


async def _run_channels(websocket: WebSocket, connect: Connect, ports: list[int]) -> None:
    """The v4 dialect: one connection for each port, until all are closed or the client goes away."""
    connections = [_Connection() for _ in ports]
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await websocket.send_bytes(struct.pack("<BH", channel, port))
    for index, port in enumerate(ports):
        connections[index].task = asyncio.create_task(
            _serve_channel(websocket, connect, connections[index], index, port)
        )
    tasks: list[asyncio.Future[Any]] = [item.task for item in connections if item.task is not None]
    reading = asyncio.ensure_future(_read_channels(websocket, connections))
    everything = asyncio.gather(*tasks)
    try:
        await asyncio.wait((reading, everything), return_when=asyncio.FIRST_COMPLETED)
        if everything.done():
            await _quietly(websocket.close(1000))
    finally:
        for task in (*tasks, reading):
            task.cancel()
        await asyncio.gather(*tasks, reading, everything, return_exceptions=True)


async def _serve_channel(
    websocket: WebSocket, connect: Connect, connection: _Connection, index: int, port: int
) -> None:
    async def send(data: bytes) -> None:
        await websocket.send_bytes(bytes((2 * index,)) + data)

    async def consumed(_size_bytes: int) -> None:
        return

    failure = await _carry(port, connect, connection, send, consumed)
    if failure:
        await websocket.send_bytes(bytes((2 * index + 1,)) + failure.encode())


async def _read_channels(websocket: WebSocket, connections: list[_Connection]) -> None:
    while (data := await _receive(websocket)) is not None:
        index, is_error = divmod(data[0], 2) if data else (0, 1)
        if is_error or index >= len(connections) or len(data) < 2:
            continue
        await _put(connections[index], data[1:])


async def _receive(websocket: WebSocket) -> bytes | None:
    """The next message, or None once the client has gone."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    return bytes(message.get("bytes") or (message.get("text") or "").encode())


async def _quietly(sending: Awaitable[None]) -> None:
    try:
        await sending
    except _GONE:
        return
