"""Policies by the services that they concern, and what holds for one port of a service. Pure.

For a port the TrafficPolicy that names it wins over the one that names the whole service; of several that name the
same, the oldest wins, then the first by name (the Gateway API's rule). The faults of all FaultInjections add up.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from contract import kinds
from contract.kinds.injection import FaultInjection
from contract.kinds.traffic import Backend, TrafficPolicy
from contract.policy import Fault, Mirror, Rate, RateLimit, ServicePolicy
from controller.indices import discard
from controller.objects import Grant, Key, Policy, Service

Services = Callable[[Key], Service | None]


@dataclass(slots=True)
class Policies:
    """All policies. Written by the cluster alone."""

    tables: dict[str, dict[Key, Policy]] = field(
        default_factory=lambda: {kinds.TRAFFIC_POLICIES: {}, kinds.FAULT_INJECTIONS: {}}
    )
    """By plural kind."""
    _by_service: dict[Key, set[tuple[str, Key]]] = field(default_factory=lambda: defaultdict(set))
    _by_backend: dict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))
    """Service that gets a mirror's copies -> TrafficPolicies."""

    def learn(self, policy: Policy) -> None:
        service, backend = service_of(policy), backend_of(policy)
        if service is not None:
            self._by_service[service].add((policy.kind, policy.key))
        if backend is not None:
            self._by_backend[_key(backend)].add(policy.key)

    def forget(self, policy: Policy) -> None:
        service, backend = service_of(policy), backend_of(policy)
        if service is not None:
            discard(self._by_service, service, (policy.kind, policy.key))
        if backend is not None:
            discard(self._by_backend, _key(backend), policy.key)

    def concerns(self, service: Key) -> bool:
        """Whether some policy is attached to the service."""
        return service in self._by_service

    def mirrored_into(self, namespace: str) -> set[Key]:
        """The services whose requests are copied into a namespace."""
        backends = [backend for backend in self._by_backend if backend.namespace == namespace]
        return {service for backend in backends for service in self.mirrored_from(backend)}

    def mirrored_from(self, backend: Key) -> set[Key]:
        """The services whose requests are copied to this one."""
        table = self.tables[kinds.TRAFFIC_POLICIES]
        found = (service_of(table[key]) for key in self._by_backend.get(backend, ()))
        return {service for service in found if service is not None}

    def winner(self, service: Key, port_name: str) -> Policy | None:
        """Of the TrafficPolicies attached to the same service and port name ("" for all ports), the one in force."""
        return next(
            iter(one for one in self._attached(service, kinds.TRAFFIC_POLICIES) if _port_name(one) == port_name), None
        )

    def in_force(
        self, service: Service, port_name: str, services: Services, grants: Iterable[Grant] = ()
    ) -> ServicePolicy | None:
        """What holds for a port of a service; None when nothing does."""
        winner = self.winner(service.key, port_name) or self.winner(service.key, "")
        faults = self._faults(service.key, port_name)
        if winner is None or not isinstance(winner.content, TrafficPolicy):
            return ServicePolicy(faults=faults) if faults else None
        name = f"{winner.key.namespace}/{winner.key.name}"
        return msgspec.structs.replace(
            winner.content.policy, name=name, faults=faults, mirror=_mirror(winner, services, grants)
        )

    def _faults(self, service: Key, port_name: str) -> tuple[Fault, ...]:
        found: list[Fault] = []
        for policy in self._attached(service, kinds.FAULT_INJECTIONS):
            if isinstance(policy.content, FaultInjection) and _port_name(policy) in ("", port_name):
                name = f"{policy.key.namespace}/{policy.key.name}"
                found += [msgspec.structs.replace(fault, name=name) for fault in policy.content.faults]
        return tuple(found)

    def _attached(self, service: Key, kind: str) -> list[Policy]:
        keys = self._by_service.get(service, ())
        return sorted((self.tables[one][key] for one, key in keys if one == kind), key=lambda policy: policy.age)


def service_of(policy: Policy) -> Key | None:
    """The service that a policy is attached to; None for one that cannot be honoured."""
    target = policy.target
    return None if target is None else Key(policy.key.namespace, target.service)


def backend_of(policy: Policy) -> Backend | None:
    """Where a policy's mirror leads, its namespace filled in."""
    backend = policy.content.backend if isinstance(policy.content, TrafficPolicy) else None
    return None if backend is None else backend._replace(namespace=backend.namespace or policy.key.namespace)


def consents(policy: Policy, backend: Backend, grants: Iterable[Grant]) -> bool:
    """Whether a policy may send copies to a backend: one of its own namespace, or one whose namespace grants it."""
    sender = (kinds.GROUP, kinds.TRAFFIC_POLICY, policy.key.namespace)
    return backend.namespace == policy.key.namespace or any(
        grant.key.namespace == backend.namespace
        and sender in grant.senders
        and any(
            (group, kind) == ("", "Service") and name in ("", backend.service) for group, kind, name in grant.receivers
        )
        for grant in grants
    )


def backend_fault(backend: Backend, services: Services) -> str:
    """Why copies cannot be sent to a backend, "" when they can."""
    service = services(_key(backend))
    name = f"{backend.namespace}/{backend.service}"
    if service is None:
        return f"Service {name} does not exist; nothing is mirrored"
    if not service.ips:
        return f"Service {name} has no cluster IP; nothing is mirrored"
    if all(port.port != backend.port for port in service.ports):
        listed = ", ".join(str(port.port) for port in service.ports) or "none"
        return f"Service {name} has no TCP port {backend.port} (it has {listed}); nothing is mirrored"
    return ""


def lowest_rates(policies: Collection[ServicePolicy]) -> ServicePolicy | None:
    """What several services that share a pod's port ask of it together: the lowest of their rate limits."""
    limits = [policy.rate_limit for policy in policies if policy.rate_limit is not None]
    if not limits:
        return None
    names = sorted(policy.name for policy in policies if policy.rate_limit is not None)
    rates = RateLimit(_lowest([one.service for one in limits]), _lowest([one.client for one in limits]))
    return ServicePolicy(rate_limit=rates, name=",".join(names))


def _lowest(rates: list[Rate]) -> Rate:
    limited = [rate for rate in rates if rate.per_s]
    return min(limited, key=lambda rate: (rate.per_s, rate.burst_count), default=Rate())


def _mirror(policy: Policy, services: Services, grants: Iterable[Grant]) -> Mirror | None:
    backend = backend_of(policy)
    if backend is None or not isinstance(policy.content, TrafficPolicy) or policy.content.policy.mirror is None:
        return None
    service = services(_key(backend))
    if service is None or not consents(policy, backend, grants) or backend_fault(backend, services):
        return None
    ip = f"[{service.ips[0]}]" if ":" in service.ips[0] else service.ips[0]
    return msgspec.structs.replace(
        policy.content.policy.mirror,
        target=f"{ip}:{backend.port}",
        name=f"{backend.service}.{backend.namespace}",
    )


def _port_name(policy: Policy) -> str:
    return "" if policy.target is None else policy.target.port_name


def _key(backend: Backend) -> Key:
    return Key(backend.namespace, backend.service)
