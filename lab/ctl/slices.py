"""A service's EndpointSlices: (service, pods, zones, present slices) -> what to create, write and delete. Pure.

One slice for each address family and set of resolved ports, split at 100 endpoints. A pod is in as soon as it has an
address and until it is gone or finished; its conditions say what it is good for: `serving` = ready, `terminating` =
being deleted, `ready` = serving and not terminating (always, with publishNotReadyAddresses).
Source: Kubernetes documentation, "EndpointSlices", and the discovery.k8s.io/v1 API reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.ctl import owners, pods
from lab.ctl.addresses import HEADLESS, family_of
from lab.ctl.owners import Object

SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
ENDPOINTS_MAX_COUNT = 100
"""Kubernetes' default of `--max-endpoints-per-slice`."""

Port = tuple[str, int, str, str]
"""name, number, protocol, appProtocol"""


@dataclass(frozen=True, slots=True)
class Plan:
    """New slices, changed ones and ones to delete."""

    create: tuple[Object, ...]
    update: tuple[Object, ...]
    delete: tuple[Object, ...]


def is_managed(service: Object) -> bool:
    """Whether the lab makes this service's slices: it has a selector and is no alias."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def selects(service: Object, labels: Mapping[str, str]) -> bool:
    """Whether the service selects a pod with these labels."""
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= labels.items()


def plan(service: Object, chosen: Sequence[Object], zones: Mapping[str, str], present: Sequence[Object]) -> Plan:
    """Compare the slices that should be with those that are.

    Args:
        service: a managed one, with its ipFamilies.
        chosen: the pods that it selects.
        zones: node name -> zone, for the nodes that have one.
        present: the service's slices made by this controller.
    """
    left = [one for one in present if not owners.is_deleted(one)]
    create, update = [], []
    for family, ports, endpoints in _wanted(service, chosen, zones):
        old = _closest(left, family, ports)
        if old is not None:
            left.remove(old)
        new = _slice(service, family, ports, endpoints, old)
        if old is None:
            create.append(new)
        elif new != old:
            update.append(new)
    return Plan(tuple(create), tuple(update), tuple(left))


def _wanted(
    service: Object, chosen: Sequence[Object], zones: Mapping[str, str]
) -> list[tuple[str, tuple[Port, ...], list[Object]]]:
    wanted: list[tuple[str, tuple[Port, ...], list[Object]]] = []
    for family in service["spec"].get("ipFamilies") or ["IPv4"]:
        groups: dict[tuple[Port, ...], list[Object]] = {}
        for pod in sorted(chosen, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), owners.uid(pod))):
            address = address_of(pod, family)
            if address and not pods.is_finished(pod):
                groups.setdefault(resolve(service, pod), []).append(_endpoint(service, pod, address, zones))
        if not groups:
            groups[()] = []
        for ports, endpoints in groups.items():
            starts = range(0, max(1, len(endpoints)), ENDPOINTS_MAX_COUNT)
            wanted += [(family, ports, endpoints[start : start + ENDPOINTS_MAX_COUNT]) for start in starts]
    return wanted


def address_of(pod: Object, family: str) -> str:
    """The pod's address of a family; empty while it has none."""
    status = pod.get("status", {})
    listed = [item.get("ip", "") for item in status.get("podIPs") or []] or [status.get("podIP", "")]
    return next((text for text in listed if family_of(text) == family), "")


def resolve(service: Object, pod: Object) -> tuple[Port, ...]:
    """The service's ports as numbers of this pod; a named target port that the pod lacks is left out."""
    found: list[Port] = []
    for port in service["spec"].get("ports") or []:
        protocol = port.get("protocol", "TCP")
        number = _number(port.get("targetPort") or port["port"], protocol, pod)
        if number:
            found.append((port.get("name", ""), number, protocol, port.get("appProtocol", "")))
    return tuple(found)


def _number(target: int | str, protocol: str, pod: Object) -> int:
    if isinstance(target, int):
        return target
    if target.isdecimal():
        return int(target)
    spec = pod["spec"]
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or []), *sidecars]:
        for port in container.get("ports") or []:
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return 0


def _endpoint(service: Object, pod: Object, address: str, zones: Mapping[str, str]) -> Object:
    metadata, spec = pod["metadata"], pod["spec"]
    serving = pods.is_ready(pod)
    terminating = owners.is_deleted(pod)
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [address],
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    node = spec.get("nodeName", "")
    if node:
        endpoint["nodeName"] = node
    if node in zones:
        endpoint["zone"] = zones[node]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = spec["hostname"]
    return endpoint


def _slice(
    service: Object, family: str, ports: tuple[Port, ...], endpoints: list[Object], old: Object | None
) -> Object:
    metadata = service["metadata"]
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in (SERVICE, MANAGED_BY)}
    labels |= {SERVICE: metadata["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == HEADLESS:
        labels[HEADLESS_LABEL] = ""
    fresh = {
        "generateName": f"{metadata['name']}-",
        "namespace": metadata["namespace"],
        "ownerReferences": [owners.controller_reference(service)],
    }
    return {
        **(old or {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}),
        "metadata": {**(old["metadata"] if old else fresh), "labels": labels},
        "addressType": family,
        "endpoints": endpoints,
        "ports": [_port(port) for port in ports],
    }


def _port(port: Port) -> Object:
    name, number, protocol, app_protocol = port
    written: Object = {"name": name, "port": number, "protocol": protocol}
    return {**written, "appProtocol": app_protocol} if app_protocol else written


def _closest(left: Sequence[Object], family: str, ports: tuple[Port, ...]) -> Object | None:
    """A slice of the family to write anew: one with the same ports if there is one, so that few slices change."""
    fitting = [one for one in left if one.get("addressType") == family]
    same = [one for one in fitting if (one.get("ports") or []) == [_port(port) for port in ports]]
    return next(iter(same or fitting), None)
