"""A deployment that is scaled, rolled and killed while HTTP/1.1, HTTP/2 and gRPC are asked of it all the time."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import WORKLOADS, Cluster, wait_until

pytestmark = pytest.mark.e2e

CALLER = "deployment/caller"
ROLLOUTS_COUNT = 10
# Constant arrival, so that the load leaves room for pods to start on the same cores: 100 requests a second of each.
H2LOAD = "h2load -c4 -m4 --rps=25 -D5"
LOADS = {
    "HTTP/1.1": f"while [ ! -e STOP ]; do {H2LOAD} --h1 http://busy:8001/; done",
    "HTTP/2": f"while [ ! -e STOP ]; do {H2LOAD} http://busy:8002/; done",
    "gRPC": "python3 /etc/grpc/client.py load busy:9000 STOP",
    "unary gRPC": "python3 /etc/grpc/client.py load busy:9000 STOP unary",
}
_H2LOAD_COUNTS = re.compile(r"(\d+) total.* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")


@pytest.fixture(scope="module", autouse=True)
def busy(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "configmap", "grpc", f"--from-file={WORKLOADS / 'grpc'}")
    cluster.apply(namespace, "busy")
    cluster.rollout(namespace, "busy", "caller")


@dataclass(frozen=True)
class Outcome:
    """What became of one load."""

    succeeded_count: int
    runs_count: int
    failures: str
    """In words; nothing when nothing failed."""


@contextmanager
def loads(cluster: Cluster, namespace: str, *names: str) -> Iterator[dict[str, Outcome]]:
    """All these loads at once while the block runs; then their outcomes."""
    stop = f"/tmp/stop-{time.monotonic_ns()}"
    outcomes: dict[str, Outcome] = {}
    with ThreadPoolExecutor(len(names)) as threads:
        runs = {
            name: threads.submit(
                cluster.exec, namespace, CALLER, "sh", "-c", LOADS[name].replace("STOP", stop), timeout_s=180
            )
            for name in names
        }
        try:
            yield outcomes
        finally:
            cluster.exec(namespace, CALLER, "touch", stop)
        outcomes.update({name: _outcome(run.result()) for name, run in runs.items()})


def _outcome(report: str) -> Outcome:
    """Read what the gRPC client printed, or h2load in one run after the other."""
    if report.startswith("{"):
        ends = json.loads(report)
        return Outcome(ends.pop("OK", 0), 1, "".join(f"{end} x {count}\n" for end, count in ends.items()))
    succeeded, failures = [], []
    for line in report.splitlines():
        counts = _H2LOAD_COUNTS.search(line)
        if counts:
            succeeded.append(int(counts[3]))
            failures += [line] if any(int(count) for count in counts.groups()[3:]) else []
        elif line.startswith("status codes:") and " 0 3xx, 0 4xx, 0 5xx" not in line:
            failures.append(line)
    return Outcome(sum(succeeded), len(succeeded), "\n".join(failures))


def assert_nothing_failed(outcomes: dict[str, Outcome], least_count: int) -> None:
    """HTTP comes at a constant rate, so a load whose connections were cut shows as fewer successes than the other's."""
    assert dict.fromkeys(outcomes, "") == {name: outcome.failures for name, outcome in outcomes.items()}
    assert all(outcome.succeeded_count >= least_count for outcome in outcomes.values()), outcomes
    http1, http2 = (outcomes[name].succeeded_count / outcomes[name].runs_count for name in ("HTTP/1.1", "HTTP/2"))
    assert http2 > 0.8 * http1, outcomes


@pytest.mark.timeout(240)  # 45 s on two cores that do nothing else
def test_scaling_to_ten_and_back_and_ten_rollouts_fail_no_request(cluster: Cluster, namespace: str) -> None:
    first = set(cluster.pods(namespace, "app=busy"))

    with loads(cluster, namespace, "HTTP/1.1", "HTTP/2", "gRPC") as outcomes:
        for count in (10, 1):
            cluster.kubectl("-n", namespace, "scale", "deployment/busy", f"--replicas={count}")
            cluster.rollout(namespace, "busy")
        for _ in range(ROLLOUTS_COUNT):
            cluster.kubectl("-n", namespace, "rollout", "restart", "deployment/busy")
            cluster.rollout(namespace, "busy")

    assert_nothing_failed(outcomes, least_count=1000)
    assert not first & set(cluster.pods(namespace, "app=busy"))


@pytest.fixture(scope="module")
def victim(cluster: Cluster, namespace: str) -> str:
    """A pod of three, with retries on."""
    cluster.apply(namespace, "retries")
    cluster.kubectl("-n", namespace, "scale", "deployment/busy", "--replicas=3")
    cluster.rollout(namespace, "busy")
    return cluster.pods(namespace, "app=busy")[0]


@pytest.mark.parametrize("container", ["nginx", "calls"])
def test_killing_a_server_under_load_fails_no_idempotent_request(
    cluster: Cluster, namespace: str, victim: str, container: str
) -> None:
    """The TrafficPolicy tries again; a stream of which a part has arrived is not for it to repeat."""

    def restarts() -> int:
        statuses = cluster.get("-n", namespace, "pod", victim)["status"]["containerStatuses"]
        return sum(status["restartCount"] for status in statuses if status["name"] == container and status["ready"])

    before = restarts()
    with loads(cluster, namespace, "HTTP/1.1", "HTTP/2", "unary gRPC") as outcomes:
        time.sleep(2)
        kill = ("sh", "-c", f"kill -9 $(cat /tmp/{container}.pid)")
        cluster.kubectl("-n", namespace, "exec", victim, "-c", container, "--", *kill, check=False)  # it dies with it
        wait_until(lambda: restarts() > before, "the killed server runs again")
        time.sleep(1)

    assert_nothing_failed(outcomes, least_count=200)


def test_a_pod_that_vanishes_under_load_fails_no_idempotent_request(
    cluster: Cluster, namespace: str, victim: str
) -> None:
    """With its sidecar and its network: nobody is left to refuse or reset, and only a try's time tells."""
    with loads(cluster, namespace, "HTTP/1.1", "HTTP/2", "unary gRPC") as outcomes:
        time.sleep(2)
        cluster.kubectl("-n", namespace, "delete", "pod", victim, "--grace-period=0", "--force", "--wait=false")
        time.sleep(1)
        cluster.rollout(namespace, "busy")
        time.sleep(1)

    assert_nothing_failed(outcomes, least_count=200)
