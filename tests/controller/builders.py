"""Short spellings of records for tests."""

import json
from typing import Any

from controller.cluster import Change, Cluster
from controller.kinds import FAULT_INJECTIONS, KINDS, REFERENCE_GRANTS, TRAFFIC_POLICIES
from controller.objects import (
    NO_OWNER,
    Grant,
    Key,
    Namespace,
    Node,
    Owner,
    Pod,
    Policy,
    Record,
    Service,
    ServicePort,
    Slice,
    SliceEndpoint,
    SlicePort,
    Workload,
)

NS = "shop"


def pod(
    name: str = "web-1",
    ip: str = "10.244.0.1",
    *,
    namespace: str = NS,
    owner: Owner = NO_OWNER,
    phase: str = "Running",
    host_network: bool = False,
    meshed: bool = True,
    opaque_ports: str | None = None,
    node: str = "node-a",
    created: str = "2026-01-01T00:00:00Z",
    weight: int = 1,
) -> Pod:
    return Pod(
        key=Key(namespace, name),
        ips=(ip,) if ip else (),
        host_network=host_network,
        phase=phase,
        owner=owner,
        service_account="default",
        node=node,
        meshed=meshed,
        opaque_ports=opaque_ports,
        created=created,
        weight=weight,
    )


def service(
    name: str = "web",
    *ips: str,
    ports: tuple[ServicePort, ...] = (ServicePort("http", 80, ""),),
    namespace: str = NS,
    opaque_ports: str | None = None,
    node_local: bool = False,
) -> Service:
    return Service(Key(namespace, name), ips or ("10.96.0.7",), ports, opaque_ports, node_local)


def headless(name: str, *ports: ServicePort) -> Service:
    return Service(Key(NS, name), (), ports, None, False)


def endpoint(
    ip: str,
    pod_name: str = "",
    *,
    ready: bool = True,
    serving: bool = True,
    terminating: bool = False,
    node: str = "",
    hinted_zones: tuple[str, ...] = (),
) -> SliceEndpoint:
    return SliceEndpoint(ip, ready, serving, terminating, pod_name, "zone-1", node, hinted_zones)


def piece(
    *endpoints: SliceEndpoint,
    name: str = "web-abc",
    of: str = "web",
    ports: tuple[SlicePort, ...] = (SlicePort("http", 8080),),
    namespace: str = NS,
) -> Slice:
    return Slice(Key(namespace, name), of, ports, endpoints, any(item.hinted_zones for item in endpoints))


def namespace(name: str = NS, *, inject: bool = False, opaque_ports: str | None = None) -> Namespace:
    return Namespace(Key("", name), inject, False, opaque_ports)


def node(name: str, zone: str = "") -> Node:
    return Node(Key("", name), zone)


def policy(
    name: str, kind: str = "trafficpolicies", *, created: str = "2026-01-01T00:00:00Z", of: str = "web", **spec: Any
) -> Policy:
    """A policy as the API server writes it: `target_port` names a port of the target."""
    port = spec.pop("target_port", None)
    target = {"name": of} | ({"sectionName": port} if port else {})
    metadata = {"name": name, "namespace": NS, "creationTimestamp": created, "generation": 1, "resourceVersion": "7"}
    body = json.dumps({"metadata": metadata, "spec": {"targetRef": target} | spec})
    wire = {"trafficpolicies": TRAFFIC_POLICIES, "faultinjections": FAULT_INJECTIONS}[kind]
    found = wire.decode(body.encode())
    assert isinstance(found, Policy)
    return found


def workload(name: str, owner: Owner = NO_OWNER, namespace: str = NS) -> Workload:
    return Workload(Key(namespace, name), owner)


def grant(
    namespace: str = "lab", *, sender: str = NS, kind: str = "TrafficPolicy", to: tuple[str, str] = ("Service", "")
) -> Grant:
    """A ReferenceGrant as the API server writes it."""
    name = {"name": to[1]} if to[1] else {}
    spec = {
        "from": [{"group": "policy.tulle.mesh", "kind": kind, "namespace": sender}],
        "to": [{"group": "", "kind": to[0], **name}],
    }
    found = REFERENCE_GRANTS.decode(
        json.dumps({"metadata": {"name": "g", "namespace": namespace}, "spec": spec}).encode()
    )
    assert isinstance(found, Grant)
    return found


def kind_of(record: Record) -> str:
    match record:
        case Pod():
            return "pods"
        case Service():
            return "services"
        case Slice():
            return "endpointslices"
        case Namespace():
            return "namespaces"
        case Node():
            return "nodes"
        case Policy():
            return record.kind
        case Grant():
            return "referencegrants"
        case Workload():
            raise AssertionError("workloads are given with their kind")


def cluster_of(*records: Record, **workloads: tuple[Workload, ...]) -> Cluster:
    """A cluster of records; workloads by plural kind: `deployments=(workload("web"),)`."""
    cluster = Cluster()
    for record in records:
        cluster.apply(Change(kind_of(record), record.key, record))
    for kind, items in workloads.items():
        assert kind in {item.name for item in KINDS}
        for item in items:
            cluster.apply(Change(kind, item.key, item))
    return cluster
