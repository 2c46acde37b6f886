"""A deployment's status: counts, observedGeneration, conditions Available, Progressing and ReplicaFailure. Pure.

`kubectl rollout status` reads the counts, observedGeneration and the reason of Progressing; `kubectl wait` reads the
conditions. Source: Kubernetes documentation, "Deployments", section "Deployment status".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lab.ctl import conditions
from lab.ctl.owners import Object
from lab.ctl.rollout import bounds, size
from lab.ctl.times import to_seconds, to_text

NO_DEADLINE_S = 2**31 - 1
"""progressDeadlineSeconds that means never (the largest int32)."""
DONE = "NewReplicaSetAvailable"
LATE = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"


@dataclass(frozen=True, slots=True)
class Progress:
    """The status to write, and in how many seconds the deadline strikes (None: not before something changes)."""

    status: Object
    recheck_s: float | None


def progress(
    deployment: Object, replica_sets: Sequence[Object], new: Object | None, created: str, now: float
) -> Progress:
    """A deployment's status for the present state of its replica sets.

    Args:
        replica_sets: all that it controls, `new` (of the present template) among them.
        created: the name of a replica set made in this pass, else empty.
        now: seconds since the epoch.
    """
    counts = _counts(deployment, replica_sets, new)
    held = list(deployment.get("status", {}).get("conditions") or [])
    held = conditions.with_one(held, _available(deployment, counts, now))
    held, recheck_s = _progressing(deployment, counts, held, new, created, now)
    failure = _failure(replica_sets, new)
    held = conditions.with_one(held, failure) if failure else conditions.without(held, "ReplicaFailure")
    kept = {key: value for key, value in counts.items() if value}
    collisions = deployment.get("status", {}).get("collisionCount")
    if collisions:
        kept["collisionCount"] = collisions
    return Progress({**kept, "conditions": held}, recheck_s)


def _counts(deployment: Object, replica_sets: Sequence[Object], new: Object | None) -> Object:
    statuses = [one.get("status", {}) for one in replica_sets]
    available = sum(status.get("availableReplicas", 0) for status in statuses)
    return {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": sum(status.get("replicas", 0) for status in statuses),
        "updatedReplicas": (new or {}).get("status", {}).get("replicas", 0),
        "readyReplicas": sum(status.get("readyReplicas", 0) for status in statuses),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(map(size, replica_sets)) - available),
    }


def _available(deployment: Object, counts: Object, now: float) -> Object:
    if counts["availableReplicas"] >= bounds(deployment).least_available:
        text = "Deployment has minimum availability."
        return _updated(conditions.condition("Available", True, "MinimumReplicasAvailable", text, now))
    text = "Deployment does not have minimum availability."
    return _updated(conditions.condition("Available", False, "MinimumReplicasUnavailable", text, now))


def _updated(condition: Object) -> Object:
    return {**condition, "lastUpdateTime": condition["lastTransitionTime"]}


def _is_complete(deployment: Object, counts: Object) -> bool:
    wanted = deployment["spec"].get("replicas", 1)
    return bool(counts["updatedReplicas"] == counts["replicas"] == counts["availableReplicas"] == wanted)


def _has_moved(deployment: Object, counts: Object) -> bool:
    """Whether the rollout came nearer to its end since the status was last written."""
    before = deployment.get("status", {})
    old_now = counts["replicas"] - counts["updatedReplicas"]
    old_before = before.get("replicas", 0) - before.get("updatedReplicas", 0)
    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return old_now < old_before or any(counts[key] > before.get(key, 0) for key in grown)


def _progressing(
    deployment: Object, counts: Object, held: list[Object], new: Object | None, created: str, now: float
) -> tuple[list[Object], float | None]:
    deadline_s = deployment["spec"].get("progressDeadlineSeconds", 600)
    if deadline_s >= NO_DEADLINE_S:
        return conditions.without(held, "Progressing"), None
    had = conditions.find(held, "Progressing")
    if deployment["spec"].get("paused"):
        return _with_turn(held, None, PAUSED, "Deployment is paused", now), None
    if had and had.get("reason") == PAUSED:
        held = _with_turn(held, None, "DeploymentResumed", "Deployment is resumed", now)
        had = conditions.find(held, "Progressing")
    if created:
        text = f'Created new replica set "{created}"'
        return _with_turn(held, True, "NewReplicaSetCreated", text, now, renew=True), float(deadline_s)
    name = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
    if new and _is_complete(deployment, counts):
        return _with_turn(held, True, DONE, f"{name} has successfully progressed.", now), None
    if had and had.get("reason") == DONE and counts["replicas"] == counts["updatedReplicas"]:
        return held, None  # through once: a pod that fails later, or a change of size, is no rollout
    if had is None or had.get("reason") == DONE or _has_moved(deployment, counts):
        held = _with_turn(held, True, "ReplicaSetUpdated", f"{name} is progressing.", now, renew=True)
        return held, float(deadline_s)
    if had.get("reason") == LATE:
        return held, None
    since = to_seconds(had.get("lastUpdateTime") or had.get("lastTransitionTime")) or now
    left_s = since + deadline_s - now
    if left_s > 0:
        return held, left_s
    return _with_turn(held, False, LATE, f"{name} has timed out progressing.", now), None


def _with_turn(
    held: list[Object], holds: bool | None, reason: str, message: str, now: float, *, renew: bool = False
) -> list[Object]:
    """Put the Progressing condition; its lastUpdateTime, from where the deadline runs, moves at a change or `renew`."""
    new = _updated(conditions.condition("Progressing", holds, reason, message, now))
    had = conditions.find(held, "Progressing")
    if had is None:
        return [*held, new]
    if not renew and all(had.get(key) == new[key] for key in ("status", "reason", "message")):
        return held
    if had.get("status") == new["status"]:
        new["lastTransitionTime"] = had.get("lastTransitionTime", to_text(now))
    return [new if one is had else one for one in held]


def _failure(replica_sets: Sequence[Object], new: Object | None) -> Object | None:
    """The newest set's ReplicaFailure, else that of any other."""
    ordered = [*([new] if new else []), *(one for one in replica_sets if one is not new)]
    for one in ordered:
        found = conditions.find(one.get("status", {}).get("conditions") or [], "ReplicaFailure")
        if found:
            return {**found, "lastUpdateTime": found["lastTransitionTime"]}
    return None
