"""Admission webhooks: which of them a request concerns, what they are asked, what their answer means. Pure.

A `Hook` is one entry of a webhook configuration with its defaults filled in; an `Attempt` is one write on its way in.

Sources: admissionregistration.k8s.io/v1 and admission.k8s.io/v1; JSONPatch is RFC 6902.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

import jsonpatch

from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.reader import Object, user_info
from lab.api.resources import Resource
from lab.api.selectors import selects

GROUP: Final = "admissionregistration.k8s.io"
DEFAULT_TIMEOUT_S: Final = 10
_REASONS: Final = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict"}
_OPTIONS: Final = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class WebhookFailure(Exception):
    """The webhook gave no usable answer; its failurePolicy decides what that means."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One write to be admitted: `old` is None on CREATE, `new` on DELETE."""

    operation: str
    resource: Resource
    subresource: str
    old: Object | None
    new: Object | None
    namespace_object: Object | None
    user: User
    dry_run: bool

    @property
    def subject(self) -> Object:
        return self.new or self.old or {}

    def changed(self, new: Object) -> "Attempt":
        return replace(self, new=new)


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook. `service` is (namespace, name, port, path) and empty when it is called by `url`."""

    configuration: str
    name: str
    is_mutating: bool
    url: str
    service: tuple[str, str, int, str] | None
    authority_pem: bytes
    rules: tuple[Object, ...]
    namespace_selector: Object
    object_selector: Object
    fails_closed: bool
    timeout_s: int
    is_reinvoked: bool
    has_side_effects: bool

    @property
    def server_name(self) -> str:
        """The name that its certificate must bear."""
        if self.service:
            return f"{self.service[1]}.{self.service[0]}.svc"
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A webhook's answer. `patch` is a JSONPatch or empty; a refusal has its HTTP code, reason and message."""

    is_allowed: bool
    patch: list[Object] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    code: int = 403
    reason: str = "Forbidden"
    message: str = ""


def hooks_of(configuration: Object) -> Iterator[Hook]:
    """The hooks of a stored configuration, in its order."""
    is_mutating = configuration["kind"] == "MutatingWebhookConfiguration"
    for entry in configuration.get("webhooks") or []:
        client = entry["clientConfig"]
        service = client.get("service")
        place = None
        if service:
            path = service.get("path") or "/"
            place = (service["namespace"], service["name"], service.get("port") or 443, path)
        yield Hook(
            configuration=configuration["metadata"]["name"],
            name=entry["name"],
            is_mutating=is_mutating,
            url=client.get("url") or "",
            service=place,
            authority_pem=base64.b64decode(client.get("caBundle") or ""),
            rules=tuple(entry.get("rules") or ()),
            namespace_selector=entry.get("namespaceSelector") or {},
            object_selector=entry.get("objectSelector") or {},
            fails_closed=entry.get("failurePolicy", "Fail") == "Fail",
            timeout_s=entry.get("timeoutSeconds") or DEFAULT_TIMEOUT_S,
            is_reinvoked=is_mutating and entry.get("reinvocationPolicy") == "IfNeeded",
            has_side_effects=entry.get("sideEffects") not in ("None", "NoneOnDryRun"),
        )


def concerns(hook: Hook, attempt: Attempt) -> bool:
    """Whether the hook must be asked about this write."""
    if attempt.resource.group == GROUP:
        return False  # else a broken webhook could forbid its own removal
    if not any(_rule_matches(rule, attempt) for rule in hook.rules):
        return False
    return _namespace_selected(hook, attempt) and _object_selected(hook, attempt)


def _rule_matches(rule: Object, attempt: Attempt) -> bool:
    row = attempt.resource
    scope = rule.get("scope", "*")
    return (
        _listed(rule, "operations", attempt.operation)
        and _listed(rule, "apiGroups", row.group)
        and _listed(rule, "apiVersions", row.version)
        and any(_names(pattern, row.plural, attempt.subresource) for pattern in rule.get("resources") or [])
        and (scope == "*" or (scope == "Namespaced") == row.namespaced)
    )


def _listed(rule: Object, key: str, wanted: str) -> bool:
    values = rule.get(key) or []
    return "*" in values or wanted in values


def _names(pattern: str, plural: str, subresource: str) -> bool:
    """Admission's own grammar: `*` is every resource but no subresource, `*/*` is both."""
    resource, _, sub = pattern.partition("/")
    return resource in ("*", plural) and (sub == subresource or (sub == "*"))


def _namespace_selected(hook: Hook, attempt: Attempt) -> bool:
    if attempt.resource.key == "namespaces":
        home: Object | None = attempt.subject
    elif attempt.resource.namespaced:
        home = attempt.namespace_object
    else:
        return True
    return selects(hook.namespace_selector, _labels(home))


def _object_selected(hook: Hook, attempt: Attempt) -> bool:
    present = [item for item in (attempt.new, attempt.old) if item is not None]
    return any(selects(hook.object_selector, _labels(item)) for item in present)


