"""What check concludes: tables of objects in, findings out."""

from typing import Any

import pytest

from cli import findings
from contract import VERSION, names


@pytest.mark.parametrize(
    ("major", "minor", "outcome"),
    [
        ("1", "32", "ok"),
        ("1", "29+", "ok"),
        ("1", "28", "warning"),
        ("1", "26", "warning"),
        ("1", "25", "error"),
        ("", "", "error"),
    ],
)
def test_old_servers_are_told(major: str, minor: str, outcome: str) -> None:
    finding = findings.server_version({"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}"})
    assert outcome == finding.outcome
    assert (outcome == "ok") == (finding.hint == "")


def pod(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    """A running pod; meshed=True gives it a ready sidecar, other words go into metadata, spec or status."""
    sidecar = [{"name": names.PROXY_CONTAINER}] if more.pop("meshed", False) else []
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    if sidecar:
        status["initContainerStatuses"] = [{"name": names.PROXY_CONTAINER, "ready": True, "state": {"running": {}}}]
    return {
        "metadata": {"name": name, "namespace": namespace, **more.get("metadata", {})},
        "spec": {"containers": [{"name": "app"}], "initContainers": sidecar, **more.get("spec", {})},
        "status": {**status, **more.get("status", {})},
    }


def namespace(name: str, value: str | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {names.INJECT: value} if value else {}}}


LABEL = {"labels": {names.INJECT: names.ENABLED}}
NAMESPACES = [namespace("shop", "enabled"), namespace("plain"), namespace("off", "disabled"), namespace("tulle")]


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (pod("a"), True),
        (pod("a", meshed=True), False),
        (pod("a", "plain"), False),
        (pod("a", "plain", metadata=LABEL), True),
        (pod("a", "plain", metadata={"annotations": {names.INJECT: "enabled"}}), True),
        (pod("a", "off"), False),
        (pod("a", "off", metadata=LABEL), True),
        (pod("a", metadata={"labels": {names.INJECT: "disabled"}}), False),
        (pod("a", metadata={"annotations": {names.SKIP_REASON: "OtherMesh"}}), False),
        (pod("a", metadata={"annotations": {names.SKIP_REASON: "NotEnabled"}}), True),
        (pod("a", metadata={"annotations": None, "labels": None}), True),
        (pod("a", metadata={"deletionTimestamp": "now"}), False),
        (pod("a", spec={"hostNetwork": True}), False),
        (pod("a", status={"phase": "Succeeded"}), False),
        (pod("a", status={"phase": "Failed"}), False),
        (pod("a", "tulle", metadata=LABEL), False),
        (pod("a", "kube-system", metadata=LABEL), False),
    ],
)
def test_pods_that_should_be_meshed_and_are_not_are_found(found: dict[str, Any], missing: bool) -> None:
    finding = findings.missing_sidecars([found], NAMESPACES, "tulle")
    assert ("warning" if missing else "ok") == finding.outcome


@pytest.mark.parametrize(
    ("found", "outcome", "told"),
    [
        (pod("a"), "ok", ""),
        (pod("a", meshed=True), "ok", ""),
        (pod("a", metadata={"annotations": {names.SKIP_REASON: "OtherMesh"}}), "warning", "1 because of OtherMesh"),
        (pod("a", metadata={"annotations": {names.SKIP_REASON: "Windows"}}), "warning", "1 because of Windows: shop/a"),
        (pod("a", spec={"hostNetwork": True}), "warning", "1 because of HostNetwork: shop/a"),
        (pod("a", metadata={"labels": {names.INJECT: "disabled"}}), "ok", "1 because of Disabled: shop/a"),
        (pod("a", "plain", spec={"hostNetwork": True}), "ok", ""),
        (pod("a", "plain", metadata={"annotations": {names.SKIP_REASON: "NotEnabled"}}), "ok", ""),
        (pod("a", "plain", metadata=LABEL, spec={"hostNetwork": True}), "warning", "HostNetwork"),
        (pod("a", "kube-system", spec={"hostNetwork": True}), "ok", ""),
        (pod("a", spec={"hostNetwork": True}, status={"phase": "Succeeded"}), "ok", ""),
    ],
)
def test_pods_of_labelled_namespaces_that_are_left_outside_are_told_with_the_reason(
    found: dict[str, Any], outcome: str, told: str
) -> None:
    finding = findings.left_outside([found], NAMESPACES, "tulle")

    assert (outcome, bool(told)) == (finding.outcome, bool(finding.reason))
    assert told in finding.reason


def test_a_pods_annotation_wins_over_its_label_as_the_webhook_reads_them() -> None:
    found = pod("a", metadata={"annotations": {names.INJECT: "enabled"}, "labels": {names.INJECT: "disabled"}})

    assert "warning" == findings.missing_sidecars([found], NAMESPACES, "tulle").outcome


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("ReplicaSet", "web-7d9f", "kubectl rollout restart -n shop deployment/web"),
        ("StatefulSet", "db", "kubectl rollout restart -n shop statefulset/db"),
        ("Job", "sum", "delete and make again pod/a in shop"),
    ],
)
def test_the_hint_says_how_to_restart_what_is_missing(kind: str, name: str, hint: str) -> None:
    found = pod("a", metadata={"ownerReferences": [{"kind": kind, "name": name}]})
    assert hint in findings.missing_sidecars([found], NAMESPACES, "tulle").hint


