"""Objects as the API server sends them, and what is read of them. Pure.

The structs name just the fields that become part of a record; msgspec skips all others while it scans, so nothing is
built that is not kept. A field that the API reference calls optional may be absent or null.

Sources: Kubernetes API reference: core/v1 Pod, Service, Namespace; discovery.k8s.io/v1 EndpointSlice; apps/v1;
batch/v1. Gateway API reference: gateway.networking.k8s.io/v1beta1 ReferenceGrant.
"""

from sys import intern
from typing import Any, Final

import msgspec

from contract import kinds, names
from contract.kinds.injection import FaultInjection, read_fault_injection
from contract.kinds.reading import Faulty
from contract.kinds.traffic import TrafficPolicy, read_traffic_policy
from controller.objects import (
    NO_OWNER,
    Condition,
    Grant,
    Key,
    Namespace,
    Node,
    Owner,
    Pod,
    Policy,
    Service,
    ServicePort,
    Slice,
    SliceEndpoint,
    SlicePort,
    Workload,
    canonical_ip,
)

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"


class _OwnerReference(msgspec.Struct, gc=False):
    kind: str
    name: str
    controller: bool | None = None


class _Metadata(msgspec.Struct, rename="camel", gc=False):
    name: str = ""
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[_OwnerReference, ...] | None = None

    def key(self) -> Key:
        return Key(intern(self.namespace or ""), self.name)

    def owner(self) -> Owner:
        for reference in self.owner_references or ():
            if reference.controller:
                return Owner(intern(reference.kind.lower()), reference.name)
        return NO_OWNER

    def label(self, name: str) -> str | None:
        return (self.labels or {}).get(name)

    def annotation(self, name: str) -> str | None:
        return (self.annotations or {}).get(name)


class _PodIp(msgspec.Struct, gc=False):
    ip: str = ""


class _PodStatus(msgspec.Struct, rename={"pod_ip": "podIP", "pod_ips": "podIPs"}, gc=False):
    phase: str = "Pending"
    pod_ip: str | None = None
    pod_ips: tuple[_PodIp, ...] | None = None


class _Container(msgspec.Struct, gc=False):
    name: str = ""


class _PodSpec(msgspec.Struct, rename="camel", gc=False):
    node_name: str | None = None
    service_account_name: str | None = None
    host_network: bool | None = None
    containers: tuple[_Container, ...] | None = None
    init_containers: tuple[_Container, ...] | None = None

    def has_sidecar(self) -> bool:
        """By the containers, which nobody can change once the pod exists; labels are for anybody to write."""
        lists = (self.init_containers or (), self.containers or ())  # a native sidecar stands among the former
        return any(container.name == names.PROXY_CONTAINER for found in lists for container in found)


class PodWire(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)

    def record(self) -> Pod:
        addresses = [item.ip for item in self.status.pod_ips or ()] or [self.status.pod_ip or ""]
        weight, bad_weight = _weight(self.metadata.annotation(names.WEIGHT))
        return Pod(
            key=self.metadata.key(),
            ips=tuple(canonical_ip(ip) for ip in addresses if ip),
            host_network=bool(self.spec.host_network),
            phase=intern(self.status.phase),
            owner=self.metadata.owner(),
            service_account=intern(self.spec.service_account_name or ""),
            node=intern(self.spec.node_name or ""),
            meshed=self.spec.has_sidecar(),
            opaque_ports=self.metadata.annotation(names.OPAQUE_PORTS),
            created=self.metadata.creation_timestamp or "",
            weight=weight,
            bad_weight=bad_weight,
            uid=self.metadata.uid,
            leaving=self.metadata.deletion_timestamp is not None,
        )


def _weight(text: str | None) -> tuple[int, str]:
    if text is None:
        return 1, ""
    try:
        return kinds.parse_weight(text), ""
    except ValueError as fault:
        return 1, str(fault)


class _ServicePortWire(msgspec.Struct, rename="camel", gc=False):
    port: int
    name: str | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class _ServiceSpec(msgspec.Struct, rename={"cluster_ip": "clusterIP", "cluster_ips": "clusterIPs"}, gc=False):
    type: str | None = None
    cluster_ip: str | None = None
    cluster_ips: tuple[str, ...] | None = None
    ports: tuple[_ServicePortWire, ...] | None = None
    internal_traffic_policy: str | None = msgspec.field(default=None, name="internalTrafficPolicy")


class ServiceWire(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)

    def record(self) -> Service:
        addresses = self.spec.cluster_ips or (self.spec.cluster_ip or "",)
        ports = (port for port in self.spec.ports or () if (port.protocol or "TCP") == "TCP")
        return Service(
            key=self.metadata.key(),
            ips=tuple(canonical_ip(ip) for ip in addresses if ip not in ("", "None")),
            ports=tuple(ServicePort(port.name or "", port.port, port.app_protocol or "") for port in ports),
            opaque_ports=self.metadata.annotation(names.OPAQUE_PORTS),
            node_local=self.spec.internal_traffic_policy == "Local",
            external=self.spec.type == "ExternalName",
        )


