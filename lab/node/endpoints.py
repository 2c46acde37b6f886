"""Services and their endpoints as the node's proxy and its DNS see them: Kubernetes objects in, records out. Pure.

Sources: EndpointSlice v1 (conditions: ready absent means true), KEP-1669 (serving and terminating endpoints when no
ready one is left).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
HEADLESS = "None"


@dataclass(frozen=True)
class Endpoint:
    """One address behind a service; `ports` maps a service port's name to the number on this address."""

    address: str
    hostname: str
    ports: tuple[tuple[str, int], ...]
    is_ready: bool
    is_leaving: bool  # terminating, but still serving


@dataclass(frozen=True)
class Port:
    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Service:
    """`addresses` are the cluster addresses of both families; none for a headless service."""

    namespace: str
    name: str
    addresses: tuple[str, ...]
    is_headless: bool
    external_name: str
    sticks: bool  # sessionAffinity: ClientIP
    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]

    def usable(self) -> list[Endpoint]:
        """The ready endpoints; where none is left, those that still serve while they end."""
        ready = [endpoint for endpoint in self.endpoints if endpoint.is_ready]
        return ready or [endpoint for endpoint in self.endpoints if endpoint.is_leaving]


def collect(services: Iterable[Object], slices: Iterable[Object]) -> list[Service]:
    """All services with their endpoints, in order of namespace and name."""
    behind: dict[tuple[str, str], list[Endpoint]] = {}
    for item in slices:
        metadata = item["metadata"]
        owner = (metadata.get("labels") or {}).get("kubernetes.io/service-name")
        if owner:
            behind.setdefault((metadata["namespace"], owner), []).extend(_endpoints(item))
    return [
        _service(item, behind.get((item["metadata"]["namespace"], item["metadata"]["name"]), []))
        for item in sorted(services, key=lambda s: (s["metadata"]["namespace"], s["metadata"]["name"]))
    ]


def _service(item: Object, endpoints: list[Endpoint]) -> Service:
    spec = item.get("spec") or {}
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    external = spec.get("externalName", "") if spec.get("type") == "ExternalName" else ""
    unique = {(endpoint.address, endpoint.ports): endpoint for endpoint in endpoints}
    return Service(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        addresses=tuple(address for address in addresses if address != HEADLESS),
        is_headless=HEADLESS in addresses,
        external_name=external,
        sticks=spec.get("sessionAffinity") == "ClientIP",
        ports=tuple(Port(p.get("name", ""), p.get("protocol", "TCP"), p["port"]) for p in spec.get("ports") or []),
        endpoints=tuple(sorted(unique.values(), key=lambda endpoint: endpoint.address)),
    )


def _endpoints(item: Object) -> list[Endpoint]:
    ports = tuple((p.get("name") or "", p["port"]) for p in item.get("ports") or [] if p.get("port"))
    found = []
    for endpoint in item.get("endpoints") or []:
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready")
        is_leaving = bool(conditions.get("serving")) and bool(conditions.get("terminating"))
        for address in endpoint.get("addresses", [])[:1]:
            is_ready = ready is None or bool(ready)
            found.append(Endpoint(address, endpoint.get("hostname", ""), ports, is_ready, is_leaving))
    return found