def test_many_pods_are_counted_and_few_are_named() -> None:
    finding = findings.missing_sidecars([pod(f"p{number}") for number in range(9)], NAMESPACES, "tulle")
    assert finding.reason.startswith("9 pods should be meshed")
    assert "shop/p4 and 4 more" in finding.reason


def in_state(**state: Any) -> dict[str, Any]:
    """A status of a pod that is not ready, whose container `c` is in this state."""
    return {"conditions": [], "containerStatuses": [{"name": "c", "state": state}]}


CRASHED = {
    "name": names.PROXY_CONTAINER,
    "ready": False,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}},
    "lastState": {"terminated": {"exitCode": 3, "message": "no capture rules\n"}},
}


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ({}, ""),
        ({"conditions": [], "initContainerStatuses": [CRASHED]}, "CrashLoopBackOff, exit code 3 no capture rules"),
        (in_state(waiting={"reason": "ErrImagePull", "message": "gone"}), "c: ErrImagePull gone"),
        (in_state(terminated={"exitCode": 1}), "c: exit code 1"),
        (in_state(waiting={"reason": "PodInitializing"}), "not ready yet"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]}, "not scheduled: no node"),
        ({"conditions": [], "phase": "Pending"}, "pending, not ready yet"),
    ],
)
def test_a_pods_trouble_is_told_in_its_own_words(status: dict[str, Any], trouble: str) -> None:
    text = findings.pod_trouble(pod("a", status=status))
    assert trouble in text
    assert bool(trouble) == bool(text)


def test_a_sidecar_that_is_not_ready_is_an_error_and_finished_pods_are_not_looked_at() -> None:
    bad = pod("bad", meshed=True, status={"conditions": [], "initContainerStatuses": [CRASHED]})
    done = pod("done", meshed=True, status={"phase": "Succeeded", "initContainerStatuses": []})
    assert findings.sidecars_ready([pod("a", meshed=True), pod("b"), done]) == findings.OK
    finding = findings.sidecars_ready([bad, done])
    assert (finding.outcome, "shop/bad" in finding.reason, "shop/done" in finding.reason) == ("error", True, False)


def test_other_versions_are_warnings() -> None:
    same = pod("a", meshed=True, metadata={"annotations": {names.PROXY_VERSION: VERSION}})
    old = pod("b", meshed=True, metadata={"annotations": {names.PROXY_VERSION: "0.0.1"}})
    assert findings.proxy_versions([same, pod("c")]) == findings.OK
    assert "1 of 0.0.1" in findings.proxy_versions([same, old]).reason
    assert findings.same_version("it", VERSION) == findings.OK
    assert findings.same_version("it", "").reason == f"it is of unknown version, this tulle is {VERSION}"


def deployment(replicas: int, ready: int, updated: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "tulle-webhook", "namespace": "tulle"},
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": ready, "updatedReplicas": updated},
    }


@pytest.mark.parametrize(
    ("replicas", "ready", "updated", "reason"),
    [
        (1, 1, 1, ""),
        (3, 3, 3, ""),
        (3, 2, 3, "2 of 3 pods of tulle-webhook are ready"),
        (1, 1, 0, "0 of 1 pods of tulle-webhook are ready"),
        (0, 0, 0, "tulle-webhook is scaled to 0"),
    ],
)
def test_a_deployment_is_ready_when_all_pods_of_its_newest_template_are(
    replicas: int, ready: int, updated: int, reason: str
) -> None:
    finding = findings.deployment(deployment(replicas, ready, updated), [])
    assert (reason == "") == (finding.outcome == "ok")
    assert finding.reason.startswith(reason)


def policy(name: str, *conditions: tuple[str, str, str], generation: int = 1) -> dict[str, Any]:
    """A policy of generation 1 whose conditions were written for `generation`."""
    listed = [
        {"type": kind, "status": status, "reason": reason, "message": "words", "observedGeneration": generation}
        for kind, status, reason in conditions
    ]
    return {"metadata": {"name": name, "namespace": "shop", "generation": 1}, "status": {"conditions": listed}}


IN_FORCE = (("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs"))


@pytest.mark.parametrize(
    ("policies", "outcome", "words"),
    [
        ([], "ok", ""),
        ([policy("a", *IN_FORCE)], "ok", ""),
        (
            [policy("a", *IN_FORCE), policy("b", ("Accepted", "False", "Conflicted"))],
            "warning",
            "shop/b (Conflicted: w",
        ),
        ([policy("a", IN_FORCE[0], ("ResolvedRefs", "False", "BackendNotFound"))], "warning", "BackendNotFound"),
        ([policy("a")], "error", "not judged by the controller: shop/a"),
        ([policy("a", *IN_FORCE, generation=0)], "error", "not judged by the controller: shop/a"),
    ],
)
def test_policies_that_are_not_in_force_are_told(policies: list[dict[str, Any]], outcome: str, words: str) -> None:
    finding = findings.policies_in_force(policies)

    assert outcome == finding.outcome
    assert words in finding.reason
