"""The rules of single kinds that no schema says: what must agree, what must differ, what never changes. Pure.

Each rule gives causes that name their field. `validation` calls them once an object has passed its schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lab.api.errors import cause
from lab.api.selectors import at, selects

Object = dict[str, Any]
Causes = Iterator[dict[str, str]]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")

# Fields that never change, by kind: path, and what the refusal says.
IMMUTABLE: dict[str, tuple[str, ...]] = {
    "deployments": ("spec.selector",),
    "replicasets": ("spec.selector",),
    "jobs": ("spec.selector", "spec.template", "spec.completionMode"),
    "rolebindings": ("roleRef",),
    "clusterrolebindings": ("roleRef",),
    "secrets": ("type",),
    "endpointslices": ("addressType",),
    "customresourcedefinitions": ("spec.group", "spec.scope", "spec.names.kind", "spec.names.plural"),
}


def immutables(kind: str, old: Object, new: Object) -> Causes:
    """The fields of a kind that this update changes and may not."""
    for path in IMMUTABLE.get(kind, ()):
        if at(old, path) != at(new, path) and at(old, path) is not None:
            yield cause(path, f"Invalid value: {_short(at(new, path))}: field is immutable")
    if kind in ("configmaps", "secrets") and old.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if old.get(field) != new.get(field):
                yield cause(field, "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")
    if kind == "services" and at(old, "spec.type") != "ExternalName" != at(new, "spec.type"):
        before, after = at(old, "spec.clusterIP"), at(new, "spec.clusterIP")
        if before and before != after:
            yield cause("spec.clusterIPs[0]", f'Invalid value: "{after}": may not change once set')


def _short(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def _pod(old: Object | None, new: Object) -> Causes:
    if old is None:
        yield from _pod_spec(new.get("spec") or {}, "spec")
        return
    before, after = ({**(side.get("spec") or {})} for side in (old, new))
    for spec in (before, after):
        for field in MUTABLE_POD_FIELDS:
            spec.pop(field, None)
        for kind in ("containers", "initContainers"):
            spec[kind] = [{**item, "image": ""} for item in spec.get(kind) or []]
    if before != after or (at(old, "spec.nodeName") not in (None, "", at(new, "spec.nodeName"))):
        text = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, "
        text += "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to "
        yield cause("spec", f"{text}existing tolerations), `spec.terminationGracePeriodSeconds`", "FieldValueForbidden")


# nodeName may be set once: binding is an update here.
MUTABLE_POD_FIELDS = (
    "activeDeadlineSeconds",
    "tolerations",
    "terminationGracePeriodSeconds",
    "nodeName",
    "schedulingGates",
)


def _pod_spec(spec: Object, path: str) -> Causes:
    containers = spec.get("containers") or []
    if not containers:
        yield cause(f"{path}.containers", "Required value", "FieldValueRequired")
    names: set[str] = set()
    volumes = {item.get("name") for item in spec.get("volumes") or []}
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or []):
            place = f"{path}.{kind}[{index}]"
            yield from _container(container, place, names, volumes)
            if container.get("restartPolicy") not in (None, "Always") or (
                kind == "containers" and "restartPolicy" in container
            ):
                yield cause(f"{place}.restartPolicy", "Forbidden: only `Always`, and only on init containers")
    yield from _unique(spec.get("volumes") or [], "name", f"{path}.volumes")
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        supported = 'supported values: "Always", "OnFailure", "Never"'
        yield cause(f"{path}.restartPolicy", f'Unsupported value: "{spec.get("restartPolicy")}": {supported}')


def _container(container: Object, place: str, names: set[str], volumes: set[Any]) -> Causes:
    name = container.get("name", "")
    if not _LABEL.fullmatch(name) or len(name) > 63:
        yield cause(f"{place}.name", f'Invalid value: "{name}": must be a lowercase RFC 1123 label')
    if name in names:
        yield cause(f"{place}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
    names.add(name)
    if not container.get("image"):
        yield cause(f"{place}.image", "Required value", "FieldValueRequired")
    for index, port in enumerate(container.get("ports") or []):
        yield from _port(port.get("containerPort"), f"{place}.ports[{index}].containerPort")
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") not in volumes:
            yield cause(
                f"{place}.volumeMounts[{index}].name", f'Not found: "{mount.get("name")}"', "FieldValueNotFound"
            )
    yield from _unique(container.get("volumeMounts") or [], "mountPath", f"{place}.volumeMounts")


def _port(number: Any, place: str) -> Causes:
    if isinstance(number, int) and not 0 < number < 65536:
        yield cause(place, f"Invalid value: {number}: must be between 1 and 65535, inclusive")


def _unique(items: list[Object], key: str, place: str) -> Causes:
    seen = set()
    for index, item in enumerate(items):
        value = item.get(key)
        if value in seen:
            yield cause(f"{place}[{index}].{key}", f'Duplicate value: "{value}"', "FieldValueDuplicate")
        seen.add(value)


def _replicated(policies: tuple[str, ...], needs_selector: bool) -> Callable[[Object | None, Object], Causes]:
    def rule(_old: Object | None, new: Object) -> Causes:
        spec = new.get("spec") or {}
        template = spec.get("template") or {}
        labels = at(template, "metadata.labels") or {}
        selector = spec.get("selector")
        if needs_selector:
            if not (selector or {}).get("matchLabels") and not (selector or {}).get("matchExpressions"):
                yield cause("spec.selector", "Required value", "FieldValueRequired")
            elif not selects(selector, labels):
                text = f"Invalid value: {labels}: `selector` does not match template `labels`"
                yield cause("spec.template.metadata.labels", text)
        for field in ("replicas", "parallelism", "completions", "backoffLimit", "minReadySeconds"):
            if isinstance(spec.get(field), int) and spec[field] < 0:
                yield cause(f"spec.{field}", f"Invalid value: {spec[field]}: must be greater than or equal to 0")
        yield from _pod_spec(template.get("spec") or {}, "spec.template.spec")
        policy = at(template, "spec.restartPolicy")
        if policy not in policies:
            supported = ", ".join(f'"{item}"' for item in policies)
            text = f'Unsupported value: "{policy}": supported values: {supported}'
            yield cause("spec.template.spec.restartPolicy", text, "FieldValueNotSupported")

    return rule


def _service(_old: Object | None, new: Object) -> Causes:
    spec = new.get("spec") or {}
    kind, ports = spec.get("type"), spec.get("ports") or []
    if kind not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        supported = 'supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'
        yield cause("spec.type", f'Unsupported value: "{kind}": {supported}', "FieldValueNotSupported")
    if kind == "ExternalName" and not spec.get("externalName"):
        yield cause("spec.externalName", "Required value", "FieldValueRequired")
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        yield cause("spec.ports", "Required value", "FieldValueRequired")
    for index, port in enumerate(ports):
        place = f"spec.ports[{index}]"
        yield from _port(port.get("port"), f"{place}.port")
        yield from _port(port.get("targetPort"), f"{place}.targetPort")
        if len(ports) > 1 and not port.get("name"):
            yield cause(f"{place}.name", "Required value", "FieldValueRequired")
        if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
            supported = 'supported values: "SCTP", "TCP", "UDP"'
            yield cause(f"{place}.protocol", f'Unsupported value: "{port.get("protocol")}": {supported}')
    yield from _unique([port for port in ports if port.get("name")], "name", "spec.ports")


def _data(_old: Object | None, new: Object) -> Causes:
    for field in ("data", "binaryData"):
        for key in new.get(field) or {}:
            if not _DATA_KEY.fullmatch(key) or len(key) > 253:
                text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                yield cause(f"{field}[{key}]", f'Invalid value: "{key}": {text}')


def _secret(old: Object | None, new: Object) -> Causes:
    yield from _data(old, new)
    if new.get("type") == "kubernetes.io/service-account-token":
        text = "Unsupported value: the lab does not implement token Secrets: use `kubectl create token` or a projected"
        yield cause("type", f"{text} volume", "FieldValueNotSupported")


def warnings(kind: str, new: Object) -> list[str]:
    """What a client should know of an object that is kept though the lab does not do all that it says."""
    if kind == "services" and at(new, "spec.type") in ("NodePort", "LoadBalancer"):
        return ["the lab has no node ports and no load balancer: the service is reached inside of the lab only"]
    return []


def _lease(_old: Object | None, new: Object) -> Causes:
    duration_s = at(new, "spec.leaseDurationSeconds")
    if isinstance(duration_s, int) and duration_s <= 0:
        yield cause("spec.leaseDurationSeconds", f"Invalid value: {duration_s}: must be greater than 0")


RULES: dict[str, Callable[[Object | None, Object], Causes]] = {
    "pods": _pod,
    "deployments": _replicated(("Always",), needs_selector=True),
    "replicasets": _replicated(("Always",), needs_selector=True),
    "jobs": _replicated(("OnFailure", "Never"), needs_selector=False),
    "services": _service,
    "configmaps": _data,
    "secrets": _secret,
    "leases": _lease,
}
