"""Rolling windows: nothing is lost, nothing is invented, rates are what an operator expects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.metrics import LATENCY_BUCKETS_MS
from controller.windows import (
    COLUMNS_COUNT,
    LATENCY_COUNT,
    SLOT_S,
    SLOTS_COUNT,
    SUCCESS,
    WINDOW_S,
    Sample,
    Series,
    Span,
    plan,
    quantile,
    spread,
    total,
    window,
)

counts = st.integers(0, 2**40)
times = st.floats(0, 1e6)


@given(counts, times, st.floats(0, 3600))
def test_spread_loses_no_count_and_stays_within_the_interval(count: int, end_s: float, length_s: float):
    shares = spread(count, Span(max(0.0, end_s - length_s), end_s))
    assert sum(share for _, share in shares) == count
    assert all(share >= 0 for _, share in shares)
    assert shares[0][0] >= int((end_s - length_s) // SLOT_S)
    assert shares[-1][0] == int(end_s // SLOT_S)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (10.0, 20.0, [(1, 30), (2, 0)]),
        (14.0, 24.0, [(1, 18), (2, 12)]),
        (5.0, 35.0, [(0, 5), (1, 10), (2, 10), (3, 5)]),
        (12.0, 12.0, [(1, 30)]),
    ],
)
def test_spread_is_in_proportion_to_the_overlap(start_s: float, end_s: float, expected: list[tuple[int, int]]):
    assert spread(30, Span(start_s, end_s)) == expected


def test_long_span_has_few_points_and_its_newest_slots_have_their_own():
    points = plan(Span(0.0, 3600.0))
    assert len(points) < 80
    slots = [slot for slot, _ in points]
    assert slots == sorted(set(slots))
    assert slots[-15:] == list(range(346, 361))


@pytest.mark.parametrize("window_s", [30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0])
@pytest.mark.parametrize("later_s", [0.0, 300.0, 900.0])
def test_window_over_a_long_report_reads_the_rate_of_the_report(window_s: float, later_s: float):
    span, now_s = Span(400.0, 4000.0), 4000.0 + later_s
    series = Series(born_s=span.start_s, last_s=span.end_s, newest=400)
    for slot, share in spread(36_000, span):
        series.add(SUCCESS, slot, share)
    asked = Span(max(span.start_s, now_s - window_s), now_s)
    totals = [0.0] * COLUMNS_COUNT
    series.advance(int(now_s // SLOT_S))
    series.add_to(totals, asked, until_s=now_s)
    true = max(0.0, span.end_s - asked.start_s) * 10.0
    assert totals[SUCCESS] == pytest.approx(true, rel=0.07, abs=1.0)


def counted(series: Series, span: Span, column: int = SUCCESS) -> float:
    totals = [0.0] * COLUMNS_COUNT
    series.add_to(totals, span, until_s=1e9)
    return totals[column]


def series_at(slot: int) -> Series:
    return Series(born_s=slot * SLOT_S, last_s=slot * SLOT_S, newest=slot)


@given(st.lists(st.tuples(st.integers(0, 3 * SLOTS_COUNT), st.integers(0, 2**33)), min_size=1, max_size=60))
def test_ring_tells_what_a_plain_dictionary_tells(additions: list[tuple[int, int]]):
    series, plain, newest = series_at(0), {}, 0
    for slot, count in additions:
        newest = max(newest, slot)
        series.advance(newest)
        series.add(SUCCESS, slot, count)
        if slot > newest - SLOTS_COUNT:
            plain[slot] = plain.get(slot, 0) + count
    for length in (1, 6, 30, 360):
        first = max(0, newest - length + 1)
        expected = sum(count for slot, count in plain.items() if first <= slot <= newest)
        assert counted(series, Span(first * SLOT_S, (newest + 1) * SLOT_S)) == pytest.approx(expected)


def test_cut_slots_count_by_their_share():
    series = series_at(0)
    series.advance(3)
    for slot in range(4):
        series.add(SUCCESS, slot, 100)
    assert counted(series, Span(5.0, 25.0)) == pytest.approx(50 + 100 + 50)
    assert counted(series, Span(12.0, 16.0)) == pytest.approx(40)
    assert counted(series, Span(0.0, 40.0)) == 400


def test_counts_widen_without_loss():
    series = series_at(0)
    for count in (200, 100, 70_000, 2**33, 2**40):
        series.add(SUCCESS, 0, count)
    assert counted(series, Span(0.0, SLOT_S)) == 200 + 100 + 70_000 + 2**33 + 2**40


def test_quiet_series_stay_small():
    series = series_at(0)
    for column in (0, 1, 2, SUCCESS):
        for slot in range(360):
            series.advance(slot)
            series.add(column, slot, 200)
    assert series.memory_bytes == 4 * SLOTS_COUNT


def test_series_silent_for_longer_than_the_ring_starts_empty():
    series = series_at(0)
    series.add(SUCCESS, 0, 7)
    series.advance(10 * SLOTS_COUNT)
    assert counted(series, Span(0.0, 10 * SLOTS_COUNT * SLOT_S)) == 0


# --- which stretch of time a window stands for


def sample(born_s: float, until_s: float, success: int = 0, slots: range = range(0)) -> Sample:
    series = Series(born_s=born_s, last_s=until_s, newest=int(until_s // SLOT_S))
    for slot in slots:
        series.add(SUCCESS, slot, success)
    return Sample(series, until_s)


def test_window_ends_with_the_last_report_of_the_slowest_live_sidecar():
    assert window([sample(0, 990), sample(0, 995)], 60, 1000) == Span(930, 990)


def test_sidecar_that_has_gone_does_not_hold_the_window_back():
    assert window([sample(0, 900), sample(0, 995)], 60, 1000) == Span(935, 995)
    assert window([sample(0, 900)], 60, 1000) == Span(940, 1000)


def test_window_begins_no_earlier_than_traffic_was_seen():
    assert window([sample(975, 995), sample(980, 995)], 60, 1000) == Span(975, 995)


def test_window_is_never_shorter_than_a_second():
    assert window([sample(995, 995)], 60, 1000).length_s == 1.0


def test_rate_right_after_traffic_began_is_the_rate_of_that_traffic():
    """Twenty seconds at 10 requests per second, asked over one minute: 10, not 3.3."""
    one = sample(born_s=980, until_s=1000, success=100, slots=range(98, 100))
    sums = total([one], 60, 1001)
    assert sums.counts[SUCCESS] / sums.covered_s == pytest.approx(10.0)


def test_rolling_restart_does_not_double_the_rate():
    """One pod's ten requests per second pass to another in mid-window: the sum stays ten."""
    old = sample(born_s=0, until_s=970, success=100, slots=range(94, 97))
    new = sample(born_s=970, until_s=1000, success=100, slots=range(97, 100))
    sums = total([old, new], 60, 1001)
    assert sums.counts[SUCCESS] / sums.covered_s == pytest.approx(10.0)


