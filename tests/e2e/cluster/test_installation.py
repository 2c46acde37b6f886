"""The mesh comes, is upgraded and goes: by server-side apply, by `tulle`, and by the real helm.

Each test takes the mesh away that it found, and the last of them brings it back for the tests that follow.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import BIN, Cluster, install, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
CHART = ROOT / "manifests" / "tulle"
HELM = os.environ.get("TULLE_HELM") or shutil.which("helm", path=f"{BIN}:{os.environ['PATH']}")
MESH = "app.kubernetes.io/part-of=tulle"
EVERYWHERE = ("clusterroles", "clusterrolebindings", "mutatingwebhookconfigurations", "validatingwebhookconfigurations")

POLICY = {
    "apiVersion": "policy.tulle.mesh/v1alpha1",
    "kind": "TrafficPolicy",
    "metadata": {"name": "web"},
    "spec": {"targetRef": {"name": "web"}, "timeouts": {"request": "5s"}},
}

needs_helm = pytest.mark.skipif(HELM is None, reason="helm is neither on PATH nor in TULLE_HELM")


@pytest.fixture(scope="module", autouse=True)
def afterwards(cluster: Cluster) -> Iterator[None]:
    yield
    remove(cluster)
    cluster.kubectl("delete", "crd", "-l", MESH, "--timeout=60s")
    install(cluster)


@pytest.fixture
def without(cluster: Cluster) -> None:
    """A cluster that never had the mesh: without the kinds of policies too, which an uninstall leaves."""
    remove(cluster)
    cluster.kubectl("delete", "crd", "-l", MESH, "--timeout=60s")


def remove(cluster: Cluster) -> None:
    names = cluster.run(*helm("list", "-q", "-A")) if HELM else ""
    if "tulle" in names.split():
        cluster.run(*helm("uninstall", "tulle", "--namespace", "tulle", "--wait"))
    text = cluster.run("tulle", "uninstall", "--force")
    cluster.kubectl("delete", "--ignore-not-found", "--timeout=80s", "-f", "-", stdin=text)
    gone = ("get", "namespace", "tulle", "--ignore-not-found", "-o", "name")
    wait_until(lambda: not cluster.kubectl(*gone).strip(), "the mesh's namespace to go", 80)


def helm(*arguments: str) -> tuple[str, ...]:
    return (str(HELM), *arguments)


def settings(cluster: Cluster, tag: str) -> tuple[str, ...]:
    return ("--set", f"registry={cluster.images}", "--set", f"tag={tag}")


def versions(cluster: Cluster, manifest: str) -> dict[str, str]:
    """The resourceVersion of each object of a manifest that nobody but its applier writes to."""
    items = json.loads(cluster.kubectl("get", "-f", "-", "-o", "json", stdin=manifest))["items"]
    # By controllers, and by the mesh itself; the status of an admission policy is its type check.
    written = ("Deployment", "Secret", "ConfigMap", "ValidatingAdmissionPolicy")
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in items
        if item["kind"] not in written
    }


def mesh_annotations(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """The mesh's annotations on a pod of a deployment."""
    items = cluster.get("-n", namespace, "pods", "-l", f"app={name}")["items"]
    alive = [item for item in items if "deletionTimestamp" not in item["metadata"]]
    return dict(alive[0]["metadata"].get("annotations") or {})


@pytest.fixture
def web(cluster: Cluster, namespace: str) -> Iterator[None]:
    """A server and a client, made anew for each test: meshed only where the mesh is there when they come."""
    yield
    cluster.kubectl("-n", namespace, "delete", "deployment", "--all", "--timeout=60s")


def bring(cluster: Cluster, namespace: str) -> None:
    for name in ("web", "client"):
        cluster.apply(namespace, name)
    cluster.rollout(namespace, "web", "client")


def test_server_side_apply_is_taken_and_a_second_time_changes_nothing(cluster: Cluster, without: None) -> None:
    manifest = cluster.run("tulle", "install", *settings(cluster, cluster.tag))
    apply = ("apply", "--server-side", "-f", "-")

    cluster.kubectl(*apply, stdin=manifest)
    cluster.run("tulle", "check", "--wait", "80")
    before = versions(cluster, manifest)
    cluster.kubectl(*apply, stdin=manifest)  # a conflict, with what the webhook wrote, would be an error

    assert before == versions(cluster, manifest)
    cluster.run("tulle", "check", "--wait", "20")


def test_a_policy_by_server_side_apply_keeps_the_status_that_the_controller_wrote(
    cluster: Cluster, namespace: str, web: None
) -> None:
    bring(cluster, namespace)
    apply = ("-n", namespace, "apply", "--server-side", "-f", "-")

    for _ in range(2):
        cluster.kubectl(*apply, stdin=json.dumps(POLICY))
        cluster.kubectl("-n", namespace, "wait", "tp/web", "--for=condition=Accepted", "--timeout=10s")

    managers = cluster.get("-n", namespace, "tp", "web", "--show-managed-fields")["metadata"]["managedFields"]
    assert {"kubectl"} == {one["manager"] for one in managers if one.get("subresource") != "status"}
    cluster.kubectl("-n", namespace, "delete", "tp", "web")


