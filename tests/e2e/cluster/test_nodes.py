"""Traffic between nodes, a node that is drained under load, and clients from outside the cluster."""

import json
import threading
import time

import pytest

from tests.e2e.conftest import Cluster, wait_until

pytestmark = pytest.mark.cluster

SPREAD = [
    {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
]
URL = "http://web:8000/"


@pytest.fixture(scope="module", autouse=True)
def web(cluster: Cluster, namespace: str, client: str, nodes: list[str]) -> None:
    """One pod of `web` on each node."""
    if len(nodes) < 2:
        pytest.skip("needs at least two nodes")
    cluster.apply(namespace, "web")
    change = {"spec": {"replicas": len(nodes), "template": {"spec": {"topologySpreadConstraints": SPREAD}}}}
    cluster.kubectl("-n", namespace, "patch", "deployment", "web", "-p", json.dumps(change))
    cluster.rollout(namespace, "web")
    wait_until(lambda: len(cluster.pods(namespace, "app=web")) == len(nodes), "a pod a node")


def places(cluster: Cluster, namespace: str, selector: str) -> dict[str, str]:
    """The node of each pod."""
    items = cluster.get("-n", namespace, "pods", "-l", selector)["items"]
    return {item["metadata"]["name"]: item["spec"]["nodeName"] for item in items}


def answered(cluster: Cluster, namespace: str) -> dict[str, float]:
    """How many requests each pod of `web` has answered."""
    return {
        pod: sum(
            value
            for name, labels, value in cluster.samples(namespace, pod)
            if name == "response_total" and labels["direction"] == "inbound" and labels["status_code"] == "200"
        )
        for pod in cluster.pods(namespace, "app=web")
    }


def test_requests_reach_the_pods_of_every_node(cluster: Cluster, namespace: str, client: str, nodes: list[str]) -> None:
    assert set(nodes) == set(places(cluster, namespace, "app=web").values())
    before = answered(cluster, namespace)

    output = cluster.exec(namespace, client, "wrk", "-t1", "-c8", "-d3s", URL)

    assert "Non-2xx" not in output
    assert "Socket errors" not in output
    more = {pod: count - before[pod] for pod, count in answered(cluster, namespace).items()}
    assert min(more.values()) > 0.1 * max(more.values()), more


def test_both_sides_of_a_request_between_nodes_are_meshed(cluster: Cluster, namespace: str, client: str) -> None:
    """A pod on another node is known to be meshed, so its sidecar hears what only sidecars tell each other."""
    (home,) = places(cluster, namespace, "app=client").values()
    away = next(pod for pod, node in places(cluster, namespace, "app=web").items() if node != home)
    address = cluster.get("-n", namespace, "pod", away)["status"]["podIP"]
    before = answered(cluster, namespace)[away]

    cluster.exec(namespace, client, "curl", "-sS", "--fail", "-o", "/dev/null", f"http://{address}:8000/")

    assert before < answered(cluster, namespace)[away]
    assert 1 <= cluster.total(namespace, "app=client", "response_total", direction="outbound", status_code="200")


@pytest.mark.timeout(240)
def test_draining_a_node_fails_no_request(cluster: Cluster, namespace: str, client: str, nodes: list[str]) -> None:
    (home,) = places(cluster, namespace, "app=client").values()
    # Not the nodes of the client, nor of the mesh's own pods: what happens when those move has tests of its own.
    kept = {home, *places(cluster, "tulle", "app.kubernetes.io/part-of=tulle").values()}
    drained = next((node for node in nodes if node not in kept), next(node for node in nodes if node != home))
    cluster.kubectl("-n", namespace, "patch", "deployment", "web", "-p", '{"spec":{"replicas":2}}')
    cluster.kubectl("-n", namespace, "create", "pdb", "web", "--selector=app=web", "--min-available=1")
    report: list[str] = []

    def load() -> None:
        command = ("wrk", "-t1", "-c8", "-d25s", "--timeout", "10s", URL)
        report.append(cluster.exec(namespace, client, *command, timeout_s=60))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        time.sleep(1)
        drain = ("drain", drained, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        cluster.kubectl(*drain)
        assert drained not in places(cluster, namespace, "app=web").values()
    finally:
        loading.join()
        cluster.kubectl("uncordon", drained)

    assert "requests in" in report[0]
    assert "Non-2xx" not in report[0], report[0]
    assert "Socket errors" not in report[0], report[0]


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_node_port_reaches_meshed_pods_from_outside(
    cluster: Cluster, namespace: str, nodes: list[str], policy: str
) -> None:
    """From this test's own network, which is none of the cluster's pods."""
    ports = [{"port": 8000, "protocol": "TCP"}]
    spec = {"type": "NodePort", "externalTrafficPolicy": policy, "selector": {"app": "web"}, "ports": ports}
    name = f"outside-{policy.lower()}"
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(service))
    port = cluster.get("-n", namespace, "service", name)["spec"]["ports"][0]["nodePort"]
    homes = set(places(cluster, namespace, "app=web").values())
    before = sum(answered(cluster, namespace).values())

    for item in cluster.get("nodes")["items"]:
        if policy == "Cluster" or item["metadata"]["name"] in homes:
            addresses = [one["address"] for one in item["status"]["addresses"] if one["type"] == "InternalIP"]
            url = f"http://{addresses[0]}:{port}/"
            wait_until(lambda at=url: "Hello" in _fetch(cluster, at), f"an answer from {url}", 15)  # type: ignore[misc]

    assert before < sum(answered(cluster, namespace).values())


def _fetch(cluster: Cluster, url: str) -> str:
    return cluster.run("curl", "-sS", "-m", "3", url, check=False)
