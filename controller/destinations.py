"""What stands behind an original destination: the answer of discovery. Pure.

Endpoints of a service are chosen as kube-proxy chooses them: the ready ones; when there is none, those that are
terminating but still serve. internalTrafficPolicy: Local keeps those of the client's node.

An endpoint is preferred for a client when Kubernetes hints so for the zone of the client's node; as with kube-proxy,
hints count only where every endpoint has one and some endpoint is hinted for that zone.

Sources: Kubernetes, "Virtual IPs and service proxies" and EndpointSlice API reference ("serving", "terminating");
"Topology Aware Routing".
"""

from hashlib import blake2b
from typing import Final

import msgspec

from contract.discovery import Destination, Endpoint
from contract.policy import ServicePolicy
from controller.cluster import Cluster
from controller.objects import Pod, Service, ServicePort, Slice, SliceEndpoint, SlicePort, canonical_ip
from controller.opaque import Ports
from controller.policies import lowest_rates
from controller.protocols import pod_protocol, service_protocol, services_on

REVISION_BYTES: Final = 8
"""Digest size: revisions are compared with their own predecessors alone, 64 bits are ample."""


def parse_target(target: str) -> tuple[str, int]:
    """Split `10.96.0.7:80` or `[fd00::7]:80` into canonical address and port.

    Raises:
        ValueError: it is written otherwise.
    """
    host, colon, port_text = target.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) <= 65535:
        raise ValueError(f"{target!r} has no port: write 10.96.0.7:80 or [fd00::7]:80")
    if bracketed != (":" in host):
        raise ValueError(f"{target!r}: write IPv6 addresses, and those alone, in brackets: [fd00::7]:80")
    try:
        return canonical_ip(host[1:-1] if bracketed else host), int(port_text)
    except ValueError:
        raise ValueError(f"{target!r} is no IP address and port: write 10.96.0.7:80 or [fd00::7]:80") from None


def resolve(cluster: Cluster, target: str, default_opaque: Ports, node: str = "") -> Destination:
    """Tell what `target` is, for a client on `node` ("" when unknown).

    Raises:
        ValueError: as `parse_target`.
    """
    ip, port = parse_target(target)
    service = cluster.service_at(ip)
    if service is not None:
        declared = next((item for item in service.ports if item.port == port), None)
        if declared is not None:
            return _sealed(_service(cluster, target, service, declared, default_opaque, node, ":" in ip))
        return _sealed(Destination(target=target, revision="", kind="unknown"))
    pod = cluster.pod_at(ip)
    if pod is not None:
        return _sealed(_pod(cluster, target, pod, ip, port, default_opaque))
    return _sealed(Destination(target=target, revision="", kind="unknown"))


def locality(cluster: Cluster, target: str, node: str) -> str:
    """What of the client's place the answer depends on: its node, its zone, or nothing ("")."""
    service = cluster.service_at(parse_target(target)[0])
    if service is None or not node:
        return ""
    if service.node_local:
        return f"node {node}"
    is_hinted = any(piece.hinted for piece in cluster.slices_of(service.key))
    zone = cluster.zone_of(node) if is_hinted else ""
    return f"zone {zone}" if zone else ""


def _sealed(destination: Destination) -> Destination:
    digest = blake2b(msgspec.json.encode(destination), digest_size=REVISION_BYTES).hexdigest()
    return msgspec.structs.replace(destination, revision=digest)


def _service(
    cluster: Cluster, target: str, service: Service, port: ServicePort, opaque: Ports, node: str, is_ipv6: bool
) -> Destination:
    found = [
        (piece, slice_port, item)
        for piece in cluster.slices_of(service.key)
        for slice_port in piece.ports
        if slice_port.name == port.name
        for item in piece.endpoints
        if (":" in item.ip) == is_ipv6 and (not service.node_local or not node or item.node == node)
    ]
    ready = [entry for entry in found if entry[2].ready]
    chosen = ready or [entry for entry in found if entry[2].serving and entry[2].terminating]
    near = _hinted([item for _, _, item in ready], cluster.zone_of(node))
    endpoints = {
        (item.ip, slice_port.port): _endpoint(cluster, piece, slice_port, item, item.ip in near)
        for piece, slice_port, item in chosen
    }
    behind = [(cluster.pod_behind(piece, item), slice_port.port) for piece, slice_port, item in found]
    return Destination(
        target=target,
        revision="",
        kind="service",
        namespace=service.key.namespace,
        name=service.key.name,
        port=port.port,
        protocol=service_protocol(cluster, service, port, behind, opaque),
        endpoints=tuple(endpoints[address] for address in sorted(endpoints)),
        policy=cluster.policy_on(service, port),
    )


def _hinted(items: list[SliceEndpoint], zone: str) -> set[str]:
    """Addresses of the endpoints that are hinted for the zone; none where hints do not count."""
    if not zone or not all(item.hinted_zones for item in items):
        return set()
    return {item.ip for item in items if zone in item.hinted_zones}


def _endpoint(cluster: Cluster, piece: Slice, port: SlicePort, item: SliceEndpoint, is_near: bool) -> Endpoint:
    pod = cluster.pod_behind(piece, item)
    if pod is None:
        return Endpoint(ip=item.ip, port=port.port, zone=item.zone, node=item.node, preferred=is_near)
    found = _labelled(cluster, pod, item.ip, port.port, item.zone)
    return msgspec.structs.replace(found, preferred=True) if is_near else found


def _labelled(cluster: Cluster, pod: Pod, ip: str, port: int, zone: str) -> Endpoint:
    owner = cluster.top_owner(pod)
    return Endpoint(
        ip=ip,
        port=port,
        pod=pod.key.name,
        namespace=pod.key.namespace,
        owner_kind=owner.kind,
        owner=owner.name,
        service_account=pod.service_account,
        zone=zone,
        node=pod.node,
        meshed=pod.meshed,
        weight=pod.weight,
    )


def _pod(cluster: Cluster, target: str, pod: Pod, ip: str, port: int, default_opaque: Ports) -> Destination:
    zones = (item.zone for piece in cluster.slices_with(pod) for item in piece.endpoints if item.pod == pod.key.name)
    return Destination(
        target=target,
        revision="",
        kind="pod",
        namespace=pod.key.namespace,
        name=pod.key.name,
        port=port,
        protocol=pod_protocol(cluster, pod, port, default_opaque),
        endpoints=(_labelled(cluster, pod, ip, port, next(zones, "")),),
        policy=_pod_policy(cluster, pod, port),
    )


def _pod_policy(cluster: Cluster, pod: Pod, port: int) -> ServicePolicy | None:
    """That of the service whose port it is; where several have one and they differ, their lowest rate limits alone."""
    found = {policy for one in services_on(cluster, pod, port) if (policy := cluster.policy_on(*one)) is not None}
    return found.pop() if len(found) == 1 else lowest_rates(found)
