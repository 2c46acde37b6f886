"""What the controller keeps of Kubernetes objects: small frozen records, and their decoding. Pure.

An object as the API server sends it is ten to a hundred times larger than what discovery and stat need of it. The
`*Wire` structs name just the fields that are read (msgspec skips all others while it scans), and each becomes a
record without cyclic-garbage tracking. Two records are equal when nothing that matters differs, so a status update
of a pod that changes none of these fields is no event at all.

Sources: Kubernetes API reference: core/v1 Pod, Service, Namespace; discovery.k8s.io/v1 EndpointSlice; apps/v1;
batch/v1.
"""

from ipaddress import ip_address
from sys import intern
from typing import Final, NamedTuple

import msgspec

from contract import names

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
FINISHED: Final = ("Succeeded", "Failed")
"""Phases of a pod that will never run again; its address may already be another pod's."""


class Key(NamedTuple):
    """Names one object of a kind; `namespace` is "" for cluster-scoped kinds."""

    namespace: str
    name: str


class Owner(NamedTuple):
    """A controlling object: lower-case singular kind and name, both "" where there is none."""

    kind: str
    name: str


NO_OWNER: Final = Owner("", "")


class Pod(msgspec.Struct, frozen=True, gc=False):
    key: Key
    ips: tuple[str, ...]
    host_network: bool
    phase: str
    owner: Owner
    service_account: str
    node: str
    meshed: bool
    opaque_ports: str | None
    """The pod's own annotation; None where it has none."""
    created: str
    """RFC 3339, UTC: compares as text."""


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    name: str
    port: int
    app_protocol: str


class Service(msgspec.Struct, frozen=True, gc=False):
    key: Key
    ips: tuple[str, ...]
    """Cluster IPs of all families; empty for headless and ExternalName services."""
    ports: tuple[ServicePort, ...]
    """TCP ports only."""
    opaque_ports: str | None
    node_local: bool
    """internalTrafficPolicy: Local."""


class SlicePort(msgspec.Struct, frozen=True, gc=False):
    name: str
    port: int


class SliceEndpoint(msgspec.Struct, frozen=True, gc=False):
    ip: str
    ready: bool
    serving: bool
    terminating: bool
    pod: str
    """Name of the pod (in the slice's namespace), "" for endpoints that are no pods."""
    zone: str
    node: str


class Slice(msgspec.Struct, frozen=True, gc=False):
    key: Key
    service: str
    ports: tuple[SlicePort, ...]
    endpoints: tuple[SliceEndpoint, ...]


class Namespace(msgspec.Struct, frozen=True, gc=False):
    key: Key
    inject: bool
    terminating: bool
    opaque_ports: str | None


class Workload(msgspec.Struct, frozen=True, gc=False):
    """A ReplicaSet, Job, Deployment, StatefulSet or DaemonSet: that it exists, and who owns it."""

    key: Key
    owner: Owner


Record = Pod | Service | Slice | Namespace | Workload


def canonical_ip(text: str) -> str:
    """Return the address as Python writes it (RFC 5952 for IPv6).

    Raises:
        ValueError: it is no IP address.
    """
    # fast: IPv4 is nearly all there is, and has one spelling only once it has been parsed
    return str(ip_address(text))


class _OwnerReference(msgspec.Struct, gc=False):
    kind: str
    name: str
    controller: bool | None = None


class _Metadata(msgspec.Struct, rename="camel", gc=False):
    name: str = ""
    namespace: str | None = None
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


class _PodSpec(msgspec.Struct, rename="camel", gc=False):
    node_name: str | None = None
    service_account_name: str | None = None
    host_network: bool | None = None


class PodWire(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)

    def record(self) -> Pod:
        addresses = [item.ip for item in self.status.pod_ips or ()] or [self.status.pod_ip or ""]
        return Pod(
            key=self.metadata.key(),
            ips=tuple(canonical_ip(ip) for ip in addresses if ip),
            host_network=bool(self.spec.host_network),
            phase=intern(self.status.phase),
            owner=self.metadata.owner(),
            service_account=intern(self.spec.service_account_name or ""),
            node=intern(self.spec.node_name or ""),
            meshed=self.metadata.label(names.MESHED) is not None,
            opaque_ports=self.metadata.annotation(names.OPAQUE_PORTS),
            created=self.metadata.creation_timestamp or "",
        )


class _ServicePortWire(msgspec.Struct, rename="camel", gc=False):
    port: int
    name: str | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class _ServiceSpec(msgspec.Struct, rename={"cluster_ip": "clusterIP", "cluster_ips": "clusterIPs"}, gc=False):
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
        )


class _Conditions(msgspec.Struct, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Reference(msgspec.Struct, gc=False):
    kind: str | None = None
    name: str | None = None


class _EndpointWire(msgspec.Struct, rename="camel", gc=False):
    addresses: tuple[str, ...] = ()
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    target_ref: _Reference | None = None
    zone: str | None = None
    node_name: str | None = None

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
        endpoints = (self.endpoints or ()) if usable else ()
        return Slice(
            key=self.metadata.key(),
            service=self.metadata.label(SERVICE_NAME_LABEL) or "",
            ports=tuple(
                SlicePort(port.name or "", port.port)
                for port in self.ports or ()
                if port.port is not None and (port.protocol or "TCP") == "TCP"
            ),
            endpoints=tuple(endpoint.record() for endpoint in endpoints if endpoint.addresses),
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


Wire = PodWire | ServiceWire | SliceWire | NamespaceWire | WorkloadWire
