"""A job's next step as tables: pods, what has ended, and the time."""

import pytest

from lab.ctl.job_plan import Tally, labelled, plan
from lab.ctl.times import to_text

NOW = 1_800_000_000.0


@pytest.fixture
def make(objects):
    def make(status=None, restart="Never", **spec):
        made = objects.job(**{"completions": 1, "parallelism": 1, "backoffLimit": 6, **spec})
        made["metadata"] |= {"uid": "j", "generation": 1}
        made["spec"]["template"]["spec"]["restartPolicy"] = restart
        made["status"] = status or {}
        return made

    return make


def pod(name, phase="Running", restarts=0, **metadata):
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": to_text(NOW), **metadata},
        "spec": {},
        "status": {"phase": phase, "containerStatuses": [{"restartCount": restarts}]},
    }


def tally(succeeded=0, failed=0, last_failure_ago_s=1000.0):
    return Tally(
        {f"s{number}" for number in range(succeeded)},
        {f"f{number}" for number in range(failed)},
        NOW - last_failure_ago_s,
    )


def ended(result):
    return {
        one["type"]: one["reason"]
        for one in result.status.get("conditions", [])
        if one["type"] in ("Complete", "Failed") and one["status"] == "True"
    }


@pytest.mark.parametrize(
    ("spec", "active", "done", "create", "delete"),
    [
        ({}, 0, tally(), 1, 0),
        ({}, 1, tally(), 0, 0),
        ({"completions": 5, "parallelism": 3}, 0, tally(), 3, 0),
        ({"completions": 5, "parallelism": 3}, 2, tally(3), 0, 0),
        ({"completions": 5, "parallelism": 3}, 1, tally(3), 1, 0),
        ({"completions": 5, "parallelism": 1}, 3, tally(1), 0, 2),
        ({"completions": 5, "parallelism": 0}, 0, tally(), 0, 0),
        ({"completions": None, "parallelism": 2}, 0, tally(), 2, 0),
        ({"completions": None, "parallelism": 3}, 2, tally(1), 0, 0),
        ({}, 0, tally(0, 1), 1, 0),
        ({}, 0, tally(0, 1, 4), 0, 0),
    ],
)
def test_a_job_keeps_as_many_pods_as_are_still_wanted(make, spec, active, done, create, delete):
    result = plan(make(**spec), [pod(f"p{number}") for number in range(active)], done, NOW)
    assert (create, delete) == (result.create_count, len(result.delete))
    assert {} == ended(result)


def test_a_failed_pod_is_replaced_after_a_wait_that_doubles(make):
    assert 6 == plan(make(), [], tally(0, 1, 4), NOW).recheck_s
    assert 36 == plan(make(), [], tally(0, 3, 4), NOW).recheck_s


@pytest.mark.parametrize(
    ("spec", "active", "done", "expected"),
    [
        ({}, 0, tally(1), {"Complete": "CompletionsReached"}),
        ({"completions": 3, "parallelism": 3}, 1, tally(3), {"Complete": "CompletionsReached"}),
        ({"completions": 3}, 0, tally(2), {}),
        ({"completions": 0}, 0, tally(), {"Complete": "CompletionsReached"}),
        ({"completions": None}, 0, tally(1), {"Complete": "CompletionsReached"}),
        ({"completions": None}, 1, tally(1), {}),
        ({"backoffLimit": 2}, 1, tally(0, 3), {"Failed": "BackoffLimitExceeded"}),
        ({"backoffLimit": 2}, 1, tally(0, 2), {}),
        ({"backoffLimit": 0}, 0, tally(0, 1), {"Failed": "BackoffLimitExceeded"}),
        ({"completionMode": "Indexed"}, 0, tally(), {"Failed": "NotImplemented"}),
    ],
)
def test_a_job_ends_when_enough_succeeded_or_too_many_failed(make, spec, active, done, expected):
    result = plan(make(**spec), [pod(f"p{number}") for number in range(active)], done, NOW)
    assert expected == ended(result)
    assert (len(result.delete) if expected else 0) == (active if expected else 0)


def test_restarts_in_place_count_against_the_limit(make):
    job = make(restart="OnFailure", backoffLimit=3)
    assert {} == ended(plan(job, [pod("a", restarts=2)], tally(), NOW))
    assert {"Failed": "BackoffLimitExceeded"} == ended(plan(job, [pod("a", restarts=3)], tally(), NOW))


def test_the_deadline_strikes_and_is_waited_for(make):
    job = make({"startTime": to_text(NOW - 20)}, activeDeadlineSeconds=30)
    assert 10 == plan(job, [pod("a")], tally(), NOW).recheck_s
    late = plan(job, [pod("a")], tally(), NOW + 10)
    assert ({"Failed": "DeadlineExceeded"}, 1) == (ended(late), len(late.delete))


def test_a_finished_job_does_nothing_more_until_its_time_is_up(make):
    finished = plan(make(ttlSecondsAfterFinished=60), [], tally(1), NOW)
    assert 60 == finished.recheck_s
    job = make(finished.status, ttlSecondsAfterFinished=60)
    waiting = plan(job, [], tally(1), NOW + 45)
    assert (False, 15, finished.status) == (waiting.expired, waiting.recheck_s, waiting.status)
    assert plan(job, [], tally(1), NOW + 60).expired


def test_a_suspended_job_has_no_pods_and_starts_anew(make):
    asleep = plan(make({"startTime": to_text(NOW)}, suspend=True), [pod("a")], tally(), NOW)
    assert (1, "Suspended") == (len(asleep.delete), asleep.news[0][1])
    assert "startTime" not in asleep.status
    awake = plan(make(asleep.status), [], tally(), NOW + 5)
    assert (1, to_text(NOW + 5)) == (awake.create_count, awake.status["startTime"])
    assert ["False"] == [one["status"] for one in awake.status["conditions"] if one["type"] == "Suspended"]


def test_a_tally_counts_each_pod_once_and_a_deleted_one_as_failed():
    count = Tally(dismissed={"mine"})
    for seen in (
        pod("a", "Succeeded"),
        pod("a", "Succeeded", deletionTimestamp="now"),
        pod("b", deletionTimestamp="now"),
        pod("b", "Failed", deletionTimestamp="now"),
        pod("mine", deletionTimestamp="now"),
        pod("c"),
    ):
        count.observe(seen, NOW)
    assert ({"a"}, {"b"}) == (count.succeeded, count.failed)


def test_a_job_gets_a_selector_by_its_uid_and_keeps_its_own(make):
    done = labelled(make())
    assert {"matchLabels": {"batch.kubernetes.io/controller-uid": "j"}} == done["spec"]["selector"]
    assert "sum" == done["spec"]["template"]["metadata"]["labels"]["job-name"]
    assert labelled(done) is done
