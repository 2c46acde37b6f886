"""From reports to rows, with Linkerd's meaning of inbound, to and from."""

from collections.abc import Generator

import pytest

from contract.metrics import LATENCY_BUCKETS_MS
from contract.report import Direction, HttpSeries, Peer, Report, TcpSeries
from contract.stat import StatAnswer, StatRow
from controller import stat
from controller.cluster import Cluster
from controller.objects import Key, Owner
from controller.problems import Refusal
from controller.query import Query, parse_query
from controller.traffic import Traffic
from tests.controller.builders import cluster_of, endpoint, namespace, piece, pod, service, workload

WEB, CATALOG = Owner("deployment", "web"), Owner("deployment", "catalog")
TO_CATALOG = Peer("shop", "catalog", "catalog-1", "deployment", "catalog")
NOW_S = 1000.0


def shop() -> Cluster:
    return cluster_of(
        namespace("shop"),
        namespace("other"),
        pod("web-1", "10.0.0.1", owner=Owner("replicaset", "web-5d9c")),
        pod("web-2", "10.0.0.2", owner=Owner("replicaset", "web-5d9c"), meshed=False),
        pod("web-3", "10.0.0.3", owner=Owner("replicaset", "web-5d9c"), phase="Pending"),
        pod("catalog-1", "10.0.0.4", owner=Owner("replicaset", "catalog-7f")),
        pod("once-1", "10.0.0.5", owner=Owner("job", "once"), phase="Succeeded"),
        pod("bare", "10.0.0.6", namespace="other"),
        service("catalog", "10.96.0.8"),
        piece(endpoint("10.0.0.4", "catalog-1"), of="catalog"),
        replicasets=(workload("web-5d9c", WEB), workload("catalog-7f", CATALOG)),
        deployments=(workload("web"), workload("catalog"), workload("idle")),
        jobs=(workload("once"),),
    )


def http(direction: Direction, success: int, failure: int = 0, peer: Peer | None = None, bucket: int = 5) -> HttpSeries:
    latency = [0] * (len(LATENCY_BUCKETS_MS) + 1)
    latency[bucket] = success + failure
    return HttpSeries(direction, peer or Peer(), success, failure, tuple(latency), 1.0)


def ingest(
    traffic: Traffic, cluster: Cluster, pod_name: str, *series: HttpSeries | TcpSeries, ns: str = "shop"
) -> None:
    owner = cluster.top_owner(cluster.pods[Key(ns, pod_name)])
    found = Report(
        namespace=ns,
        pod=pod_name,
        instance="a",
        sequence=1,
        interval_s=10.0,
        http=tuple(item for item in series if isinstance(item, HttpSeries)),
        tcp=tuple(item for item in series if isinstance(item, TcpSeries)),
    )
    traffic.ingest(found, owner, NOW_S)


def answer_whole(query: Query, cluster: Cluster, traffic: Traffic, now_s: float) -> StatAnswer:
    return finish(stat.answer(query, cluster, traffic, now_s))


def finish(steps: Generator[None, None, StatAnswer]) -> StatAnswer:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def rows(kind: str, cluster: Cluster, traffic: Traffic, ns: str | None = "shop", name: str | None = None, **more: str):
    given = {("from" if key == "source" else key): [value] for key, value in more.items()}
    found = answer_whole(parse_query(kind, ns, name, given), cluster, traffic, NOW_S)
    return {row.name: row for row in found.rows}


@pytest.fixture
def cluster() -> Cluster:
    return shop()


@pytest.fixture
def traffic(cluster: Cluster) -> Traffic:
    """web-1 takes 90 good and 10 bad requests in ten seconds and sends 40 of them on to catalog-1."""
    found = Traffic(100, 100)
    ingest(
        found,
        cluster,
        "web-1",
        http("inbound", 90, 10),
        http("outbound", 30, 10, TO_CATALOG, bucket=9),
        TcpSeries("inbound", Peer(), 2, 1, 4, 1000, 5000),
        TcpSeries("outbound", TO_CATALOG, 1, 0, 1, 400, 200),
    )
    ingest(found, cluster, "catalog-1", http("inbound", 38, 2))
    return found


def test_all_of_a_kind_are_listed_also_without_traffic(cluster: Cluster, traffic: Traffic):
    found = rows("deployments", cluster, traffic)
    assert list(found) == ["catalog", "idle", "web"]
    assert found["idle"] == StatRow("shop", "deployment", "idle", 0, 0)


def test_workload_is_told_from_its_inbound_side(cluster: Cluster, traffic: Traffic):
    row = rows("deploy", cluster, traffic)["web"]
    assert (row.meshed, row.pods) == (1, 2)
    assert row.success_rate == pytest.approx(0.9)
    assert row.rps == pytest.approx(10.0)
    assert row.latency_ms.p50 == pytest.approx(7.5)
    assert (row.tcp_open_connections, row.read_bytes_per_s, row.write_bytes_per_s) == (4, 100.0, 500.0)


def test_service_is_told_from_the_outbound_side_of_its_clients(cluster: Cluster, traffic: Traffic):
    row = rows("svc", cluster, traffic)["catalog"]
    assert (row.meshed, row.pods) == (1, 1)
    assert row.rps == pytest.approx(4.0)
    assert row.success_rate == pytest.approx(0.75)
    assert row.latency_ms.p50 == pytest.approx(45.0)


def test_to_is_the_outbound_side_toward_the_target(cluster: Cluster, traffic: Traffic):
    for target in ("svc/catalog", "deploy/catalog", "po/catalog-1", "ns/shop"):
        found = rows("deploy", cluster, traffic, to=target)
        assert found["web"].rps == pytest.approx(4.0)
        assert found["catalog"].rps is None
    assert rows("deploy", cluster, traffic, to="deploy/idle")["web"].rps is None


