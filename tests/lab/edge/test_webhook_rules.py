"""Which webhooks a write concerns, and what their answers mean, as functions."""

import base64
import json

import pytest

from lab.api.identity import User
from lab.api.resources import Catalog
from lab.api.webhook_faults import faults_of
from lab.api.webhook_rules import (
    Attempt,
    WebhookFailure,
    apply_patch,
    concerns,
    hooks_of,
    refusal,
    review_of,
    verdict_of,
)

CATALOG = Catalog()
USER = User("alice", ("devs",), "u-1", {"k": ("v",)})
HOME = {"metadata": {"name": "shop", "labels": {"team": "a"}}}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-12345", "generateName": "web-", "namespace": "shop", "labels": {"app": "web"}},
}


def configuration(kind="MutatingWebhookConfiguration", **entry):
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    webhook = {
        "name": "a.b.c",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:1/x"},
        "rules": [rule],
        **entry,
    }
    return {"kind": kind, "metadata": {"name": "one"}, "webhooks": [webhook]}


def hook(**entry):
    return next(hooks_of(configuration(**entry)))


def attempt(operation="CREATE", resource="pods", subresource="", old=None, new=POD, home=HOME):
    return Attempt(operation, CATALOG.keyed(resource), subresource, old, new, home, USER, False)


def rules(**fields):
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], **fields}
    return {"rules": [rule]}


@pytest.mark.parametrize(
    ("entry", "asked", "called"),
    [
        ({}, attempt(), True),
        ({}, attempt("UPDATE", old=POD), False),
        (rules(operations=["*"]), attempt("DELETE", old=POD, new=None), True),
        (rules(apiGroups=["apps"]), attempt(), False),
        (rules(apiVersions=["v2"]), attempt(), False),
        (rules(apiVersions=["*"], apiGroups=["*"], resources=["*"]), attempt(), True),
        (rules(resources=["*"]), attempt(subresource="status"), False),
        (rules(resources=["pods/*"]), attempt(subresource="status"), True),
        (rules(resources=["pods/*"]), attempt(), True),
        (rules(resources=["*/status"]), attempt(subresource="status"), True),
        (rules(resources=["pods/status"]), attempt(), False),
        (rules(resources=["*/*"]), attempt(subresource="status"), True),
        (rules(scope="Cluster"), attempt(), False),
        (rules(scope="Namespaced"), attempt(), True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, attempt(), True),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, attempt(), False),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}, attempt(), False),
        ({"objectSelector": {"matchLabels": {"app": "web"}}}, attempt(), True),
        ({"objectSelector": {"matchLabels": {"app": "db"}}}, attempt(), False),
    ],
)
def test_rules_and_selectors_decide_who_is_called(entry, asked, called):
    assert concerns(hook(**entry), asked) is called


def test_an_object_that_only_was_selected_before_still_concerns_the_webhook():
    unlabelled = {**POD, "metadata": {**POD["metadata"], "labels": {}}}
    selecting = hook(**rules(operations=["UPDATE"]), objectSelector={"matchLabels": {"app": "web"}})

    assert concerns(selecting, attempt("UPDATE", old=POD, new=unlabelled))
    assert not concerns(selecting, attempt("UPDATE", old=unlabelled, new=unlabelled))


def test_a_namespace_is_selected_by_its_own_labels_and_a_cluster_object_always():
    selecting = hook(**rules(apiGroups=["*"], resources=["*"]), namespaceSelector={"matchLabels": {"team": "a"}})
    other = {"kind": "Namespace", "metadata": {"name": "bank", "labels": {"team": "b"}}}

    assert concerns(selecting, attempt(resource="namespaces", new={**HOME, "kind": "Namespace"}, home=None))
    assert not concerns(selecting, attempt(resource="namespaces", new=other, home=None))
    assert concerns(selecting, attempt(resource="nodes", new={"kind": "Node", "metadata": {"name": "n"}}, home=None))


def test_webhook_configurations_are_never_sent_to_a_webhook():
    everything = hook(**rules(operations=["*"], apiGroups=["*"], apiVersions=["*"], resources=["*/*"]))

    assert not concerns(everything, attempt(resource="mutatingwebhookconfigurations", new=configuration(), home=None))


def test_a_review_says_what_where_and_who():
    request = review_of(hook(), attempt("UPDATE", old=POD), "uid-1")["request"]

    assert request["uid"] == "uid-1"
    assert request["kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "pods"}
    assert (request["namespace"], request["name"], request["operation"]) == ("shop", "web-12345", "UPDATE")
    assert request["userInfo"] == {"username": "alice", "groups": ["devs"], "uid": "u-1", "extra": {"k": ["v"]}}
    assert request["object"] == request["oldObject"] == POD
    assert request["dryRun"] is False
    json.dumps(request)


def test_a_mutating_webhook_does_not_see_a_generated_name_and_a_validating_one_does():
    validating = next(hooks_of(configuration("ValidatingWebhookConfiguration")))

    mutated = review_of(hook(), attempt(), "u")["request"]
    validated = review_of(validating, attempt(), "u")["request"]

    assert (mutated["name"], mutated["object"]["metadata"].get("name")) == ("", None)
    assert (validated["name"], validated["object"]["metadata"]["name"]) == ("web-12345", "web-12345")
    assert POD["metadata"]["name"] == "web-12345"


def answer(**response):
    body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {"uid": "u", **response}}
    return json.dumps(body).encode()


