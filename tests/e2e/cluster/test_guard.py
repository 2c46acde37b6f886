"""What the webhook's own service account may change of its registrations on a real API server: the caBundle alone."""

import json

import pytest

from tests.e2e.conftest import Cluster

pytestmark = pytest.mark.cluster

KINDS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
WEBHOOK = "--as=system:serviceaccount:tulle:tulle-webhook"
SERVICE = {"name": "evil", "namespace": "default", "path": "/", "port": 443}
ANOTHER = {
    "name": "another.tulle.mesh",
    "admissionReviewVersions": ["v1"],
    "sideEffects": "None",
    "clientConfig": {"service": SERVICE},
}
CHANGES = {
    "rules": ("replace", "/webhooks/0/rules/0/resources", ["*"]),
    "namespaceSelector": ("replace", "/webhooks/0/namespaceSelector", {"matchLabels": {"a": "b"}}),
    "objectSelector": ("add", "/webhooks/0/objectSelector", {"matchLabels": {"a": "b"}}),
    "failurePolicy": ("replace", "/webhooks/0/failurePolicy", "Fail"),
    "timeoutSeconds": ("replace", "/webhooks/0/timeoutSeconds", 7),
    "matchConditions": ("add", "/webhooks/0/matchConditions", [{"name": "a", "expression": "true"}]),
    "service": ("replace", "/webhooks/0/clientConfig/service", SERVICE),
    "another webhook": ("add", "/webhooks/-", ANOTHER),
    "labels": ("add", "/metadata/labels/a", "b"),
    "finalizers": ("add", "/metadata/finalizers", ["tulle.mesh/kept"]),
}


def patch(cluster: Cluster, kind: str, operation: str, path: str, value: object) -> str:
    body = json.dumps([{"op": operation, "path": path, "value": value}])
    arguments = ("patch", kind, "tulle-webhook", "--type=json", "-p", body, "--dry-run=server")
    return cluster.kubectl(WEBHOOK, *arguments, check=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES)
def test_webhook_changes_nothing_of_its_registrations_but_the_ca_bundle(
    cluster: Cluster, kind: str, change: str
) -> None:
    told = patch(cluster, kind, *CHANGES[change])

    assert "the webhook may change the caBundle of its registrations and nothing else" in told


@pytest.mark.parametrize("kind", KINDS)
def test_webhook_publishes_its_ca_bundle(cluster: Cluster, kind: str) -> None:
    hooks = cluster.get(kind, "tulle-webhook")["webhooks"]
    bundle = hooks[0]["clientConfig"]["caBundle"]

    assert "patched" in patch(cluster, kind, "add", "/webhooks/0/clientConfig/caBundle", bundle[: len(bundle)])
    assert bundle
