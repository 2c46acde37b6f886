"""The cells of `kubectl get pods`: ready, status, restarts, as the containers' states tell them. Pure.

Each public function is named in lab/data/columns.txt. Source: what kubectl users see on real clusters.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lab.api import age as ages
from lab.api.cells import NONE, Cell
from lab.api.selectors import at

Object = dict[str, Any]


def _statuses(pod: Object, kind: str) -> list[Object]:
    return at(pod, f"status.{kind}") or []


def _sidecars(pod: Object) -> set[str]:
    return {item["name"] for item in at(pod, "spec.initContainers") or [] if item.get("restartPolicy") == "Always"}


def _counted(pod: Object) -> list[Object]:
    sidecars = _sidecars(pod)
    started = [item for item in _statuses(pod, "initContainerStatuses") if item.get("name") in sidecars]
    return [*started, *_statuses(pod, "containerStatuses")]


def pod_ready(pod: Object, _now: datetime) -> Cell:
    ready = sum(1 for item in _counted(pod) if item.get("ready"))
    return f"{ready}/{len(at(pod, 'spec.containers') or []) + len(_sidecars(pod))}"


def pod_restarts(pod: Object, now: datetime) -> Cell:
    count = sum(int(item.get("restartCount", 0)) for item in _counted(pod))
    finished = [at(item, "lastState.terminated.finishedAt") for item in _counted(pod)]
    last = max((text for text in finished if text), default=None)
    return f"{count} ({ages.since(last, now)} ago)" if count and last else str(count)


def pod_status(pod: Object, _now: datetime) -> Cell:
    """The most telling word: what an init container waits for, else what a container died of, else the phase."""
    word = _init_word(pod)
    if word is None:
        word = at(pod, "status.reason") or at(pod, "status.phase") or "Unknown"
        word = _container_word(pod, word)
    if "deletionTimestamp" in pod["metadata"]:
        return "Unknown" if at(pod, "status.reason") == "NodeLost" else "Terminating"
    return word


def _init_word(pod: Object) -> str | None:
    sidecars = _sidecars(pod)
    total = len(at(pod, "spec.initContainers") or [])
    for index, item in enumerate(_statuses(pod, "initContainerStatuses")):
        state = item.get("state") or {}
        done = "terminated" in state and state["terminated"].get("exitCode") == 0
        if done or (item.get("name") in sidecars and item.get("started")):
            continue
        if "terminated" in state:
            return f"Init:{_death(state['terminated'])}"
        reason = at(state, "waiting.reason")
        return f"Init:{reason}" if reason and reason != "PodInitializing" else f"Init:{index}/{total}"
    return None


def _death(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    signal = terminated.get("signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode')}"


def _container_word(pod: Object, word: str) -> str:
    is_running = False
    for item in reversed(_statuses(pod, "containerStatuses")):
        state = item.get("state") or {}
        if at(state, "waiting.reason"):
            word = state["waiting"]["reason"]
        elif "terminated" in state:
            word = _death(state["terminated"])
        elif item.get("ready") and "running" in state:
            is_running = True
    if word == "Completed" and is_running:
        ready = any(
            item.get("type") == "Ready" and item.get("status") == "True" for item in _statuses(pod, "conditions")
        )
        return "Running" if ready else "NotReady"
    return word


def readiness_gates(pod: Object, _now: datetime) -> Cell:
    gates = [gate["conditionType"] for gate in at(pod, "spec.readinessGates") or []]
    if not gates:
        return NONE
    met = {item["type"] for item in _statuses(pod, "conditions") if item.get("status") == "True"}
    return f"{sum(gate in met for gate in gates)}/{len(gates)}"
