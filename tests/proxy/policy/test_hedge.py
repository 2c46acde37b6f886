"""Hedging: after what delay, and whether at all."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.policy import Budget, Hedging
from proxy.policy import hedge
from proxy.policy.budget import Account
from proxy.policy.hedge import NEVER, Sketch


def test_a_fixed_delay_is_just_that() -> None:
    assert hedge.after_s(Hedging(delay_s=0.2), None, 100.0) == 0.2
    assert hedge.after_s(Hedging(), None, 100.0) == 0.0


def test_a_percentile_says_nothing_before_there_are_latencies_enough() -> None:
    sketch = Sketch(95.0)
    told = []
    for number in range(21):
        told.append(hedge.after_s(Hedging(percentile=95.0), sketch, 100.0))
        sketch.record(0.01 + number * 1e-4, 100.0)

    assert told[:20] == [NEVER] * 20
    assert told[20] > 0.0
    assert hedge.after_s(Hedging(delay_s=0.5, percentile=95.0), Sketch(95.0), 100.0) == 0.5


def test_the_delay_is_the_least_that_a_percentile_gives() -> None:
    sketch = Sketch(50.0)
    for _ in range(100):
        sketch.record(0.001, 100.0)

    assert hedge.after_s(Hedging(delay_s=0.2, percentile=50.0), sketch, 100.0) == 0.2


@given(st.lists(st.floats(1e-4, 100.0), min_size=20, max_size=300), st.floats(1.0, 100.0))
def test_a_percentile_is_at_most_a_tenth_too_high(latencies_s: list[float], percentile: float) -> None:
    sketch = Sketch(percentile)
    for latency_s in latencies_s:
        sketch.record(latency_s, 100.0)
    rank = max(1, -int(-len(latencies_s) * percentile // 100))
    exact_s = sorted(latencies_s)[rank - 1]

    assert exact_s * 0.999 <= sketch.value_s(100.0) <= exact_s * 1.1001


def test_latencies_out_of_scale_are_kept_in_the_outermost_buckets() -> None:
    sketch = Sketch(100.0)
    for _ in range(20):
        sketch.record(0.0, 100.0)
    assert sketch.value_s(100.0) == hedge.SCALE_MIN_S

    sketch = Sketch(100.0)
    for _ in range(20):
        sketch.record(1e6, 100.0)
    assert 100.0 < sketch.value_s(100.0) < 200.0


def test_old_latencies_are_forgotten_within_two_windows() -> None:
    sketch = Sketch(50.0)
    for _ in range(100):
        sketch.record(1.0, 100.0)
    for number in range(100):
        sketch.record(0.01, 111.0 + number / 100)
    assert sketch.value_s(112.0) < 1.2
    for number in range(100):
        sketch.record(0.01, 121.5 + number / 100)

    assert sketch.value_s(122.6) == pytest.approx(0.01, rel=0.11)
    assert sketch.value_s(200.0) == NEVER


def test_a_percentile_follows_the_latencies_with_little_delay() -> None:
    sketch = Sketch(50.0)
    for _ in range(30):
        sketch.record(0.01, 100.0)
    assert sketch.value_s(100.0) == pytest.approx(0.01, rel=0.11)
    for _ in range(200):
        sketch.record(0.5, 100.0)

    assert sketch.value_s(100.0) == pytest.approx(0.5, rel=0.11)
    assert repr(sketch) == "<Sketch p50 of 230>"


def test_hedging_after_the_95th_percentile_concerns_five_in_a_hundred() -> None:
    random = Random(3)
    sketch = Sketch(95.0)
    hedged = 0
    for number in range(5000):
        now_s = 100.0 + number / 200
        latency_s = random.expovariate(20.0)
        after_s = hedge.after_s(Hedging(percentile=95.0), sketch, now_s)
        hedged += 0.0 <= after_s < latency_s
        sketch.record(latency_s, now_s)

    assert 0.03 < hedged / 5000 < 0.06


@pytest.mark.parametrize(
    ("method", "hedges_count", "is_held", "told"),
    [
        (b"GET", 0, True, ""),
        (b"PUT", 1, True, ""),
        (b"POST", 0, True, "method"),
        (b"GET", 2, True, "limit"),
        (b"PUT", 0, False, "body"),
    ],
)
def test_a_hedge_needs_a_method_a_limit_and_the_body(
    method: bytes, hedges_count: int, is_held: bool, told: str
) -> None:
    account = Account(Budget())
    before = account.balance(1.0)

    assert hedge.judge(Hedging(limit_count=2), method, hedges_count, is_held, account, 1.0) == told
    assert account.balance(1.0) == before - (told == "")


def test_hedges_and_retries_have_one_budget() -> None:
    account = Account(Budget(ratio=0.0, min_per_s=0.2, window_s=10.0))
    account.withdraw(1.0)

    assert [hedge.judge(Hedging(), b"GET", 0, True, account, 1.0) for _ in range(2)] == ["", "budget"]
