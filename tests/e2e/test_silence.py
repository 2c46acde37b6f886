"""What the mesh must not pass over in silence, and what it must not cry about."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import SAMPLES, Cluster, wait_until

pytestmark = pytest.mark.e2e

SERVE = ["python3", "-m", "http.server", "8080", "--bind", "::"]


def _warnings(cluster: Cluster, namespace: str) -> list[str]:
    events = cluster.get("-n", namespace, "events", "--field-selector", "type=Warning")["items"]
    return [f"{event['involvedObject']['name']}: {event['reason']}: {event['message']}" for event in events]


@pytest.fixture
def vote(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "vote-quiet")
    cluster.kubectl("label", "namespace", "vote-quiet", "tulle.mesh/inject=enabled")
    yield "vote-quiet"
    cluster.kubectl("delete", "namespace", "vote-quiet", "--wait=false")


def test_a_healthy_start_of_the_sample_and_of_the_control_plane_makes_no_warning(cluster: Cluster, vote: str) -> None:
    text = (SAMPLES / "vote.yaml").read_text().replace(": vote\n", f": {vote}\n")
    cluster.kubectl("apply", "-f", "-", stdin=text)
    cluster.rollout(vote, "web", "catalog", "tally", "traffic")

    assert [] == _warnings(cluster, vote)
    # Pods of this test's own making: those before them may have met a drained node or a controller that was away.
    for name in ("tulle-controller", "tulle-webhook"):
        cluster.kubectl("-n", "tulle", "rollout", "restart", f"deployment/{name}")
        cluster.rollout("tulle", name)
    fresh = tuple(cluster.pods("tulle", "app.kubernetes.io/part-of=tulle"))
    assert fresh
    assert [] == [told for told in _warnings(cluster, "tulle") if told.startswith(fresh)]


def _pod(cluster: Cluster, name: str, command: list[str], **more: object) -> str:
    probe = {"periodSeconds": 1, **more}
    container = {"name": "app", "image": cluster.image("e2e"), "command": command, "readinessProbe": probe}
    metadata = {"name": name, "labels": {"app": name}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def _is_ready(cluster: Cluster, namespace: str, name: str) -> bool:
    conditions = cluster.get("-n", namespace, "pod", name).get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def test_a_tcp_probe_tells_whether_the_application_listens(cluster: Cluster, namespace: str) -> None:
    probe = {"tcpSocket": {"port": 8080}}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod(cluster, "dead", ["sleep", "infinity"], **probe))
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod(cluster, "alive", SERVE, **probe))

    wait_until(lambda: _is_ready(cluster, namespace, "alive"), "the pod that listens to be ready")
    wait_until(lambda: "503" in str(_warnings(cluster, namespace)), "the dead port to be told")
    assert not _is_ready(cluster, namespace, "dead")


def test_a_sidecar_that_never_reaches_the_controller_is_told_by_event_and_check(
    cluster: Cluster, namespace: str
) -> None:
    lost = json.loads(_pod(cluster, "lost", SERVE, tcpSocket={"port": 8080}))
    lost["spec"] |= {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}
    answer = cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(lost), check=False)
    assert "dnsPolicy None: the sidecar finds the controller" in answer
    wait_until(lambda: _is_ready(cluster, namespace, "lost"), "the pod to be ready all the same")

    wait_until(lambda: "SidecarSilent" in str(_warnings(cluster, namespace)), "the silent sidecar to be told", 60)
    told = cluster.run("tulle", "check", "--wait", "0", check=False)

    assert "× sidecars are in touch with the controller" in told
    assert f"{namespace}/lost" in told
    cluster.kubectl("-n", namespace, "delete", "pod", "lost", "--wait=true")
    assert "√ sidecars are in touch with the controller" in cluster.run("tulle", "check", "--wait", "20", check=False)


def test_the_api_server_judges_the_user_that_a_kubeconfig_acts_as(cluster: Cluster, tmp_path: Path) -> None:
    weaker = yaml.safe_load(cluster.kubeconfig.read_text())
    weaker["users"][0]["user"] |= {"as": "jane", "as-groups": ["viewers"]}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(weaker))

    assert "√ this user may create Deployments" in cluster.run("tulle", "check", "--pre", check=False)
    told = cluster.run("tulle", "--kubeconfig", str(path), "check", "--pre", check=False)

    assert "× this user may create Deployments" in told
