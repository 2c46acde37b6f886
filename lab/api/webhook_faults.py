"""What is wrong with a webhook configuration, found when it is written. Pure.

`faults_of` names every fault by its field, those of the format and those that the lab could not honour: CEL
(matchConditions) above all, because a condition that is silently ignored would call, or not call, the wrong webhooks.

Source: admissionregistration.k8s.io/v1.
"""

import base64
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from lab.api import errors
from lab.api.reader import Object
from lab.api.webhook_rules import GROUP

MAX_TIMEOUT_S: Final = 30
_OPERATIONS: Final = ("*", "CREATE", "UPDATE", "DELETE", "CONNECT")
_SCOPES: Final = ("*", "Cluster", "Namespaced")


def refuse_configuration(configuration: Object) -> None:
    """Raises ApiError 422 for a webhook configuration that the lab cannot honour to the letter."""
    faults = list(faults_of(configuration))
    if faults:
        name = (configuration.get("metadata") or {}).get("name", "")
        raise errors.invalid(configuration.get("kind", ""), GROUP, name, faults)


def faults_of(configuration: Object) -> Iterator[Object]:
    """Every fault of a webhook configuration, as causes that name their fields."""
    seen: set[str] = set()
    for index, entry in enumerate(configuration.get("webhooks") or []):
        path = f"webhooks[{index}]"
        name = entry.get("name") or ""
        if name.count(".") < 2:
            yield errors.cause(f"{path}.name", f"Invalid value: {name!r}: must have at least three dot-separated parts")
        if name in seen:
            yield errors.cause(f"{path}.name", f"Duplicate value: {name!r}", "FieldValueDuplicate")
        seen.add(name)
        yield from _entry_faults(path, entry)
        yield from _client_faults(f"{path}.clientConfig", entry.get("clientConfig") or {})
        for number, rule in enumerate(entry.get("rules") or []):
            yield from _rule_faults(f"{path}.rules[{number}]", rule)


def _entry_faults(path: str, entry: Object) -> Iterator[Object]:
    if entry.get("matchConditions"):
        why = "Forbidden: the lab evaluates no CEL: select by namespaceSelector, objectSelector and rules instead"
        yield errors.cause(f"{path}.matchConditions", why, "FieldValueForbidden")
    if entry.get("sideEffects") not in ("None", "NoneOnDryRun"):
        why = f"Unsupported value: {entry.get('sideEffects')!r}: supported values: None, NoneOnDryRun"
        yield errors.cause(f"{path}.sideEffects", why, "FieldValueNotSupported")
    if "v1" not in (entry.get("admissionReviewVersions") or []):
        why = "Invalid value: must include at least one of v1"
        yield errors.cause(f"{path}.admissionReviewVersions", why)
    timeout_s = entry.get("timeoutSeconds")
    if timeout_s is not None and not 1 <= timeout_s <= MAX_TIMEOUT_S:
        why = f"Invalid value: {timeout_s}: the timeout value must be between 1 and {MAX_TIMEOUT_S} seconds"
        yield errors.cause(f"{path}.timeoutSeconds", why)
    for key, known in (
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Exact", "Equivalent")),
        ("reinvocationPolicy", ("Never", "IfNeeded")),
    ):
        if entry.get(key, known[0]) not in known:
            why = f"Unsupported value: {entry[key]!r}: supported values: {', '.join(known)}"
            yield errors.cause(f"{path}.{key}", why, "FieldValueNotSupported")


def _client_faults(path: str, client: Object) -> Iterator[Object]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        yield errors.cause(path, "Required value: exactly one of url or service is required", "FieldValueRequired")
    if url is not None and not _is_https(url):
        yield errors.cause(f"{path}.url", f"Invalid value: {url!r}: must be https://HOST[:PORT]/PATH")
    for key in ("namespace", "name"):
        if service is not None and not service.get(key):
            yield errors.cause(
                f"{path}.service.{key}", f"Required value: service {key} is required", "FieldValueRequired"
            )
    try:
        bundle = base64.b64decode(client.get("caBundle") or "", validate=True)
    except ValueError:
        yield errors.cause(f"{path}.caBundle", "Invalid value: not base64")
        return
    if bundle and b"-----BEGIN CERTIFICATE-----" not in bundle:
        yield errors.cause(f"{path}.caBundle", "Invalid value: holds no PEM certificate")


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _rule_faults(path: str, rule: Object) -> Iterator[Object]:
    for key in ("operations", "apiGroups", "apiVersions", "resources"):
        if not rule.get(key):
            yield errors.cause(f"{path}.{key}", "Required value", "FieldValueRequired")
    for operation in rule.get("operations") or []:
        if operation not in _OPERATIONS:
            why = f"Unsupported value: {operation!r}: supported values: {', '.join(_OPERATIONS)}"
            yield errors.cause(f"{path}.operations", why, "FieldValueNotSupported")
    if rule.get("scope", "*") not in _SCOPES:
        why = f"Unsupported value: {rule['scope']!r}: supported values: {', '.join(_SCOPES)}"
        yield errors.cause(f"{path}.scope", why, "FieldValueNotSupported")
