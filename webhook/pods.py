"""Look into a pod as JSON: checked once at the door, asked by name after that. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from contract import names
from webhook.annotations import Refused

Json = dict[str, Any]


def check_shape(pod: object) -> None:
    """Raise Refused where the parts that injection reads are not what Kubernetes says they are."""
    whole = _mapping(pod, "the pod")
    metadata = _mapping(whole.get("metadata"), "metadata")
    for field in ("annotations", "labels"):
        _texts(metadata.get(field), f"metadata.{field}")
    _list(metadata.get("ownerReferences"), "metadata.ownerReferences")
    spec = _mapping(whole.get("spec"), "spec")
    if not _list(spec.get("containers"), "spec.containers"):
        raise Refused("spec.containers is empty; a pod needs a container")
    _list(spec.get("volumes"), "spec.volumes")
    for field in ("os", "nodeSelector", "securityContext"):
        _mapping(spec.get(field), f"spec.{field}")
    for field in ("initContainers", "containers"):
        for number, container in enumerate(_list(spec.get(field), f"spec.{field}")):
            _mapping(container.get("securityContext"), f"spec.{field}[{number}].securityContext")
            _list(container.get("ports"), f"spec.{field}[{number}].ports")


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


def _list(value: object, path: str) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Refused(f"{path} is no list of objects")
    return value


def _texts(value: object, path: str) -> None:
    for name, text in _mapping(value, path).items():
        if not isinstance(text, str):
            raise Refused(f"{path}[{name}] is no text; write it in quotes")