@given(st.integers(1, 3600), st.floats(1e4, 1e6), st.floats(0, 15))
def test_steady_traffic_has_the_same_rate_in_every_window(window_s: int, now_s: float, age_s: float):
    until_s = now_s - age_s
    newest = int(until_s // SLOT_S)
    series = Series(born_s=0, last_s=until_s, newest=newest)
    for slot in range(newest - SLOTS_COUNT + 1, newest):
        series.add(SUCCESS, slot, 1000)
    series.add(SUCCESS, newest, round(1000 * (until_s - newest * SLOT_S) / SLOT_S))
    sums = total([Sample(series, until_s)], max(window_s, 10), now_s)
    assert sums.counts[SUCCESS] / sums.covered_s == pytest.approx(100, abs=0.1)


@given(st.floats(0, 10), st.integers(1, 6))
def test_traffic_that_began_in_mid_slot_is_rated_from_its_beginning(phase_s: float, reports: int):
    """Whatever the phase of the slots: ten seconds a report, 50 requests each, asked over a minute."""
    born_s = 1000 + phase_s
    series = Series(born_s=born_s, last_s=born_s, newest=int(born_s // SLOT_S))
    until_s = born_s
    for _ in range(reports):
        span = Span(until_s, until_s + 10)
        until_s += 10
        series.advance(int(until_s // SLOT_S))
        for slot, share in spread(50, span):
            series.add(SUCCESS, slot, share)
    sums = total([Sample(series, until_s)], 60, until_s + 3)
    assert sums.counts[SUCCESS] / sums.covered_s == pytest.approx(5.0)


# --- quantiles


def histogram(**buckets: int) -> list[float]:
    found = [0.0] * LATENCY_COUNT
    for name, count in buckets.items():
        found[LATENCY_BUCKETS_MS.index(int(name[1:])) if name != "inf" else -1] = count
    return found


@pytest.mark.parametrize(
    ("buckets", "ratio", "expected_ms"),
    [
        ({"_1": 10}, 0.5, 0.5),
        ({"_10": 100}, 0.5, 7.5),
        ({"_10": 100}, 1.0, 10.0),
        ({"_10": 50, "_20": 50}, 0.5, 10.0),
        ({"_10": 50, "_20": 50}, 0.95, 19.0),
        ({"_1": 99, "_50000": 1}, 0.99, 1.0),
        ({"inf": 3}, 0.5, 50000.0),
        ({}, 0.5, None),
    ],
)
def test_quantiles_are_interpolated_as_prometheus_does(buckets, ratio: float, expected_ms: float | None):
    assert quantile(histogram(**buckets), ratio) == (None if expected_ms is None else pytest.approx(expected_ms))


@given(st.lists(st.floats(0, 1e6), min_size=LATENCY_COUNT, max_size=LATENCY_COUNT))
def test_quantiles_are_ordered_and_within_the_buckets(found: list[float]):
    values = [quantile(found, ratio) for ratio in (0.5, 0.95, 0.99)]
    if None in values:
        assert sum(found) <= 0
    else:
        assert 0 <= values[0] <= values[1] <= values[2] <= LATENCY_BUCKETS_MS[-1]


def test_ring_is_longer_than_the_longest_window():
    assert SLOTS_COUNT * SLOT_S > WINDOW_S + 2 * SLOT_S
