"""What the controller keeps of Kubernetes objects: small frozen records. Pure.

An object as the API server sends it is ten to a hundred times larger than what discovery and stat need of it
(controller/wire.py reads that much and no more). Two records are equal when nothing that matters differs, so a status
update of a pod that changes none of these fields is no event at all.
"""

from ipaddress import ip_address
from typing import Final, NamedTuple

import msgspec

from contract.kinds.injection import FaultInjection
from contract.kinds.reading import Target
from contract.kinds.traffic import TrafficPolicy

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
    """Whether it has the sidecar's container."""
    opaque_ports: str | None
    """The pod's own annotation; None where it has none."""
    created: str
    """RFC 3339, UTC: compares as text."""
    weight: int = 1
    bad_weight: str = ""
    """What is wrong with the pod's weight annotation; its weight is 1 then."""
    uid: str = ""
    leaving: bool = False
    """Whether it is being deleted."""


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
    external: bool = False
    """type: ExternalName."""


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
    hinted_zones: tuple[str, ...] = ()
    """Zones whose clients should use it."""


class Slice(msgspec.Struct, frozen=True, gc=False):
    key: Key
    service: str
    ports: tuple[SlicePort, ...]
    endpoints: tuple[SliceEndpoint, ...]
    hinted: bool = False
    """Whether some endpoint has zones."""


class Namespace(msgspec.Struct, frozen=True, gc=False):
    key: Key
    inject: bool
    terminating: bool
    opaque_ports: str | None


class Workload(msgspec.Struct, frozen=True, gc=False):
    """A ReplicaSet, Job, Deployment, StatefulSet or DaemonSet: that it exists, and who owns it."""

    key: Key
    owner: Owner


class Node(msgspec.Struct, frozen=True, gc=False):
    key: Key
    zone: str
    """Label topology.kubernetes.io/zone, "" without."""


class Condition(msgspec.Struct, frozen=True, gc=False):
    """One condition of a policy's status."""

    type: str
    status: str
    reason: str
    message: str
    generation: int
    since: str = ""
    """RFC 3339: when `status` last changed."""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """A TrafficPolicy or a FaultInjection."""

    kind: str
    """Lower-case plural."""
    key: Key
    created: str
    generation: int
    version: str
    """resourceVersion: a status is written against it."""
    content: TrafficPolicy | FaultInjection | None
    """None: it cannot be honoured."""
    fault: str = ""
    """Why not: one line a fault."""
    conditions: tuple[Condition, ...] = ()
    """What its status says now."""

    @property
    def target(self) -> Target | None:
        return None if self.content is None else self.content.target

    @property
    def age(self) -> tuple[str, str]:
        """Of policies that concern the same, the least of this wins: the oldest, then the first by name."""
        return self.created, self.key.name


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A ReferenceGrant: which objects of other namespaces may refer to which of its own."""

    key: Key
    senders: tuple[tuple[str, str, str], ...]
    """Group, kind and namespace of those that may refer."""
    receivers: tuple[tuple[str, str, str], ...]
    """Group, kind and name of what they may refer to; name "" for all of the kind."""


Record = Pod | Service | Slice | Namespace | Workload | Node | Policy | Grant


def canonical_ip(text: str) -> str:
    """Return the address as Python writes it (RFC 5952 for IPv6).

    Raises:
        ValueError: it is no IP address.
    """
    # fast: IPv4 is nearly all there is, and has one spelling only once it has been parsed
    return str(ip_address(text))
