"""Where each workload kind keeps its pod, and streams with every such pod changed. Pure.

The change is a function from a pod (as the webhook would see it) to another pod or a reason; this module finds the
pods, in documents and in Lists, and puts the results back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cli import documents
from cli.documents import Document
from cli.errors import CliError

Object = dict[str, Any]

_TEMPLATE = ("spec", "template")
POD_PATHS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""API group and kind -> the way to the pod template; everything else passes through untouched."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A pod with its change made; warnings are lines for the report."""

    pod: Object
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A pod left as it is, and why."""

    reason: str


Change = Callable[[Object, str], "Changed | Kept"]
"""(pod, namespace's name) -> the outcome. Must not alter the pod that it is given."""


@dataclass(frozen=True, slots=True)
class Line:
    """One object of the report: `deployment/web`, and why nothing was done or "" when something was."""

    name: str
    reason: str = ""
    warnings: tuple[str, ...] = ()


def change_all(found: list[Document], change: Change, namespace: str) -> tuple[list[Document], list[Line]]:
    """Change every pod of every document, each unchanged document to the letter; `namespace`: of objects without."""
    changed: list[Document] = []
    report: list[Line] = []
    for document in found:
        value = _change(document.value, change, namespace, report)
        changed.append(document if value is document.value else documents.write(document, value))
    return changed, report


def _change(value: Any, change: Change, namespace: str, report: list[Line]) -> Any:
    if not documents.is_object(value):
        if value is not None:
            report.append(Line("document", "no Kubernetes object"))
        return value
    if isinstance(value.get("items"), list) and value["kind"].endswith("List"):
        items = [_change(item, change, namespace, report) for item in value["items"]]
        same = all(new is old for new, old in zip(items, value["items"], strict=True))
        return value if same else {**value, "items": items}
    path = POD_PATHS.get((value["apiVersion"].rpartition("/")[0], value["kind"]))
    if path is None:
        report.append(Line(_name(value), "no pods in it"))
        return value
    outcome = _outcome(value, path, change, namespace)
    if isinstance(outcome, Kept):
        report.append(Line(_name(value), outcome.reason))
        return value
    report.append(Line(_name(value), warnings=outcome.warnings))
    return _replaced(value, path, outcome.pod)


def _outcome(value: Object, path: tuple[str, ...], change: Change, namespace: str) -> Changed | Kept:
    template: Any = value
    for key in path:
        template = template.get(key) if isinstance(template, Mapping) else None
    if not isinstance(template, Mapping) or not isinstance(template.get("spec"), Mapping):
        return Kept(f"{'.'.join([*path, 'spec'])} is missing")
    metadata = value.get("metadata")
    own = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    if pod.get("metadata") is None:
        pod["metadata"] = {}
    try:
        outcome = change(pod, str(own or namespace))
    except CliError as error:
        raise CliError(f"{_name(value)}: {error}", error.code) from error
    if isinstance(outcome, Kept) or not path:
        return outcome
    template = {key: part for key, part in outcome.pod.items() if key not in ("apiVersion", "kind")}
    return Changed(template, outcome.warnings)


def _replaced(value: Object, path: tuple[str, ...], pod: Object) -> Object:
    if not path:
        return pod
    return {**value, path[0]: _replaced(value[path[0]], path[1:], pod)}


def _name(value: Object) -> str:
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    return f"{value['kind'].lower()}/{metadata.get('name') or metadata.get('generateName') or '(without a name)'}"
