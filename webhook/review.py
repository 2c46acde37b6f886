"""AdmissionReview in and out as typed values. Pure.

Source: admission.k8s.io/v1 (k8s.io/api/admission/v1/types.go).
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec

from webhook.inject import Patch, Skip

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"


class BadReview(ValueError):
    """What arrived is no AdmissionReview that can be answered; the message names the field."""


class GroupVersionKind(msgspec.Struct, frozen=True):
    """What the object is."""

    kind: str
    version: str = ""
    group: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an AdmissionRequest that is read."""

    uid: str
    kind: GroupVersionKind
    operation: str = ""
    namespace: str = ""
    name: str = ""
    dry_run: bool = False
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """An AdmissionReview as it arrives."""

    api_version: str
    kind: str
    request: Request


_decoder = msgspec.json.Decoder(Review)


def parse_review(body: bytes) -> Request:
    """Read a review. Raises BadReview."""
    try:
        review = _decoder.decode(body)
    except msgspec.DecodeError as error:  # ValidationError too: it is one
        raise BadReview(f"the body is no {KIND}: {error}") from None
    except RecursionError:
        raise BadReview(f"the body is no {KIND}: it is nested too deep") from None
    if (review.api_version, review.kind) != (API_VERSION, KIND):
        raise BadReview(f"the body is {review.api_version} {review.kind}; send {API_VERSION} {KIND}")
    if not review.request.uid:
        raise BadReview("request.uid is empty; the answer would belong to no request")
    return review.request


def is_pod_creation(request: Request) -> bool:
    return (request.kind.group, request.kind.kind) == ("", "Pod") and request.operation == "CREATE"


def answer_decision(request: Request, decision: Patch | Skip) -> bytes:
    """Write the answer that lets the pod in, patched or merely annotated."""
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if decision.operations:
        response["patchType"] = "JSONPatch"
        response["patch"] = b64encode(msgspec.json.encode(decision.operations)).decode()
    if isinstance(decision, Patch):
        response["auditAnnotations"] = {"decision": "Injected"}
        if decision.warnings:
            response["warnings"] = [f"tulle: {warning}" for warning in decision.warnings]
    else:
        response["auditAnnotations"] = {"decision": decision.reason}
    return _answer(response)


def answer_untouched(request: Request, warnings: Sequence[str] = ()) -> bytes:
    """Write the answer that lets an object in as it is."""
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if warnings:
        response["warnings"] = [f"tulle: {warning}" for warning in warnings]
    return _answer(response)


def answer_refusal(request: Request, message: str) -> bytes:
    """Write the answer that keeps the object out and says why."""
    status = {"status": "Failure", "code": 422, "reason": "Invalid", "message": message}
    return _answer({"uid": request.uid, "allowed": False, "status": status})


def _answer(response: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": KIND, "response": response})


def render_status(code: int, message: str) -> bytes:
    """Write a v1.Status, the form in which Kubernetes' own components tell errors."""
    reason = {400: "BadRequest", 413: "RequestEntityTooLarge"}.get(code, "ServiceUnavailable")
    status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return msgspec.json.encode(status | {"message": message})
