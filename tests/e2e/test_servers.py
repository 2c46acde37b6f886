"""Real servers as unchanged workloads, called through their service names by clients in other pods."""

import time

import pytest

from tests.e2e.conftest import Cluster, wait_until

pytestmark = pytest.mark.e2e

SERVERS = ("nginx", "redis", "postgres", "mariadb")


@pytest.fixture(scope="module", autouse=True)
def servers(cluster: Cluster, namespace: str) -> None:
    for name in SERVERS:
        cluster.apply(namespace, name)
    cluster.rollout(namespace, *SERVERS)


def test_pods_come_up_with_the_init_container_and_the_sidecar(cluster: Cluster, namespace: str) -> None:
    for name in SERVERS:
        pod = cluster.get("-n", namespace, "pods", "-l", f"app={name}")["items"][0]
        inits = [container["name"] for container in pod["spec"]["initContainers"]]

        assert ["tulle-init", "tulle-proxy"] == inits
        assert "injected" == pod["metadata"]["annotations"]["tulle.mesh/status"]
        assert all(status["ready"] for status in pod["status"]["containerStatuses"])


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_nginx_answers_curl_by_its_service_name(cluster: Cluster, namespace: str, client: str, family: str) -> None:
    labels = {"direction": "outbound", "dst_service": "nginx", "status_code": "200"}
    before = cluster.total(namespace, "app=client", "response_total", **labels)
    inbound = cluster.total(namespace, "app=nginx", "response_total", direction="inbound", status_code="200")

    page = cluster.exec(namespace, client, "curl", "-sS", family, "--fail", "http://nginx/")

    assert "<title>Welcome to nginx!</title>" in page
    assert before + 1 == cluster.total(namespace, "app=client", "response_total", **labels)
    # The kubelet's probes come in by the same way, so the inbound side has seen at least our one.
    assert inbound < cluster.total(namespace, "app=nginx", "response_total", direction="inbound", status_code="200")


def test_the_kubelets_probes_are_counted_apart_and_who_calls_itself_one_is_not(
    cluster: Cluster, namespace: str, client: str
) -> None:
    def seen(of_probes: bool) -> float:
        samples = [sample for pod in cluster.pods(namespace, "app=nginx") for sample in cluster.samples(namespace, pod)]
        inbound = [
            (labels, value)
            for name, labels, value in samples
            if name == "request_total" and labels["direction"] == "inbound"
        ]
        return sum(value for labels, value in inbound if (labels.get("route_name") == "probe") == of_probes)

    wait_until(lambda: seen(of_probes=True) > 0, "a probe", 20)
    others = seen(of_probes=False)
    for _ in range(5):
        cluster.exec(namespace, client, "curl", "-sS", "-A", "kube-probe/1.33", "http://nginx/")

    assert others + 5 == seen(of_probes=False)


def test_wrk_loads_nginx_with_no_failure_and_both_replicas_share_it(
    cluster: Cluster, namespace: str, client: str
) -> None:
    output = cluster.exec(namespace, client, "wrk", "-t1", "-c16", "-d3s", "http://nginx/")

    assert "requests in" in output
    assert "Non-2xx" not in output
    assert "Socket errors" not in output
    shares = [
        sum(
            value
            for name, labels, value in cluster.samples(namespace, pod)
            if name == "response_total" and labels["direction"] == "inbound"
        )
        for pod in cluster.pods(namespace, "app=nginx")
    ]
    assert 2 == len(shares)
    assert min(shares) > 0.2 * max(shares)


def _tcp_seen(cluster: Cluster, namespace: str, service: str) -> tuple[float, float]:
    out = cluster.total(
        namespace, "app=client", "tcp_open_total", direction="outbound", peer="dst", dst_service=service
    )
    return out, cluster.total(namespace, f"app={service}", "tcp_open_total", direction="inbound", peer="dst")


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_redis_answers_redis_cli(cluster: Cluster, namespace: str, client: str, family: str) -> None:
    spec = cluster.get("-n", namespace, "service", "redis")["spec"]
    address = dict(zip(spec["ipFamilies"], spec["clusterIPs"], strict=True))[family]
    out, inbound = _tcp_seen(cluster, namespace, "redis")

    answer = cluster.exec(namespace, client, "redis-cli", "-h", address, "set", "greeting", "hello")

    assert "OK" == answer.strip()
    after_out, after_inbound = _tcp_seen(cluster, namespace, "redis")
    assert out + 1 == after_out
    assert inbound < after_inbound


def test_redis_takes_a_pipeline_of_many_commands(cluster: Cluster, namespace: str, client: str) -> None:
    script = "seq 5000 | sed 's/.*/SET key& value&/' | redis-cli -h redis --pipe"

    assert "errors: 0, replies: 5000" in cluster.exec(namespace, client, "sh", "-c", script)


def test_postgres_answers_psql(cluster: Cluster, namespace: str, client: str) -> None:
    out, inbound = _tcp_seen(cluster, namespace, "postgres")
    query = "select count(*) from generate_series(1, 100000)"

    answer = cluster.exec(namespace, client, "psql", "-h", "postgres", "-U", "postgres", "-Atc", query)

    assert "100000" == answer.strip()
    after_out, after_inbound = _tcp_seen(cluster, namespace, "postgres")
    assert out < after_out
    assert inbound < after_inbound


@pytest.mark.parametrize("port", ["3306", "7306"], ids=["known port", "port that no list knows"])
def test_mariadb_which_speaks_first_does_not_stall(cluster: Cluster, namespace: str, client: str, port: str) -> None:
    out, inbound = _tcp_seen(cluster, namespace, "mariadb")
    command = ("mariadb", "--skip-ssl", "-h", "mariadb", "-P", port, "-u", "root", "-Ne", "select 6 * 7")

    begin = time.monotonic()
    answer = cluster.exec(namespace, client, *command)
    taken_s = time.monotonic() - begin

    assert "42" == answer.strip()
    # Detection that waited for the client would take its whole timeout; this is far from any of them.
    assert taken_s < 3
    after_out, after_inbound = _tcp_seen(cluster, namespace, "mariadb")
    assert out < after_out
    assert inbound < after_inbound


def test_the_rest_api_tells_rate_success_and_latency(cluster: Cluster, namespace: str, client: str) -> None:
    def row() -> dict:  # type: ignore[type-arg]
        return cluster.stat(f"namespaces/{namespace}/deployments/nginx/stat?window=1m")["rows"][0]

    deadline = time.monotonic() + 30
    while (row()["rps"] or 0) < 10 and time.monotonic() < deadline:
        cluster.exec(namespace, client, "wrk", "-t1", "-c4", "-d2s", "http://nginx/")
    found = row()

    assert found["rps"] > 10
    assert 1.0 == found["success_rate"]
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"] <= found["latency_ms"]["p99"]
    assert (2, 2) == (found["meshed"], found["pods"])
