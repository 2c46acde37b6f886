"""Strangers in other pods, one of which escapes its own sidecar: what the server's sidecar lets them do."""

import json
import time

import pytest

from tests.e2e.conftest import Cluster, wait_until

pytestmark = pytest.mark.e2e

RAW = """
import socket, sys
with socket.create_connection((sys.argv[1], 8000), 5) as sock:
    sock.sendall(b"GET\\t/ HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n")
    while data := sock.recv(65536):
        sys.stdout.write(data.decode("latin-1"))
"""
"""A request that nginx refuses and others serve: a tab stands where a space must."""

CROWD = """
import socket, sys, time
held = []
until_s = time.monotonic() + 8
while time.monotonic() < until_s:
    try:
        held.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), 2))
    except OSError:
        pass
    if len(held) > 500:
        held.pop(0).close()
    time.sleep(0.002)
"""
"""Hundreds of silent connections, renewed all the time."""


@pytest.fixture(scope="module", autouse=True)
def web(cluster: Cluster, namespace: str) -> None:
    cluster.apply(namespace, "web")
    cluster.rollout(namespace, "web")


@pytest.fixture(scope="module")
def address(cluster: Cluster, namespace: str) -> str:
    """Of one of the pods."""
    return str(cluster.get("-n", namespace, "pods", "-l", "app=web")["items"][0]["status"]["podIP"])


def test_a_connection_that_is_bound_to_an_interface_goes_through_the_sidecar(
    cluster: Cluster, namespace: str, client: str
) -> None:
    labels = {"direction": "outbound", "dst_service": "web", "status_code": "200"}
    before = cluster.total(namespace, "app=client", "response_total", **labels)

    page = cluster.exec(namespace, client, "curl", "-sS", "-m", "5", "--interface", "eth0", "http://web:8000/")

    assert page == "Hello from the web\n"
    assert before + 1 == cluster.total(namespace, "app=client", "response_total", **labels)


def test_where_a_service_declares_http_a_stranger_gets_no_other_bytes_in(
    cluster: Cluster, namespace: str, client: str, address: str
) -> None:
    patch = json.dumps([{"op": "add", "path": "/spec/ports/0/appProtocol", "value": "http"}])
    cluster.kubectl("-n", namespace, "patch", "service", "web", "--type=json", f"--patch={patch}")
    # As the sidecar's own user it passes its own sidecar by, and comes to the server's as a stranger would.
    escape = ("setpriv", "--reuid=2102", "--clear-groups", "python3", "-c", RAW, address)

    def refused() -> bool:
        return "x-tulle-error: not-http" in cluster.exec(namespace, client, *escape)

    wait_until(refused, "the server's sidecar to refuse what is no HTTP")
    assert 0 < cluster.total(namespace, "app=web", "inbound_http_errors_total", error="not-http")
    assert cluster.exec(namespace, client, "curl", "-sS", "http://web:8000/") == "Hello from the web\n"


@pytest.mark.parametrize("port", [4191, 8000])
def test_silent_strangers_keep_neither_the_kubelet_nor_clients_out(
    cluster: Cluster, namespace: str, client: str, address: str, port: int
) -> None:
    cluster.exec(namespace, client, "sh", "-c", f"setsid python3 -c '{CROWD}' {address} {port} >/dev/null 2>&1 &")
    until_s = time.monotonic() + 6
    while time.monotonic() < until_s:
        assert cluster.exec(namespace, client, "curl", "-sS", "-m", "3", f"http://{address}:4191/live") == "live\n"
        page = cluster.exec(namespace, client, "curl", "-sS", "-m", "3", "http://web:8000/")
        assert page == "Hello from the web\n"

    for pod in cluster.get("-n", namespace, "pods", "-l", "app=web")["items"]:
        statuses = [*pod["status"]["containerStatuses"], *pod["status"].get("initContainerStatuses", ())]
        assert [0] * len(statuses) == [status["restartCount"] for status in statuses]
        assert all(status["ready"] for status in statuses if status["name"] in ("tulle-proxy", "web"))
