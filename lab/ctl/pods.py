"""What controllers ask of a pod: is it active, ready, available, and which one goes first. Pure."""

from typing import Any

from lab.ctl.owners import Object, controller_reference, is_deleted
from lab.ctl.times import to_seconds

COST = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation: an integer, smaller goes first when a replica set shrinks."""


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    value: str = pod.get("status", {}).get("phase", "Pending")
    return value


def is_finished(pod: Object) -> bool:
    """Whether no container of the pod will ever run again."""
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Whether the pod counts as a replica: neither finished nor being deleted."""
    return not is_finished(pod) and not is_deleted(pod)


def ready_condition(pod: Object) -> Object | None:
    """The pod's `Ready` condition, whatever its status."""
    conditions: list[Object] = pod.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == "Ready"), None)


def is_ready(pod: Object) -> bool:
    """Whether the pod's `Ready` condition is True."""
    condition = ready_condition(pod)
    return condition is not None and condition.get("status") == "True"


def ready_since_s(pod: Object) -> float | None:
    """Seconds since the epoch of the last turn to ready; None while it is not ready."""
    condition = ready_condition(pod)
    if condition is None or condition.get("status") != "True":
        return None
    return to_seconds(condition.get("lastTransitionTime"))


def available_in_s(pod: Object, min_ready_s: int, now: float) -> float | None:
    """Seconds until the pod counts as available: 0 when it does, None while it is not ready."""
    if not is_ready(pod):
        return None
    return max(0.0, (ready_since_s(pod) or 0.0) + min_ready_s - now) if min_ready_s else 0.0


def deletion_rank(pod: Object) -> tuple[Any, ...]:
    """Sort key: the pods that shrink least first. Unplaced, not running, not ready, cheap, ready for the shortest time,
    most restarts, youngest (the order of Kubernetes' replica set controller)."""
    restarts = max((s.get("restartCount", 0) for s in pod.get("status", {}).get("containerStatuses") or []), default=0)
    created = to_seconds(pod["metadata"].get("creationTimestamp")) or 0.0
    return (
        bool(pod.get("spec", {}).get("nodeName")),
        ("Pending", "Unknown", "Running").index(phase(pod)) if not is_finished(pod) else 0,
        is_ready(pod),
        _cost(pod),
        -(ready_since_s(pod) or 0.0),
        -restarts,
        -created,
        pod["metadata"].get("name", ""),
    )


def from_template(template: Object, owner: Object, generate_name: str) -> Object:
    """A pod of a template, controlled by `owner`, in its namespace, named by the server from `generate_name`."""
    given = template.get("metadata") or {}
    kept = {key: given[key] for key in ("labels", "annotations", "finalizers") if given.get(key)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **kept,
            "generateName": generate_name,
            "namespace": owner["metadata"]["namespace"],
            "ownerReferences": [controller_reference(owner)],
        },
        "spec": template["spec"],
    }


def _cost(pod: Object) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0  # Kubernetes refuses it at admission; an object that slipped through must not stop the set
