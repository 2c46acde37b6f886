"""Every kind that makes pods or names comes up meshed, and is reached as it is without a mesh."""

import pytest

from tests.e2e.conftest import Cluster, wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def kinds(cluster: Cluster, namespace: str, client: str) -> None:
    cluster.apply(namespace, "kinds", NAMESPACE=namespace)
    cluster.rollout(namespace, "ordered", kind="statefulset")
    cluster.rollout(namespace, "everywhere", kind="daemonset")


def ask(cluster: Cluster, namespace: str, client: str, host: str) -> str:
    return cluster.exec(namespace, client, "curl", "-sS", "--fail", "-m", "10", f"http://{host}:8000/name").strip()


def test_each_pod_of_a_stateful_set_is_reached_by_its_own_name(cluster: Cluster, namespace: str, client: str) -> None:
    before = cluster.total(namespace, "app=ordered", "response_total", direction="inbound", status_code="200")

    names = [ask(cluster, namespace, client, f"ordered-{number}.ordered") for number in range(2)]

    assert ["ordered-0", "ordered-1"] == names
    after = cluster.total(namespace, "app=ordered", "response_total", direction="inbound", status_code="200")
    assert after >= before + 2


def test_a_headless_services_name_leads_to_all_of_its_pods(cluster: Cluster, namespace: str, client: str) -> None:
    """Which one a client takes is its own choice: mostly it is always the same (RFC 6724)."""
    told = cluster.exec(namespace, client, "getent", "ahostsv4", "ordered")
    addresses = sorted({line.split()[0] for line in told.splitlines()})

    assert ask(cluster, namespace, client, "ordered") in ("ordered-0", "ordered-1")
    assert ["ordered-0", "ordered-1"] == sorted(ask(cluster, namespace, client, address) for address in addresses)


def test_a_stateful_sets_pods_restart_in_order_and_meshed(cluster: Cluster, namespace: str, client: str) -> None:
    cluster.kubectl("-n", namespace, "rollout", "restart", "statefulset/ordered")
    cluster.rollout(namespace, "ordered", kind="statefulset")

    # The names that the client's resolver and sidecar remember lead to the new addresses.
    wait_until(lambda: "ordered-0" == ask(cluster, namespace, client, "ordered-0.ordered"), "the new pod", 30)


def test_a_daemon_set_is_meshed_on_every_node(cluster: Cluster, namespace: str, client: str, nodes: list[str]) -> None:
    items = cluster.get("-n", namespace, "pods", "-l", "app=everywhere")["items"]

    assert sorted(nodes) == sorted(item["spec"]["nodeName"] for item in items)
    assert {"injected"} == {item["metadata"]["annotations"]["tulle.mesh/status"] for item in items}
    found = {ask(cluster, namespace, client, "everywhere") for _ in range(60)}
    assert {item["metadata"]["name"] for item in items} == found


def test_an_external_name_leads_where_it_says(cluster: Cluster, namespace: str, client: str) -> None:
    assert ask(cluster, namespace, client, "elsewhere").startswith("everywhere-")


@pytest.mark.timeout(240)
def test_the_jobs_of_a_cron_job_complete_with_their_sidecars(cluster: Cluster, namespace: str) -> None:
    def done() -> list[str]:
        jobs = cluster.get("-n", namespace, "jobs")["items"]
        return [job["metadata"]["name"] for job in jobs if job.get("status", {}).get("succeeded")]

    wait_until(done, "a job of the cron job to complete", 150)

    assert "everywhere-" in cluster.kubectl("-n", namespace, "logs", f"job/{done()[0]}", "-c", "once")
