"""AdmissionReview in and out as typed values. Pure.

A review is opened first, which builds nothing of the objects in it; what a decision needs of them is read when it is
known what is decided about, and no more. Texts that leave again, in answers and logs, are bounded.

Source: admission.k8s.io/v1 (k8s.io/api/admission/v1/types.go).
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from contract import kinds
from contract.spelling import cut
from webhook.inject import Patch, Skip

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"


class BadReview(ValueError):
    """What arrived is no AdmissionReview that can be answered; the message names the field."""


MESSAGE_CHARS: Final = 16_384
"""Of a refusal: fifty faults of a policy."""
WARNINGS_COUNT: Final = 20
WARNING_CHARS: Final = 500
"""API servers cut warnings to 256 characters once they are long together."""
SPEC_BYTES: Final = 128 * 1024
"""Of a policy's spec; a full one takes 5 KB."""

Word = Annotated[str, msgspec.Meta(max_length=253)]
Name = Annotated[str, msgspec.Meta(max_length=1024)]
"""Not judged yet by the API server, which says better what is wrong with it."""
_NULL: Final = msgspec.Raw(b"null")


class GroupVersionKind(msgspec.Struct, frozen=True):
    """What the object is."""

    kind: Word
    version: Word = ""
    group: Word = ""


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
    fault: str = ""
    """Why the object is refused unread."""


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """An AdmissionRequest whose objects are not read yet."""

    uid: Annotated[str, msgspec.Meta(max_length=128)]
    kind: GroupVersionKind
    operation: Word = ""
    namespace: Word = ""
    name: Name = ""
    dry_run: bool = False
    object: msgspec.Raw = _NULL
    old_object: msgspec.Raw = _NULL

    def read(self) -> Request:
        """Read of the objects what is decided about.

        Raises:
            BadReview: an object is no object.
        """
        new = old = None
        fault = ""
        if self.kind.group == kinds.GROUP:
            new, old = _policy(self.object, "object"), _policy(self.old_object, "oldObject")
            fault = next((one[_FAULT] for one in (new, old) if one and _FAULT in one), "")
            if fault and _spec(self.object) == _spec(self.old_object):
                new, old, fault = {}, {}, ""  # it came in before, and may be labelled and deleted
        elif is_pod_creation(self):
            new = _decoded(_whole, self.object, "object")
        return Request(
            self.uid, self.kind, self.operation, self.namespace, self.name, self.dry_run, new, old, fault
        )  # fmt: skip


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """An AdmissionReview as it arrives."""

    api_version: Word
    kind: Word
    request: Envelope


_FAULT: Final = "\0fault"
_decoder = msgspec.json.Decoder(Review)
_whole = msgspec.json.Decoder(dict[str, Any] | None)
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def parse_review(body: bytes) -> Request:
    """Open a review and read what is in it. Raises BadReview."""
    return open_review(body).read()


def open_review(body: bytes) -> Envelope:
    """Open a review. Raises BadReview."""
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


def _decoded(decoder: "msgspec.json.Decoder[Any]", raw: msgspec.Raw, where: str) -> Any:
    try:
        return decoder.decode(raw)
    except RecursionError:
        raise BadReview(f"the body is no {KIND}: it is nested too deep - at `$.request.{where}`") from None
    except msgspec.DecodeError as error:
        text, _, path = str(error).partition(" - at `$")
        raise BadReview(f"the body is no {KIND}: {text} - at `$.request.{where}{path or '`'}") from None


def _policy(raw: msgspec.Raw, where: str) -> dict[str, Any] | None:
    """A policy's fields; of those that nothing is decided by, the names alone."""
    parts: dict[str, msgspec.Raw] | None = _decoded(_parts, raw, where)
    if parts is None:
        return None
    found: dict[str, Any] = dict.fromkeys(parts)
    spec = parts.get("spec", _NULL)
    if len(bytes(spec)) > SPEC_BYTES:
        return {_FAULT: f"spec: is {len(bytes(spec))} bytes long; write at most {SPEC_BYTES}"}
    if "spec" in parts:
        found["spec"] = _decoded(msgspec.json.Decoder(Any), spec, f"{where}.spec")
    return found


def _spec(raw: msgspec.Raw) -> bytes:
    parts: dict[str, msgspec.Raw] | None = _decoded(_parts, raw, "object")
    return bytes((parts or {}).get("spec", _NULL))


def is_pod_creation(request: Request | Envelope) -> bool:
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
            response["warnings"] = _warned(decision.warnings)
    else:
        response["auditAnnotations"] = {"decision": decision.reason}
    return _answer(response)


def answer_untouched(request: Request, warnings: Sequence[str] = ()) -> bytes:
    """Write the answer that lets an object in as it is."""
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if warnings:
        response["warnings"] = _warned(warnings)
    return _answer(response)


def answer_refusal(request: Request, message: str) -> bytes:
    """Write the answer that keeps the object out and says why."""
    status = {"status": "Failure", "code": 422, "reason": "Invalid", "message": cut(message, MESSAGE_CHARS)}
    return _answer({"uid": request.uid, "allowed": False, "status": status})


def _warned(warnings: Sequence[str]) -> list[str]:
    told = [f"tulle: {cut(warning, WARNING_CHARS)}" for warning in warnings[:WARNINGS_COUNT]]
    more_count = len(warnings) - len(told)
    return told + ([f"tulle: and {more_count} more"] if more_count else [])


def _answer(response: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": KIND, "response": response})


_REASONS: Final = {400: "BadRequest", 403: "Forbidden", 408: "Timeout", 413: "RequestEntityTooLarge"}


def render_status(code: int, message: str) -> bytes:
    """Write a v1.Status, the form in which Kubernetes' own components tell errors."""
    reason = _REASONS.get(code, "ServiceUnavailable")
    status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return msgspec.json.encode(status | {"message": cut(message, MESSAGE_CHARS)})
