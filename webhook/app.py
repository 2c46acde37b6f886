"""The webhook's routes: read a review, decide, answer. Waits."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response

from contract import VERSION
from contract.spelling import cut
from webhook import callers, certificates, intake, policies, review
from webhook.annotations import Refused
from webhook.events import owner_name, skip_event
from webhook.inject import Patch, Skip, inject
from webhook.intake import INJECT_BYTES, VALIDATE_BYTES, Intake
from webhook.keeper import Keeper
from webhook.kube import KubeError
from webhook.metrics import Metrics
from webhook.namespaces import Namespaces
from webhook.settings import Settings
from webhook.telling import Telling
from webhook.tls import ServingContext

Json = dict[str, Any]

LOGGED_CHARS = 2000
LOOK_UPS_COUNT = 4
"""Namespaces that are looked up at once."""
LOOK_UPS_WAITING_COUNT = 64
"""Reviews that wait for such a look; more go without an answer."""

READY_PATIENCE_S = 1.5
READY_AGAIN_S = 0.05
"""How long a readiness probe waits for what is on its way (its timeout is 2 s): a failed one is a Warning Event."""

log = structlog.get_logger()


@dataclass(slots=True)
class Parts:
    """What the routes stand on."""

    settings: Settings
    namespaces: Namespaces
    keeper: Keeper
    serving: ServingContext
    telling: Telling
    metrics: Metrics
    is_draining: Callable[[], bool]
    client_names: tuple[str, ...] | None = None
    """Whose certificates may ask (callers.fault); None: whoever reaches the port."""
    intake: Intake = field(default_factory=Intake)
    waiting_count: int = 0
    _looking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOOK_UPS_COUNT))

    def fault(self) -> str | None:
        """Why this replica must not be sent reviews now."""
        if self.is_draining():
            return "shutting down"
        if not self.namespaces.is_synced:
            return "the namespaces are not known yet"
        return self.keeper.fault

    def refusal(self, http: Request) -> str:
        """Why this client may not ask, "" when it may."""
        return "" if self.client_names is None else callers.fault(http.scope.get(callers.SCOPE_KEY), self.client_names)

    async def decide(self, envelope: review.Envelope) -> tuple[review.Request, Patch | Skip]:
        """Decide for a pod. Raises Refused, BadReview, or KubeError when its namespace cannot be learnt."""
        settings = replace(self.settings, native_sidecar=self.keeper.standing.native_sidecar)
        namespace = self.namespaces.known(envelope.namespace)
        if namespace is not None:
            request = envelope.read()
            decision = inject(request.object or {}, namespace, settings)
            if not (isinstance(decision, Skip) and decision.reason == "NotEnabled"):
                return request, decision
            del request  # what is read of a pod is large; while it waits it is only its bytes
        # The API server would not have asked: it knows of a label that the watch has not told yet.
        namespace = await self._look_up(envelope.namespace)
        request = envelope.read()
        return request, inject(request.object or {}, namespace, settings)

    async def _look_up(self, name: str) -> Json:
        if self.waiting_count >= LOOK_UPS_WAITING_COUNT:
            raise KubeError(f"{self.waiting_count} reviews wait for the API server already")
        self.waiting_count += 1
        try:
            async with self._looking:
                return await asyncio.to_thread(self.namespaces.look_up, name)
        finally:
            self.waiting_count -= 1


Decide = Callable[[review.Envelope, Parts, str, float], Awaitable[Response]]
"""Answers a review: its envelope, the parts, the address that asked, and when it began."""


def make_app(parts: Parts) -> FastAPI:
    """Build the application; everything that it needs comes in."""
    app = FastAPI(title="Tulle webhook", version=VERSION, docs_url=None, redoc_url=None)

    @app.post("/inject")
    async def inject_route(http: Request) -> Response:
        return await _decided(http, parts, INJECT_BYTES, _answer)

    @app.post("/validate")
    async def validate_route(http: Request) -> Response:
        return await _decided(http, parts, VALIDATE_BYTES, _judge)

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        fault = parts.fault()
        waited_s = 0.0
        while fault is not None and not parts.is_draining() and waited_s < READY_PATIENCE_S:
            await asyncio.sleep(READY_AGAIN_S)
            waited_s += READY_AGAIN_S
            fault = parts.fault()
        return Response(f"{fault or 'ok'}\n", 200 if fault is None else 503, media_type="text/plain")

    @app.get("/metrics")
    async def metrics() -> Response:
        expiry = certificates.expiry(parts.serving.material.leaf)
        told = parts.telling
        text = parts.metrics.render(parts.fault() is None, expiry, told.dropped_count, told.unverified_count)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


async def _decided(http: Request, parts: Parts, limit_bytes: int, decide: "Decide") -> Response:
    """Let the client in, read its review, and answer it by `decide`."""
    began_s = time.perf_counter()
    foreign = parts.refusal(http)
    if foreign:
        return _error(403, foreign, parts, began_s)
    asked_by = http.client.host if http.client else ""
    try:
        async with parts.intake.body(http, limit_bytes) as body:
            return await decide(review.open_review(body), parts, asked_by, began_s)
    except intake.Refusal as refusal:
        return _error(refusal.status, str(refusal), parts, began_s)
    except review.BadReview as error:
        return _error(400, str(error), parts, began_s)


async def _answer(envelope: review.Envelope, parts: Parts, asked_by: str, began_s: float) -> Response:
    if not review.is_pod_creation(envelope):
        request = envelope.read()
        return _done(review.answer_untouched(request), request, parts, ("untouched", "NotAPod"), "", began_s)
    try:
        request, decision = await parts.decide(envelope)
    except Refused as error:
        request = envelope.read()
        return _done(review.answer_refusal(request, str(error)), request, parts, ("refused", ""), str(error), began_s)
    except KubeError as error:
        # No answer is an answer: failurePolicy says whether the pod comes up without the mesh or not at all.
        return _error(503, f"the pod's namespace {envelope.namespace} cannot be read: {error}", parts, began_s)
    if isinstance(decision, Patch):
        outcome, message = ("injected", ""), ""
    else:
        outcome, message = ("skipped", decision.reason), decision.message
        _tell(request, decision, parts, asked_by)
    return _done(review.answer_decision(request, decision), request, parts, outcome, message, began_s)


async def _judge(envelope: review.Envelope, parts: Parts, asked_by: str, began_s: float) -> Response:
    request = envelope.read()
    verdict = policies.judge(request)
    if verdict.fault:
        answer, outcome = review.answer_refusal(request, verdict.fault), ("refused", verdict.reason)
    else:
        answer, outcome = review.answer_untouched(request, verdict.warnings), ("accepted", verdict.reason)
    return _done(answer, request, parts, outcome, verdict.fault, began_s)


def _tell(request: review.Request, skip: Skip, parts: Parts, asked_by: str) -> None:
    # The registration promises no side effects for a dry run; and of a pod already injected there is no news.
    if request.dry_run or not skip.operations:
        return
    event = skip_event(request, skip, datetime.now(UTC))
    if event is not None:
        parts.telling.tell(event, asked_by)


def _done(
    answer: bytes, request: review.Request, parts: Parts, outcome: tuple[str, str], message: str, began_s: float
) -> Response:
    elapsed_s = time.perf_counter() - began_s
    parts.metrics.record(*outcome, elapsed_s)
    found = request.object or {}
    metadata = found.get("metadata") if isinstance(found.get("metadata"), dict) else {}
    name = request.name or (metadata or {}).get("name") or (metadata or {}).get("generateName") or ""
    name = cut(str(name))
    is_pod = review.is_pod_creation(request)
    whose = {"pod": name, "owner": cut(owner_name(found))} if is_pod else {"object": name}
    log.info(
        "decision",
        decision=outcome[0],
        reason=outcome[1],
        message=cut(message, LOGGED_CHARS),
        namespace=request.namespace,
        **whose,
        uid=request.uid,
        dry_run=request.dry_run,
        elapsed_ms=round(elapsed_s * 1000, 2),
    )
    return Response(answer, media_type="application/json")


def _error(status: int, message: str, parts: Parts, began_s: float) -> Response:
    outcome = {403: "foreign", 503: "failed"}.get(status, "malformed")
    message = cut(message, LOGGED_CHARS)
    parts.metrics.record(outcome, "", time.perf_counter() - began_s)
    log.warning("decision", decision=outcome, message=message, status=status)
    body = review.render_status(status, message)
    return Response(body, status, media_type="application/json")
