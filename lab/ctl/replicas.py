"""What a replica set does next: (replica set, pods, now) -> Plan, and its status. Pure.

Pods being deleted and pods that ended are no replicas. Source: Kubernetes documentation, "ReplicaSet".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lab.api.selectors import selects
from lab.ctl import conditions, owners, pods
from lab.ctl.owners import Object


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: how many pods to make, which to take away, and which to take in or let go."""

    create_count: int = 0
    delete: tuple[Object, ...] = ()
    adopt: tuple[Object, ...] = ()
    release: tuple[Object, ...] = ()


def plan(replica_set: Object, namespace_pods: Sequence[Object]) -> Plan:
    """The next step of a replica set.

    Args: namespace_pods: the pods of its namespace, whoever owns them.
    """
    own_uid = owners.uid(replica_set)
    mine, adopt, release = [], [], []
    for pod in namespace_pods:
        fits = selects(replica_set["spec"]["selector"], pod["metadata"].get("labels") or {})
        if owners.controlled_by(pod, own_uid):
            if fits:
                mine.append(pod)
            elif not owners.is_deleted(pod):
                release.append(pod)
        elif fits and owners.controller_of(pod) is None and pods.is_active(pod):
            adopt.append(pod)
    if owners.is_deleted(replica_set):
        return Plan()
    active = [pod for pod in [*mine, *adopt] if pods.is_active(pod)]
    missing = replica_set["spec"].get("replicas", 1) - len(active)
    delete = sorted(active, key=pods.deletion_rank)[:-missing] if missing < 0 else []
    return Plan(max(0, missing), tuple(delete), tuple(adopt), tuple(release))


def owned(replica_set: Object, namespace_pods: Sequence[Object]) -> list[Object]:
    """The active pods that the replica set controls."""
    own_uid = owners.uid(replica_set)
    return [pod for pod in namespace_pods if owners.controlled_by(pod, own_uid) and pods.is_active(pod)]


@dataclass(frozen=True, slots=True)
class Standing:
    """The status to write, and in how many seconds a ready pod becomes available (None: none is waiting)."""

    status: Object
    recheck_s: float | None


def standing(replica_set: Object, active: Sequence[Object], failure: str, now: float) -> Standing:
    """A replica set's status.

    Args: active: its pods as `owned` gives them; failure: why a pod could not be made, empty if all is well.
    """
    min_ready_s = replica_set["spec"].get("minReadySeconds", 0)
    waits = [wait for pod in active if (wait := pods.available_in_s(pod, min_ready_s, now)) is not None]
    labels = replica_set["spec"]["template"].get("metadata", {}).get("labels") or {}
    full = [pod for pod in active if labels.items() <= (pod["metadata"].get("labels") or {}).items()]
    counts = {
        "replicas": len(active),
        "fullyLabeledReplicas": len(full),
        "readyReplicas": len(waits),
        "availableReplicas": sum(not wait for wait in waits),
    }
    held = list(replica_set.get("status", {}).get("conditions") or [])
    if failure:
        held = conditions.with_one(held, conditions.condition("ReplicaFailure", True, "FailedCreate", failure, now))
    else:
        held = conditions.without(held, "ReplicaFailure")
    status: Object = {key: value for key, value in counts.items() if value or key == "replicas"}
    status["observedGeneration"] = replica_set["metadata"].get("generation", 0)
    if held:
        status["conditions"] = held
    return Standing(status, min((wait for wait in waits if wait), default=None))


def new_pod(replica_set: Object) -> Object:
    """A pod from the replica set's template, not stored yet."""
    metadata = replica_set["metadata"]
    return pods.from_template(replica_set["spec"]["template"], replica_set, f"{metadata['name']}-")
