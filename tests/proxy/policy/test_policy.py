"""The decisions: which endpoints, which one, what its answer means. Seeded, with time as a number."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import balance, classify, route


@dataclass
class Load:
    """An endpoint, as far as the balancer cares."""

    cost_s: float = balance.DEFAULT_RTT_S
    cost_at_s: float = 0.0
    in_flight: int = 0
    barred_until_s: float = 0.0
    bars_count: int = 0


loads = st.builds(
    Load,
    cost_s=st.floats(1e-4, 10),
    in_flight=st.integers(0, 50),
    barred_until_s=st.sampled_from([0.0, 200.0]),
)


@given(st.lists(loads, min_size=1, max_size=8), st.integers())
def test_a_barred_endpoint_is_never_picked_unless_all_are(endpoints: list[Load], seed: int) -> None:
    picked = balance.pick(endpoints, Random(seed).random, 100.0)

    assert picked.barred_until_s <= 100.0 or all(e.barred_until_s > 100.0 for e in endpoints)


@given(st.lists(loads, min_size=2, max_size=8), st.integers())
def test_the_most_loaded_endpoint_is_never_picked(endpoints: list[Load], seed: int) -> None:
    for endpoint in endpoints:
        endpoint.barred_until_s = 0.0
    endpoints[0].cost_s, endpoints[0].in_flight = 100.0, 100

    assert balance.pick(endpoints, Random(seed).random, 0.0) is not endpoints[0]


def test_equal_endpoints_share_alike() -> None:
    endpoints = [Load() for _ in range(4)]
    random = Random(7).random
    counts = {id(endpoint): 0 for endpoint in endpoints}
    for _ in range(4000):
        counts[id(balance.pick(endpoints, random, 0.0))] += 1

    assert all(800 < count < 1200 for count in counts.values()) or min(counts.values()) > 0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(1e-4, 10)), max_size=20))
def test_the_average_stays_between_the_lowest_and_highest_latency(steps: list[tuple[float, float]]) -> None:
    load, now_s = Load(), 0.0
    seen = [load.cost_s]
    for pause_s, latency_s in steps:
        now_s += pause_s
        seen.append(latency_s)
        balance.observe(load, latency_s, now_s)

        assert min(seen) - 1e-9 <= load.cost_s <= max(seen) + 1e-9


def test_a_peak_is_taken_at_once_and_forgotten_slowly() -> None:
    load = Load()
    balance.observe(load, 2.0, 100.0)
    assert load.cost_s == 2.0

    balance.observe(load, 0.01, 100.1)
    assert load.cost_s > 1.9

    balance.observe(load, 0.01, 200.0)
    assert load.cost_s < 0.02


def test_refusals_bar_for_longer_each_time_and_an_answer_forgives() -> None:
    load = Load()
    bars = []
    for _ in range(8):
        balance.bar(load, 0.0)
        bars.append(load.barred_until_s)
    balance.observe(load, 0.01, 50.0)
    balance.bar(load, 0.0)

    assert bars[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert bars[-1] == balance.BAR_MAX_S
    assert load.barred_until_s == balance.BAR_MIN_S


@pytest.mark.parametrize(
    ("kind", "known", "endpoints"),
    [
        ("service", ["a"], ["a"]),
        ("service", [], []),
        ("pod", ["a"], ["a"]),
        ("pod", [], ["direct"]),
        ("unknown", [], ["direct"]),
    ],
)
def test_only_services_of_the_cluster_are_balanced(kind: route.Kind, known: list[str], endpoints: list[str]) -> None:
    assert endpoints == route.match(kind, known, ["direct"])


def test_only_a_servers_fault_is_a_failure() -> None:
    assert [classify.response(status) for status in (101, 200, 302, 404, 429, 499, 500, 503, 599)] == (
        [True] * 6 + [False] * 3
    )
