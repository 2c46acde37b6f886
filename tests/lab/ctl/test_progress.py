"""A deployment's conditions as tables: the state of its replica sets and the time, to what `kubectl wait` sees."""

import pytest

from lab.ctl import revisions
from lab.ctl.conditions import condition, with_one
from lab.ctl.progress import progress
from lab.ctl.times import to_text

NOW = 1_800_000_000.0


@pytest.fixture
def make(objects):
    def make(status=None, **spec):
        made = objects.deployment(replicas=3, **spec)
        made["metadata"] |= {"uid": "d", "generation": 2}
        made["status"] = status or {}
        return made

    return make


def replica_set(deployment, size, ready=0, available=0, conditions=()):
    made = revisions.new_replica_set(deployment, [], size, 0)
    made["status"] = {"replicas": size, "readyReplicas": ready, "availableReplicas": available}
    made["status"]["conditions"] = list(conditions)
    return made


def progressing(result):
    return next(one for one in result.status["conditions"] if one["type"] == "Progressing")


def held(reason, status="True", ago_s=0.0):
    return {
        "type": "Progressing",
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": to_text(NOW - ago_s),
        "lastUpdateTime": to_text(NOW - ago_s),
    }


def test_a_complete_rollout_says_so_once_and_for_all(make):
    deployment = make()
    new = replica_set(deployment, 3, 3, 3)
    result = progress(deployment, [new], new, "", NOW)
    assert "NewReplicaSetAvailable" == progressing(result)["reason"]
    assert {
        "observedGeneration": 2,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
    } == {key: value for key, value in result.status.items() if key != "conditions"}
    again = progress({**deployment, "status": result.status}, [new], new, "", NOW + 500)
    assert result.status == again.status
    assert again.recheck_s is None


def test_a_ready_pod_lost_after_the_end_is_no_new_rollout(make):
    deployment = make({"replicas": 3, "updatedReplicas": 3, "conditions": [held("NewReplicaSetAvailable", ago_s=9999)]})
    new = replica_set(deployment, 3, 1, 1)
    result = progress(deployment, [new], new, "", NOW)
    assert "NewReplicaSetAvailable" == progressing(result)["reason"]
    assert 2 == result.status["unavailableReplicas"]


@pytest.mark.parametrize(
    ("reason", "ago_s", "before", "expected", "recheck_s"),
    [
        ("NewReplicaSetCreated", 10, 0, "ReplicaSetUpdated", 600),
        ("ReplicaSetUpdated", 10, 2, "ReplicaSetUpdated", 590),
        ("ReplicaSetUpdated", 600, 2, "ProgressDeadlineExceeded", None),
        ("ReplicaSetUpdated", 600, 1, "ReplicaSetUpdated", 600),
        ("ProgressDeadlineExceeded", 60, 2, "ProgressDeadlineExceeded", None),
        ("ProgressDeadlineExceeded", 60, 1, "ReplicaSetUpdated", 600),
        ("NewReplicaSetAvailable", 5000, 2, "ReplicaSetUpdated", 600),
    ],
)
def test_the_deadline_counts_from_the_last_step_forward(make, reason, ago_s, before, expected, recheck_s):
    """`before` and 2 are the available pods of the new set in the last status and now, with one old pod left."""
    status = {"replicas": 3, "updatedReplicas": 2, "readyReplicas": before + 1, "availableReplicas": before + 1}
    state = "False" if reason == "ProgressDeadlineExceeded" else "True"
    deployment = make({**status, "conditions": [held(reason, state, ago_s)]})
    new = replica_set(deployment, 2, 2, 2)
    old = replica_set(deployment, 1, 1, 1)
    result = progress(deployment, [new, old], new, "", NOW)
    assert expected == progressing(result)["reason"]
    assert ("False" if expected == "ProgressDeadlineExceeded" else "True") == progressing(result)["status"]
    assert recheck_s == result.recheck_s


def test_without_a_deadline_there_is_no_progress_to_tell(make):
    deployment = make({"conditions": [held("ReplicaSetUpdated")]}, progressDeadlineSeconds=2**31 - 1)
    result = progress(deployment, [], None, "", NOW)
    assert ["Available"] == [one["type"] for one in result.status["conditions"]]


@pytest.mark.parametrize(("available", "status"), [(3, "True"), (2, "False")])
def test_available_means_no_fewer_than_the_bound(make, available, status):
    """25% of 3, rounded down, is none that may be missing."""
    deployment = make()
    new = replica_set(deployment, 3, available, available)
    result = progress(deployment, [new], new, "", NOW)
    assert status == next(one["status"] for one in result.status["conditions"] if one["type"] == "Available")


def test_a_failure_of_any_set_is_the_deployments_and_goes_with_it(make):
    failure = condition("ReplicaFailure", True, "FailedCreate", "no quota", NOW)
    deployment = make()
    new = replica_set(deployment, 3, conditions=[failure])
    result = progress(deployment, [new], new, "", NOW)
    assert "no quota" == next(one["message"] for one in result.status["conditions"] if one["type"] == "ReplicaFailure")
    well = replica_set(deployment, 3)
    after = progress({**deployment, "status": result.status}, [well], well, "", NOW)
    assert "ReplicaFailure" not in [one["type"] for one in after.status["conditions"]]


def test_a_pause_and_its_end_are_told_and_the_time_moves(make):
    deployment = make(paused=True)
    paused = progress(deployment, [], None, "", NOW)
    assert ("Unknown", "DeploymentPaused") == (progressing(paused)["status"], progressing(paused)["reason"])
    assert paused.status == progress({**deployment, "status": paused.status}, [], None, "", NOW + 99).status
    resumed = make(paused.status)
    new = replica_set(resumed, 3)
    result = progress(resumed, [new], new, "", NOW + 5000)
    assert "ProgressDeadlineExceeded" != progressing(result)["reason"]


def test_a_condition_keeps_its_time_while_its_status_stays():
    first = condition("Ready", True, "A", "a", NOW)
    second = with_one([first], condition("Ready", True, "B", "b", NOW + 60))
    assert ("B", first["lastTransitionTime"]) == (second[0]["reason"], second[0]["lastTransitionTime"])
    third = with_one(second, condition("Ready", False, "C", "c", NOW + 90))
    assert to_text(NOW + 90) == third[0]["lastTransitionTime"]
