"""The controller's picture of the cluster: records by name, and the indices that discovery and stat ask. Pure.

One writer (the event loop) applies changes; every change notes the addresses whose destination it may alter in
`dirty`. Nothing here waits, logs or knows the time.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from contract.policy import ServicePolicy
from controller.indices import discard, drop
from controller.objects import (
    FINISHED,
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
    Workload,
)
from controller.policies import Policies, service_of


@dataclass(frozen=True, slots=True)
class Change:
    """One object appeared or changed (`record`), or went (None)."""

    kind: str
    key: Key
    record: Record | None


@dataclass(frozen=True, slots=True)
class Replace:
    """All objects of a kind, as a list request told them: what is not among them is gone."""

    kind: str
    records: tuple[Record, ...]


@dataclass(slots=True)
class Cluster:
    """Records and indices. Read freely; write through `apply` alone."""

    pods: dict[Key, Pod] = field(default_factory=dict)
    services: dict[Key, Service] = field(default_factory=dict)
    slices: dict[Key, Slice] = field(default_factory=dict)
    namespaces: dict[Key, Namespace] = field(default_factory=dict)
    workloads: dict[str, dict[Key, Workload]] = field(default_factory=lambda: defaultdict(dict))
    """By plural kind: replicasets, jobs, deployments, statefulsets, daemonsets."""
    nodes: dict[Key, Node] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)
    grants: dict[Key, Grant] = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)
    """Addresses whose destination may have changed since `take_dirty`."""
    _pods_by_ip: dict[str, tuple[Key, ...]] = field(default_factory=dict)
    _service_by_ip: dict[str, Key] = field(default_factory=dict)
    _slices_by_service: dict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))
    _slices_by_pod: dict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))

    def apply(self, change: Change | Replace) -> None:
        """Bring the picture up to date and note what became dirty."""
        if isinstance(change, Change):
            self._put(change.kind, change.key, change.record)
            return
        fresh = {record.key: record for record in change.records}
        for key in [key for key in self._table(change.kind) if key not in fresh]:
            self._put(change.kind, key, None)
        for key, record in fresh.items():
            self._put(change.kind, key, record)

    def take_dirty(self) -> set[str]:
        taken, self.dirty = self.dirty, set()
        return taken

    # --- questions

    def service_at(self, ip: str) -> Service | None:
        key = self._service_by_ip.get(ip)
        return None if key is None else self.services[key]

    def pod_at(self, ip: str) -> Pod | None:
        """The pod that has the address; of two (one is on its way out) the younger."""
        candidates = [self.pods[key] for key in self._pods_by_ip.get(ip, ())]
        return max(candidates, key=lambda pod: (pod.created, pod.key), default=None)

    def slices_of(self, service: Key) -> list[Slice]:
        return [self.slices[key] for key in sorted(self._slices_by_service.get(service, ()))]

    def slices_naming(self, pod: Key) -> list[Slice]:
        """Those that say that the pod is behind them; anybody who may write slices can say so."""
        return [self.slices[key] for key in sorted(self._slices_by_pod.get(pod, ()))]

    def slices_with(self, pod: Pod) -> list[Slice]:
        """Those that the pod is behind: they name it and give an address of its own."""
        return [
            piece
            for piece in self.slices_naming(pod.key)
            if any(item.pod == pod.key.name and item.ip in pod.ips for item in piece.endpoints)
        ]

    def pod_behind(self, piece: Slice, item: SliceEndpoint) -> Pod | None:
        """The pod at an endpoint: the one that the slice names if the address is its own, else whose it is."""
        named = self.pods.get(Key(piece.key.namespace, item.pod)) if item.pod else None
        return named if named is not None and item.ip in named.ips else self.pod_at(item.ip)

    def top_owner(self, pod: Pod) -> Owner:
        """Who answers for the pod: a Deployment rather than its ReplicaSet; NO_OWNER for a bare pod."""
        if pod.owner.kind != "replicaset":
            return pod.owner
        replicaset = self.workloads["replicasets"].get(Key(pod.key.namespace, pod.owner.name))
        return pod.owner if replicaset is None or replicaset.owner == NO_OWNER else replicaset.owner

    def namespace_opaque_ports(self, namespace: str) -> str | None:
        record = self.namespaces.get(Key("", namespace))
        return None if record is None else record.opaque_ports

    def zone_of(self, node: str) -> str:
        record = self.nodes.get(Key("", node))
        return "" if record is None else record.zone

    def policy_on(self, service: Service, port: ServicePort) -> ServicePolicy | None:
        """What holds for the traffic to a port of a service."""
        if not self.policies.concerns(service.key):
            return None
        return self.policies.in_force(service, port.name, self.services.get, self.grants.values())

    def running_pods(self) -> Iterator[Pod]:
        return (pod for pod in self.pods.values() if pod.phase == "Running")

    def service_pods(self, service: Key) -> set[Key]:
        """The pods behind a service, ready or not."""
        found = (self.pod_behind(piece, item) for piece in self.slices_of(service) for item in piece.endpoints)
        return {pod.key for pod in found if pod is not None}

    # --- changes

    def _table(
        self, kind: str
    ) -> (
        dict[Key, Pod]
        | dict[Key, Service]
        | dict[Key, Slice]
        | dict[Key, Namespace]
        | dict[Key, Node]
        | dict[Key, Policy]
        | dict[Key, Workload]
        | dict[Key, Grant]
    ):
        match kind:
            case "pods":
                return self.pods
            case "services":
                return self.services
            case "endpointslices":
                return self.slices
            case "namespaces":
                return self.namespaces
            case "nodes":
                return self.nodes
            case "referencegrants":
                return self.grants
            case _ if kind in self.policies.tables:
                return self.policies.tables[kind]
            case _:
                return self.workloads[kind]

    def _put(self, kind: str, key: Key, record: Record | None) -> None:
        table: dict[Key, Record] = self._table(kind)  # type: ignore[assignment]  # the kind says which record
        old = table.get(key)
        if old == record:
            return
        if old is not None:
            del table[key]
            self._forget(old)
        if record is not None:
            table[key] = record
            self._learn(record)
        self._note(kind, key, old, record)

    def _learn(self, record: Record) -> None:
        match record:
            case Pod():
                for ip in _own_ips(record):
                    self._pods_by_ip[ip] = (*self._pods_by_ip.get(ip, ()), record.key)
            case Service():
                for ip in record.ips:
                    self._service_by_ip[ip] = record.key
            case Slice():
                self._slices_by_service[Key(record.key.namespace, record.service)].add(record.key)
                for pod in _slice_pods(record):
                    self._slices_by_pod[pod].add(record.key)
            case Policy():
                self.policies.learn(record)

    def _forget(self, record: Record) -> None:
        match record:
            case Pod():
                for ip in _own_ips(record):
                    drop(self._pods_by_ip, ip, record.key)
            case Service():
                for ip in record.ips:
                    if self._service_by_ip.get(ip) == record.key:
                        del self._service_by_ip[ip]
            case Slice():
                discard(self._slices_by_service, Key(record.key.namespace, record.service), record.key)
                for pod in _slice_pods(record):
                    discard(self._slices_by_pod, pod, record.key)
            case Policy():
                self.policies.forget(record)

    def _note(self, kind: str, key: Key, old: Record | None, new: Record | None) -> None:
        if isinstance(old, Policy) and isinstance(new, Policy) and old.content == new.content:
            return  # its status was written
        for record in (old, new):
            match record:
                case Pod():
                    self._pod_is_dirty(record)
                case Service():
                    self._service_is_dirty(record.key, record.ips)
                case Slice():
                    service = self.services.get(Key(record.key.namespace, record.service))
                    if service is not None:
                        self._service_is_dirty(service.key, service.ips)
                    self.dirty.update(endpoint.ip for endpoint in record.endpoints)
                case Policy():
                    self._policed_is_dirty(service_of(record))
                case Grant():
                    for mirrored in self.policies.mirrored_into(key.namespace):
                        self._policed_is_dirty(mirrored)
        if kind == "replicasets":
            self._pods_are_dirty(pod for pod in self.pods.values() if pod.owner == ("replicaset", key.name))
        elif kind == "nodes":
            self._hinted_are_dirty()
        elif kind == "services" and _hints(old) != _hints(new):
            # What it says of its ports holds for its pods' own addresses: by these their sidecars ask.
            self.dirty.update(endpoint.ip for piece in self.slices_of(key) for endpoint in piece.endpoints)
        elif kind == "namespaces" and _opaque_ports(old) != _opaque_ports(new):
            self._pods_are_dirty(pod for pod in self.pods.values() if pod.key.namespace == key.name)
            for service in self.services.values():
                if service.key.namespace == key.name:
                    self._service_is_dirty(service.key, service.ips)

    def _service_is_dirty(self, key: Key, ips: tuple[str, ...]) -> None:
        self.dirty.update(ips)
        # Headless: its pods' addresses are its own. With a policy: that holds for its pods' addresses too.
        if not ips or self.policies.concerns(key):
            self.dirty.update(endpoint.ip for piece in self.slices_of(key) for endpoint in piece.endpoints)
        for mirrored in self.policies.mirrored_from(key):
            self._policed_is_dirty(mirrored)

    def _policed_is_dirty(self, key: Key | None) -> None:
        """A policy of the service changed, or what its policy refers to."""
        service = None if key is None else self.services.get(key)
        if service is not None:
            self.dirty.update(service.ips)
            self.dirty.update(endpoint.ip for piece in self.slices_of(service.key) for endpoint in piece.endpoints)

    def _hinted_are_dirty(self) -> None:
        """A node came, went or changed its zone: for its pods other endpoints of hinted services are near."""
        for piece in self.slices.values():
            service = self.services.get(Key(piece.key.namespace, piece.service))
            if service is not None and piece.hinted:
                self.dirty.update(service.ips)

    def _pods_are_dirty(self, pods: Iterable[Pod]) -> None:
        for pod in pods:
            self._pod_is_dirty(pod)

    def _pod_is_dirty(self, pod: Pod) -> None:
        self.dirty.update(pod.ips)
        for piece in self.slices_naming(pod.key):
            service = self.services.get(Key(piece.key.namespace, piece.service))
            if service is not None:
                self.dirty.update(service.ips)


def _own_ips(pod: Pod) -> tuple[str, ...]:
    """Addresses that name this pod alone: a node's address names no pod, a finished pod's may be another's."""
    return () if pod.host_network or pod.phase in FINISHED else pod.ips


def _slice_pods(piece: Slice) -> set[Key]:
    return {Key(piece.key.namespace, endpoint.pod) for endpoint in piece.endpoints if endpoint.pod}


def _hints(record: Record | None) -> tuple[object, ...] | None:
    return (record.ports, record.opaque_ports) if isinstance(record, Service) else None


def _opaque_ports(record: Record | None) -> str | None:
    return record.opaque_ports if isinstance(record, Namespace) else None
