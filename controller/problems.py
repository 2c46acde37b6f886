"""Problem documents: every answer of 400 and above is one. Pure.

Source: RFC 9457, section 3; the member `errors` is an extension in the shape of its section 3.1 example.
"""

from dataclasses import dataclass, field
from typing import Final

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:tulle:problem:"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of a request."""

    field: str
    """A parameter's name, or where in the body: `$.http[0].success`."""
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    """Path of the request."""
    errors: list[FieldError] = field(default_factory=list)


class Refusal(Exception):
    """A request that cannot be answered; the app turns it into a Problem."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int = 0,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s

    def problem(self, instance: str) -> Problem:
        return Problem(TYPE_PREFIX + self.slug, self.title, self.status, self.detail, instance, list(self.errors))


def invalid_parameter(name: str, detail: str) -> Refusal:
    """A query parameter cannot be understood: 422."""
    return Refusal(422, "invalid-parameter", "Invalid parameter", f"{name}: {detail}", (FieldError(name, detail),))


def not_found(detail: str) -> Refusal:
    return Refusal(404, "not-found", "Not found", detail)


def invalid_body(detail: str) -> Refusal:
    """A body has another shape than the contract; `detail` is msgspec's, which ends in "- at `$.where`"."""
    message, _, where = detail.rpartition(" - at `")
    name = where.removesuffix("`") if message else "$"
    return Refusal(422, "invalid-body", "Invalid body", detail, (FieldError(name, message or detail),))


def too_large(limit_bytes: int) -> Refusal:
    return Refusal(413, "too-large", "Body too large", f"The body is larger than {limit_bytes} bytes.")


def too_slow(limit_s: float) -> Refusal:
    return Refusal(408, "too-slow", "Body too slow", f"The body did not come whole within {limit_s:g} s.")


def compressed() -> Refusal:
    return Refusal(415, "unsupported-encoding", "Unsupported encoding", "Send the body without Content-Encoding.")


def unavailable(slug: str, title: str, detail: str) -> Refusal:
    """Try again soon: 503 with Retry-After."""
    return Refusal(503, slug, title, detail, retry_after_s=1)
