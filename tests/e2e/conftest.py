"""A whole mesh for the end-to-end tests: the lab by default, any cluster by TULLE_E2E_KUBECONFIG."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract import VERSION

BIN = Path(sys.executable).parent
WORKLOADS = Path(__file__).parent / "workloads"
SAMPLES = Path(__file__).parents[2] / "samples"
LAB = f"e2e-{os.getpid()}"
PULL_S = 900
"""How long the nodes of a cluster may take to pull images, seconds: about a gigabyte each."""

Labels = dict[str, str]


@dataclass(frozen=True)
class Cluster:
    """The cluster under test, by the same programs that a user would type."""

    kubeconfig: Path
    images: str
    """Registry and folder of all images, the mesh's and the tests'; in a lab images are names only."""
    tag: str
    """Tag of all images."""

    def run(self, *command: str, stdin: str | None = None, check: bool = True, timeout_s: float = 90) -> str:
        """Run a program of the virtual environment or the system; return what it printed on stdout."""
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout_s: float = 90) -> str:
        return self.run("kubectl", *arguments, stdin=stdin, check=check, timeout_s=timeout_s)

    def get(self, *arguments: str) -> dict:  # type: ignore[type-arg]
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def raw(self, path: str) -> str:
        return self.kubectl("get", "--raw", path)

    def image(self, name: str) -> str:
        """The whole name of an image of manifests/Dockerfile."""
        return f"{self.images}/{name}:{self.tag}"

    def apply(self, namespace: str, name: str, **words: str) -> None:
        """Apply `workloads/NAME.yaml` to a namespace: `IMAGES/x` stands for an image, and WORD for the word given."""
        text = (WORKLOADS / f"{name}.yaml").read_text()
        text = re.sub(r"IMAGES/([\w-]+)", lambda found: self.image(found[1]), text)
        for word, value in words.items():
            text = text.replace(word, value)
        self.kubectl("-n", namespace, "apply", "-f", "-", stdin=text)

    def rollout(self, namespace: str, *names: str, kind: str = "deployment", timeout_s: int = 80) -> None:
        for name in names:
            status = ("rollout", "status", f"{kind}/{name}", f"--timeout={timeout_s}s")
            self.kubectl("-n", namespace, *status, timeout_s=timeout_s + 10)

    def pods(self, namespace: str, selector: str) -> list[str]:
        """Names of the running pods, not of those that are going."""
        items = self.get("-n", namespace, "pods", "-l", selector)["items"]
        return [item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]]

    def exec(self, namespace: str, target: str, *command: str, check: bool = True, timeout_s: float = 90) -> str:
        return self.kubectl("-n", namespace, "exec", target, "--", *command, check=check, timeout_s=timeout_s)

    def samples(self, namespace: str, pod: str) -> list[tuple[str, Labels, float]]:
        """Every sample of a sidecar's /metrics: (name, labels, value)."""
        text = self.raw(f"/api/v1/namespaces/{namespace}/pods/{pod}:4191/proxy/metrics")
        return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples]

    def total(self, namespace: str, selector: str, metric: str, **labels: str) -> float:
        """Sum of a metric over the sidecars of all pods selected and all series with these labels."""
        return sum(
            value
            for pod in self.pods(namespace, selector)
            for name, found, value in self.samples(namespace, pod)
            if name == metric and labels.items() <= found.items()
        )

    def stat(self, path: str) -> dict:  # type: ignore[type-arg]
        service = "/api/v1/namespaces/tulle/services/tulle-controller:8085/proxy"
        return json.loads(self.raw(f"{service}/api/v1/{path}"))


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 40) -> None:
    """Ask until it holds; the end-to-end tests wait for other programs, whose clock is the wall's."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test on a cluster pays for the set-up of all: pulling every image and installing the mesh."""
    on_it = [item for item in items if item.get_closest_marker("e2e") or item.get_closest_marker("cluster")]
    first = on_it[0] if on_it else None
    if first is not None and "TULLE_E2E_KUBECONFIG" in os.environ:
        first.add_marker(pytest.mark.timeout(PULL_S + 300), append=False)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster with the mesh installed in it and found healthy by `tulle check`."""
    images = os.environ.get("TULLE_E2E_IMAGES", "ghcr.io/tulle-mesh")
    tag = os.environ.get("TULLE_E2E_TAG", VERSION)
    given = os.environ.get("TULLE_E2E_KUBECONFIG")
    if given:
        one = Cluster(Path(given), images, tag)
        _pull(one)
        install(one)
        yield one
        return
    if os.geteuid() != 0:
        pytest.skip("a lab needs root (or set TULLE_E2E_KUBECONFIG)")
    tulle = shutil.which("tulle", path=str(BIN))
    assert tulle is not None
    try:
        subprocess.run((tulle, "lab", "up", "--name", LAB), check=True)
        kubeconfig = subprocess.run(
            (tulle, "lab", "kubeconfig", "--name", LAB), check=True, capture_output=True, text=True
        ).stdout.strip()
        one = Cluster(Path(kubeconfig), images, tag)
        install(one)
        yield one
    finally:
        subprocess.run((tulle, "lab", "down", "--name", LAB), check=True)


def _pull(cluster: Cluster) -> None:
    """Have every node pull every image, so that the tests' limits of time hold for what they are about."""
    containers = [
        {"name": name, "image": cluster.image(name), "command": ["sleep", "infinity"]}
        for name in ("init", "proxy", "webhook", "controller", "samples", "e2e")
    ]
    template = {
        "metadata": {"labels": {"app": "pull"}},
        "spec": {
            "containers": containers,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
        },
    }
    puller = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "pull", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "pull"}}, "template": template},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(puller))
    told = cluster.kubectl(
        "-n",
        "default",
        "rollout",
        "status",
        "daemonset/pull",
        f"--timeout={PULL_S}s",
        check=False,
        timeout_s=PULL_S + 30,
    )
    if "successfully rolled out" not in told:
        events = cluster.kubectl("-n", "default", "get", "events", "--field-selector=type=Warning", check=False)
        pytest.fail(f"not every node pulled every image within {PULL_S} s (TULLE_E2E_IMAGES, TULLE_E2E_TAG):\n{events}")
    cluster.kubectl("-n", "default", "delete", "daemonset/pull", "--wait=false")


def install(cluster: Cluster) -> None:
    manifest = cluster.run("tulle", "install", "--set", f"registry={cluster.images}", "--set", f"tag={cluster.tag}")
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    cluster.run("tulle", "check", "--wait", "80")


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace labelled for injection, one a test module."""
    name = request.module.__name__.rpartition(".")[2].replace("test_", "").replace("_", "-")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "tulle.mesh/inject=enabled")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def client(cluster: Cluster, namespace: str) -> str:
    """A meshed pod with curl, wrk, redis-cli, psql and mariadb in it; the target for `exec`."""
    cluster.apply(namespace, "client")
    cluster.rollout(namespace, "client")
    return "deployment/client"
