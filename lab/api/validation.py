"""Whether an object may be kept: against its schema, and by the rules of its kind that no schema says. Pure.

`conform` is decoding: unknown fields and wrong types, as the client sent them. `require` is judgement by the schema:
required fields, bad values, names; `validate` by the rules of the kind. Messages name the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lab.api import errors, schema
from lab.api.errors import cause
from lab.api.resources import Resource
from lab.api.selectors import at, selects

Object = dict[str, Any]
Causes = Iterator[dict[str, str]]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
# How each kind may be named; kinds that are not here take a DNS subdomain.
LABEL_KINDS = ("namespaces",)
LABEL_1035_KINDS = ("services",)
# Kinds that are nothing without a spec, though their schema does not say so.
SPEC_KINDS = ("pods", "deployments", "replicasets", "jobs", "services")
FREE_KINDS = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")


def schema_of(row: Resource) -> schema.Schema:
    """The schema of a kind; an empty one, which knows nothing, where there is none."""
    return (row.schema if row.is_custom else schema.of_kind(row.api_version, row.kind)) or {}


def conform(row: Resource, new: Object, mode: str, warnings: list[str]) -> None:
    """Decode: refuse wrong types; drop unknown fields, with a warning, or refuse them when `mode` is Strict.

    Raises ApiError BadRequest (Invalid for the types of custom kinds).
    """
    wanted = schema_of(row)
    if not wanted:
        return
    found = schema.check(new, wanted)
    if found.wrong_types:
        if row.is_custom:
            raise errors.invalid(row.kind, row.group, _name(new), found.wrong_types)
        problem = found.wrong_types[0]
        text = f'{row.kind} in version "{row.version}" cannot be handled as a {row.kind}: '
        raise errors.bad_request(text + f"{problem['field']}: {problem['message']}")
    if not found.unknown:
        return
    texts = [f'unknown field "{path}"' for path in found.unknown]
    if mode == "Strict":
        raise errors.bad_request(f"strict decoding error: {', '.join(texts)}")
    if mode == "Warn":
        warnings.extend(texts)
    for holder, key in found.strays:
        holder.pop(key, None)


def require(row: Resource, new: Object) -> None:
    """Judge by name and schema: what must be there is there, and every value is one that the field takes.

    Raises ApiError Invalid with all causes.
    """
    causes = list(_metadata(row, new))
    found = schema.check(new, schema_of(row))
    causes += [*found.missing, *found.bad_values]
    if row.key in SPEC_KINDS and not new.get("spec"):
        causes.append(cause("spec", "Required value", "FieldValueRequired"))
    if causes:
        raise errors.invalid(row.kind, row.group, _name(new), causes)


def validate(row: Resource, old: Object | None, new: Object) -> None:
    """Judge by the rules of the kind, once `require` has passed. Raises ApiError Invalid with all causes."""
    causes = [*(RULES[row.key](old, new) if row.key in RULES else ())]
    if old is not None:
        causes += _immutables(row, old, new)
    if causes:
        raise errors.invalid(row.kind, row.group, _name(new), causes)


def _name(item: Object) -> str:
    return str((item.get("metadata") or {}).get("name", ""))


def _metadata(row: Resource, new: Object) -> Causes:
    metadata = new["metadata"]
    problem = name_problem(row, metadata["name"])
    if problem:
        yield cause("metadata.name", f'Invalid value: "{metadata["name"]}": {problem}')
    for place in ("labels", "annotations"):
        for key, value in (metadata.get(place) or {}).items():
            yield from _key(f"metadata.{place}", key)
            if place == "labels":
                yield from _label_value("metadata.labels", value)


def name_problem(row: Resource, name: str) -> str:
    """What is wrong with an object's name, "" for nothing."""
    if row.key in FREE_KINDS:
        return "may not contain '/' or '%'" if "/" in name or "%" in name or name in (".", "..") else ""
    if row.key in LABEL_1035_KINDS:
        wrong = not _LABEL_1035.fullmatch(name) or len(name) > 63
        text = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        return f"{text}character, and end with an alphanumeric character, at most 63 characters" if wrong else ""
    if row.key in LABEL_KINDS:
        wrong = not _LABEL.fullmatch(name) or len(name) > 63
        text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
        return f"{text}and end with an alphanumeric character, at most 63 characters" if wrong else ""
    wrong = not _SUBDOMAIN.fullmatch(name) or len(name) > 253
    text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    return f"{text}start and end with an alphanumeric character" if wrong else ""


def _key(field: str, key: str) -> Causes:
    prefix, slash, name = key.rpartition("/")
    if not _QUALIFIED.fullmatch(name) or len(name) > 63 or (slash and not _SUBDOMAIN.fullmatch(prefix.lower())):
        text = "name part must consist of alphanumeric characters, '-', '_' or '.', at most 63 characters, after an "
        yield cause(field, f'Invalid value: "{key}": {text}optional DNS subdomain prefix and "/"')


def _label_value(field: str, value: str) -> Causes:
    if value and (not _QUALIFIED.fullmatch(value) or len(value) > 63):
        text = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
        yield cause(field, f'Invalid value: "{value}": {text}at most 63 characters')


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


def _immutables(row: Resource, old: Object, new: Object) -> Causes:
    for path in IMMUTABLE.get(row.key, ()):
        if at(old, path) != at(new, path) and at(old, path) is not None:
            yield cause(path, f"Invalid value: {_short(at(new, path))}: field is immutable")
    if row.key in ("configmaps", "secrets") and old.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if old.get(field) != new.get(field):
                yield cause(field, "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")
    if row.key == "services" and at(old, "spec.type") != "ExternalName" != at(new, "spec.type"):
        before, after = at(old, "spec.clusterIP"), at(new, "spec.clusterIP")
        if before and before != after:
            yield cause("spec.clusterIPs[0]", f'Invalid value: "{after}": may not change once set')


def _short(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) < 200 else f"{text[:200]}..."


# The rules of single kinds.


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
    "secrets": _data,
    "leases": _lease,
}