def test_from_is_the_resource_as_its_clients_saw_it(cluster: Cluster, traffic: Traffic):
    for source in ("deploy/web", "po/web-1", "ns/shop"):
        found = rows("deploy", cluster, traffic, source=source)
        assert found["catalog"].success_rate == pytest.approx(0.75)
        assert found["web"].rps is None
    assert rows("svc", cluster, traffic, source="deploy/web")["catalog"].rps == pytest.approx(4.0)


def test_namespaces_of_peers_tell_names_apart(cluster: Cluster, traffic: Traffic):
    assert rows("deploy", cluster, traffic, to_namespace="shop")["web"].rps == pytest.approx(4.0)
    assert rows("deploy", cluster, traffic, to_namespace="other")["web"].rps is None
    with pytest.raises(Refusal, match="no service 'catalog' in namespace 'other'"):
        rows("deploy", cluster, traffic, to="svc/catalog", to_namespace="other")


def test_pods_namespaces_and_jobs_have_rows(cluster: Cluster, traffic: Traffic):
    pods = rows("po", cluster, traffic)
    assert list(pods) == ["catalog-1", "web-1", "web-2", "web-3"]
    assert pods["web-1"].rps == pytest.approx(10.0)
    assert [(row.meshed, row.pods) for row in pods.values()] == [(1, 1), (1, 1), (0, 1), (0, 0)]
    (whole,) = rows("ns", cluster, traffic).values()
    assert (whole.namespace, whole.name, whole.pods, whole.meshed) == ("shop", "shop", 3, 2)
    assert whole.rps == pytest.approx(14.0)
    assert rows("jobs", cluster, traffic)["once"].pods == 0


def test_all_namespaces_are_one_table(cluster: Cluster, traffic: Traffic):
    found = answer_whole(parse_query("po", None, None, {}), cluster, traffic, NOW_S)
    assert [(row.namespace, row.name) for row in found.rows][:2] == [("other", "bare"), ("shop", "catalog-1")]
    assert list(rows("ns", cluster, traffic, ns=None)) == ["other", "shop"]


def test_one_resource_is_one_row(cluster: Cluster, traffic: Traffic):
    assert list(rows("deploy", cluster, traffic, name="web")) == ["web"]
    assert list(rows("po", cluster, traffic, name="once-1")) == ["once-1"]


@pytest.mark.parametrize(
    ("kind", "ns", "name", "words"),
    [
        ("deploy", "shop", "wbe", "no deployment 'wbe' in namespace 'shop'"),
        ("deploy", "nowhere", "web", "no namespace 'nowhere'"),
        ("deploy", "nowhere", None, "no namespace 'nowhere'"),
        ("ns", "nowhere", None, "no namespace 'nowhere'"),
        ("svc", "other", "catalog", "no service 'catalog' in namespace 'other'"),
    ],
)
def test_names_that_are_not_there_are_not_found(cluster: Cluster, traffic: Traffic, kind, ns, name, words):
    with pytest.raises(Refusal, match=words) as caught:
        rows(kind, cluster, traffic, ns, name)
    assert caught.value.status == 404


def test_peer_that_is_neither_there_nor_was_seen_is_not_found(cluster: Cluster, traffic: Traffic):
    with pytest.raises(Refusal, match="from: there is no deployment 'wbe'") as caught:
        rows("deploy", cluster, traffic, source="deploy/wbe")
    assert caught.value.status == 404


def test_peer_that_is_gone_but_was_seen_is_answered(cluster: Cluster, traffic: Traffic):
    del cluster.services[Key("shop", "catalog")]
    assert rows("deploy", cluster, traffic, to="svc/catalog")["web"].rps == pytest.approx(4.0)


def test_traffic_of_pods_that_are_gone_still_counts_for_their_workload(cluster: Cluster, traffic: Traffic):
    del cluster.pods[Key("shop", "web-1")]
    assert rows("deploy", cluster, traffic)["web"].rps == pytest.approx(10.0)


def test_tcp_only_traffic_has_no_requests_but_bytes(cluster: Cluster):
    traffic = Traffic(10, 10)
    ingest(traffic, cluster, "bare", TcpSeries("inbound", Peer(), 1, 0, 1, 100, 50), ns="other")
    (row,) = rows("po", cluster, traffic, ns="other").values()
    assert (row.rps, row.success_rate, row.latency_ms.p50) == (None, None, None)
    assert (row.tcp_open_connections, row.read_bytes_per_s) == (1, 10.0)


def test_traffic_that_ended_before_the_window_is_no_traffic(cluster: Cluster, traffic: Traffic):
    found = answer_whole(parse_query("deploy", "shop", "web", {"window": ["10s"]}), cluster, traffic, NOW_S + 120)
    assert found.rows[0].rps is None
    later = answer_whole(parse_query("deploy", "shop", "web", {"window": ["5m"]}), cluster, traffic, NOW_S + 120)
    assert later.rows[0].rps == pytest.approx(100 / 130, abs=0.001)


def test_long_question_lets_others_in_between_and_counts_what_was_there(cluster: Cluster):
    traffic = Traffic(10_000, 10_000)
    peers = [Peer("shop", "catalog", f"catalog-{number}") for number in range(1900)]
    ingest(traffic, cluster, "web-1", *(http("outbound", 1, 0, peer) for peer in peers))
    steps = stat.answer(parse_query("svc", "shop", None, {}), cluster, traffic, NOW_S)
    next(steps)
    ingest(traffic, cluster, "catalog-1", http("outbound", 1, 0, Peer("shop", "catalog")))
    (row,) = finish(steps).rows
    assert row.rps == pytest.approx(190.0)
