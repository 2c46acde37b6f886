"""The door of every streaming route: who asks, may they, and is the pod there? Waits.

Refusals are Kubernetes Status objects, over HTTP and as the answer to a WebSocket handshake alike.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from lab.api import errors
from lab.api.authn import Authority
from lab.api.errors import ApiError
from lab.api.kubelet import Kubelet
from lab.api.reader import Object, Reader, spec_of

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True, slots=True)
class Gate:
    """What every streaming route holds."""

    reader: Reader
    authority: Authority
    kubelet: Kubelet

    async def require(self, connection: HTTPConnection, verb: str, resource: str, subresource: str, name: str) -> None:
        """Raises ApiError 401 or 403 unless the caller may do this in the namespace of the path."""
        user = await self.authority.authenticate(connection.headers)
        namespace = connection.path_params["namespace"]
        await self.authority.require(user, verb, "", resource, subresource, namespace, name)

    async def pod(self, connection: HTTPConnection, subresource: str, *verbs: str) -> Object:
        """The pod of the path, for a caller who may do one of `verbs` to its subresource. Raises ApiError."""
        namespace, name = connection.path_params["namespace"], connection.path_params["name"]
        user = await self.authority.authenticate(connection.headers)
        for verb in verbs[:-1]:
            if (await self.authority.authorize(user, verb, "", "pods", subresource, namespace, name)).allowed:
                return self.reader.get("pods", namespace, name)
        await self.authority.require(user, verbs[-1], "", "pods", subresource, namespace, name)
        return self.reader.get("pods", namespace, name)


def container_of(pod: Object, wanted: str) -> str:
    """The container that a request means: the named one, the pod's default, or its only one. Raises ApiError 400."""
    spec, name = spec_of(pod), pod["metadata"]["name"]
    regular = [str(item["name"]) for item in spec.get("containers") or []]
    every = [str(item["name"]) for item in spec.get("initContainers") or []] + regular
    wanted = wanted or (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER, "")
    if wanted:
        if wanted not in every:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(regular) == 1:
        return regular[0]
    choices = " ".join(every)
    raise errors.bad_request(f"a container name must be specified for pod {name}, choose one of: [{choices}]")


def flag(connection: HTTPConnection, name: str) -> bool:
    """A boolean query parameter, as Go's clients write it."""
    return connection.query_params.get(name, "").lower() in ("true", "1")


def number(connection: HTTPConnection, name: str) -> int | None:
    """A query parameter that is a natural number, or None. Raises ApiError 400."""
    text = connection.query_params.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise errors.bad_request(f"{name}: {text!r} is not a number of zero or more")
    return int(text)


def http(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """An HTTP endpoint whose ApiErrors become Status answers."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            return JSONResponse(error.status(), status_code=error.code)

    return answer


def socket(handler: Callable[[WebSocket], Awaitable[None]]) -> Callable[[WebSocket], Awaitable[None]]:
    """A WebSocket endpoint whose ApiErrors, raised before it accepts, refuse the handshake with a Status."""

    async def answer(websocket: WebSocket) -> None:
        try:
            await handler(websocket)
        except ApiError as error:
            await websocket.send_denial_response(JSONResponse(error.status(), status_code=error.code))

    return answer
