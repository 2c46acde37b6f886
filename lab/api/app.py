"""The HTTP face of the API server: one ASGI application over the registry. Waits.

Streams (exec, logs, proxies) have their own routes, in front; everything else comes through one handler: authenticate,
authorize, dispatch by path and verb, answer JSON; each refusal is a Status object.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from lab.api import discovery, errors, negotiation, openapi, request
from lab.api.authn import Authority
from lab.api.call import Answer, Call
from lab.api.errors import ApiError
from lab.api.handlers import Handlers
from lab.api.identity import SYSTEM, User
from lab.api.negotiation import JSON, encode
from lab.api.registry import Registry
from lab.api.streams import Kubelet, stream_routes

log = structlog.get_logger("lab.api")

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0",
    "gitCommit": "tulle-lab",
    "gitTreeState": "clean",
    "buildDate": "2025-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "cpython",
    "platform": "linux/amd64",
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
HEALTH = ("/healthz", "/livez", "/readyz")
# A client may keep a document for this long: its address carries a hash of its content.
KEPT = {"cache-control": "public, max-age=31536000, immutable"}


def make_app(registry: Registry, authority: Authority | None, kubelet: Kubelet | None) -> Starlette:
    """The application. Without an authority everybody is the administrator; without a kubelet there are no streams."""
    front = _Front(registry, authority)
    routes: list[BaseRoute] = []
    if authority is not None and kubelet is not None:
        routes += stream_routes(registry, authority, kubelet)
    routes.append(Route("/{path:path}", front.answer, methods=METHODS))
    return Starlette(routes=routes)


class _Front:
    def __init__(self, registry: Registry, authority: Authority | None) -> None:
        self._registry = registry
        self._authority = authority
        self._handlers = Handlers(registry, authority, random.Random())

    async def answer(self, http: Request) -> Response:
        try:
            return await self._dispatch(http)
        except ApiError as error:
            return _json(error.status(), error.code)
        except RecursionError:
            deep = errors.bad_request("the body is nested too deep")
            return _json(deep.status(), deep.code)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            log.exception("bug while answering", method=http.method, path=http.url.path)
            bug = errors.internal("a bug in the lab's API server; its log has the traceback")
            return _json(bug.status(), bug.code)

    async def _dispatch(self, http: Request) -> Response:
        user = SYSTEM if self._authority is None else await self._authority.authenticate(http.headers)
        path, query = http.url.path, http.query_params
        asked = request.parse(http.method, path, query)
        if asked is None:
            await self._may_see(user, http.method.lower(), path)
            return self._about_the_server(http, path.rstrip("/"))
        await self._may(user, asked)
        call = Call(asked, user, query, http.headers, await _body(http))
        return _respond(await self._handlers.handle(call))

    async def _may(self, user: User, asked: request.Asked) -> None:
        if self._authority is None:
            return
        place = (asked.group, asked.plural, asked.subresource, asked.namespace, asked.name)
        decision = await self._authority.authorize(user, asked.verb, *place)
        if not decision.allowed:
            raise request.forbidden(asked, user.name, decision.reason)

    async def _may_see(self, user: User, verb: str, path: str) -> None:
        if self._authority is None or path in HEALTH:
            return
        decision = await self._authority.authorize_path(user, verb, path)
        if not decision.allowed:
            raise errors.forbidden(f'forbidden: User "{user.name}" cannot {verb} path "{path}"')

    def _about_the_server(self, http: Request, path: str) -> Response:
        catalog = self._registry.catalog
        if http.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()
        if path in ("/api", "/apis"):
            return self._groups(http, path)
        steps = path.removeprefix("/").split("/")
        if steps[0] == "api" and len(steps) == 2:
            return _json(discovery.resources(catalog, "", steps[1]))
        if steps[0] == "apis" and len(steps) == 2:
            return _json(discovery.group(catalog, steps[1]))
        if steps[0] == "apis" and len(steps) == 3:
            return _json(discovery.resources(catalog, steps[1], steps[2]))
        if path == "/openapi/v3":
            return _json(openapi.index(catalog))
        if path.startswith("/openapi/v3/"):
            headers = KEPT if "hash" in http.query_params else {}
            return _json(openapi.document(catalog, path.removeprefix("/openapi/v3/")), headers=headers)
        if path in HEALTH or path.startswith(tuple(f"{name}/" for name in HEALTH)):
            return PlainTextResponse("ok")
        if path == "/version":
            return _json(VERSION)
        if path == "":
            return _json({"paths": ["/api", "/apis", *HEALTH, "/openapi/v3", "/version"]})
        raise errors.no_such_resource()

    def _groups(self, http: Request, path: str) -> Response:
        catalog, core = self._registry.catalog, path == "/api"
        if negotiation.form(http.headers.get("accept", "")) == "APIGroupDiscoveryList":
            return _json(discovery.aggregated(catalog, core=core), media_type=discovery.AGGREGATED_TYPE)
        return _json(discovery.versions(http.headers.get("host", "")) if core else discovery.groups(catalog))


async def _body(http: Request) -> bytes:
    if http.method in ("GET", "HEAD"):
        return b""
    body = bytearray()
    async for piece in http.stream():
        body += piece
        if len(body) > negotiation.BODY_MAX_BYTES:
            limit = negotiation.BODY_MAX_BYTES
            raise errors.ApiError(413, "RequestEntityTooLarge", f"the body is larger than {limit} bytes")
    return bytes(body)


def _json(value: Any, code: int = 200, *, headers: Mapping[str, str] | None = None, media_type: str = JSON) -> Response:
    return Response(encode(value), code, headers, media_type)


def _respond(answer: Answer) -> Response:
    if answer.lines is not None:
        return StreamingResponse(answer.lines, answer.code, media_type=JSON)
    response = _json(answer.value, answer.code)
    for warning in answer.warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.append("warning", f'299 - "{quoted}"')
    return response
