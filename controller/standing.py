"""How a policy stands: the conditions of its status. Pure.

Accepted: it is in force; else Invalid (it has faults), TargetNotFound (no such Service, or no port of that name) or
Conflicted (an older TrafficPolicy concerns the same). ResolvedRefs, of TrafficPolicies: what it refers to beside its
target exists; else BackendNotFound, or RefNotPermitted where another namespace does not consent to get its copies. All
but the mirror is in force then.

Sources: GEP-713 (metaresources and policy attachment), GEP-2648 (direct policy attachment).
"""

import msgspec

from contract import kinds
from controller.cluster import Cluster
from controller.objects import Condition, Policy
from controller.policies import backend_fault, backend_of, consents, service_of


def conditions(cluster: Cluster, policy: Policy, now: str) -> tuple[Condition, ...]:
    """What the status should say, others' conditions kept; `now` (RFC 3339) is when those changed that did."""
    ours = [_accepted(cluster, policy)]
    if policy.kind == kinds.TRAFFIC_POLICIES:
        ours.append(_resolved_refs(cluster, policy))
    old = {condition.type: condition for condition in policy.conditions}
    dated = []
    for condition in ours:
        before = old.pop(condition.type, None)
        since = before.since if before is not None and before.status == condition.status else now
        dated.append(msgspec.structs.replace(condition, since=since))
    return (*dated, *old.values())


def _accepted(cluster: Cluster, policy: Policy) -> Condition:
    def condition(reason: str, message: str) -> Condition:
        status = "True" if reason == kinds.ACCEPTED else "False"
        return Condition(kinds.ACCEPTED, status, reason, message, policy.generation)

    target, key = policy.target, service_of(policy)
    if target is None or key is None:
        return condition(kinds.INVALID, policy.fault)
    service = cluster.services.get(key)
    if service is None:
        text = f"Service {key.name} does not exist in namespace {key.namespace}"
        return condition(kinds.TARGET_NOT_FOUND, text)
    if service.external:
        text = f"Service {key.name} is an ExternalName: the mesh does not see its traffic"
        return condition(kinds.TARGET_NOT_FOUND, text)
    names = [port.name for port in service.ports]
    if target.port_name and target.port_name not in names:
        listed = ", ".join(name for name in names if name) or "none with a name"
        text = f"Service {key.name} has no TCP port named {target.port_name} (it has {listed})"
        return condition(kinds.TARGET_NOT_FOUND, text)
    winner = cluster.policies.winner(key, target.port_name) if policy.kind == kinds.TRAFFIC_POLICIES else None
    if winner is not None and winner.key != policy.key:
        of = f"port {target.port_name} of Service {key.name}" if target.port_name else f"Service {key.name}"
        text = f"the TrafficPolicy {winner.key.name}, which is older, is in force for {of}"
        if winner.created == policy.created:
            text = f"the TrafficPolicy {winner.key.name}, as old and first by name, is in force for {of}"
        return condition(kinds.CONFLICTED, text)
    return condition(kinds.ACCEPTED, f"in force for Service {key.name}")


def _resolved_refs(cluster: Cluster, policy: Policy) -> Condition:
    backend = backend_of(policy)
    if backend is not None and not consents(policy, backend, cluster.grants.values()):
        # Before whether the Service exists: that is its namespace's own affair.
        text = (
            f"namespace {backend.namespace} does not consent to get copies from {policy.key.namespace}; nothing is "
            f"mirrored. Make a ReferenceGrant (gateway.networking.k8s.io) there, from {kinds.TRAFFIC_POLICY} of group "
            f"{kinds.GROUP} in namespace {policy.key.namespace}, to Service {backend.service}"
        )
        return Condition(kinds.RESOLVED_REFS, "False", kinds.REF_NOT_PERMITTED, text, policy.generation)
    fault = "" if backend is None else backend_fault(backend, cluster.services.get)
    if fault:
        return Condition(kinds.RESOLVED_REFS, "False", kinds.BACKEND_NOT_FOUND, fault, policy.generation)
    if policy.content is None:
        text = "not looked at: the policy has faults"
        return Condition(kinds.RESOLVED_REFS, "Unknown", kinds.INVALID, text, policy.generation)
    message = "it refers to nothing beside its target" if backend is None else "all that it refers to exists"
    return Condition(kinds.RESOLVED_REFS, "True", kinds.RESOLVED_REFS, message, policy.generation)