def _labels(item: Object | None) -> dict[str, str]:
    return ((item or {}).get("metadata") or {}).get("labels") or {}


def review_of(hook: Hook, attempt: Attempt, uid: str) -> Object:
    """The AdmissionReview that the hook is sent."""
    row, metadata = attempt.resource, attempt.subject.get("metadata") or {}
    kind = _kind(attempt)
    resource = {"group": row.group, "version": row.version, "resource": row.plural}
    request: Object = {"uid": uid, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource}
    if attempt.subresource:
        request["subResource"] = request["requestSubResource"] = attempt.subresource
    new = _unnamed(attempt) if hook.is_mutating else attempt.new
    request["name"] = ((new or attempt.subject).get("metadata") or {}).get("name", "")
    if row.namespaced:
        request["namespace"] = metadata.get("namespace", "")
    elif row.key == "namespaces":
        request["namespace"] = metadata.get("name", "")
    request |= {"operation": attempt.operation, "userInfo": user_info(attempt.user)}
    request |= {"object": new, "oldObject": attempt.old, "dryRun": attempt.dry_run}
    request["options"] = {"apiVersion": "meta.k8s.io/v1", "kind": _OPTIONS[attempt.operation]}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _kind(attempt: Attempt) -> Object:
    api_version = attempt.subject.get("apiVersion") or attempt.resource.api_version
    group, _, version = api_version.rpartition("/")
    return {"group": group, "version": version, "kind": attempt.subject.get("kind") or attempt.resource.kind}


def _unnamed(attempt: Attempt) -> Object | None:
    """What a mutating webhook sees: a name made of generateName is given only after it, so it must not lean on one."""
    new = attempt.new
    prefix = ((new or {}).get("metadata") or {}).get("generateName")
    if attempt.operation != "CREATE" or new is None or not prefix:
        return new
    metadata = {key: value for key, value in new["metadata"].items() if key != "name"}
    return {**new, "metadata": metadata} if new["metadata"].get("name", "").startswith(prefix[:50]) else new


def verdict_of(hook: Hook, body: bytes, uid: str) -> Verdict:
    """Read a hook's answer. Raises WebhookFailure when it is not a usable AdmissionReview."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise WebhookFailure("the answer is not JSON") from None
    if not isinstance(answer, dict) or answer.get("kind") != "AdmissionReview":
        raise WebhookFailure("the answer is not an AdmissionReview")
    if answer.get("apiVersion") != "admission.k8s.io/v1":
        raise WebhookFailure(f"expected webhook response of admission.k8s.io/v1, got {answer.get('apiVersion')!r}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise WebhookFailure("the answer has no response")
    if response.get("uid") != uid:
        raise WebhookFailure(f"expected response.uid={uid!r}, got {response.get('uid')!r}")
    warnings = tuple(str(warning) for warning in response.get("warnings") or ())
    if response.get("allowed") is not True:
        return _refusal(hook, response.get("status") or {}, warnings)
    return Verdict(True, _patch(hook, response), warnings)


def _refusal(hook: Hook, status: Object, warnings: tuple[str, ...]) -> Verdict:
    code = status.get("code") or 403
    code = code if 400 <= code < 600 else 403
    reason = status.get("reason") or _REASONS.get(code, "Unknown" if code < 500 else "InternalError")
    told = status.get("message") or status.get("reason")
    message = f'admission webhook "{hook.name}" denied the request'
    message += f": {told}" if told else " without explanation"
    return Verdict(False, [], warnings, code, reason, message)


def _patch(hook: Hook, response: Object) -> list[Object]:
    encoded = response.get("patch")
    if not encoded:
        return []
    if not hook.is_mutating:
        raise WebhookFailure("a validating webhook must not answer with a patch")
    if response.get("patchType") != "JSONPatch":
        raise WebhookFailure(f"expected patchType JSONPatch, got {response.get('patchType')!r}")
    try:
        patch = json.loads(base64.b64decode(encoded, validate=True))
    except ValueError:
        raise WebhookFailure("response.patch is not a JSONPatch in base64") from None
    if not isinstance(patch, list):
        raise WebhookFailure("response.patch is not a list of operations")
    return patch


def apply_patch(hook: Hook, new: Object, patch: list[Object]) -> Object:
    """The object with the webhook's patch in it; the argument is left alone. Raises WebhookFailure."""
    try:
        result: Any = jsonpatch.apply_patch(new, patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, KeyError, TypeError) as error:
        raise WebhookFailure(f"its patch does not apply: {error}") from None
    if not isinstance(result, dict) or result.get("kind") != new.get("kind"):
        raise WebhookFailure("its patch changes the kind of the object")
    return result


def refusal(verdict: Verdict) -> ApiError:
    """The error that a refusing verdict becomes."""
    return ApiError(verdict.code, verdict.reason, verdict.message)
