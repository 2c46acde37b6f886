"""What `kubectl get pods` says of a pod, from its containers' states."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lab.api import pod_cells

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUNNING = {"running": {"startedAt": "2026-01-01T11:00:00Z"}}


def state(name: str = "c", *, ready: bool = False, restarts: int = 0, **of: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": of}


def pod(*containers: Any, inits: tuple[Any, ...] = (), phase: str = "Running", sidecar: bool = False) -> dict[str, Any]:
    policy = {"restartPolicy": "Always"} if sidecar else {}
    spec = {"containers": [{"name": item["name"]} for item in containers]}
    spec["initContainers"] = [{"name": item["name"], **policy} for item in inits]
    status = {"phase": phase, "containerStatuses": list(containers), "initContainerStatuses": list(inits)}
    return {"metadata": {"name": "p"}, "spec": spec, "status": status}


WAITING = {"waiting": {"reason": "CrashLoopBackOff"}}
FAILED = {"terminated": {"exitCode": 1, "reason": "Error"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (pod(state(ready=True, **RUNNING)), "Running"),
        (pod(state(**WAITING)), "CrashLoopBackOff"),
        (pod(state(**FAILED), phase="Failed"), "Error"),
        (pod(state(terminated={"exitCode": 9, "signal": 9})), "Signal:9"),
        (pod(state(**DONE), phase="Succeeded"), "Completed"),
        (pod(state(), inits=(state("i", **RUNNING),), phase="Pending"), "Init:0/1"),
        (pod(state(), inits=(state("i", **FAILED),), phase="Pending"), "Init:Error"),
        (pod(state(), inits=(state("i", **WAITING),), phase="Pending"), "Init:CrashLoopBackOff"),
        (pod(state(ready=True, **RUNNING), inits=(state("i", **DONE),)), "Running"),
        (pod(phase="Pending"), "Pending"),
    ],
)
def test_the_status_is_the_most_telling_word(found: dict[str, Any], word: str) -> None:
    assert pod_cells.pod_status(found, NOON) == word


def test_a_dying_pod_is_terminating() -> None:
    dying = pod(state(ready=True, **RUNNING))
    dying["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert pod_cells.pod_status(dying, NOON) == "Terminating"


def test_a_native_sidecar_counts_as_a_container() -> None:
    started = {**state("i", ready=True, restarts=1, **RUNNING), "started": True}
    found = pod(state(ready=True, **RUNNING), inits=(started,), sidecar=True)
    assert pod_cells.pod_ready(found, NOON) == "2/2"
    assert pod_cells.pod_status(found, NOON) == "Running"
    assert pod_cells.pod_restarts(found, NOON) == "1"


def test_restarts_say_when_the_last_one_was() -> None:
    last = {"lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T11:55:00Z"}}}
    assert pod_cells.pod_restarts(pod({**state(restarts=3, **RUNNING), **last}), NOON) == "3 (5m ago)"