class _Conditions(msgspec.Struct, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Reference(msgspec.Struct, gc=False):
    kind: str | None = None
    name: str | None = None


class _ForZone(msgspec.Struct, gc=False):
    name: str = ""


class _Hints(msgspec.Struct, rename="camel", gc=False):
    for_zones: tuple[_ForZone, ...] | None = None


class _EndpointWire(msgspec.Struct, rename="camel", gc=False):
    addresses: tuple[str, ...] = ()
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    target_ref: _Reference | None = None
    zone: str | None = None
    node_name: str | None = None
    hints: _Hints | None = None

    def record(self) -> SliceEndpoint:
        conditions, target = self.conditions, self.target_ref
        ready = conditions.ready is not False  # unset means ready, says the API reference
        return SliceEndpoint(
            ip=canonical_ip(self.addresses[0]),  # kube-proxy, too, uses the first alone
            ready=ready,
            serving=ready if conditions.serving is None else conditions.serving,
            terminating=bool(conditions.terminating),
            pod=target.name or "" if target is not None and target.kind == "Pod" else "",
            zone=intern(self.zone or ""),
            node=intern(self.node_name or ""),
            hinted_zones=tuple(intern(zone.name) for zone in (self.hints or _Hints()).for_zones or ()),
        )


class _SlicePortWire(msgspec.Struct, gc=False):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class SliceWire(msgspec.Struct, rename="camel", gc=False):
    metadata: _Metadata
    address_type: str = "IPv4"
    endpoints: tuple[_EndpointWire, ...] | None = None
    ports: tuple[_SlicePortWire, ...] | None = None

    def record(self) -> Slice:
        usable = self.address_type in ("IPv4", "IPv6")
        written = (self.endpoints or ()) if usable else ()
        endpoints = tuple(endpoint.record() for endpoint in written if endpoint.addresses)
        return Slice(
            key=self.metadata.key(),
            service=self.metadata.label(SERVICE_NAME_LABEL) or "",
            ports=tuple(
                SlicePort(port.name or "", port.port)
                for port in self.ports or ()
                if port.port is not None and (port.protocol or "TCP") == "TCP"
            ),
            endpoints=endpoints,
            hinted=any(endpoint.hinted_zones for endpoint in endpoints),
        )


class NamespaceWire(msgspec.Struct, gc=False):
    metadata: _Metadata

    def record(self) -> Namespace:
        return Namespace(
            key=Key("", self.metadata.name),
            inject=self.metadata.label(names.INJECT) == names.ENABLED,
            terminating=self.metadata.deletion_timestamp is not None,
            opaque_ports=self.metadata.annotation(names.OPAQUE_PORTS),
        )


class WorkloadWire(msgspec.Struct, gc=False):
    metadata: _Metadata

    def record(self) -> Workload:
        return Workload(self.metadata.key(), self.metadata.owner())


class NodeWire(msgspec.Struct, gc=False):
    metadata: _Metadata

    def record(self) -> Node:
        return Node(Key("", self.metadata.name), intern(self.metadata.label(ZONE_LABEL) or ""))


class _ConditionWire(msgspec.Struct, rename="camel", gc=False):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""

    def record(self) -> Condition:
        return Condition(
            self.type, self.status, self.reason, self.message, self.observed_generation, self.last_transition_time
        )


class _PolicyStatus(msgspec.Struct, gc=False):
    conditions: tuple[_ConditionWire, ...] | None = None


class _PolicyMetadata(_Metadata, gc=False):
    generation: int = 0


class TrafficPolicyWire(msgspec.Struct, gc=False):
    metadata: _PolicyMetadata
    spec: Any = None
    status: _PolicyStatus = msgspec.field(default_factory=_PolicyStatus)

    def record(self) -> Policy:
        try:
            return _policy(kinds.TRAFFIC_POLICIES, self, read_traffic_policy({"spec": self.spec}), "")
        except Faulty as fault:
            return _policy(kinds.TRAFFIC_POLICIES, self, None, str(fault))


class FaultInjectionWire(msgspec.Struct, gc=False):
    metadata: _PolicyMetadata
    spec: Any = None
    status: _PolicyStatus = msgspec.field(default_factory=_PolicyStatus)

    def record(self) -> Policy:
        try:
            return _policy(kinds.FAULT_INJECTIONS, self, read_fault_injection({"spec": self.spec}), "")
        except Faulty as fault:
            return _policy(kinds.FAULT_INJECTIONS, self, None, str(fault))


class _Sender(msgspec.Struct, gc=False):
    group: str = ""
    kind: str = ""
    namespace: str = ""


class _Receiver(msgspec.Struct, gc=False):
    group: str = ""
    kind: str = ""
    name: str | None = None


class _GrantSpec(msgspec.Struct, gc=False):
    senders: tuple[_Sender, ...] | None = msgspec.field(default=None, name="from")
    receivers: tuple[_Receiver, ...] | None = msgspec.field(default=None, name="to")


class GrantWire(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _GrantSpec = msgspec.field(default_factory=_GrantSpec)

    def record(self) -> Grant:
        return Grant(
            self.metadata.key(),
            tuple((one.group, one.kind, one.namespace) for one in self.spec.senders or ()),
            tuple((one.group, one.kind, one.name or "") for one in self.spec.receivers or ()),
        )


def _policy(
    kind: str, wire: TrafficPolicyWire | FaultInjectionWire, content: TrafficPolicy | FaultInjection | None, fault: str
) -> Policy:
    return Policy(
        kind=kind,
        key=wire.metadata.key(),
        created=wire.metadata.creation_timestamp or "",
        generation=wire.metadata.generation,
        version=wire.metadata.resource_version,
        content=content,
        fault=fault,
        conditions=tuple(condition.record() for condition in wire.status.conditions or ()),
    )


Wire = (
    PodWire
    | ServiceWire
    | SliceWire
    | NamespaceWire
    | WorkloadWire
    | NodeWire
    | TrafficPolicyWire
    | FaultInjectionWire
    | GrantWire
)
