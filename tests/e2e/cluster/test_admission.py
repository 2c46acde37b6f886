"""What a real API server's own admission says to meshed pods: PodSecurity, LimitRange, ResourceQuota."""

import json
from typing import Any

import pytest

from tests.e2e.conftest import Cluster, wait_until

pytestmark = pytest.mark.cluster

LEVEL = "pod-security.kubernetes.io/enforce"
STRICT = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the level `restricted` asks of an application's container."""


@pytest.fixture
def bounded(cluster: Cluster, namespace: str, request: pytest.FixtureRequest) -> Any:
    """A meshed namespace of the test's own."""
    name = f"{namespace}-{abs(hash(request.node.name)) % 10**6}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "tulle.mesh/inject=enabled")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def deployment(cluster: Cluster, **resources: Any) -> str:
    container = {
        "name": "sleep",
        "image": cluster.image("e2e"),
        "command": ["sleep", "infinity"],
        "securityContext": STRICT,
        **resources,
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    template = {"metadata": {"labels": {"app": "sleep"}}, "spec": spec}
    whole = {"selector": {"matchLabels": {"app": "sleep"}}, "template": template}
    metadata = {"name": "sleep"}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": whole})


def meshed(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The deployment's pod, when it is up and in the mesh."""
    cluster.rollout(namespace, "sleep")
    (pod,) = cluster.get("-n", namespace, "pods", "-l", "app=sleep")["items"]
    assert "injected" == pod["metadata"]["annotations"]["tulle.mesh/status"]
    return dict(pod)


def test_a_namespace_that_enforces_privileged_takes_meshed_pods(cluster: Cluster, bounded: str) -> None:
    cluster.kubectl("label", "namespace", bounded, f"{LEVEL}=privileged")
    cluster.kubectl("-n", bounded, "apply", "-f", "-", stdin=deployment(cluster))

    meshed(cluster, bounded)


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_stricter_level_refuses_the_init_container_alone_and_the_webhook_says_so(
    cluster: Cluster, bounded: str, level: str
) -> None:
    """The rules need NET_ADMIN, which both levels forbid; everything else that the mesh adds fits `restricted`."""
    cluster.kubectl("label", "namespace", bounded, f"{LEVEL}={level}")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}}
    spec = json.loads(deployment(cluster))["spec"]["template"]["spec"]

    told = cluster.kubectl("-n", bounded, "apply", "-f", "-", stdin=json.dumps({**pod, "spec": spec}), check=False)

    assert f"PodSecurity level {level}" in told, "the webhook's warning, with the way out"
    assert f"{LEVEL}=privileged" in told
    assert f'violates PodSecurity "{level}' in told
    refused = told.partition("violates PodSecurity")[2]
    assert "tulle-init" in refused
    assert "tulle-proxy" not in refused
    assert '"sleep"' not in refused


def test_the_mesh_itself_runs_restricted(cluster: Cluster) -> None:
    labels = cluster.get("namespace", "tulle")["metadata"]["labels"]

    assert "restricted" == labels[LEVEL]
    for name in ("tulle-controller", "tulle-webhook"):
        cluster.rollout("tulle", name)


def test_a_limit_ranges_defaults_leave_the_sidecar_what_it_asks_for(cluster: Cluster, bounded: str) -> None:
    limits = [
        {
            "type": "Container",
            "default": {"cpu": "500m", "memory": "64Mi"},
            "defaultRequest": {"cpu": "5m", "memory": "16Mi"},
            "max": {"cpu": "2", "memory": "512Mi"},
        }
    ]
    limit_range = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": limits}}
    cluster.kubectl("-n", bounded, "apply", "-f", "-", stdin=json.dumps(limit_range))
    cluster.kubectl("-n", bounded, "apply", "-f", "-", stdin=deployment(cluster))

    pod = meshed(cluster, bounded)

    resources = {one["name"]: one["resources"] for one in pod["spec"]["initContainers"] + pod["spec"]["containers"]}
    assert "64Mi" == resources["sleep"]["limits"]["memory"]
    assert "250Mi" == resources["tulle-proxy"]["limits"]["memory"]
    assert "40Mi" == resources["tulle-proxy"]["requests"]["memory"]


def test_a_quota_counts_the_sidecar_and_says_so_when_it_is_spent(cluster: Cluster, bounded: str) -> None:
    hard = {"requests.cpu": "200m", "requests.memory": "300Mi", "limits.memory": "600Mi"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}
    cluster.kubectl("-n", bounded, "apply", "-f", "-", stdin=json.dumps(quota))
    own = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
    cluster.kubectl("-n", bounded, "apply", "-f", "-", stdin=deployment(cluster, resources=own))

    meshed(cluster, bounded)
    used = cluster.get("-n", bounded, "resourcequota", "small")["status"]["used"]
    cluster.kubectl("-n", bounded, "scale", "deployment/sleep", "--replicas=5")

    assert "314Mi" == used["limits.memory"], "the application's 64Mi and the sidecar's 250Mi"
    wait_until(
        lambda: "exceeded quota" in cluster.kubectl("-n", bounded, "get", "events"), "the quota's refusal as an event"
    )
