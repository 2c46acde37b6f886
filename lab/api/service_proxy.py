"""services/NAME/proxy and pods/NAME/proxy: plain HTTP passed through to a pod. Waits (httpx).

`services/[SCHEME:]NAME[:PORT]/proxy/PATH` goes to a ready pod behind the service,
`pods/[SCHEME:]NAME[:PORT]/proxy/PATH` to the pod's own address; SCHEME is http or https (whose certificate is not
verified, as API servers do). Bodies stream both ways, of any method. The caller's credentials stay here: the pod never
sees them. Upgrades (WebSocket) are refused.

Sources: RFC 9110 7.6.1 (hop-by-hop fields); the proxy verbs of the Kubernetes API reference.
"""

from collections.abc import AsyncIterator
from typing import Final

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from lab.api import errors
from lab.api.errors import ApiError
from lab.api.gate import Gate, http, socket
from lab.api.reader import Object, spec_of
from lab.api.service_targets import Target, targets_of

CONNECT_TIMEOUT_S: Final = 10.0
MAX_CONNECTIONS_COUNT: Final = 100
"""Proxied requests in flight; further ones wait."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SEGMENTS_COUNT: Final = 8  # of /api/v1/namespaces/NAMESPACE/services/NAME/proxy/, the empty first one counted
_KEPT_BACK: Final = frozenset(
    (
        "authorization",
        "connection",
        "host",
        "impersonate-group",
        "impersonate-uid",
        "impersonate-user",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Header fields of the hop to us, and those that would hand the caller's identity to the pod."""


def proxy_routes(gate: Gate) -> list[BaseRoute]:
    """The proxy routes of services and pods."""
    client = httpx.AsyncClient(
        verify=False,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        # No keep-alive: pods come and go, and nobody sends a flood through here.
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS_COUNT, max_keepalive_connections=0),
    )

    async def service(request: Request) -> Response:
        scheme, name, port = split_name(request.path_params["name"])
        await gate.require(request, _verb(request), "services", "proxy", name)
        targets = targets_of(gate.reader, request.path_params["namespace"], name, port)
        return await _pass_on(client, request, scheme, targets[0])

    async def pod(request: Request) -> Response:
        scheme, name, port = split_name(request.path_params["name"])
        await gate.require(request, _verb(request), "pods", "proxy", name)
        target = pod_target(gate.reader.get("pods", request.path_params["namespace"], name), port)
        return await _pass_on(client, request, scheme, target)

    async def upgrade(websocket: WebSocket) -> None:
        del websocket
        raise errors.not_implemented("protocol upgrades through the proxy: use port-forward")

    routes: list[BaseRoute] = []
    for resource, handler in (("services", service), ("pods", pod)):
        for tail in ("/proxy", "/proxy/{path:path}"):
            path = "/api/v1/namespaces/{namespace}/" + resource + "/{name}" + tail
            routes += [Route(path, http(handler), methods=METHODS), WebSocketRoute(path, socket(upgrade))]
    return routes


def split_name(text: str) -> tuple[str, str, str]:
    """(scheme, name, port) of `[SCHEME:]NAME[:PORT]`. Raises ApiError 400."""
    parts = text.split(":")
    if len(parts) == 3:
        scheme, name, port = parts
    else:
        scheme, name, port = "", parts[0], ":".join(parts[1:])
    if scheme not in ("", "http", "https") or not name or ":" in port:
        raise errors.bad_request(f"{text!r} is not [http:|https:]NAME[:PORT]")
    return scheme or "http", name, port


def pod_target(pod: Object, port: str) -> Target:
    """Where to reach a pod: its own address; the given port, by number or name, or its first one, or 80."""
    name, address = pod["metadata"]["name"], (pod.get("status") or {}).get("podIP") or ""
    if not address:
        raise ApiError(503, "ServiceUnavailable", f'pod "{name}" has no address yet')
    declared = [item for container in spec_of(pod).get("containers") or [] for item in container.get("ports") or []]
    if not port:
        return Target(address, declared[0]["containerPort"] if declared else 80)
    if port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        return Target(address, int(port))
    named = [item["containerPort"] for item in declared if item.get("name") == port]
    if not named:
        raise errors.bad_request(f'pod "{name}" has no port "{port}"')
    return Target(address, named[0])


def _verb(request: Request) -> str:
    return _VERBS.get(request.method, "get")


async def _pass_on(client: httpx.AsyncClient, request: Request, scheme: str, target: Target) -> Response:
    upstream = client.build_request(
        request.method,
        f"{scheme}://{target.authority}{_path(request)}",
        headers=_headers(request, target),
        content=request.stream() if _has_body(request) else None,
    )
    try:
        answer = await client.send(upstream, stream=True)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ApiError(
            503, "ServiceUnavailable", f"error trying to reach service: {target.authority}: {reason}"
        ) from None
    response = StreamingResponse(_body(answer), answer.status_code, background=BackgroundTask(answer.aclose))
    response.raw_headers = [
        (name.lower(), value) for name, value in answer.headers.raw if name.decode("latin-1").lower() not in _KEPT_BACK
    ]
    return response


def _path(request: Request) -> str:
    """The path behind `/proxy`, still escaped, and the query as the caller wrote them."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    behind = raw.split(b"?", 1)[0].split(b"/", _SEGMENTS_COUNT)[_SEGMENTS_COUNT:]
    query: bytes = request.scope.get("query_string") or b""
    path = "/" + (behind[0].decode("latin-1") if behind else "")
    return f"{path}?{query.decode('latin-1')}" if query else path


def _headers(request: Request, target: Target) -> list[tuple[str, str]]:
    kept = [(name, value) for name, value in request.headers.items() if name not in _KEPT_BACK]
    return [*kept, ("host", target.authority), ("x-forwarded-uri", request.url.path)]


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()
