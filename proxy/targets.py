"""Destinations in use: what stands behind each original destination, as far as it is known. Turn.

A target is made when a client first connects to an address, and dropped when nobody has used it for a while, so that
memory follows what the pod really calls. Discovery (waiting world) reads `wanted` and calls `apply`; sessions wait
on a target until it is settled: answered, given up, or never asked for because the controller is known to be away.
"""

from collections.abc import Callable, Sequence
from typing import Final

from contract.discovery import Destination, Protocol
from contract.discovery import Endpoint as KnownEndpoint
from contract.metrics import INBOUND, OUTBOUND
from contract.policy import ServicePolicy
from contract.report import Peer
from proxy.meter import PROBE_LABELS, Labels, Meter
from proxy.model import Address, Direction, parse_address
from proxy.policy import outlier
from proxy.policy.probe import Probes, of_port
from proxy.policy.route import Kind
from proxy.pool import Endpoint
from proxy.seams import Clock, Timer
from proxy.traffic import NO_POLICY, Traffic, needs_traffic

_NO_PEER: Final = Peer()


class Target:
    """One original destination: its endpoints, its series, who waits for it, who uses it."""

    __slots__ = (
        "_clock",
        "_meter",
        "_random",
        "address",
        "direct",
        "direction",
        "http",
        "is_limited",
        "is_settled",
        "is_told",
        "kind",
        "known",
        "name",
        "probed",
        "probes",
        "protocol",
        "revision",
        "sessions_count",
        "tcp",
        "timer",
        "traffic",
        "used_s",
        "waiters",
    )

    def __init__(
        self,
        address: Address,
        direction: Direction,
        clock: Clock,
        meter: Meter,
        random: Callable[[], float],
        probed: tuple[bytes, ...] = (),
    ) -> None:
        """`probed`: what the kubelet's probes ask for here (policy.probe)."""
        self._clock = clock
        self._meter = meter
        self._random = random
        self.address = address
        self.direction = direction
        self.kind: Kind = "unknown"
        self.protocol: Protocol = "detect"
        self.name = ""
        """`service.namespace` when it is a service, for messages."""
        self.revision = ""
        self.is_settled = False
        self.is_told = False
        """Discovery has answered, or will not in time. Inbound, requests do not wait for it: only bytes that are not
        HTTP do, because it says whether they may pass."""
        self.is_limited = False
        """A rate limit holds for what comes in."""
        self.waiters: list[Callable[[], None]] = []
        self.timer: Timer | None = None
        self.sessions_count = 0
        self.used_s = 0.0
        labels = address_labels(direction, address)
        self.tcp = meter.take_tcp((labels[0], ("peer", "src"), *labels[1:]), _NO_PEER)
        self.http = meter.take_http(labels, _NO_PEER)
        """Where requests are counted that found no endpoint."""
        self.probed = probed
        self.probes = meter.take_http((*labels, *PROBE_LABELS), _NO_PEER) if probed else None
        """Where the kubelet's probes are counted."""
        direct_tcp = meter.take_tcp((labels[0], ("peer", "dst"), *labels[1:]), _NO_PEER)
        self.direct: Sequence[Endpoint] = (Endpoint(address, meter.take_http(labels, _NO_PEER), direct_tcp),)
        self.known: Sequence[Endpoint] = ()
        self.traffic: Traffic | None = None
        """What a policy remembers; None where there is none."""

    def __repr__(self) -> str:
        return f"<Target {self.direction} {self} {self.kind} endpoints={len(self.known)}>"

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.name else str(self.address)

    def obey(self, policy: ServicePolicy | None) -> None:
        """Take the policy of a snapshot together with its endpoints; what is remembered of the traffic stays."""
        traffic = self.traffic
        if policy is None and traffic is None and not needs_traffic(self.known):
            return
        policy = policy or NO_POLICY
        if traffic is None or traffic.policy != policy:
            self.traffic = self._make_traffic(policy)
            if traffic is not None:
                traffic.close()
        else:
            traffic.update(self.known or self.direct)

    def traffic_for(self, is_bounded: bool) -> Traffic | None:
        """Give what concerns a request beside its endpoints; None for the plain case.

        `is_bounded`: its caller leaves it so much time and no more.
        """
        traffic = self.traffic
        if traffic is None:
            if not is_bounded:
                return None
            traffic = self.traffic = self._make_traffic(NO_POLICY)
        return traffic if is_bounded or not traffic.is_plain else None

    def _make_traffic(self, policy: ServicePolicy) -> Traffic:
        traffic = Traffic(policy, self.name or str(self.address), self._clock, self._meter, self._random)
        traffic.update(self.known or self.direct)
        return traffic

    def settle(self) -> None:
        """Let those go on who wait."""
        self.is_settled = self.is_told = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter()


