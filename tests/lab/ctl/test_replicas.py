"""A replica set's next step as tables: which pods go first, which count, which are strangers."""

import pytest

from lab.ctl import replicas
from lab.ctl.times import to_text

NOW = 1_800_000_000.0


@pytest.fixture
def wanted(objects):
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web-1", "namespace": "default", "uid": "r", "generation": 1},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": objects.template({"app": "web"}),
        },
    }


def pod(name, phase="Running", ready_ago_s=None, owner="r", labels=None, node="n", created_ago_s=0, **metadata):
    made = {
        "metadata": {
            "name": name,
            "uid": name,
            "labels": labels or {"app": "web"},
            "creationTimestamp": to_text(NOW - created_ago_s),
            "ownerReferences": [{"uid": owner, "controller": True, "kind": "ReplicaSet"}] if owner else [],
            **metadata,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase},
    }
    if ready_ago_s is not None:
        turned = to_text(NOW - ready_ago_s)
        made["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": turned}]
    return made


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("a", "Pending", node=""), pod("b", "Pending")),
        (pod("a", "Pending"), pod("b")),
        (pod("a"), pod("b", ready_ago_s=1)),
        (
            pod("a", ready_ago_s=9, annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"}),
            pod("b", ready_ago_s=1),
        ),
        (pod("a", ready_ago_s=1), pod("b", ready_ago_s=100)),
        (pod("a", created_ago_s=1), pod("b", created_ago_s=100)),
    ],
)
def test_the_pod_that_serves_least_goes_first(wanted, first, second):
    one = {**wanted, "spec": {**wanted["spec"], "replicas": 1}}
    for given in ([first, second], [second, first]):
        assert ["a"] == [gone["metadata"]["name"] for gone in replicas.plan(one, given).delete]


def test_pods_that_end_or_are_going_are_no_replicas(wanted):
    given = [pod("a"), pod("b", "Failed"), pod("c", "Succeeded"), pod("d", deletionTimestamp="now")]
    assert 1 == replicas.plan(wanted, given).create_count


def test_an_orphan_that_fits_is_adopted_and_counts(wanted):
    result = replicas.plan(wanted, [pod("a"), pod("b", owner=None)])
    assert (["b"], 0) == ([one["metadata"]["name"] for one in result.adopt], result.create_count)


def test_a_strangers_pod_is_left_alone(wanted):
    assert replicas.Plan(create_count=2) == replicas.plan(wanted, [pod("a", owner="other")])


def test_a_pod_that_no_longer_fits_is_let_go(wanted):
    result = replicas.plan(wanted, [pod("a", labels={"app": "x"})])
    assert (["a"], 2) == ([one["metadata"]["name"] for one in result.release], result.create_count)


def test_a_set_that_is_being_deleted_does_nothing(wanted):
    wanted["metadata"]["deletionTimestamp"] = "now"
    assert replicas.Plan() == replicas.plan(wanted, [])


def test_the_status_counts_and_says_when_the_next_pod_becomes_available(wanted):
    wanted["spec"]["minReadySeconds"] = 10
    given = [pod("a", ready_ago_s=30), pod("b", ready_ago_s=4), pod("c")]
    result = replicas.standing(wanted, given, "", NOW)
    assert {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 1,
    } == result.status
    assert 6 == result.recheck_s


def test_a_new_pod_has_the_template_and_its_owner(wanted):
    made = replicas.new_pod(wanted)
    assert "web-1-" == made["metadata"]["generateName"]
    assert {"app": "web"} == made["metadata"]["labels"]
    assert [("ReplicaSet", "r", True)] == [
        (one["kind"], one["uid"], one["controller"]) for one in made["metadata"]["ownerReferences"]
    ]
