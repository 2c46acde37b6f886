"""The routes that stream: logs, exec, attach, port-forward, and the proxies to services and pods. Waits.

Each authenticates and authorizes its caller before anything else. WebSockets need a server whose handshake lets the
subprotocol name `SPDY/3.1+portforward.k8s.io` pass: uvicorn with ws="wsproto" (the `websockets` library refuses it).
And with ws_ping_interval=None: a stream whose container reads no more is not read either, so that a pong waits behind
its data, and uvicorn would cut the stream after 40 s. The old SPDY upgrade of an HTTP POST, which kubectl spoke before
1.30, is refused with a sentence that says so.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from lab.api import errors, exec_stream, port_forward
from lab.api.authn import Authority
from lab.api.gate import Gate, container_of, flag, http, number, socket
from lab.api.kubelet import Kubelet, RunningCommand
from lab.api.reader import Reader
from lab.api.service_proxy import proxy_routes

__all__ = ["Kubelet", "RunningCommand", "stream_routes"]

_POD: Final = "/api/v1/namespaces/{namespace}/pods/{name}"
_FIRST_CHUNK_S: Final = 0.2
"""How long a log request waits for its first bytes before it answers 200.

Long enough for a refusal to be an error code.
"""


def stream_routes(registry: Reader, authority: Authority, kubelet: Kubelet) -> list[BaseRoute]:
    """The streaming routes, to be mounted before the routes of plain objects."""
    gate = Gate(registry, authority, kubelet)

    async def log(request: Request) -> Response:
        return await _log(gate, request)

    async def execute(websocket: WebSocket) -> None:
        await exec_stream.execute(gate, websocket)

    async def attach(websocket: WebSocket) -> None:
        await exec_stream.attach(gate, websocket)

    async def forward(websocket: WebSocket) -> None:
        await port_forward.forward(gate, websocket)

    routes: list[BaseRoute] = [Route(f"{_POD}/log", http(log), methods=["GET"])]
    for path, handler in (("exec", execute), ("attach", attach), ("portforward", forward)):
        routes.append(WebSocketRoute(f"{_POD}/{path}", socket(handler)))
        routes.append(Route(f"{_POD}/{path}", http(_no_spdy_upgrade), methods=["GET", "POST"]))
    return routes + proxy_routes(gate)


async def _no_spdy_upgrade(request: Request) -> Response:
    if request.url.path.endswith("/attach") and flag(request, "stdin"):
        raise exec_stream.no_stdin()  # kubectl comes this way when its WebSocket was refused, and shows the last answer
    raise errors.bad_request("this server streams over WebSocket only: use kubectl 1.30 or newer (port-forward: 1.31)")


async def _log(gate: Gate, request: Request) -> Response:
    pod = await gate.pod(request, "log", "get")
    metadata = pod["metadata"]
    chunks = gate.kubelet.logs(
        metadata["namespace"],
        metadata["name"],
        container_of(pod, request.query_params.get("container", "")),
        follow=flag(request, "follow"),
        tail_lines=number(request, "tailLines"),
        since_s=_since_s(request, gate.authority.clock()),
        timestamps=flag(request, "timestamps"),
        previous=flag(request, "previous"),
    )
    limit_bytes = number(request, "limitBytes")
    return StreamingResponse(_limited(await _started(chunks), limit_bytes), media_type="text/plain")


def _since_s(request: Request, now_s: float) -> float | None:
    """How far back to go, seconds: sinceSeconds, or sinceTime seen from now."""
    seconds, moment = number(request, "sinceSeconds"), request.query_params.get("sinceTime")
    if seconds is not None and moment:
        raise errors.bad_request("at most one of sinceTime and sinceSeconds may be specified")
    if not moment:
        return seconds
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        raise errors.bad_request(f"sinceTime: {moment!r} is no RFC 3339 time") from None
    since = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return max(0.0, now_s - since.timestamp())


async def _started(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, after the first has come, failed or taken too long: a refusal must precede the status line."""
    first = asyncio.ensure_future(_next(chunks))
    await asyncio.wait((first,), timeout=_FIRST_CHUNK_S)
    if first.done():
        first.result()

    async def rest() -> AsyncIterator[bytes]:
        try:
            chunk = await first
            while chunk is not None:
                yield chunk
                chunk = await _next(chunks)
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            closing = getattr(chunks, "aclose", None)
            if closing is not None:
                await closing()

    return rest()


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await anext(chunks)
    except StopAsyncIteration:
        return None


async def _limited(chunks: AsyncIterator[bytes], limit_bytes: int | None) -> AsyncIterator[bytes]:
    left_bytes = limit_bytes
    async for chunk in chunks:
        if left_bytes is None:
            yield chunk
            continue
        yield chunk[:left_bytes]
        left_bytes -= len(chunk)
        if left_bytes <= 0:
            return
