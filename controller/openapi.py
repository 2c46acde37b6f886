"""The OpenAPI document: the texts of parameters, the schemas that are not FastAPI's own, examples. Pure.

Problem, Report, Subscribe and Update are documented from the very types that encode and decode them (msgspec's and
pydantic's JSON schemas), so the document cannot drift from the wire.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import PlainTextResponse

from contract.discovery import DISCOVERY_PATH, Destination, Endpoint, Subscribe, Update
from contract.metrics import LATENCY_BUCKETS_MS
from contract.report import REPORT_PATH, HttpSeries, Peer, Report
from contract.stat import RESOURCES
from controller.objects import Key
from controller.problems import (
    MEDIA_TYPE,
    FieldError,
    Problem,
    compressed,
    invalid_body,
    invalid_parameter,
    not_found,
    too_large,
    too_slow,
    unavailable,
)
from controller.senders import foreign, unknown

DESCRIPTION: Final = """\
Traffic of a Tulle mesh as its sidecars report it, and what the sidecars themselves ask for.

Rates are per second over the part of the window that is known: it ends with the sidecars' last reports (at most
fifteen seconds ago) and begins no earlier than the traffic in question was first seen. Latencies are times to the
response's first byte, estimated from buckets by linear interpolation. Fields are null where there was no traffic.
"""
RESOURCE_TEXT: Final = f"One of {', '.join(RESOURCES)}; singular and kubectl's short names are understood."
WINDOW_TEXT: Final = "How far to look back: a duration from `10s` to `1h`, such as `30s`, `1m30s`, `1h`."
TO_TEXT: Final = "Only traffic from the resource toward this one, as RESOURCE/NAME. Excludes `from`."
TO_NAMESPACE_TEXT: Final = (
    "Namespace of `to`; without it the namespace of the path, or any. Alone: traffic toward all of that namespace."
)
FROM_TEXT: Final = "Only traffic from this resource, as RESOURCE/NAME, the way its sidecars saw it. Excludes `to`."
FROM_NAMESPACE_TEXT: Final = (
    "Namespace of `from`; without it the namespace of the path, or any. Alone: traffic from all of that namespace."
)

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_STAT_PATH: Final = "/api/v1/namespaces/shop/deployments/web/stat"


@dataclass(frozen=True, slots=True)
class Version:
    version: str


def _example(problem: Problem) -> Any:
    return msgspec.to_builtins(problem)


def _problem(text: str, example: Problem) -> dict[str, Any]:
    return {"description": text, "content": {MEDIA_TYPE: {"schema": _PROBLEM, "example": _example(example)}}}


UNAVAILABLE: Final[dict[int | str, dict[str, Any]]] = {
    503: _problem(
        "Not ready: the cluster was not read whole yet, or the controller is shutting down.",
        unavailable("not-ready", "Not ready", "The cluster has not been read whole yet.").problem("/readyz"),
    )
}
STAT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One row a resource, ordered by namespace and name.",
        "content": {
            "application/json": {
                "example": {
                    "window_s": 60.0,
                    "rows": [
                        {
                            "namespace": "shop", "kind": "deployment", "name": "web", "meshed": 2, "pods": 2,
                            "success_rate": 0.9871, "rps": 42.5,
                            "latency_ms": {"p50": 3.2, "p95": 18.7, "p99": 46.0},
                            "tcp_open_connections": 6, "read_bytes_per_s": 10240.0, "write_bytes_per_s": 51200.0,
                        }
                    ],
                }
            }
        },
    },
    404: _problem(
        "There is no such resource, namespace or name.",
        not_found("There is no deployment 'wbe' in namespace 'shop'.").problem(_STAT_PATH.replace("web", "wbe")),
    ),
    422: _problem(
        "A parameter is unknown or makes no sense.",
        invalid_parameter("window", "'0s' is no duration from 10s to 1h; write for example 30s, 1m or 1h").problem(
            _STAT_PATH
        ),
    ),
    **UNAVAILABLE,
}  # fmt: skip

_BODY_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    403: _problem(
        "The request speaks for a pod at another address.",
        foreign(Key("shop", "web-5d9c-x2x"), "10.244.0.9").problem(REPORT_PATH),
    ),
    408: _problem("The body came too slowly.", too_slow(10.0).problem(REPORT_PATH)),
    413: _problem("The body is too large.", too_large(1 << 20).problem(REPORT_PATH)),
    415: _problem("The body is compressed.", compressed().problem(REPORT_PATH)),
    422: _problem(
        "The body has another shape.",
        invalid_body("Expected `int`, got `str` - at `$.http[0].success`").problem(REPORT_PATH),
    ),
}


def plain(example: str) -> dict[str, Any]:
    """Route arguments for a text answer."""
    return {"response_class": PlainTextResponse, "response_description": example}


def _body(name: str, example: object) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    content = {"application/json": {"schema": schema, "example": msgspec.to_builtins(example)}}
    return {"requestBody": {"required": True, "content": content}}


_ENDPOINT = Endpoint(
    ip="10.244.0.5", port=8080, pod="web-5d9c-x2x", namespace="shop", owner_kind="deployment", owner="web",
    service_account="web", zone="zone-a", node="node-1", meshed=True,
)  # fmt: skip
_UPDATE = Update((Destination(
    target="10.96.0.7:80", revision="9f86d081884c7d65", kind="service", namespace="shop", name="web", port=80,
    endpoints=(_ENDPOINT,),
),))  # fmt: skip
_REPORT = Report(
    namespace="shop", pod="web-5d9c-x2x", instance="5f3a", sequence=12, interval_s=10.0,
    http=(HttpSeries(
        direction="inbound", peer=Peer(), success=3, failure=1,
        latency_ms=(1, 3) + (0,) * (len(LATENCY_BUCKETS_MS) - 1), latency_sum_ms=6.5,
    ),),
    tcp=(),
)  # fmt: skip

DISCOVERY: Final[dict[str, Any]] = {
    "openapi_extra": _body("Subscribe", Subscribe("shop", "web-5d9c-x2x", {"10.96.0.7:80": ""})),
    "responses": {
        200: {
            "description": "One Update a line, until either side ends the stream; an empty one is a heartbeat.",
            "content": {
                "application/x-ndjson": {
                    "schema": {"$ref": "#/components/schemas/Update"},
                    "example": msgspec.to_builtins(_UPDATE),
                }
            },
        },
        **_BODY_RESPONSES,
        **UNAVAILABLE,
    },
}
REPORT: Final[dict[str, Any]] = {
    "openapi_extra": _body("Report", _REPORT),
    "responses": {
        204: {"description": "Counted, now or before."},
        **_BODY_RESPONSES,
        503: _problem(
            "The sender is not known yet, or has too much in work: send it again.",
            unknown("10.244.0.9").problem(REPORT_PATH),
        ),
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """Build the document once and keep it on the app."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, components = msgspec.json.schema_components(
            (Problem, FieldError, Report, Subscribe, Update), ref_template="#/components/schemas/{name}"
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(components)
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        stream = schema["paths"][DISCOVERY_PATH]["post"]["responses"]["200"]["content"]
        stream.pop("application/json", None)
        app.openapi_schema = schema
    return app.openapi_schema
