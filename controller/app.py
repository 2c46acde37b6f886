"""The routes: REST for people and programs, discovery and reports for sidecars, probes and metrics. Waits.

Every refusal is an RFC 9457 problem document, those that the framework makes too.
"""

import asyncio
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

import msgspec
import structlog
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from contract.discovery import DISCOVERY_PATH
from contract.report import REPORT_PATH
from contract.silence import SILENT_PATH, SilentAnswer
from contract.stat import StatAnswer
from controller import openapi, sidecars
from controller.problems import MEDIA_TYPE, FieldError, Refusal
from controller.query import DEFAULT_WINDOW, parse_query
from controller.stat import answer
from controller.truth import Truth


def _version() -> str:
    try:
        return version("tulle")
    except PackageNotFoundError:  # run from a bare checkout
        return "0.0.0"


VERSION: Final = _version()

READY_PATIENCE_S: Final = 1.5
READY_AGAIN_S: Final = 0.05
"""Seconds that a readiness probe waits for the cluster to be read (its timeout is 2 s): a failed one is a Warning."""

NamespaceName = Annotated[str, Path(description="Name of a namespace.", examples=["shop"])]
Resource = Annotated[str, Path(description=openapi.RESOURCE_TEXT, examples=["deployments"])]
ResourceName = Annotated[str, Path(description="Name of one resource of the kind.", examples=["web"])]
Window = Annotated[str, Query(description=openapi.WINDOW_TEXT, examples=["1m", "30s", "1h"])]
To = Annotated[str | None, Query(description=openapi.TO_TEXT, examples=["services/catalog"])]
ToNamespace = Annotated[str | None, Query(description=openapi.TO_NAMESPACE_TEXT, examples=["shop"])]
From = Annotated[str | None, Query(alias="from", description=openapi.FROM_TEXT, examples=["deployments/web"])]
FromNamespace = Annotated[str | None, Query(description=openapi.FROM_NAMESPACE_TEXT, examples=["shop"])]


def make_app(truth: Truth) -> FastAPI:
    """Build the application over what the controller knows."""
    app = FastAPI(
        title="Tulle controller",
        version=VERSION,
        description=openapi.DESCRIPTION,
        docs_url=None,  # their pages load scripts from elsewhere; a cluster need not reach the internet
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_stat(app, truth)
    _add_operations(app, truth)
    _add_sidecars(app, truth)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_bug)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]  # the documented way
    return app


async def _stat(truth: Truth, request: Request, kind: str, namespace: str | None, name: str | None) -> Response:
    truth.check_synced()
    parameters: dict[str, list[str]] = {}
    for parameter, value in request.query_params.multi_items():
        parameters.setdefault(parameter, []).append(value)
    query = parse_query(kind, namespace, name, parameters)
    steps = answer(query, truth.cluster, truth.traffic, truth.clock())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return _json(end.value)
        await asyncio.sleep(0)


def _add_stat(app: FastAPI, truth: Truth) -> None:
    # The parameters of these functions are documentation: `parse_query` reads them, for its messages.
    common: dict[str, Any] = {"response_model": StatAnswer, "responses": openapi.STAT_RESPONSES, "tags": ["stat"]}

    @app.get("/api/v1/namespaces/{namespace}/{resource}/{name}/stat", summary="One resource", **common)
    async def stat_one(
        request: Request, namespace: NamespaceName, resource: Resource, name: ResourceName,
        window: Window = DEFAULT_WINDOW, to: To = None, to_namespace: ToNamespace = None,
        source: From = None, from_namespace: FromNamespace = None,
    ) -> Response:  # fmt: skip
        """Traffic of one resource over the window: one row."""
        return await _stat(truth, request, resource, namespace, name)

    @app.get("/api/v1/namespaces/{namespace}/{resource}/stat", summary="All of a kind in a namespace", **common)
    async def stat_kind(
        request: Request, namespace: NamespaceName, resource: Resource,
        window: Window = DEFAULT_WINDOW, to: To = None, to_namespace: ToNamespace = None,
        source: From = None, from_namespace: FromNamespace = None,
    ) -> Response:  # fmt: skip
        """Traffic of every resource of the kind in the namespace, those without traffic too: one row each."""
        return await _stat(truth, request, resource, namespace, None)

    @app.get("/api/v1/namespaces/{namespace}/stat", summary="A namespace as a whole", **common)
    async def stat_namespace(
        request: Request, namespace: NamespaceName,
        window: Window = DEFAULT_WINDOW, to: To = None, to_namespace: ToNamespace = None,
        source: From = None, from_namespace: FromNamespace = None,
    ) -> Response:  # fmt: skip
        """Traffic of all the namespace's pods together: one row."""
        return await _stat(truth, request, "namespaces", namespace, None)

    @app.get("/api/v1/{resource}/stat", summary="All of a kind in all namespaces", **common)
    async def stat_everywhere(
        request: Request, resource: Resource,
        window: Window = DEFAULT_WINDOW, to: To = None, to_namespace: ToNamespace = None,
        source: From = None, from_namespace: FromNamespace = None,
    ) -> Response:  # fmt: skip
        """Traffic of every resource of the kind in the cluster, those without traffic too: one row each."""
        return await _stat(truth, request, resource, None, None)


