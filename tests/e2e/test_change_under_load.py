"""Change under constant load: rolling restarts, a controller that is away, sidecars that are ended."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Cluster, wait_until

pytestmark = pytest.mark.e2e

URL = "http://web:8000/"


@pytest.fixture(scope="module", autouse=True)
def server(cluster: Cluster, namespace: str) -> None:
    cluster.apply(namespace, "web")
    cluster.rollout(namespace, "web")


@contextmanager
def load(cluster: Cluster, namespace: str, client: str, duration_s: int) -> Iterator[list[str]]:
    """Constant load from the client's pod while the block runs; the list then holds wrk's report."""
    report: list[str] = []

    def work() -> None:
        command = ("wrk", "-t1", "-c8", f"-d{duration_s}s", "--timeout", "10s", URL)
        report.append(cluster.exec(namespace, client, *command, timeout_s=duration_s + 30))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield report
    finally:
        thread.join()


def assert_nothing_failed(report: list[str]) -> None:
    assert len(report) == 1
    assert "requests in" in report[0]
    assert "Non-2xx" not in report[0], report[0]
    assert "Socket errors" not in report[0], report[0]


def test_a_rolling_restart_fails_no_request(cluster: Cluster, namespace: str, client: str) -> None:
    before = set(cluster.pods(namespace, "app=web"))

    with load(cluster, namespace, client, duration_s=20) as report:
        cluster.kubectl("-n", namespace, "rollout", "restart", "deployment/web")
        cluster.rollout(namespace, "web")

    assert_nothing_failed(report)
    assert not before & set(cluster.pods(namespace, "app=web"))


def test_deleting_a_server_pod_loses_nothing_in_flight(cluster: Cluster, namespace: str, client: str) -> None:
    with load(cluster, namespace, client, duration_s=10) as report:
        cluster.kubectl("-n", namespace, "delete", "pod", cluster.pods(namespace, "app=web")[0])
        cluster.rollout(namespace, "web")

    assert_nothing_failed(report)


def test_a_controller_that_is_away_disturbs_no_traffic(cluster: Cluster, namespace: str, client: str) -> None:
    cluster.exec(namespace, client, "curl", "-sS", "--fail", "-o", "/dev/null", URL)
    try:
        with load(cluster, namespace, client, duration_s=8) as report:
            cluster.kubectl("-n", "tulle", "scale", "deployment/tulle-controller", "--replicas=0")
            wait_until(lambda: not cluster.pods("tulle", "app.kubernetes.io/name=tulle-controller"), "controller gone")
        assert_nothing_failed(report)

        # A pod that starts meanwhile comes up, and reaches by pass-through what it cannot look up.
        cluster.kubectl("-n", namespace, "rollout", "restart", "deployment/client")
        cluster.rollout(namespace, "client")
        page = cluster.exec(namespace, client, "curl", "-sS", "--fail", "-m", "8", URL)
        assert "Hello from the web" in page
    finally:
        cluster.kubectl("-n", "tulle", "scale", "deployment/tulle-controller", "--replicas=1")
        cluster.rollout("tulle", "tulle-controller")

    def looked_up() -> bool:
        cluster.exec(namespace, client, "curl", "-sS", "--fail", "-o", "/dev/null", URL)
        return cluster.total(namespace, "app=client", "response_total", dst_service="web") > 0

    wait_until(looked_up, "the sidecar finds the controller that is back, and asks it")


def test_scaling_up_and_down_fails_no_request(cluster: Cluster, namespace: str, client: str) -> None:
    with load(cluster, namespace, client, duration_s=14) as report:
        cluster.kubectl("-n", namespace, "scale", "deployment/web", "--replicas=4")
        cluster.rollout(namespace, "web")
        cluster.kubectl("-n", namespace, "scale", "deployment/web", "--replicas=1")
        cluster.rollout(namespace, "web")

    assert_nothing_failed(report)
