"""Every refusal of the API server as one exception that knows its Kubernetes Status object. Pure.

Sources: the `Status` and `StatusDetails` types of meta/v1; the wording follows what kubectl users already know.
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that is refused: HTTP code, machine-readable reason, sentence for people, optional details."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """The body of the answer: a v1 Status with status Failure."""
        body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body["message"] = self.message
        body["reason"] = self.reason
        if self.details:
            body["details"] = self.details
        body["code"] = self.code
        return body


def qualified(name: str, group: str) -> str:
    """`deployments.apps`, `Deployment.apps`, or the bare name in the core group."""
    return f"{name}.{group}" if group else name


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404: no such object."""
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    return ApiError(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', details)


def no_such_resource() -> ApiError:
    """404: no such kind or path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409 on create."""
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    return ApiError(409, "AlreadyExists", f'{qualified(plural, group)} "{name}" already exists', details)


def conflict(plural: str, group: str, name: str, why: str = "") -> ApiError:
    """409: a stale resourceVersion, a wrong uid, or `why`."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}', details
    )


def cause(field: str, message: str, reason: str = "FieldValueInvalid") -> dict[str, str]:
    """One entry of `details.causes`: the field's path and what is wrong with it."""
    return {"reason": reason, "message": message, "field": field}


def invalid(kind: str, group: str, name: str, causes: list[dict[str, str]]) -> ApiError:
    """422: well-formed but wrong; every cause names its field."""
    listed = [f"{item['field']}: {item['message']}" for item in causes]
    text = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    details = {"name": name, "kind": kind, "causes": causes, **({"group": group} if group else {})}
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> ApiError:
    """400: the request itself is malformed."""
    return ApiError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    """401: who are you?"""
    return ApiError(401, "Unauthorized", message)


def forbidden(message: str, plural: str = "", group: str = "", name: str = "") -> ApiError:
    """403: known, but not allowed."""
    details = {"name": name, "group": group, "kind": plural}
    return ApiError(403, "Forbidden", message, {key: value for key, value in details.items() if value})


def expired(message: str) -> ApiError:
    """410: a resourceVersion that the watch cache no longer (or does not yet) know."""
    return ApiError(410, "Expired", message)


def method_not_allowed(message: str = "the server does not allow this method on the requested resource") -> ApiError:
    """405: the verb is not served here."""
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(message: str) -> ApiError:
    """415: a body in an encoding or patch format that is not read here."""
    return ApiError(415, "UnsupportedMediaType", message)


def not_implemented(what: str) -> ApiError:
    """501: a part of Kubernetes that the lab leaves out, said plainly."""
    return ApiError(501, "NotImplemented", f"the lab does not implement {what}")


def internal(message: str) -> ApiError:
    """500: the server's own fault or a webhook's."""
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})
