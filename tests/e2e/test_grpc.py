"""gRPC as the real library speaks it, client and server, through a sidecar on each side."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import WORKLOADS, Cluster, wait_until

pytestmark = pytest.mark.e2e

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(cluster: Cluster, namespace: str) -> Ask:
    """Run one case of workloads/grpc/client.py in the caller's pod; what it saw."""
    cluster.kubectl("-n", namespace, "create", "configmap", "grpc", f"--from-file={WORKLOADS / 'grpc'}")
    cluster.apply(namespace, "grpc")
    cluster.rollout(namespace, "calls", "caller")

    def ask(case: str, *arguments: object) -> Any:
        command = ("python3", "/etc/grpc/client.py", case, *map(str, arguments))
        return json.loads(cluster.exec(namespace, "deployment/caller", *command))

    return ask


def test_a_unary_call_is_answered(ask: Ask) -> None:
    assert 1 == sum(ask("echo").values())


def test_a_server_stream_arrives_whole_and_in_order(ask: Ask) -> None:
    assert list(range(200)) == ask("server_stream")


def test_a_client_stream_arrives_whole(ask: Ask) -> None:
    assert f"200 {sum(range(200))}" == ask("client_stream")


def test_both_sides_of_a_stream_hear_each_message_when_it_is_said(ask: Ask) -> None:
    assert list(range(50)) == ask("both_streams")


def test_a_deadline_reaches_the_server_and_ends_the_call_on_both_sides(ask: Ask) -> None:
    seen = ask("deadline", 4)

    assert 2 < seen["remaining_s"] <= 4
    assert "DEADLINE_EXCEEDED" == seen["code"]
    assert 0.4 < seen["taken_s"] < 1.5
    assert 1 == seen["gone"]


def test_a_cancelled_call_is_cancelled_at_the_server(ask: Ask) -> None:
    assert {"code": "CANCELLED", "gone": 1} == ask("cancel")


@pytest.mark.parametrize(("count", "size_bytes"), [(200, 20), (2, 14_000)], ids=["many headers", "long headers"])
def test_big_metadata_passes_both_ways(ask: Ask, count: int, size_bytes: int) -> None:
    assert [count, count] == ask("metadata", count, size_bytes)


def test_every_error_status_arrives_with_its_message_and_trailers(ask: Ask) -> None:
    seen = ask("statuses")

    assert 16 == len({one["code"] for one in seen})
    assert {"as told: 100 % naïve\n"} == {one["details"] for one in seen}
    assert all("on purpose" == one["trailing"]["why"] for one in seen)


def test_a_method_that_nobody_has_is_unimplemented(ask: Ask) -> None:
    assert "UNIMPLEMENTED" == ask("unknown_method")["code"]


def test_a_service_without_pods_is_unavailable(ask: Ask) -> None:
    assert "UNAVAILABLE" == ask("nobody")["code"]


@pytest.mark.parametrize("size_bytes", [4 * 2**20, 20 * 2**20], ids=["4 MB", "20 MB"])
def test_a_large_message_passes_both_ways(ask: Ask, size_bytes: int) -> None:
    assert ask("large", size_bytes)


def test_a_slow_reader_holds_up_no_other_stream(ask: Ask) -> None:
    seen = ask("slow_reader")

    assert seen["others_s"] < 2
    assert (50, 100) == (seen["quick"], seen["slow"])


def test_a_server_that_does_not_read_holds_back_its_own_client_alone(ask: Ask) -> None:
    sent = ask("slow_server")["sent"]

    assert 0 < sent < 200, "windows bound what lies on the way"


def test_calls_of_one_connection_are_spread_over_all_pods(ask: Ask) -> None:
    shares = ask("at_once", 300)

    assert 300 == sum(shares.values())
    assert 2 == len(shares)
    assert min(shares.values()) > 20


def test_calls_are_counted_by_their_status_on_both_sides(cluster: Cluster, namespace: str, ask: Ask) -> None:
    def counts() -> dict[str, list[float]]:
        """Of each gRPC status, as the caller's sidecar counted it and as the servers' did."""
        sides = (
            ("app=caller", {"direction": "outbound", "dst_service": "calls"}),
            ("app=calls", {"direction": "inbound"}),
        )
        return {
            status: [
                cluster.total(
                    namespace, pods, "response_total", **labels, grpc_status=status, classification=classification
                )
                for pods, labels in sides
            ]
            for status, classification in (("0", "success"), ("5", "success"), ("13", "failure"), ("14", "failure"))
        }

    before = counts()
    ask("echo", 20)
    ask("statuses")

    more = {
        status: [after - old for after, old in zip(both, before[status], strict=True)]
        for status, both in counts().items()
    }
    assert {"0": [20, 20], "5": [1, 1], "13": [1, 1], "14": [1, 1]} == more


def test_stat_shows_calls_as_requests(cluster: Cluster, namespace: str, ask: Ask) -> None:
    def row() -> dict[str, Any]:
        ask("statuses")
        (one,) = cluster.stat(f"namespaces/{namespace}/deployments/calls/stat?window=1m")["rows"]
        return one  # type: ignore[no-any-return]

    wait_until(lambda: (row()["success_rate"] or 1) < 1, "the servers' sidecars report calls, failed ones among them")
    assert 0 < row()["success_rate"] < 1
