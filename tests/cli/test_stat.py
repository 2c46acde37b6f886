"""The stat table: what is asked and how the answer is shown."""

import pytest

from cli import stat
from cli.errors import CliError
from contract.stat import Latency, StatAnswer, StatRow

FULL = StatRow("shop", "deployment", "web", 2, 3, 0.98765, 12.345, Latency(1.4, 20.5, 1500), 7, 2048.04, 10)
QUIET = StatRow("shop", "deployment", "api", 0, 1)


@pytest.mark.parametrize(
    ("words", "kind", "name"),
    [
        (["deploy"], "deployments", ""),
        (["deployment/web"], "deployments", "web"),
        (["deployments", "web"], "deployments", "web"),
        (["PO/web-1"], "pods", "web-1"),
        (["svc"], "services", ""),
        (["sts"], "statefulsets", ""),
        (["ds"], "daemonsets", ""),
        (["job/sum"], "jobs", "sum"),
        (["ns"], "namespaces", ""),
    ],
)
def test_resources_are_named_as_for_kubectl(words: list[str], kind: str, name: str) -> None:
    assert stat.Resource(kind, name) == stat.parse_resource(words)


@pytest.mark.parametrize(
    "words", [["cronjobs"], ["deploy/"], ["deploy/a/b"], ["deploy", "a", "b"], ["deploy/a", "b"], ["/a"]]
)
def test_what_has_no_statistics_is_refused(words: list[str]) -> None:
    with pytest.raises(CliError, match="resource") as caught:
        stat.parse_resource(words)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("resource", "namespace", "path"),
    [
        (stat.Resource("deployments", "web"), "shop", "/api/v1/namespaces/shop/deployments/web/stat"),
        (stat.Resource("pods"), "shop", "/api/v1/namespaces/shop/pods/stat"),
        (stat.Resource("pods"), None, "/api/v1/pods/stat"),
        (stat.Resource("namespaces"), "shop", "/api/v1/namespaces/stat"),
        (stat.Resource("namespaces", "web"), "shop", "/api/v1/namespaces/web/stat"),
    ],
)
def test_the_controller_is_asked_by_its_own_paths(resource: stat.Resource, namespace: str | None, path: str) -> None:
    assert path == stat.path(resource, namespace)


@pytest.mark.parametrize("window", ["10s", "1m", "1m30s", "1h"])
def test_a_window_is_passed_on(window: str) -> None:
    assert window == stat.parse_window(window)


@pytest.mark.parametrize("window", ["", "1", "m", "1d", "-1m", "1 m", "1s1m", "١m"])
def test_what_is_no_window_is_refused(window: str) -> None:
    with pytest.raises(CliError, match="--time-window"):
        stat.parse_window(window)


def test_cells_have_the_forms_that_scripts_know() -> None:
    header, quiet, full = stat.table(StatAnswer(60, [FULL, QUIET]), namespaces=True, wide=True)
    assert header == [
        *("NAMESPACE", "NAME", "MESHED", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN"),
        *("READ_BYTES/SEC", "WRITE_BYTES/SEC"),
    ]
    assert full == ["shop", "web", "2/3", "98.77%", "12.3rps", "1ms", "20ms", "1500ms", "7", "2048.0B/s", "10.0B/s"]
    assert quiet == ["shop", "api", "0/1", *["-"] * 8]


def test_a_narrow_table_has_neither_namespace_nor_bytes() -> None:
    header, row = stat.table(StatAnswer(60, [FULL]), namespaces=False, wide=False)
    assert (header[0], header[-1], len(row)) == ("NAME", "TCP_CONN", 8)


@pytest.mark.parametrize(
    ("row", "traffic"),
    [
        (FULL, True),
        (QUIET, False),
        (StatRow("a", "pod", "b", 1, 1, tcp_open_connections=2), True),
        (StatRow("a", "pod", "b", 1, 1, rps=0.0), False),
    ],
)
def test_traffic_is_any_request_connection_or_byte(row: StatRow, traffic: bool) -> None:
    assert traffic == stat.has_traffic(StatAnswer(60, [row]))


@pytest.mark.parametrize("peer", ["web", "deploy", "deploy/", "cronjob/a"])
def test_a_peer_is_a_kind_and_a_name(peer: str) -> None:
    with pytest.raises(CliError):
        stat.parse_peer("--to", peer)
    assert stat.parse_peer("--to", "deploy/web") == "deployments/web"
    assert stat.parse_peer("--to", None) is None
