"""The two resources that sidecars use: the discovery stream and reports. Waits."""

import asyncio
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contract.discovery import HEARTBEAT_S, MAX_TARGETS_COUNT, Subscribe
from contract.report import Report
from controller.hub import Hub, Stream
from controller.meters import Meters
from controller.objects import NO_OWNER, Key
from controller.problems import Refusal, compressed, invalid_body, too_large
from controller.truth import Truth

NDJSON: Final = "application/x-ndjson"
SLOW_S: Final = 10.0
"""A stream that takes no byte for this long is closed: the sidecar resyncs on a new one, from what it holds."""
HEARTBEAT: Final = b"{}\n"

T = TypeVar("T")

_REPORT = msgspec.json.Decoder(Report)
_SUBSCRIBE = msgspec.json.Decoder(Subscribe)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Read a whole body.

    Raises:
        Refusal: 413, longer than the limit; 415, compressed.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise compressed()
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit_bytes:
        raise too_large(limit_bytes)
    chunks, size_bytes = [], 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise too_large(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Decode strictly.

    Raises:
        Refusal: 422, naming the field.
    """
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise invalid_body(str(fault)) from None


async def take_report(request: Request, truth: Truth) -> Response:
    """Count a report; 204, also for one that was counted before.

    Raises:
        Refusal: 413, 415, 422.
    """
    try:
        report = decode(_REPORT, await read_body(request, truth.settings.max_report_bytes))
        pod = truth.cluster.pods.get(Key(report.namespace, report.pod))
        owner = NO_OWNER if pod is None else truth.cluster.top_owner(pod)
        try:
            is_new = truth.traffic.ingest(report, owner, truth.clock())
        except ValueError as fault:
            raise invalid_body(str(fault)) from None
    except Refusal:
        truth.meters.reports.labels("refused").inc()
        raise
    truth.meters.reports.labels("counted" if is_new else "duplicate").inc()
    return Response(status_code=204)


async def open_discovery(request: Request, truth: Truth) -> Response:
    """Begin a discovery stream.

    Raises:
        Refusal: 413, 415, 422, 503.
    """
    truth.check_synced()
    subscribe = decode(_SUBSCRIBE, await read_body(request, truth.settings.max_report_bytes))
    if len(subscribe.targets) > MAX_TARGETS_COUNT:
        raise invalid_body(f"Expected at most {MAX_TARGETS_COUNT} targets - at `$.targets`")
    try:
        stream = truth.hub.open(subscribe)
    except ValueError as fault:
        raise invalid_body(f"{fault} - at `$.targets`") from None
    return DiscoveryResponse(truth.hub, stream, truth.meters)


class DiscoveryResponse(Response):
    """Sends a stream's lines as they come due, heartbeats between, until either side ends it."""

    def __init__(self, hub: Hub, stream: Stream, meters: Meters) -> None:
        super().__init__(media_type=NDJSON, headers={"cache-control": "no-store"})
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        self._hub = hub
        self._stream = stream
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._meters.streams.set(len(self._hub.streams))
        reason = "client"
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_wait_disconnect(receive))
                sending = group.create_task(self._send_all(send))
                await asyncio.wait((watching, sending), return_when=asyncio.FIRST_COMPLETED)
                reason = "shutdown" if sending.done() else "client"
                watching.cancel()
                sending.cancel()
        except* TimeoutError:
            # Ending without a last chunk tells the sidecar that the stream was cut.
            reason = "slow"
        finally:
            self._hub.close(self._stream)
            self._meters.streams_closed.labels(reason).inc()
            self._meters.streams.set(len(self._hub.streams))
            self._meters.targets.set(self._hub.targets_count)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._meters.targets.set(self._hub.targets_count)
        while not self._hub.is_closing:
            for line in self._hub.take(self._stream) or [HEARTBEAT]:
                await _send_line(send, line)
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._stream.wake.wait()
            except TimeoutError:
                pass  # the next round sends a heartbeat, or what was marked this instant
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_line(send: Send, line: bytes) -> None:
    async with asyncio.timeout(SLOW_S):
        await send({"type": "http.response.body", "body": line, "more_body": True})


async def _wait_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