def test_uninstalling_leaves_running_pods_alone_and_nothing_of_its_own_behind(
    cluster: Cluster, namespace: str, without: None, web: None
) -> None:
    install(cluster)
    bring(cluster, namespace)
    assert "injected" == mesh_annotations(cluster, namespace, "web")["tulle.mesh/status"]

    remove(cluster)

    for kind in EVERYWHERE:
        assert "" == cluster.kubectl("get", kind, "-l", MESH, "-o", "name").strip()
    page = cluster.exec(namespace, "deployment/client", "curl", "-sS", "--fail", "-m", "10", "http://web:8000/")
    assert "Hello" in page, "meshed pods go on without a control plane"
    cluster.kubectl("-n", namespace, "rollout", "restart", "deployment/web")
    cluster.rollout(namespace, "web")
    assert "tulle.mesh/status" not in mesh_annotations(cluster, namespace, "web")
    page = cluster.exec(namespace, "deployment/client", "curl", "-sS", "--fail", "-m", "10", "http://web:8000/")
    assert "Hello" in page, "and reach pods that are not meshed any more"


@pytest.mark.parametrize("by", ["tulle", pytest.param("helm", marks=needs_helm)])
def test_policies_outlive_an_uninstall(cluster: Cluster, namespace: str, without: None, by: str) -> None:
    bring_mesh = {"tulle": install, "helm": lambda one: helm_install(one, CHART, one.tag)}[by]
    bring_mesh(cluster)
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(POLICY))

    remove(cluster)
    bring_mesh(cluster)

    told = cluster.kubectl("-n", namespace, "get", "tp", "web", "-o", "jsonpath={.spec.timeouts.request}")
    cluster.kubectl("-n", namespace, "delete", "tp", "web")
    assert "5s" == told


@needs_helm
def test_helm_installs_what_tulle_installs(cluster: Cluster, without: None) -> None:
    helm_install(cluster, CHART, cluster.tag)

    cluster.run("tulle", "check", "--wait", "80")
    assert (
        "deployed" == json.loads(cluster.run(*helm("status", "tulle", "-n", "tulle", "-o", "json")))["info"]["status"]
    )
    remove(cluster)
    for kind in EVERYWHERE:
        assert "" == cluster.kubectl("get", kind, "-l", MESH, "-o", "name").strip()


def helm_install(cluster: Cluster, chart: Path, tag: str, verb: str = "install") -> None:
    """The namespace is made by hand, because helm keeps its own record of the release in it."""
    if verb == "install":
        manifest = yaml.safe_load_all(cluster.run("tulle", "install"))
        namespace = next(each for each in manifest if each["kind"] == "Namespace")
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    place = ("--namespace", "tulle", "--set", "createNamespace=false", "--wait", "--timeout", "90s")
    cluster.run(*helm(verb, "tulle", str(chart), *place, *settings(cluster, tag)), timeout_s=120)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as it was before its last change."""
    history = ("git", "-C", str(ROOT), "rev-list", "--max-count=1", "HEAD", "--", "manifests/tulle")
    last = subprocess.run(history, capture_output=True, text=True, check=False).stdout.strip()
    folder = tmp_path_factory.mktemp("older")
    archive = ("git", "-C", str(ROOT), "archive", f"{last}^", "manifests/tulle")
    made = subprocess.run(archive, capture_output=True, check=False)
    if not last or made.returncode != 0:
        pytest.skip("this checkout has no history of the chart")
    subprocess.run(("tar", "-x", "-C", folder), input=made.stdout, check=True)
    return folder / "manifests" / "tulle"


@needs_helm
def test_upgrading_from_the_chart_before_fails_no_request(
    cluster: Cluster, namespace: str, older: Path, without: None, web: None
) -> None:
    """Images with another tag, so that every pod of the mesh is replaced; those of applications stay as they are."""
    previous = os.environ.get("TULLE_E2E_PREVIOUS_TAG", cluster.tag)
    helm_install(cluster, older, previous)
    bring(cluster, namespace)
    report: list[str] = []

    def load() -> None:
        command = ("wrk", "-t1", "-c8", "-d30s", "--timeout", "10s", "http://web:8000/")
        report.append(cluster.exec(namespace, "deployment/client", *command, timeout_s=60))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        time.sleep(2)
        helm_install(cluster, CHART, cluster.tag, verb="upgrade")
        cluster.run("tulle", "check", "--wait", "60")
    finally:
        loading.join()

    assert "requests in" in report[0]
    assert "Non-2xx" not in report[0], report[0]
    assert "Socket errors" not in report[0], report[0]
    cluster.kubectl("-n", namespace, "rollout", "restart", "deployment/web")
    cluster.rollout(namespace, "web")
    (image,) = {
        container["image"]
        for pod in cluster.get("-n", namespace, "pods", "-l", "app=web")["items"]
        for container in pod["spec"]["initContainers"]
        if container["name"] == "tulle-proxy" and "deletionTimestamp" not in pod["metadata"]
    }
    assert cluster.image("proxy") == image
