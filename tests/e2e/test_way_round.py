"""What is skipped goes round the sidecar; what is the pod's own comes back to it."""

from ipaddress import ip_network

import pytest

from tests.e2e.conftest import Cluster

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def servers(cluster: Cluster, namespace: str) -> None:
    for name in ("nginx", "selfcall"):
        cluster.apply(namespace, name)
    cluster.rollout(namespace, "nginx", "selfcall")
    # The pods' own addresses, because no API tells which network a cluster's pods have.
    pods = cluster.get("-n", namespace, "pods", "-l", "app=nginx")["items"]
    addresses = [ip_network(one["ip"]) for pod in pods for one in pod["status"]["podIPs"]]
    cluster.apply(namespace, "skipping", SUBNETS=",".join(map(str, addresses)))
    cluster.rollout(namespace, "skipping")


def _requests(cluster: Cluster, namespace: str, selector: str, direction: str) -> float:
    return cluster.total(namespace, selector, "request_total", direction=direction)


def _connections(cluster: Cluster, namespace: str, selector: str, direction: str) -> float:
    return cluster.total(namespace, selector, "tcp_open_total", direction=direction)


def test_skipped_outbound_port_bypasses_the_sidecar(cluster: Cluster, namespace: str) -> None:
    before = _connections(cluster, namespace, "app=skipping", "outbound")

    page = cluster.exec(namespace, "deployment/skipping", "curl", "-sS", "--fail", "http://nginx/")

    assert "nginx" in page
    assert before == _connections(cluster, namespace, "app=skipping", "outbound")


def test_skipped_outbound_subnet_bypasses_the_sidecar(cluster: Cluster, namespace: str) -> None:
    pod = cluster.get("-n", namespace, "pods", "-l", "app=nginx")["items"][0]
    before = _connections(cluster, namespace, "app=skipping", "outbound")
    # The address is in a skipped subnet, the port is not among the skipped ports.
    address = pod["status"]["podIP"]

    cluster.exec(namespace, "deployment/skipping", "curl", "-sS", "-o", "/dev/null", f"http://{address}:4191/live")

    assert before == _connections(cluster, namespace, "app=skipping", "outbound")


def test_skipped_inbound_port_bypasses_the_sidecar(cluster: Cluster, namespace: str, client: str) -> None:
    before = _connections(cluster, namespace, "app=skipping", "inbound")

    page = cluster.exec(namespace, client, "curl", "-sS", "--fail", "http://skipping:9000/")

    assert "Directory listing" in page
    assert before == _connections(cluster, namespace, "app=skipping", "inbound")


def test_the_sidecars_own_traffic_does_not_loop(cluster: Cluster, namespace: str, client: str) -> None:
    before = _requests(cluster, namespace, "app=client", "outbound")

    for _ in range(5):
        cluster.exec(namespace, client, "curl", "-sS", "--fail", "-o", "/dev/null", "http://nginx/")

    assert before + 5 == _requests(cluster, namespace, "app=client", "outbound")


@pytest.mark.parametrize("port", ["4140", "4143"])
def test_a_connection_straight_to_the_sidecars_port_is_refused(
    cluster: Cluster, namespace: str, client: str, port: str
) -> None:
    output = cluster.exec(
        namespace, client, "curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/",
        check=False,
    )  # fmt: skip

    assert "200" not in output
    assert "timed out" not in output


@pytest.mark.parametrize("how", ["localhost", "own address", "own service"])
def test_a_pod_calls_itself(cluster: Cluster, namespace: str, how: str) -> None:
    pod = cluster.get("-n", namespace, "pods", "-l", "app=selfcall")["items"][0]
    host = {"localhost": "127.0.0.1", "own address": pod["status"]["podIP"], "own service": "selfcall"}[how]

    page = cluster.exec(namespace, "deployment/selfcall", "curl", "-sS", "-m", "5", "--fail", f"http://{host}:8000/")

    assert "Directory listing" in page
