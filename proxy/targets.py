"""Destinations in use: what stands behind each original destination, as far as it is known. Turn.

A target is made when a client first connects to an address, and dropped when nobody has used it for a while, so that
memory follows what the pod really calls. Discovery (waiting world) reads `wanted` and calls `apply`; sessions wait
on a target until it is settled: answered, given up, or never asked for because the controller is known to be away.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from contract.discovery import Destination, Protocol
from contract.discovery import Endpoint as KnownEndpoint
from contract.metrics import INBOUND, OUTBOUND
from contract.policy import ServicePolicy
from contract.report import Peer
from proxy.labels import UNKNOWN, address_labels, endpoint_labels, of_peer, pod_labels, service_labels, unknown_labels
from proxy.meter import PROBE_LABELS, Labels, Meter
from proxy.model import Address, Direction, parse_address
from proxy.policy import outlier
from proxy.policy.probe import Probes, of_port
from proxy.policy.route import Kind
from proxy.pool import Endpoint
from proxy.seams import Clock, Timer
from proxy.traffic import NO_POLICY, Traffic, needs_traffic

_NO_PEER: Final = Peer()

MAX_STRANGERS_COUNT: Final = 64
"""Destinations that discovery does not know and that have series of their own, once they have answered: databases and
the like outside of the cluster. Who talks to more is a crawler; all beyond are one series."""


class Target:
    """One original destination: its endpoints, its series, who waits for it, who uses it."""

    __slots__ = (
        "_clock",
        "_is_stranger",
        "_label",
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
        self._label = UNKNOWN
        """What counters call it; as bounded as its series."""
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
        labels, until = address_labels(direction, address), unknown_labels(direction)
        self.tcp = meter.lend_tcp(of_peer(labels, "src"), _NO_PEER, of_peer(until, "src"))
        self.http = meter.lend_http(labels, _NO_PEER, until)
        """Where requests are counted that found no endpoint."""
        self.probed = probed
        self.probes = meter.take_http((*labels, *PROBE_LABELS), _NO_PEER) if probed else None
        """Where the kubelet's probes are counted."""
        direct_tcp = meter.lend_tcp(of_peer(labels, "dst"), _NO_PEER, of_peer(until, "dst"))
        direct = Endpoint(address, self.http, direct_tcp)
        self.http.holders += 1
        direct.on_first_answer = self._on_direct_answer
        self.direct: Sequence[Endpoint] = (direct,)
        self._is_stranger = False
        """Has a place among MAX_STRANGERS_COUNT."""
        self.known: Sequence[Endpoint] = ()
        self.traffic: Traffic | None = None
        """What a policy remembers; None where there is none."""

    def __repr__(self) -> str:
        return f"<Target {self.direction} {self} {self.kind} endpoints={len(self.known)}>"

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.name else str(self.address)

    def _on_direct_answer(self) -> None:
        """Something at the address itself has accepted a connection: it deserves series of its own."""
        meter = self._meter
        if self.direction == OUTBOUND:
            if meter.strangers_count >= MAX_STRANGERS_COUNT:
                return
            meter.strangers_count += 1
            self._is_stranger = True
        self.earn(self.direct[0])

    def earn(self, endpoint: Endpoint) -> None:
        """Give the address, and an endpoint of it, the places that their labels say."""
        meter = self._meter
        meter.adopt_tcp(self.tcp)
        meter.adopt_tcp(endpoint.tcp)
        meter.adopt_http(endpoint.http)
        self.call_it(self.name or str(self.address))

    def call_it(self, label: str) -> None:
        """Let counters call it so."""
        self._label = label
        if self.traffic is not None:
            self.traffic.name = label

    def release(self) -> None:
        """Nobody needs it any more."""
        self.settle()
        meter = self._meter
        meter.strangers_count -= self._is_stranger
        meter.give(self.http)
        meter.give(self.tcp)
        if self.probes is not None:
            meter.give(self.probes)
        for endpoint in (*self.known, *self.direct):
            endpoint.retire()
            meter.give(endpoint.http)
            meter.give(endpoint.tcp)

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
        if policy is not NO_POLICY:
            self._label = self.name or str(self.address)  # discovery knows it
        traffic = Traffic(policy, self._label, self._clock, self._meter, self._random)
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
        """Endpoints that circuit breaking has ejected."""
        return sum(outlier.ejected_count(target.known) for target in self._targets.values())

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
            target.release()

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
            address = address_of(told)
            endpoint = keep.get(address)
            labels = endpoint_labels(address, told, destination)
            if endpoint is not None and endpoint.http.labels == labels:
                del keep[address]
            else:
                endpoint = self._endpoint(target, labels, told, destination)
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
            target.http = self._meter.take_http(service_labels(target.address, destination), peer)
            self._meter.adopt_tcp(target.tcp)
            target.call_it(target.name)
        target.obey(destination.policy)
        for endpoint in keep.values():
            self._retire(endpoint)
        target.settle()

    def _endpoint(self, target: Target, labels: Labels, told: KnownEndpoint, of: Destination) -> Endpoint:
        address = address_of(told)
        peer = Peer(
            namespace=told.namespace or of.namespace,
            service=of.name if of.kind == "service" else "",
            pod=told.pod,
            owner_kind=told.owner_kind,
            owner=told.owner,
        )
        meter = self._meter
        if of.kind == "service":
            tcp = meter.take_tcp(of_peer(labels, "dst"), peer)
            return Endpoint(address, meter.take_http(labels, peer), tcp, told.meshed)
        until = pod_labels(address, told, of)
        lent = meter.lend_tcp(of_peer(labels, "dst"), peer, of_peer(until, "dst"))
        endpoint = Endpoint(address, meter.lend_http(labels, peer, until), lent, told.meshed)
        endpoint.on_first_answer = partial(target.earn, endpoint)
        return endpoint

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
            target.release()
        return len(stale)

    def _drop_oldest(self) -> None:
        unused = [target for target in self._targets.values() if not target.sessions_count]
        if unused:
            oldest = min(unused, key=lambda target: target.used_s)
            del self._targets[oldest.address]
            oldest.release()


def address_of(told: KnownEndpoint) -> Address:
    """Read the address of an endpoint; raise ValueError."""
    return parse_address(f"[{told.ip}]:{told.port}" if ":" in told.ip else f"{told.ip}:{told.port}")
