"""The two resources that sidecars use: the discovery stream and reports. Waits."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contract.discovery import HEARTBEAT_S, MAX_TARGETS_COUNT, Subscribe
from contract.report import Report
from controller.hub import Stream
from controller.listening import SLOW_S
from controller.objects import NO_OWNER, Key
from controller.problems import Refusal, compressed, invalid_body, too_large, too_slow
from controller.senders import Guest, Standing, foreign, judge, sender_ip, unknown
from controller.truth import Truth

NDJSON: Final = "application/x-ndjson"
HEARTBEAT: Final = b"{}\n"
BODY_S: Final = 10.0
"""A body that takes longer is refused: it holds room that others need."""
LINGER_S: Final = 5.0
"""How long a stream that a newer one replaced stays open, silent, for the sidecar to close it."""

# What a sender is charged: about twice what it takes, on one processor of a server of 2020.
REQUEST_WORK_S: Final = 300e-6
BODY_WORK_S: Final = 10e-9
"""A byte of a report."""
SERIES_WORK_S: Final = 40e-6
TARGET_WORK_S: Final = 20e-6

TURN_SERIES_COUNT: Final = 32
"""Series that are counted in one turn of the loop."""

T = TypeVar("T")

_REPORT = msgspec.json.Decoder(Report)
_SUBSCRIBE = msgspec.json.Decoder(Subscribe)


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that was let in."""

    ip: str
    """Where it comes from."""
    guest: Guest
    truth: Truth

    def standing(self, claimed: Key) -> Standing:
        """Whether it comes from the pod that it speaks for; taken at its word where senders are not verified."""
        return judge(self.truth.cluster, claimed, self.ip) if self.truth.settings.verify_senders else "own"


@contextmanager
def visit(request: Request, truth: Truth) -> Iterator[Visit]:
    """Let a sender in, within the bounds of its address, and count a refusal whatever its cause.

    Raises:
        Refusal: 503, the sender, or all unknown ones, have too much in work.
    """
    ip = sender_ip(request.client.host if request.client else None)
    try:
        if not truth.settings.verify_senders:  # many sidecars may come from one address
            yield Visit(ip, Guest(), truth)
            return
        known = "" if truth.cluster.pod_at(ip) is None else ip
        with truth.door.enter(known, truth.clock()) as guest:
            yield Visit(ip, guest, truth)
    except Refusal as refusal:
        truth.meters.refused.labels(request.url.path.rpartition("/")[2], refusal.slug).inc()
        if refusal.slug == "foreign-sender":
            truth.tell_foreign(refusal.detail)
        raise


