"""The webhook's routes: read a review, decide, answer. Waits."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response

from contract import VERSION
from webhook import certificates, policies, review
from webhook.annotations import Refused
from webhook.events import owner_name, skip_event
from webhook.inject import Patch, Skip, inject
from webhook.keeper import Keeper
from webhook.kube import KubeError
from webhook.metrics import Metrics
from webhook.namespaces import Namespaces
from webhook.settings import Settings
from webhook.telling import Telling
from webhook.tls import ServingContext

Json = dict[str, Any]

BODY_LIMIT_BYTES = 8 * 1024 * 1024
"""Kubernetes objects end at about 1.5 MiB (etcd's limit); a review holds one, and on updates the old one."""

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

    def fault(self) -> str | None:
        """Why this replica must not be sent reviews now."""
        if self.is_draining():
            return "shutting down"
        if not self.namespaces.is_synced:
            return "the namespaces are not known yet"
        return self.keeper.fault

    async def decide(self, request: review.Request) -> Patch | Skip:
        """Decide for a pod. Raises Refused, or KubeError when its namespace cannot be learnt."""
        settings = replace(self.settings, native_sidecar=self.keeper.standing.native_sidecar)
        pod = request.object or {}
        namespace = self.namespaces.known(request.namespace)
        if namespace is not None:
            decision = inject(pod, namespace, settings)
            if not (isinstance(decision, Skip) and decision.reason == "NotEnabled"):
                return decision
        # The API server would not have asked: it knows of a label that the watch has not told yet.
        namespace = await asyncio.to_thread(self.namespaces.look_up, request.namespace)
        return inject(pod, namespace, settings)


def make_app(parts: Parts) -> FastAPI:
    """Build the application; everything that it needs comes in."""
    app = FastAPI(title="Tulle webhook", version=VERSION, docs_url=None, redoc_url=None)

    @app.post("/inject")
    async def inject_route(http: Request) -> Response:
        began_s = time.perf_counter()
        body = await _body(http)
        if body is None:
            return _error(413, f"the body is larger than {BODY_LIMIT_BYTES} bytes", parts, began_s)
        try:
            request = review.parse_review(body)
        except review.BadReview as error:
            return _error(400, str(error), parts, began_s)
        return await _answer(request, parts, began_s)

    @app.post("/validate")
    async def validate_route(http: Request) -> Response:
        began_s = time.perf_counter()
        body = await _body(http)
        if body is None:
            return _error(413, f"the body is larger than {BODY_LIMIT_BYTES} bytes", parts, began_s)
        try:
            request = review.parse_review(body)
        except review.BadReview as error:
            return _error(400, str(error), parts, began_s)
        return _judge(request, parts, began_s)

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
        text = parts.metrics.render(parts.fault() is None, expiry, parts.telling.dropped_count)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


async def _answer(request: review.Request, parts: Parts, began_s: float) -> Response:
    if not review.is_pod_creation(request):
        return _done(review.answer_untouched(request), request, parts, ("untouched", "NotAPod"), "", began_s)
    try:
        decision = await parts.decide(request)
    except Refused as error:
        return _done(review.answer_refusal(request, str(error)), request, parts, ("refused", ""), str(error), began_s)
    except KubeError as error:
        # No answer is an answer: failurePolicy says whether the pod comes up without the mesh or not at all.
        return _error(503, f"the pod's namespace {request.namespace} cannot be read: {error}", parts, began_s)
    if isinstance(decision, Patch):
        outcome, message = ("injected", ""), ""
    else:
        outcome, message = ("skipped", decision.reason), decision.message
        _tell(request, decision, parts)
    return _done(review.answer_decision(request, decision), request, parts, outcome, message, began_s)


def _judge(request: review.Request, parts: Parts, began_s: float) -> Response:
    verdict = policies.judge(request)
    if verdict.fault:
        answer, outcome = review.answer_refusal(request, verdict.fault), ("refused", verdict.reason)
    else:
        answer, outcome = review.answer_untouched(request, verdict.warnings), ("accepted", verdict.reason)
    return _done(answer, request, parts, outcome, verdict.fault, began_s)


def _tell(request: review.Request, skip: Skip, parts: Parts) -> None:
    # The registration promises no side effects for a dry run; and of a pod already injected there is no news.
    if request.dry_run or not skip.operations:
        return
    event = skip_event(request, skip, datetime.now(UTC))
    if event is not None:
        parts.telling.tell(event)


def _done(
    answer: bytes, request: review.Request, parts: Parts, outcome: tuple[str, str], message: str, began_s: float
) -> Response:
    elapsed_s = time.perf_counter() - began_s
    parts.metrics.record(*outcome, elapsed_s)
    found = request.object or {}
    metadata = found.get("metadata") if isinstance(found.get("metadata"), dict) else {}
    name = request.name or (metadata or {}).get("name") or (metadata or {}).get("generateName") or ""
    whose = {"pod": name, "owner": owner_name(found)} if request.kind.kind == "Pod" else {request.kind.kind: name}
    log.info(
        "decision",
        decision=outcome[0],
        reason=outcome[1],
        message=message,
        namespace=request.namespace,
        **whose,
        uid=request.uid,
        dry_run=request.dry_run,
        elapsed_ms=round(elapsed_s * 1000, 2),
    )
    return Response(answer, media_type="application/json")


def _error(status: int, message: str, parts: Parts, began_s: float) -> Response:
    outcome = "failed" if status == 503 else "malformed"
    parts.metrics.record(outcome, "", time.perf_counter() - began_s)
    log.warning("decision", decision=outcome, message=message, status=status)
    body = review.render_status(status, message)
    return Response(body, status, media_type="application/json")


async def _body(http: Request) -> bytes | None:
    """The whole body, or None as soon as it is longer than any review."""
    parts: list[bytes] = []
    size_bytes = 0
    async for chunk in http.stream():
        size_bytes += len(chunk)
        if size_bytes > BODY_LIMIT_BYTES:
            return None
        parts.append(chunk)
    return b"".join(parts)
