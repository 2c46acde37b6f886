"""A pod's status from what is known of its containers. Pure.

Sources: Kubernetes API reference (PodStatus, ContainerStatus), "Pod Lifecycle" (phases and conditions), KEP-753
(sidecars).
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from .endpoints import Object


@dataclass(frozen=True)
class Run:
    """A run of a container that has ended, or goes on while `ended_at` is None."""

    id: str
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class ContainerView:
    """What is known of one container. It waits for `reason` when `run` is None, or ended and to be run again."""

    name: str
    image: str
    reason: str = "PodInitializing"
    message: str = ""
    run: Run | None = None
    last: Run | None = None
    restarts_count: int = 0
    is_started: bool = False
    is_ready: bool = False

    @property
    def is_running(self) -> bool:
        return self.run is not None and self.run.ended_at is None

    @property
    def has_succeeded(self) -> bool:
        return self.run is not None and self.run.ended_at is not None and self.run.exit_code == 0

    @property
    def is_over(self) -> bool:
        return self.run is not None and self.run.ended_at is not None


@dataclass(frozen=True)
class PodView:
    """What is known of a pod. `sidecars` are names of init containers that run beside the main ones."""

    addresses: tuple[str, ...] = ()
    started_at: datetime | None = None
    init: tuple[ContainerView, ...] = ()
    main: tuple[ContainerView, ...] = ()
    sidecars: frozenset[str] = frozenset()
    phase: Literal["", "Succeeded", "Failed"] = ""  # said once the pod is over
    reason: str = ""
    message: str = ""


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(pod: Object, view: PodView, node: tuple[str, str], now: datetime) -> Object:
    """The whole status. `node` is the node's IPv4 and IPv6 address; conditions of others are kept as they are."""
    old = pod.get("status") or {}
    status: Object = {
        "phase": view.phase or _phase(view),
        "conditions": _conditions(pod, view, old.get("conditions") or [], now),
        "hostIP": node[0],
        "hostIPs": [{"ip": address} for address in node],
        "qosClass": quality(pod),
        "containerStatuses": [container_status(c) for c in sorted(view.main, key=lambda c: c.name)],
    }
    if view.init:
        status["initContainerStatuses"] = [container_status(c) for c in view.init]
    if view.addresses:
        status |= {"podIP": view.addresses[0], "podIPs": [{"ip": address} for address in view.addresses]}
    if view.started_at:
        status["startTime"] = text(view.started_at)
    for name in ("reason", "message"):
        if getattr(view, name):
            status[name] = getattr(view, name)
    return status


def _phase(view: PodView) -> str:
    has_begun = any(c.run or c.last for c in view.main)
    return "Running" if has_begun else "Pending"


def _conditions(pod: Object, view: PodView, old: list[Object], now: datetime) -> list[Object]:
    has_begun = any(c.run or c.last for c in view.main)  # once initialized, always: a sidecar may come and go
    initialized = has_begun or all(_is_past(c, c.name in view.sidecars) for c in view.init)
    unready = [c.name for c in (*view.main, *(i for i in view.init if i.name in view.sidecars)) if not c.is_ready]
    is_over = view.phase == "Succeeded"
    ours = {entry["type"]: entry for entry in old}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    missing = [gate for gate in gates if ours.get(gate, {}).get("status") != "True"]
    why = (
        ("PodCompleted", "")
        if is_over
        else ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    )
    gate_why = ("ReadinessGatesNotReady", f"corresponding condition of pod readiness gate {missing} is not True")
    ready_why = why if unready or is_over else gate_why
    told = ("", "")
    waiting = [c.name for c in view.init if not _is_past(c, c.name in view.sidecars)]
    init_why = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting)}]")
    contained = not unready and not is_over
    fresh = [
        _condition("PodReadyToStartContainers", bool(view.addresses) and not view.phase, told),
        _condition("Initialized", initialized, ("PodCompleted", "") if is_over else told if initialized else init_why),
        _condition("Ready", contained and not missing, told if contained and not missing else ready_why),
        _condition("ContainersReady", contained, told if contained else why),
        _condition("PodScheduled", True, told),
    ]
    stamped = [_stamped(entry, ours.get(entry["type"]), now) for entry in fresh]
    names = {entry["type"] for entry in stamped}
    return stamped + [entry for entry in old if entry["type"] not in names]


def _is_past(container: ContainerView, is_sidecar: bool) -> bool:
    return container.is_started if is_sidecar else container.has_succeeded


def _condition(kind: str, holds: bool, why: tuple[str, str]) -> Object:
    entry = {"type": kind, "status": "True" if holds else "False", "lastProbeTime": None}
    if why[0]:
        entry["reason"] = why[0]
    if why[1]:
        entry["message"] = why[1]
    return entry


def _stamped(entry: Object, old: Object | None, now: datetime) -> Object:
    same = old is not None and old.get("status") == entry["status"] and old.get("lastTransitionTime")
    return {**entry, "lastTransitionTime": old["lastTransitionTime"] if same and old else text(now)}


def container_status(view: ContainerView) -> Object:
    """One entry of containerStatuses."""
    state = _state(view)
    return {
        "name": view.name,
        "state": state,
        "lastState": {"terminated": _terminated(view.last)} if view.last else {},
        "ready": view.is_ready,
        "restartCount": view.restarts_count,
        "image": view.image,
        "imageID": f"lab://{hashlib.sha256(view.image.encode()).hexdigest()[:12]}" if view.run or view.last else "",
        "started": view.is_started and view.is_running,
        **({"containerID": f"lab://{view.run.id}"} if view.run else {}),
    }


def _state(view: ContainerView) -> Object:
    if view.run is None or (view.is_over and view.reason):
        waiting = {"reason": view.reason or "ContainerCreating"}
        return {"waiting": waiting | ({"message": view.message} if view.message else {})}
    if view.run.ended_at is None:
        return {"running": {"startedAt": text(view.run.started_at)}}
    return {"terminated": _terminated(view.run)}


def _terminated(run: Run) -> Object:
    entry: Object = {
        "exitCode": run.exit_code,
        "reason": run.reason or ("Completed" if run.exit_code == 0 else "Error"),
        "startedAt": text(run.started_at),
        "finishedAt": text(run.ended_at or run.started_at),
        "containerID": f"lab://{run.id}",
    }
    return entry | ({"message": run.message} if run.message else {})


def quality(pod: Object) -> str:
    """The quality-of-service class that requests and limits give the pod."""
    everyone = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    resources = [container.get("resources") or {} for container in everyone]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for entry in resources:
        limits, requests = entry.get("limits") or {}, entry.get("requests") or {}
        if any(not limits.get(name) or requests.get(name, limits[name]) != limits[name] for name in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"
