"""Look into a pod as JSON: checked once at the door, asked by name after that. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from contract import names
from webhook.annotations import Refused

Json = dict[str, Any]

OTHER_MESHES = {
    "istio-proxy": "Istio",
    "istio-init": "Istio",
    "istio-validation": "Istio",
    "linkerd-proxy": "Linkerd",
    "linkerd-init": "Linkerd",
    "linkerd-network-validator": "Linkerd",
    "consul-dataplane": "Consul",
    "consul-connect-inject-init": "Consul",
    "consul-connect-envoy-sidecar": "Consul",
    "kuma-sidecar": "Kuma",
    "kuma-init": "Kuma",
    "envoy-sidecar": "Envoy",
    "envoy": "App Mesh or another mesh of Envoy",
    "osm-init": "Open Service Mesh",
    "traffic-agent": "Telepresence",
}
"""Container names that others' injectors give, and whose they are."""


def check_shape(pod: Json) -> None:
    """Raise Refused where the parts that injection reads are not what Kubernetes says they are."""
    metadata = _mapping(pod.get("metadata"), "metadata")
    for field in ("annotations", "labels"):
        texts = _mapping(metadata.get(field), f"metadata.{field}")
        for name, value in texts.items():
            if not isinstance(value, str):
                raise Refused(f"metadata.{field}[{name}] is no text; write it in quotes")
    spec = _mapping(pod.get("spec"), "spec")
    for field in ("containers", "initContainers", "volumes"):
        entries = spec.get(field)
        if not isinstance(entries, list | None) or not all(isinstance(entry, dict) for entry in entries or ()):
            raise Refused(f"spec.{field} is no list of objects")
    if not spec.get("containers"):
        raise Refused("spec.containers is empty; a pod needs a container")
    _mapping(spec.get("securityContext"), "spec.securityContext")


def texts(owner: Mapping[str, Any], field: str) -> dict[str, str]:
    """Annotations or labels of a pod or a namespace, absent ones as empty."""
    found: dict[str, str] = (owner.get("metadata") or {}).get(field) or {}
    return found


def entries(pod: Json, field: str) -> list[Json]:
    """Containers, init containers or volumes of a pod, absent ones as empty."""
    found: list[Json] = (pod.get("spec") or {}).get(field) or []
    return found


def container_names(pod: Json) -> Iterator[str]:
    """Names of all containers, init containers first."""
    for field in ("initContainers", "containers"):
        for container in entries(pod, field):
            yield str(container.get("name", ""))


def is_injected(pod: Json) -> bool:
    return any(name in (names.INIT_CONTAINER, names.PROXY_CONTAINER) for name in container_names(pod))


def other_mesh(pod: Json) -> str | None:
    """Name of the first container that another mesh's injector put there."""
    return next((name for name in container_names(pod) if name in OTHER_MESHES), None)


def is_for_windows(pod: Json) -> bool:
    spec = pod.get("spec") or {}
    selector = spec.get("nodeSelector") or {}
    return "windows" in (str((spec.get("os") or {}).get("name", "")), selector.get("kubernetes.io/os"))


def _mapping(value: object, path: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"{path} is no object")
    return value
