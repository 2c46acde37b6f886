"""The worst that strangers can do, all of it at once: nobody restarts, and honest clients lose nothing.

A sidecar, the controller and the webhook are attacked from a pod without a sidecar (workloads/siege/attacks.py says
how), while an honest client asks at a constant rate. What is asserted of memory is the peak of the whole process. How
much slower the honest client became is printed (`-s`): on one machine the strangers take processor time from everybody.
On two quiet cores the 99th percentile goes from 3 to 7 milliseconds.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import WORKLOADS, Cluster

pytestmark = pytest.mark.e2e

SECONDS = 12
RATE_PER_S = 100
MIB = 1024 * 1024
LIMITS_BYTES = {"tulle-proxy": 250 * MIB, "tulle-controller": 512 * MIB, "tulle-webhook": 256 * MIB}


@pytest.fixture(scope="module", autouse=True)
def besieged(cluster: Cluster, namespace: str) -> None:
    folder = WORKLOADS / "siege"
    cluster.kubectl("-n", namespace, "create", "configmap", "programs", f"--from-file={folder}")
    cluster.apply(namespace, "siege")
    cluster.rollout(namespace, "besieged", "caller", "stranger")


def honest(cluster: Cluster, namespace: str) -> dict:  # type: ignore[type-arg]
    command = ("python3", "/etc/programs/honest.py", f"{SECONDS}", f"{RATE_PER_S}", "besieged", "8001")
    return json.loads(cluster.exec(namespace, "deployment/caller", *command))


def attack(cluster: Cluster, namespace: str) -> dict:  # type: ignore[type-arg]
    """The attack begins before the honest client does, and ends after it."""
    pod_ip = cluster.get("-n", namespace, "pods", "-l", "app=besieged")["items"][0]["status"]["podIP"]
    controller_ip = cluster.get("-n", "tulle", "service", "tulle-controller")["spec"]["clusterIP"]
    webhook_ip = cluster.get("-n", "tulle", "service", "tulle-webhook")["spec"]["clusterIP"]
    command = ("python3", "/etc/programs/attacks.py", f"{SECONDS + 5}", pod_ip, "8001", controller_ip, webhook_ip)
    return json.loads(cluster.exec(namespace, "deployment/stranger", *command))


def peak_bytes(cluster: Cluster, namespace: str, selector: str, container: str) -> int:
    """The most that the container's largest process ever had in memory."""
    pod = cluster.pods(namespace, selector)[0]
    peaks = cluster.kubectl(
        *("-n", namespace, "exec", pod, "-c", container, "--"), "sh", "-c", "grep -h VmHWM /proc/[0-9]*/status"
    )
    return max(int(line.split()[1]) * 1024 for line in peaks.splitlines())


def restarts(cluster: Cluster, *namespaces: str) -> dict[str, int]:
    return {
        f"{pod['metadata']['name']}/{status['name']}": status["restartCount"]
        for namespace in namespaces
        for pod in cluster.get("-n", namespace, "pods")["items"]
        for kind in ("containerStatuses", "initContainerStatuses")
        for status in pod["status"].get(kind, ())
    }


@pytest.mark.timeout(240)
def test_all_attacks_at_once_restart_nobody_and_honest_clients_lose_nothing(cluster: Cluster, namespace: str) -> None:
    quiet = honest(cluster, namespace)
    before = restarts(cluster, namespace, "tulle")

    with ThreadPoolExecutor(1) as threads:
        attacking = threads.submit(attack, cluster, namespace)
        beside = honest(cluster, namespace)
        came = attacking.result()

    peaks = {
        "tulle-proxy": peak_bytes(cluster, namespace, "app=besieged", "tulle-proxy"),
        "tulle-controller": peak_bytes(cluster, "tulle", "app.kubernetes.io/name=tulle-controller", "controller"),
        "tulle-webhook": peak_bytes(cluster, "tulle", "app.kubernetes.io/name=tulle-webhook", "webhook"),
    }
    print(json.dumps({"quiet": quiet, "beside": beside, "came": came, "peaks": peaks}, indent=1))
    assert quiet["failures"] == beside["failures"] == []
    assert before == restarts(cluster, namespace, "tulle")
    assert came["faults"] == {}
    assert {name: peak for name, peak in peaks.items() if peak >= LIMITS_BYTES[name]} == {}


def test_honest_work_goes_on_beside_them(cluster: Cluster, namespace: str) -> None:
    """While the attack lasts, pods are injected and statistics answered."""
    with ThreadPoolExecutor(1) as threads:
        attacking = threads.submit(attack, cluster, namespace)
        cluster.kubectl("-n", namespace, "rollout", "restart", "deployment/caller")
        cluster.rollout(namespace, "caller")
        pod = cluster.pods(namespace, "app=caller")[0]
        rows = cluster.stat(f"namespaces/{namespace}/deployments/besieged/stat")
        attacking.result()

    spec = cluster.get("-n", namespace, "pod", pod)["spec"]
    assert any(c["name"] == "tulle-proxy" for c in [*spec["containers"], *spec.get("initContainers", [])])
    assert rows["rows"][0]["meshed"] == 1
