"""Policies at admission: what has a fault is refused with every fault named, and nothing else is refused."""

import base64
import json
from typing import Any

import pytest

from bench.stub_api import StubApi
from contract import names
from tests.webhook.test_certificates import Clock, keeper
from tests.webhook.test_inject import ENABLED, NATIVE, annotated
from webhook.annotations import Refused
from webhook.inject import inject
from webhook.kube import Kube
from webhook.policies import Verdict, judge
from webhook.review import answer_untouched, parse_review

Json = dict[str, Any]
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/tulle-webhook"


def review(
    spec: Any,
    kind: str = "TrafficPolicy",
    *,
    group: str = "policy.tulle.mesh",
    version: str = "v1alpha1",
    operation: str = "CREATE",
    old: Any = None,
) -> bytes:
    request = {
        "uid": "u1",
        "kind": {"group": group, "version": version, "kind": kind},
        "operation": operation,
        "namespace": "shop",
        "object": {"metadata": {"name": "p"}, "spec": spec},
    }
    if old is not None:
        request["oldObject"] = {"metadata": {"name": "p"}, "spec": old}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def verdict(spec: Any, **more: Any) -> Verdict:
    return judge(parse_review(review(spec, **more)))


GOOD: Json = {"targetRef": {"name": "web"}, "retries": {"limit": 3}}
BAD: Json = {"targetRef": {"name": "web"}, "retries": {"limit": 12}}


def test_policy_without_a_fault_is_let_in() -> None:
    assert Verdict("Valid") == verdict(GOOD)
    assert Verdict("Valid") == verdict(
        {"targetRef": {"name": "web"}, "faults": [{"reset": True}]}, kind="FaultInjection"
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"retries": {"methods": ["GET", "POST"]}}, "spec.retries.methods: POST may be done twice"),
        ({"retries": {"limit": 0}}, "spec.retries.limit: 0 means no retries"),
        ({"retryBudget": {"percent": 5}}, "spec.retryBudget: nothing spends it"),
        (
            {"concurrency": {"service": {"limit": 5}, "endpoint": {"limit": 6}}},
            "spec.concurrency.endpoint.limit: never reached",
        ),
    ],
)
def test_what_is_perhaps_not_meant_is_let_in_with_a_warning(spec: Json, words: str) -> None:
    found = verdict({"targetRef": {"name": "web"}} | spec)

    assert ("Valid", "") == (found.reason, found.fault)
    assert [words] == [warning[: len(words)] for warning in found.warnings]
    answer = json.loads(answer_untouched(parse_review(review(spec)), found.warnings))["response"]
    assert [f"tulle: {found.warnings[0]}"] == answer["warnings"]


def test_what_is_meant_is_let_in_without_a_word() -> None:
    spec = {"retries": {"limit": 2}, "retryBudget": {"percent": 5}, "hedging": {"delay": "1s"}}

    assert Verdict("Valid") == verdict({"targetRef": {"name": "web"}} | spec)


def test_one_fault_is_told_in_one_line() -> None:
    assert "spec.retries.limit: 12 is more than 10; write 0 to 10" == verdict(BAD).fault


def test_all_faults_are_told_in_one_message() -> None:
    lines = verdict(BAD | {"hedging": {"delay": "1s", "percentile": 5}}).fault.splitlines()

    assert [
        "the TrafficPolicy has 2 faults:",
        "  spec.retries.limit: 12 is more than 10; write 0 to 10",
        "  spec.hedging: has both delay and percentile; write one of them",
    ] == lines


@pytest.mark.parametrize(
    "more",
    [
        {"version": "v1beta1"},
        {"group": "policy.example.com"},
        {"kind": "AuthorizationPolicy"},
        {"operation": "DELETE"},
        {"operation": "CONNECT"},
    ],
)
def test_what_this_version_does_not_know_is_let_in(more: Json) -> None:
    assert Verdict("NotAPolicy") == verdict(BAD, **more)


def test_what_came_in_before_can_be_changed_elsewhere_but_not_for_the_worse() -> None:
    assert Verdict("SpecUnchanged") == verdict(BAD, operation="UPDATE", old=BAD)
    assert "spec.retries.limit" in verdict(BAD, operation="UPDATE", old=GOOD).fault


@pytest.mark.parametrize("spec", [None, [], 5, "x", {}])
def test_what_is_no_spec_at_all_is_refused_with_words(spec: Any) -> None:
    assert verdict(spec).fault


def test_both_registrations_are_kept_true(api: StubApi, kube: Kube) -> None:
    api.put(VALIDATING, {"webhooks": [{"name": "p", "clientConfig": {"caBundle": "eA=="}}]})
    kept, serving = keeper(kube, Clock())

    kept.round()

    text = base64.b64encode(serving.material.bundle).decode()
    assert text == api.objects[VALIDATING]["webhooks"][0]["clientConfig"]["caBundle"]
    assert {text} == set(api.bundles())
    assert (None, True) == (kept.fault, kept.standing.is_complete)


def test_without_the_validating_registration_pods_are_served_and_it_is_looked_for(api: StubApi, kube: Kube) -> None:
    kept, _ = keeper(kube, Clock())

    kept.round()

    assert (None, False) == (kept.fault, kept.standing.is_complete)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({names.WEIGHT: "0"}, "pod annotation config.tulle.mesh/weight: '0' is no weight; write a whole number from 1"),
        ({"config.tulle.mesh/wieght": "5"}, "config.tulle.mesh/wieght is unknown; did you mean config.tulle.mesh/weig"),
    ],
)
def test_wrong_weight_is_refused_by_name(annotation: dict[str, str], message: str) -> None:
    with pytest.raises(Refused) as refusal:
        inject(annotated(annotation), ENABLED, NATIVE)

    assert message in str(refusal.value)


def test_right_weight_is_let_in() -> None:
    assert inject(annotated({names.WEIGHT: "20"}), ENABLED, NATIVE).operations