def _add_operations(app: FastAPI, truth: Truth) -> None:
    @app.get("/api/v1/version", response_model=openapi.Version, tags=["operation"], summary="Version")
    async def read_version() -> Response:
        """Version of this controller."""
        return _json(openapi.Version(VERSION))

    @app.get(
        SILENT_PATH,
        response_model=SilentAnswer,
        responses=openapi.UNAVAILABLE,
        tags=["operation"],
        summary="Silent sidecars",
    )
    async def silent() -> Response:
        """Sidecars of running pods that hold no discovery stream: policies are not in force there."""
        truth.check_synced()
        return _json(truth.silence.answer(truth.clock()))

    @app.get("/healthz", tags=["operation"], summary="Liveness", **openapi.plain("ok"))
    async def healthz() -> Response:
        """Answers while the event loop runs."""
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", tags=["operation"], summary="Readiness", responses=openapi.UNAVAILABLE, **openapi.plain("ok"))
    async def readyz() -> Response:
        """Answers 200 once the cluster was read whole, 503 with the reasons before."""
        waited_s = 0.0
        while not truth.is_synced and not truth.hub.is_closing and waited_s < READY_PATIENCE_S:
            await asyncio.sleep(READY_AGAIN_S)
            waited_s += READY_AGAIN_S
        truth.check_synced()
        return Response("ok\n", media_type="text/plain")

    @app.get("/metrics", tags=["operation"], summary="Prometheus metrics", **openapi.plain("# HELP ..."))
    async def metrics() -> Response:
        """The controller's own metrics; the mesh's are on each sidecar's admin port."""
        statistics = truth.traffic.statistics()
        truth.meters.sources.set(statistics.sources_count)
        truth.meters.series.set(statistics.series_count)
        truth.meters.series_overflow.set(truth.traffic.overflow_count)
        truth.meters.series_shed.set(truth.traffic.shed_count)
        truth.meters.series_bytes.set(truth.traffic.held_bytes)
        return Response(generate_latest(truth.meters.registry), media_type=CONTENT_TYPE_LATEST)


def _add_sidecars(app: FastAPI, truth: Truth) -> None:
    @app.post(DISCOVERY_PATH, tags=["sidecar"], summary="Discovery stream", **openapi.DISCOVERY)
    async def discovery(request: Request) -> Response:
        """Tell a sidecar what stands behind the destinations it uses, as a stream of lines.

        Sends those destinations whose revision differs from what the sidecar holds, then each change as it comes,
        and an empty update every five seconds.
        """
        return await sidecars.open_discovery(request, truth)

    @app.post(REPORT_PATH, tags=["sidecar"], summary="Report", status_code=204, **openapi.REPORT)
    async def report(request: Request) -> Response:
        """Take what a sidecar counted since its last report; the same report twice is counted once."""
        return await sidecars.take_report(request, truth)


def _json(value: object, status: int = 200, media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(value), status, media_type=media_type)


def _refuse(request: Request, refusal: Refusal) -> Response:
    response = _json(asdict(refusal.problem(request.url.path)), refusal.status, MEDIA_TYPE)
    if refusal.retry_after_s:
        response.headers["retry-after"] = str(refusal.retry_after_s)
    return response


async def _on_refusal(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return _refuse(request, refusal)


async def _on_http_exception(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    slug = {404: "not-found", 405: "method-not-allowed"}.get(fault.status_code, "refused")
    detail = {
        404: f"There is nothing at {request.url.path[:200]!r}; /openapi.json lists what there is.",
        405: f"{request.url.path[:200]!r} does not take {request.method}.",
    }.get(fault.status_code, str(fault.detail))
    response = _refuse(request, Refusal(fault.status_code, slug, slug.replace("-", " ").capitalize(), detail))
    response.headers.update(fault.headers or {})
    return response


async def _on_validation_error(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)
    errors = tuple(FieldError(str(item["loc"][-1]), str(item["msg"])) for item in fault.errors())
    detail = "; ".join(f"{item.field}: {item.detail}" for item in errors)
    return _refuse(request, Refusal(422, "invalid-parameter", "Invalid parameter", detail, errors))


async def _on_bug(request: Request, fault: Exception) -> Response:
    structlog.get_logger().error("bug", path=request.url.path, method=request.method, fault=repr(fault))
    return _refuse(
        request, Refusal(500, "bug", "Internal error", "The controller failed to answer; its log says more.")
    )