def patch(*operations):
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}


def test_an_allowing_answer_brings_its_patch_and_its_warnings():
    operation = {"op": "add", "path": "/metadata/labels/x", "value": "y"}

    verdict = verdict_of(hook(), answer(allowed=True, warnings=["old"], **patch(operation)), "u")

    assert (verdict.is_allowed, verdict.warnings) == (True, ("old",))
    assert apply_patch(hook(), POD, verdict.patch)["metadata"]["labels"] == {"app": "web", "x": "y"}
    assert POD["metadata"]["labels"] == {"app": "web"}


@pytest.mark.parametrize(
    ("status", "code", "reason", "message"),
    [
        ({}, 403, "Forbidden", "without explanation"),
        ({"message": "no"}, 403, "Forbidden", 'admission webhook "a.b.c" denied the request: no'),
        ({"message": "no", "code": 409, "reason": "Conflict"}, 409, "Conflict", ": no"),
        ({"message": "no", "code": 200}, 403, "Forbidden", ": no"),
        ({"reason": "TooMany", "code": 429}, 429, "TooMany", ": TooMany"),
    ],
)
def test_a_denial_keeps_the_webhooks_code_reason_and_message(status, code, reason, message):
    error = refusal(verdict_of(hook(), answer(allowed=False, status=status), "u"))

    assert (error.code, error.reason) == (code, reason)
    assert message in error.message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "not an AdmissionReview"),
        (b'{"kind": "Pod"}', "not an AdmissionReview"),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}', "v1beta1"),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}', "no response"),
        (answer(uid="other", allowed=True), "response.uid"),
        (answer(allowed=True, patch="e30="), "patchType"),
        (answer(allowed=True, patchType="JSONPatch", patch="e30="), "not a list"),
        (answer(allowed=True, patchType="JSONPatch", patch="%%%"), "base64"),
    ],
)
def test_an_answer_that_cannot_be_used_is_a_failure_of_the_webhook(body, why):
    with pytest.raises(WebhookFailure, match=why):
        verdict_of(hook(), body, "u")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/spec/nope"},
        {"op": "test", "path": "/metadata/name", "value": "x"},
        {"op": "fly", "path": "/a"},
        {"path": "/a"},
        "x",
        {"op": "replace", "path": "/kind", "value": "Service"},
    ],
)
def test_a_patch_that_does_not_apply_is_a_failure_of_the_webhook(operation):
    with pytest.raises(WebhookFailure):
        apply_patch(hook(), POD, [operation])


def test_a_validating_webhook_may_not_patch():
    validating = next(hooks_of(configuration("ValidatingWebhookConfiguration")))

    with pytest.raises(WebhookFailure, match="validating"):
        verdict_of(validating, answer(allowed=True, **patch()), "u")


def test_defaults_are_those_of_the_api():
    made = hook(clientConfig={"service": {"namespace": "tulle", "name": "hook"}})

    assert made.service == ("tulle", "hook", 443, "/")
    assert made.server_name == "hook.tulle.svc"
    assert (made.fails_closed, made.timeout_s, made.is_reinvoked, made.has_side_effects) == (True, 10, False, False)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"matchConditions": [{"name": "x", "expression": "true"}]}, "matchConditions"),
        ({"name": "short"}, "name"),
        ({"sideEffects": "Some"}, "sideEffects"),
        ({"admissionReviewVersions": ["v1beta1"]}, "admissionReviewVersions"),
        ({"timeoutSeconds": 31}, "timeoutSeconds"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
        ({"failurePolicy": "Maybe"}, "failurePolicy"),
        ({"reinvocationPolicy": "Always"}, "reinvocationPolicy"),
        ({"clientConfig": {}}, "clientConfig"),
        ({"clientConfig": {"url": "http://x"}}, "clientConfig.url"),
        ({"clientConfig": {"url": "https://x", "service": {"name": "a", "namespace": "b"}}}, "clientConfig"),
        ({"clientConfig": {"service": {"name": "a"}}}, "clientConfig.service.namespace"),
        ({"clientConfig": {"url": "https://x", "caBundle": "%"}}, "clientConfig.caBundle"),
        ({"clientConfig": {"url": "https://x", "caBundle": "eA=="}}, "clientConfig.caBundle"),
        (rules(operations=["PATCH"]), "rules[0].operations"),
        (rules(resources=[]), "rules[0].resources"),
        (rules(scope="Pod"), "rules[0].scope"),
    ],
)
def test_a_configuration_that_could_not_be_honoured_is_refused_by_field(entry, field):
    assert [fault["field"] for fault in faults_of(configuration(**entry))] == [f"webhooks[0].{field}"]


def test_a_good_configuration_has_no_faults():
    assert list(faults_of(configuration())) == []
    assert list(faults_of({"kind": "MutatingWebhookConfiguration", "metadata": {"name": "none"}})) == []