@asynccontextmanager
async def body_of(request: Request, truth: Truth) -> AsyncIterator[bytes]:
    """Read a whole body and hold room for it meanwhile.

    Raises:
        Refusal: 408, too slow; 413, longer than the limit; 415, compressed; 503, no room.
    """
    limit_bytes = truth.settings.max_report_bytes
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise compressed()
    length = request.headers.get("content-length", "0")
    if length.isdigit() and (len(length) > 18 or int(length) > limit_bytes):
        raise too_large(limit_bytes)
    chunks: list[bytes] = []
    held_bytes = 0
    try:
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.stream():
                    if held_bytes + len(chunk) > limit_bytes:
                        raise too_large(limit_bytes)
                    truth.door.hold(len(chunk))
                    held_bytes += len(chunk)
                    chunks.append(chunk)
        except TimeoutError:
            raise too_slow(BODY_S) from None
        yield b"".join(chunks)
    finally:
        truth.door.release(held_bytes)


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
        Refusal: 403, 408, 413, 415, 422, 503.
    """
    try:
        with visit(request, truth) as sender:
            # Before the body: a report from nobody's address is of no use, however long it is.
            if truth.settings.verify_senders and truth.cluster.pod_at(sender.ip) is None:
                raise unknown(sender.ip)
            async with body_of(request, truth) as body:
                sender.guest.debt_s += REQUEST_WORK_S + len(body) * BODY_WORK_S
                is_new = await _count(decode(_REPORT, body), sender)
    except Refusal:
        truth.meters.reports.labels("refused").inc()
        raise
    truth.meters.reports.labels("counted" if is_new else "duplicate").inc()
    return Response(status_code=204)


async def _count(report: Report, sender: Visit) -> bool:
    truth, key = sender.truth, Key(report.namespace, report.pod)
    standing = sender.standing(key)
    if standing == "foreign":
        raise foreign(key, sender.ip)
    if standing == "unknown":
        raise unknown(sender.ip)
    pod = truth.cluster.pods.get(key)
    owner = NO_OWNER if pod is None else truth.cluster.top_owner(pod)
    try:
        steps = truth.traffic.begin(report, owner, truth.clock())
    except ValueError as fault:
        raise invalid_body(str(fault)) from None
    for number, _ in enumerate(steps or (), 1):
        sender.guest.debt_s += SERIES_WORK_S
        if number % TURN_SERIES_COUNT == 0:
            await asyncio.sleep(0)
    return steps is not None


async def open_discovery(request: Request, truth: Truth) -> Response:
    """Begin a discovery stream.

    Raises:
        Refusal: 403, 408, 413, 415, 422, 503.
    """
    truth.check_synced()
    with visit(request, truth) as sender:
        async with body_of(request, truth) as body:
            subscribe = decode(_SUBSCRIBE, body)
        sender.guest.debt_s += REQUEST_WORK_S + len(subscribe.targets) * TARGET_WORK_S
        if len(subscribe.targets) > MAX_TARGETS_COUNT:
            raise invalid_body(f"Expected at most {MAX_TARGETS_COUNT} targets - at `$.targets`")
        key = Key(subscribe.namespace, subscribe.pod)
        standing = sender.standing(key)
        if standing == "foreign":
            raise foreign(key, sender.ip)
        try:
            stream = truth.hub.open(subscribe, sender.ip if standing == "unknown" else "", truth.clock())
        except ValueError as fault:
            raise invalid_body(f"{fault} - at `$.targets`") from None
    return DiscoveryResponse(sender, stream)


class DiscoveryResponse(Response):
    """Sends a stream's lines as they come due, heartbeats between, until either side ends it."""

    def __init__(self, sender: Visit, stream: Stream) -> None:
        super().__init__(media_type=NDJSON, headers={"cache-control": "no-store"})
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        self._sender = sender
        self._hub = sender.truth.hub
        self._stream = stream
        self._meters = sender.truth.meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._meters.streams.set(len(self._hub.streams))
        reason = "client"
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_wait_disconnect(receive))
                sending = group.create_task(self._send_all(send))
                await asyncio.wait((watching, sending), return_when=asyncio.FIRST_COMPLETED)
                reason = (self._stream.end or "shutdown") if sending.done() else "client"
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
        stream, hub = self._stream, self._hub
        while not hub.is_closing and not stream.end:
            lines = hub.take(stream)
            for line in lines or ([] if stream.marked else [HEARTBEAT]):
                await _send_line(send, line)
            if stream.marked:
                await asyncio.sleep(0)  # others have their turn
                continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await stream.wake.wait()
            except TimeoutError:
                pass  # the next round sends a heartbeat, or what was marked this instant
            hub.settle(stream, self._sender.standing(stream.pod), self._sender.truth.clock())
        if stream.end == "superseded" and not hub.is_closing:
            await self._linger()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        """Wait a while for the sidecar to go by itself: it does when its newer stream answers."""
        try:
            async with asyncio.timeout(LINGER_S):
                while self._stream.end == "superseded" and not self._hub.is_closing:
                    self._stream.wake.clear()
                    await self._stream.wake.wait()
        except TimeoutError:
            pass


async def _send_line(send: Send, line: bytes) -> None:
    async with asyncio.timeout(SLOW_S):
        await send({"type": "http.response.body", "body": line, "more_body": True})


async def _wait_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
