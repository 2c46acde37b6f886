"""Label and field selectors: text to a predicate over objects. Pure.

Sources: the selector grammar of apimachinery's `labels` (`a=b`, `a!=b`, `a in (x,y)`, `a notin (x)`, `a`, `!a`, `a>1`)
and `fields` (`=`, `==`, `!=`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lab.api import errors

Object = dict[str, Any]
Labels = Mapping[str, str]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<operator>in|notin)\s+\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s!=<>,()]+)\s*(?P<operator>==|=|!=|<|>)\s*(?P<value>[^\s=<>,()]*)$")
_EXISTS = re.compile(r"^(?P<not>!?)\s*(?P<key>[^\s!=<>,()]+)$")
_COMMA = re.compile(r",(?![^(]*\))")

# What each kind can be selected by, beside metadata.name and metadata.namespace.
FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
    "jobs": ("status.successful",),
    "replicasets": ("status.replicas",),
}


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def at(value: Any, path: str) -> Any:
    """The value at a dotted path, None where it is missing."""
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _requirement(text: str) -> Callable[[Labels], bool]:
    if match := _SET.match(text):
        key, values = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["operator"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.match(text):
        return _comparison(match["key"], match["operator"], match["value"])
    if match := _EXISTS.match(text):
        key = match["key"]
        return (lambda labels: key not in labels) if match["not"] else (lambda labels: key in labels)
    raise errors.bad_request(f"unable to parse requirement: {text!r} is not a label selector")


def _comparison(key: str, operator: str, value: str) -> Callable[[Labels], bool]:
    if operator in ("=", "=="):
        return lambda labels: labels.get(key) == value
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    if not value.lstrip("-").isdigit():
        raise errors.bad_request(f"unable to parse requirement: {key}{operator}{value}: the value must be an integer")
    bound, sign = int(value), 1 if operator == ">" else -1

    def compare(labels: Labels) -> bool:
        have = labels.get(key, "")
        return have.lstrip("-").isdigit() and (int(have) - bound) * sign > 0

    return compare


def label_matcher(selector: str) -> Callable[[Labels], bool]:
    """A predicate over a label map. Raises ApiError BadRequest on bad syntax; an empty selector selects everything."""
    tests = [_requirement(part.strip()) for part in _COMMA.split(selector) if part.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _field(key: str, text: str) -> Callable[[Object], bool]:
    path, operator, value = re.split(r"(!=|==|=)", text, maxsplit=1) if "=" in text else (text, "", "")
    path = path.strip()
    if not operator:
        raise errors.bad_request(f"invalid field selector: {text!r}: write name=value or name!=value")
    known = FIELDS.get(key, ())
    if path not in ("metadata.name", "metadata.namespace", *known):
        raise errors.bad_request(f"field label not supported: {path}")
    if key == "events" and path in ("source", "reportingComponent"):
        path = "source.component" if path == "source" else path
    wanted, negated = value.strip(), operator == "!="

    def test(item: Object) -> bool:
        found = at(item, path)
        missing_false = found is None and wanted == "false"
        return (missing_false or _as_text(found) == wanted) != negated

    return test


def matcher(key: str, labels: str = "", fields: str = "") -> Callable[[Object], bool]:
    """A predicate over objects of the kind `key`. Raises ApiError BadRequest for bad syntax or an unsupported field."""
    tests: list[Callable[[Object], bool]] = []
    if labels:
        by_label = label_matcher(labels)
        tests.append(lambda item: by_label(item["metadata"].get("labels") or {}))
    tests += [_field(key, part) for part in fields.split(",") if part.strip()]
    if not tests:
        return _everything
    return lambda item: all(test(item) for test in tests)


def _everything(_item: Object) -> bool:
    return True


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a structured LabelSelector (matchLabels, matchExpressions) selects these labels; None selects nothing."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_expression(item, labels) for item in selector.get("matchExpressions") or [])


def _expression(item: Mapping[str, Any], labels: Labels) -> bool:
    key, operator, values = item["key"], item["operator"], item.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) is (operator == "Exists")
