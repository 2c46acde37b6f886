"""A container's environment variables from its spec, the way a kubelet computes them. Pure.

Order: service variables, then envFrom, then env; a later one wins, and $(NAME) sees what came before it ($$ is a
plain $). Sources: Kubernetes API reference (EnvVar, EnvFromSource, EnvVarSource), "Service environment variables".
"""

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import quantity
from .endpoints import Object, Service

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigurationFault(Exception):
    """The container cannot be configured yet, or at all; the text names what is missing."""


@dataclass(frozen=True)
class Sources:
    """What a pod's configuration may refer to. The look-ups give the stored object, or None."""

    config_map: Callable[[str], Object | None]
    secret: Callable[[str], Object | None]
    services: tuple[Service, ...]
    node: "NodeFacts"


@dataclass(frozen=True)
class NodeFacts:
    """The node as pods see it. `cpu` and `memory` are what a container without limits may use, as quantities."""

    name: str
    address: str
    address_v6: str
    cpu: str
    memory: str


def expand(text: str, known: dict[str, str]) -> str:
    """Replace $(NAME) by its value; an unknown one stays as it is, $$ becomes $."""

    def replace(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return known.get(found[2], found[0])

    return _REFERENCE.sub(replace, text)


def environment(pod: Object, container: Object, sources: Sources) -> dict[str, str]:
    """All variables; ConfigurationFault names a reference that leads nowhere."""
    links = pod["spec"].get("enableServiceLinks", True) is not False
    result = service_variables(sources.services, pod["metadata"]["namespace"], links=links)
    for source in container.get("envFrom") or []:
        result.update(_from_source(source, sources))
    for variable in container.get("env") or []:
        value = _value(variable, pod, container, sources, result)
        if value is not None:
            result[variable["name"]] = value
    return result


def _from_source(source: Object, sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix", "")
    if "configMapRef" in source:
        found = _object("configmap", source["configMapRef"], sources.config_map)
        data = {key: str(value) for key, value in ((found or {}).get("data") or {}).items()}
    else:
        found = _object("secret", source.get("secretRef") or {}, sources.secret)
        data = {key: _text(value) for key, value in ((found or {}).get("data") or {}).items()}
    return {prefix + key: value for key, value in data.items()}


def _object(kind: str, reference: Object, look_up: Callable[[str], Object | None]) -> Object | None:
    found = look_up(reference.get("name", ""))
    if found is None and not reference.get("optional"):
        raise ConfigurationFault(f'{kind} "{reference.get("name", "")}" not found')
    return found


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", "surrogateescape")


def _value(variable: Object, pod: Object, container: Object, sources: Sources, known: dict[str, str]) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return expand(str(variable.get("value") or ""), known)
    if "fieldRef" in source:
        return field(source["fieldRef"]["fieldPath"], pod, sources.node)
    if "resourceFieldRef" in source:
        return resource_field(source["resourceFieldRef"], pod, container, sources.node)
    if "configMapKeyRef" in source:
        return _key(source["configMapKeyRef"], "configmap", sources.config_map, lambda value: str(value))
    if "secretKeyRef" in source:
        return _key(source["secretKeyRef"], "secret", sources.secret, _text)
    raise ConfigurationFault(f"env {variable['name']}: valueFrom {', '.join(source)} is not supported by the lab")


def _key(
    reference: Object, kind: str, look_up: Callable[[str], Object | None], decode: Callable[[Any], str]
) -> str | None:
    found = _object(kind, reference, look_up)
    data = (found or {}).get("data") or {}
    if reference["key"] in data:
        return decode(data[reference["key"]])
    if reference.get("optional"):
        return None
    raise ConfigurationFault(f"couldn't find key {reference['key']} in {kind} {reference.get('name', '')}")


def field(path: str, pod: Object, node: NodeFacts) -> str:
    """The value of a fieldRef; ConfigurationFault for a path that pods do not have."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    addresses = [entry["ip"] for entry in status.get("podIPs") or []]
    simple: dict[str, str] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": node.name,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.hostIP": node.address,
        "status.hostIPs": f"{node.address},{node.address_v6}",
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": ",".join(addresses),
    }
    if path in simple:
        return simple[path]
    if path in ("metadata.labels", "metadata.annotations"):
        entries = metadata.get(path.partition(".")[2]) or {}
        return "\n".join(f'{key}="{_escaped(str(value))}"' for key, value in sorted(entries.items()))
    keyed = _KEYED.fullmatch(path)
    if keyed:
        return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
    raise ConfigurationFault(
        f"fieldRef {path} is not supported: use metadata, spec.nodeName, status.podIP and the like"
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_field(reference: Object, pod: Object, container: Object, node: NodeFacts) -> str:
    """The value of a resourceFieldRef; a limit that is not set is what the node has."""
    named = reference.get("containerName")
    if named:
        everyone = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        container = next((c for c in everyone if c["name"] == named), container)
    kind, _, name = reference["resource"].partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(name)
    if value is None and kind == "requests":
        value = (resources.get("limits") or {}).get(name, "0")
    if value is None:
        value = {"cpu": node.cpu, "memory": node.memory}.get(name, "0")
    try:
        return quantity.divided(value, reference.get("divisor") or "1")
    except ValueError as error:
        raise ConfigurationFault(f"resourceFieldRef {reference['resource']}: {error}") from error


def service_variables(services: Iterable[Service], namespace: str, *, links: bool) -> dict[str, str]:
    """NAME_SERVICE_HOST and its kin for the namespace's services; the API server's always."""
    result: dict[str, str] = {}
    for service in services:
        is_api = (service.namespace, service.name) == ("default", "kubernetes")
        if not service.addresses or not service.ports or not (is_api or (links and service.namespace == namespace)):
            continue
        result.update(_service_variables(service))
    return result


def _service_variables(service: Service) -> dict[str, str]:
    name, address = service.name.upper().replace("-", "_"), service.addresses[0]
    host = f"[{address}]" if ":" in address else address
    result = {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(service.ports[0].number)}
    first = service.ports[0]
    result[f"{name}_PORT"] = f"{first.protocol.lower()}://{host}:{first.number}"
    for port in service.ports:
        if port.name:
            result[f"{name}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.number)
        stem = f"{name}_PORT_{port.number}_{port.protocol.upper()}"
        result[stem] = f"{port.protocol.lower()}://{host}:{port.number}"
        result[f"{stem}_PROTO"] = port.protocol.lower()
        result[f"{stem}_PORT"] = str(port.number)
        result[f"{stem}_ADDR"] = address
    return result