class Targets:
    """All targets of one direction. Only outbound targets are wanted from discovery."""

    def __init__(
        self,
        direction: Direction,
        clock: Clock,
        meter: Meter,
        max_count: int,
        timeout_s: float,
        random: Callable[[], float],
        probes: Probes = (),
    ) -> None:
        self.direction: Final = direction
        self.is_connected = False
        """Whether a controller answers; while it does not, new targets pass through at once."""
        self.on_wanted: Callable[[], None] = lambda: None
        """Called when a new target is wanted."""
        self._clock = clock
        self._meter = meter
        self._max_count = max_count
        self._timeout_s = timeout_s
        self._random = random
        self._probes = probes
        self._targets: dict[Address, Target] = {}

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def ejected_count(self) -> int:
        """Endpoints that circuit breaking leaves out now."""
        now_s = self._clock.now_s
        return sum(outlier.ejected_count(target.known, now_s) for target in self._targets.values())

    @property
    def waiting_count(self) -> int:
        """Requests that wait for room under a concurrency limit."""
        return sum(target.traffic.waiting_count for target in self._targets.values() if target.traffic is not None)

    @property
    def limited_clients_count(self) -> int:
        """Clients whose rate is remembered, of each port on its own."""
        traffics = (target.traffic for target in self._targets.values())
        return sum(traffic.limited_clients_count for traffic in traffics if traffic is not None)

    def wanted(self) -> dict[str, str]:
        """What discovery shall tell: target -> revision already held."""
        return {str(target.address): target.revision for target in self._targets.values()}

    def take(self, address: Address) -> Target:
        """Find the target of a new session, or make it; give it back with `give`."""
        target = self._targets.get(address)
        if target is None:
            probed = of_port(self._probes, address.port)
            target = Target(address, self.direction, self._clock, self._meter, self._random, probed)
            if len(self._targets) >= self._max_count:
                self._drop_oldest()
            if len(self._targets) < self._max_count:
                self._targets[address] = target
                self._ask(target)
            else:
                target.is_settled = target.is_told = True  # all others are in use: it passes through, unremembered
        target.sessions_count += 1
        return target

    def give(self, target: Target) -> None:
        target.sessions_count -= 1
        target.used_s = self._clock.now_s
        if target.sessions_count == 0 and self._targets.get(target.address) is not target:
            self._release(target)

    def _ask(self, target: Target) -> None:
        target.is_settled = self.direction == INBOUND
        if self.is_connected:
            target.timer = self._clock.call_at(self._clock.now_s + self._timeout_s, target.settle)
        else:
            target.is_settled = target.is_told = True
        self.on_wanted()

    def disconnect(self) -> None:
        """The controller is gone: nobody waits for it; what is known stays."""
        self.is_connected = False
        for target in list(self._targets.values()):
            if not target.is_told:
                target.settle()

    def apply(self, destinations: Sequence[Destination]) -> list[str]:
        """Take a message of discovery; return what is wrong with it, for the log."""
        faults = []
        for destination in destinations:
            try:
                target = self._targets.get(parse_address(destination.target))
                if target is None:
                    continue
                if self.direction == OUTBOUND:
                    self._apply(target, destination)
                else:
                    self._apply_inbound(target, destination)
            except ValueError as error:
                faults.append(str(error))
        return faults

    def _apply_inbound(self, target: Target, destination: Destination) -> None:
        """Behind it stands the local application, whatever discovery knows; before that a sidecar limits rates."""
        target.revision = destination.revision
        target.protocol = destination.protocol
        policy = destination.policy
        limits = policy.rate_limit if policy is not None else None
        target.is_limited = limits is not None
        name = policy.name if policy is not None else ""
        target.obey(ServicePolicy(rate_limit=limits, name=name) if limits is not None else None)
        target.settle()

    def _apply(self, target: Target, destination: Destination) -> None:
        keep = {endpoint.address: endpoint for endpoint in target.known}
        known = []
        for told in destination.endpoints:
            address = parse_address(f"[{told.ip}]:{told.port}" if ":" in told.ip else f"{told.ip}:{told.port}")
            endpoint = keep.get(address)
            labels = endpoint_labels(address, told, destination)
            if endpoint is not None and endpoint.http.labels == labels:
                del keep[address]
            else:
                endpoint = self._endpoint(address, labels, told, destination)
                endpoint.cost_at_s = self._clock.now_s
                if target.revision:
                    endpoint.added_s = self._clock.now_s
            endpoint.is_meshed = told.meshed
            endpoint.weight = told.weight
            endpoint.is_preferred = told.preferred
            known.append(endpoint)
        target.known = tuple(known)
        target.kind = destination.kind
        target.protocol = destination.protocol
        target.revision = destination.revision
        target.name = f"{destination.name}.{destination.namespace}" if destination.kind == "service" else ""
        if destination.kind == "service" and not target.http.peer.service:  # type: ignore[attr-defined]
            self._meter.give(target.http)
            peer = Peer(namespace=destination.namespace, service=destination.name)
            target.http = self._meter.take_http(
                (
                    *address_labels(OUTBOUND, target.address),
                    ("dst_namespace", destination.namespace),
                    ("dst_service", destination.name),
                ),
                peer,
            )
        target.obey(destination.policy)
        for endpoint in keep.values():
            self._retire(endpoint)
        target.settle()

    def _endpoint(self, address: Address, labels: Labels, told: KnownEndpoint, of: Destination) -> Endpoint:
        peer = Peer(
            namespace=told.namespace or of.namespace,
            service=of.name if of.kind == "service" else "",
            pod=told.pod,
            owner_kind=told.owner_kind,
            owner=told.owner,
        )
        tcp = self._meter.take_tcp((labels[0], ("peer", "dst"), *labels[1:]), peer)
        return Endpoint(address, self._meter.take_http(labels, peer), tcp, told.meshed)

    def _retire(self, endpoint: Endpoint) -> None:
        endpoint.retire()
        self._meter.give(endpoint.http)
        self._meter.give(endpoint.tcp)

    def sweep(self, now_s: float, idle_s: float) -> int:
        """Drop the targets that nobody has used for `idle_s`; tell how many."""
        limit_s = now_s - idle_s
        stale = [target for target in self._targets.values() if not target.sessions_count and target.used_s <= limit_s]
        for target in stale:
            del self._targets[target.address]
            self._release(target)
        return len(stale)

    def _drop_oldest(self) -> None:
        unused = [target for target in self._targets.values() if not target.sessions_count]
        if unused:
            oldest = min(unused, key=lambda target: target.used_s)
            del self._targets[oldest.address]
            self._release(oldest)

    def _release(self, target: Target) -> None:
        target.settle()
        self._meter.give(target.http)
        self._meter.give(target.tcp)
        if target.probes is not None:
            self._meter.give(target.probes)
        for endpoint in (*target.known, *target.direct):
            self._retire(endpoint)


def address_labels(direction: Direction, address: Address) -> Labels:
    """Labels of traffic to an address; `tls` says why it is not encrypted (Linkerd's words)."""
    return (
        ("direction", direction),
        ("target_addr", str(address)),
        ("target_ip", address.ip),
        ("target_port", str(address.port)),
        ("tls", "disabled" if direction == INBOUND else "no_identity"),
        ("no_tls_reason", "no_tls_from_remote" if direction == INBOUND else "not_provided_by_service_discovery"),
    )


def endpoint_labels(address: Address, told: KnownEndpoint, of: Destination) -> Labels:
    """Labels of outbound traffic to an endpoint that discovery has named."""
    pairs = [
        ("dst_namespace", told.namespace or of.namespace),
        ("dst_service", of.name if of.kind == "service" else ""),
        ("dst_pod", told.pod),
        (f"dst_{told.owner_kind}", told.owner if told.owner_kind else ""),
        ("dst_serviceaccount", told.service_account),
        ("dst_zone", told.zone),
    ]
    return (*address_labels(OUTBOUND, address), *((name, value) for name, value in pairs if value))
