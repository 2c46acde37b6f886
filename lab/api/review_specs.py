"""The specs of reviews as typed records, read from what was posted. Pure.

Source: authentication.k8s.io/v1 and authorization.k8s.io/v1; unknown fields are the schema's business, not ours.
"""

from typing import Any, TypeVar

import msgspec

from lab.api import errors


class TokenReviewSpec(msgspec.Struct, frozen=True, rename="camel"):
    """A token to be judged; no audiences = the API server's own."""

    token: str = ""
    audiences: list[str] | None = None


class ResourceAttributes(msgspec.Struct, frozen=True, rename="camel"):
    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class PathAttributes(msgspec.Struct, frozen=True, rename="camel"):
    path: str = ""
    verb: str = ""


class AccessSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Of SubjectAccessReview, its local form and its self form (which has no user)."""

    user: str = ""
    groups: list[str] | None = None
    uid: str = ""
    extra: dict[str, list[str]] | None = None
    resource_attributes: ResourceAttributes | None = None
    non_resource_attributes: PathAttributes | None = None


class RulesSpec(msgspec.Struct, frozen=True, rename="camel"):
    namespace: str = ""


class BoundReference(msgspec.Struct, frozen=True, rename="camel"):
    kind: str = ""
    name: str = ""
    uid: str = ""


class TokenSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Of TokenRequest; `expiration_seconds` is its wish."""

    audiences: list[str] | None = None
    expiration_seconds: int | None = None
    bound_object_ref: BoundReference | None = None


Spec = TypeVar("Spec", TokenReviewSpec, AccessSpec, RulesSpec, TokenSpec)


def read(body: dict[str, Any], shape: type[Spec]) -> Spec:
    """The spec of a posted review. Raises ApiError 400 that names the field."""
    try:
        return msgspec.convert(body.get("spec") or {}, shape)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise errors.bad_request(f"spec{where.rstrip('`')}: {what}") from None
