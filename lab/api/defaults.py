"""Defaults: what the server writes where the client said nothing. Pure but for reading the data file once.

Constants are data (lab/data/defaults.yaml), keyed by definition and applied wherever the schema leads to it; those that
depend on other fields are the functions here. Custom kinds bring their own in their schema's `default`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lab.api import schema as schemas
from lab.api.patch import clone
from lab.api.resources import Resource

Object = dict[str, Any]
Schema = Mapping[str, Any]

DATA = Path(__file__).parent.parent / "data" / "defaults.yaml"


@cache
def _table() -> dict[str, Object]:
    loaded: dict[str, Object] = yaml.load(DATA.read_text(), Loader=yaml.CSafeLoader)
    return loaded


@cache
def _leads_to_defaults(name: str) -> bool:
    """Whether anything at or under a definition has a default; most subtrees have none and are not walked."""
    return any(found in _table() for found in _reachable(name))


@cache
def _reachable(name: str) -> frozenset[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += _references(schemas.definitions()[current])
    return frozenset(found)


def _references(schema: Schema) -> list[str]:
    inner = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    found = []
    for item in inner:
        if isinstance(item, Mapping):
            found += [schemas.named(item)] if schemas.named(item) else _references(item)
    return found


def fill(row: Resource, new: Object) -> None:
    """Write all defaults of the kind into `new`; without nulls, which mean the same as nothing."""
    if row.is_custom:
        if row.schema is not None:
            fill_custom(new, row.schema)
        return
    _drop_nulls(new)
    name = schemas.definition_name(row.api_version, row.kind)
    if name is None:
        return
    _fill_definition(new, name)
    if row.key in COMPUTED:
        COMPUTED[row.key](new)


def _fill_definition(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        return
    for key, item in _table().get(name, {}).items():
        if key not in value:
            value[key] = clone(item)
    properties = schemas.definitions()[name].get("properties") or {}
    for key, item in value.items():
        if key in properties:
            _fill_member(item, properties[key])


def _fill_member(value: Any, schema: Schema) -> None:
    name = schemas.named(schema)
    if name:
        if _leads_to_defaults(name):
            _fill_definition(value, name)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for item in value:
            _fill_member(item, schema["items"])


def _drop_nulls(value: Any) -> None:
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
        for item in value.values():
            _drop_nulls(item)
    elif isinstance(value, list):
        for item in value:
            _drop_nulls(item)


def fill_custom(value: Any, schema: Schema) -> None:
    """Apply the `default`s of a structural schema, and drop nulls where null is not a value."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        for key, inner in properties.items():
            if value.get(key) is None and key in value and not inner.get("nullable"):
                del value[key]
            if key not in value and "default" in inner:
                value[key] = clone(inner["default"])
        for key, item in value.items():
            inner = properties.get(key, schema.get("additionalProperties"))
            if isinstance(inner, Mapping):
                fill_custom(item, inner)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for item in value:
            fill_custom(item, schema["items"])


# Defaults that depend on other fields.


def _pod(pod: Object) -> None:
    _pod_spec(pod.get("spec"))
    spec = pod.get("spec")
    if isinstance(spec, dict):
        spec.setdefault("enableServiceLinks", True)


def _pod_spec(spec: Any) -> None:
    if not isinstance(spec, dict):
        return
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            if isinstance(container, dict):
                _container(container)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for volume in spec.get("volumes") or []:
        if isinstance(volume, dict) and volume.keys() == {"name"}:
            volume["emptyDir"] = {}


def _container(container: Object) -> None:
    image = str(container.get("image", ""))
    latest = "@" not in image and (":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest"))
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    resources = container.get("resources")
    if isinstance(resources, dict) and isinstance(resources.get("limits"), dict):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


def _template(owner: Object) -> None:
    spec = owner.get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("template"), dict):
        _pod_spec(spec["template"].get("spec"))


def _deployment(deployment: Object) -> None:
    _template(deployment)
    strategy = (deployment.get("spec") or {}).get("strategy")
    if isinstance(strategy, dict) and strategy.get("type") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def _job(job: Object) -> None:
    _template(job)
    spec = job.get("spec")
    if isinstance(spec, dict):
        if "completions" not in spec and "parallelism" not in spec:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)


def _service(service: Object) -> None:
    spec = service.get("spec")
    if not isinstance(spec, dict):
        return
    if spec.get("type") != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec.get("type") == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec.get("sessionAffinity") == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    for port in spec.get("ports") or []:
        if isinstance(port, dict) and port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port")


def _secret(secret: Object) -> None:
    plain = secret.pop("stringData", None)
    if isinstance(plain, dict):
        encoded = {key: base64.b64encode(str(item).encode()).decode() for key, item in plain.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}


def _binding(binding: Object) -> None:
    for subject in binding.get("subjects") or []:
        if isinstance(subject, dict) and subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")
    role = binding.get("roleRef")
    if isinstance(role, dict):
        role["apiGroup"] = role.get("apiGroup") or "rbac.authorization.k8s.io"


def _definition(definition: Object) -> None:
    spec = definition.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if isinstance(names, dict) and isinstance(names.get("kind"), str):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")


COMPUTED: dict[str, Callable[[Object], None]] = {
    "pods": _pod,
    "deployments": _deployment,
    "replicasets": _template,
    "jobs": _job,
    "services": _service,
    "secrets": _secret,
    "rolebindings": _binding,
    "clusterrolebindings": _binding,
    "customresourcedefinitions": _definition,
}
