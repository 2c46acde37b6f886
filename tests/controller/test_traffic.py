"""Reports are counted once, within bounds."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.metrics import LATENCY_BUCKETS_MS
from contract.report import Direction, HttpSeries, Peer, Report, TcpSeries
from controller.objects import NO_OWNER, Key, Owner
from controller.traffic import EXPIRY_S, SEQUENCES_COUNT, Sequences, Traffic
from controller.windows import SUCCESS, total

WEB = Owner("deployment", "web")


def http(direction: Direction = "inbound", peer: Peer | None = None, success: int = 1) -> HttpSeries:
    latency = (success,) + (0,) * len(LATENCY_BUCKETS_MS)
    return HttpSeries(direction, peer or Peer(), success, 0, latency, float(success))


def tcp(open_now: int, direction: Direction = "inbound", peer: Peer | None = None) -> TcpSeries:
    return TcpSeries(direction, peer or Peer(), 1, 0, open_now, 10, 20)


def report(*series: HttpSeries | TcpSeries, pod: str = "web-1", instance: str = "a", sequence: int = 1) -> Report:
    return Report(
        namespace="shop",
        pod=pod,
        instance=instance,
        sequence=sequence,
        interval_s=10.0,
        http=tuple(item for item in series if isinstance(item, HttpSeries)),
        tcp=tuple(item for item in series if isinstance(item, TcpSeries)),
    )


def requests_count(traffic: Traffic, now_s: float, direction: Direction = "inbound") -> float:
    return total([sample for _, _, sample in traffic.samples(direction)], 3600, now_s).counts[SUCCESS]


def open_count(traffic: Traffic, now_s: float) -> int | None:
    return total([sample for _, _, sample in traffic.samples("inbound")], 60, now_s).open_now


def test_report_that_comes_twice_is_counted_once():
    traffic = Traffic(10, 10)
    assert traffic.ingest(report(http()), WEB, 100.0)
    assert not traffic.ingest(report(http()), WEB, 101.0)
    assert traffic.ingest(report(http(), sequence=2), WEB, 110.0)
    assert requests_count(traffic, 110.0) == 2


def test_restarted_sidecar_begins_a_sequence_of_its_own():
    traffic = Traffic(10, 10)
    traffic.ingest(report(http(), tcp(5), sequence=9), WEB, 100.0)
    assert traffic.ingest(report(http(), instance="b", sequence=1), WEB, 110.0)
    assert requests_count(traffic, 110.0) == 2
    assert open_count(traffic, 110.0) == 0  # the connections of the old process are gone


@given(st.lists(st.integers(0, 300), max_size=80))
def test_no_sequence_is_counted_twice_and_recent_ones_are_all_counted(numbers: list[int]):
    sequences, counted = Sequences(), set()
    for number in numbers:
        highest = max(counted, default=-1)
        is_new = sequences.is_new(number)
        if number in counted:
            assert not is_new
        elif number > highest - SEQUENCES_COUNT:
            assert is_new
        counted |= {number} if is_new else set()


def test_instances_remembered_are_bounded():
    traffic = Traffic(10, 10)
    for number in range(50):
        traffic.ingest(report(http(), instance=str(number)), WEB, 100.0 + number)
    assert len(traffic.sources[Key("shop", "web-1")].instances) == 4


def test_last_known_owner_stays_when_the_pod_is_gone():
    traffic = Traffic(10, 10)
    traffic.ingest(report(http()), WEB, 100.0)
    traffic.ingest(report(http(), sequence=2), NO_OWNER, 110.0)
    assert traffic.sources[Key("shop", "web-1")].owner == WEB


def test_gauge_is_the_last_reported_value_and_ends_with_the_sidecar():
    traffic = Traffic(10, 10)
    traffic.ingest(report(tcp(3)), WEB, 100.0)
    assert open_count(traffic, 100.0) == 3
    traffic.ingest(report(http(), sequence=2), WEB, 110.0)
    assert open_count(traffic, 110.0) == 3
    traffic.ingest(report(tcp(0), sequence=3), WEB, 120.0)
    assert open_count(traffic, 120.0) == 0
    assert open_count(traffic, 200.0) is None


def test_wrong_number_of_buckets_is_refused_whole_and_names_the_field():
    traffic = Traffic(10, 10)
    bad = HttpSeries("inbound", Peer(), 1, 0, (1,), 1.0)
    with pytest.raises(ValueError, match=r"Expected 26 counts, got 1 - at `\$\.http\[1\]\.latency_ms`"):
        traffic.ingest(report(http(), bad), WEB, 100.0)
    assert traffic.statistics().sources_count == 0
    assert traffic.ingest(report(http()), WEB, 100.0)


def test_peers_beyond_the_bound_are_counted_together_and_the_loss_is_told():
    traffic = Traffic(10, 2)
    peers = [http("outbound", Peer(service=f"s{number}")) for number in range(5)]
    open_ones = [tcp(2, "outbound", Peer(service=f"s{number}")) for number in range(5)]
    traffic.ingest(report(*peers, *open_ones), WEB, 100.0)
    assert requests_count(traffic, 100.0, "outbound") == 5
    assert traffic.overflow_count == 6
    assert traffic.statistics().series_count == 3
    sums = total([sample for _, _, sample in traffic.samples("outbound")], 60, 100.0)
    assert sums.open_now == 10


def test_sidecars_beyond_the_bound_are_not_kept_and_the_loss_is_told():
    traffic = Traffic(1, 10)
    traffic.ingest(report(http()), WEB, 100.0)
    assert traffic.ingest(report(http(), pod="web-2"), WEB, 100.0)
    assert traffic.statistics().sources_count == 1
    assert traffic.overflow_count == 1


def test_what_no_window_can_show_is_forgotten():
    traffic = Traffic(10, 10)
    traffic.ingest(report(http()), WEB, 100.0)
    traffic.ingest(report(http("outbound"), sequence=2), WEB, 200.0)
    traffic.expire(100.0 + EXPIRY_S + 1)
    assert traffic.statistics().series_count == 1
    traffic.expire(200.0 + EXPIRY_S + 1)
    assert (traffic.statistics().series_count, traffic.statistics().sources_count) == (0, 0)


def test_kept_report_is_dated_to_its_own_time_and_the_next_to_its_own():
    """After an outage both arrive at once; dated to now, the rate read up to twice too high."""
    traffic = Traffic(10, 10)
    kept = msgspec.structs.replace(report(http(success=100)), age_s=60.0)
    since = msgspec.structs.replace(report(http(success=600), sequence=2), interval_s=60.0)
    traffic.ingest(kept, WEB, 1000.0)
    traffic.ingest(since, WEB, 1000.0)
    sums = total([sample for _, _, sample in traffic.samples("inbound")], 60, 1000.0)
    assert (sums.counts[SUCCESS] / sums.covered_s) == pytest.approx(10.0)
    assert requests_count(traffic, 1000.0) == 700
    assert traffic.sources[Key("shop", "web-1")].reported_until_s == 1000.0


def test_report_that_arrives_after_a_younger_one_does_not_turn_time_back():
    traffic = Traffic(10, 10)
    traffic.ingest(report(http(), sequence=2), WEB, 1000.0)
    traffic.ingest(msgspec.structs.replace(report(http()), age_s=50.0), WEB, 1000.0)
    assert traffic.sources[Key("shop", "web-1")].reported_until_s == 1000.0
    assert requests_count(traffic, 1000.0) == 2


WIDE = 2**40


def wide(pod: str, count: int = 500, sequence: int = 1) -> Report:
    """Every bucket of every peer holds more than fits in four bytes, over an hour."""
    latency = (WIDE,) * (len(LATENCY_BUCKETS_MS) + 1)
    series = (HttpSeries("outbound", Peer(service=f"s{n}"), WIDE, WIDE, latency, 1.0) for n in range(count))
    return msgspec.structs.replace(report(*series, pod=pod, sequence=sequence), interval_s=3600.0)


def test_memory_of_one_sidecar_is_bounded_and_its_totals_stay_true():
    traffic = Traffic(10, 10_000, max_source_bytes=1 << 20)
    traffic.ingest(wide("web-1"), WEB, 5000.0)
    source = traffic.sources[Key("shop", "web-1")]
    assert source.held_bytes <= (1 << 20) + 200_000  # one series more, and the nameless one
    assert traffic.held_bytes == source.held_bytes == sum(series.held_bytes for series in source.series.values())
    assert requests_count(traffic, 5000.0, "outbound") == pytest.approx(500 * WIDE)
    assert traffic.overflow_count > 400


def test_series_that_grow_wider_later_are_bounded_too():
    traffic = Traffic(10, 10_000, max_source_bytes=1 << 20)
    narrow = [http("outbound", Peer(service=f"s{n}")) for n in range(250)]
    traffic.ingest(report(*narrow), WEB, 5000.0)
    assert traffic.overflow_count == 0
    traffic.ingest(wide("web-1", 250, sequence=2), WEB, 5000.0)
    assert traffic.held_bytes < 3 << 20
    assert traffic.shed_count > 0


def test_when_all_is_full_the_sidecar_that_holds_most_gives_way():
    traffic = Traffic(10, 10_000, max_bytes=2 << 20, max_source_bytes=2 << 20)
    traffic.ingest(wide("greedy"), WEB, 5000.0)
    for sequence in (1, 2):
        traffic.ingest(report(http("outbound", Peer(service="a")), pod="web-2", sequence=sequence), WEB, 5000.0)
    assert traffic.held_bytes <= 2 << 20
    assert ("outbound", Peer(service="a")) in traffic.sources[Key("shop", "web-2")].series
    assert set(traffic.sources[Key("shop", "greedy")].series) == {("outbound", Peer())}


def test_when_all_is_full_pods_that_are_gone_give_way_before_any_that_lives():
    gone = Key("shop", "gone")
    traffic = Traffic(10, 10_000, max_bytes=2 << 20, max_source_bytes=2 << 20, is_live=lambda key: key != gone)
    traffic.ingest(report(http("outbound", Peer(service="a")), pod="web-2"), WEB, 4000.0)
    traffic.ingest(report(http(), pod="gone"), WEB, 5000.0)
    traffic.ingest(wide("greedy", 23), WEB, 5000.0)
    traffic.ingest(wide("greedy", 60, sequence=2), WEB, 5000.0)
    assert gone not in traffic.sources
    assert ("outbound", Peer(service="a")) in traffic.sources[Key("shop", "web-2")].series


def test_pod_that_lives_takes_the_place_of_one_that_is_gone_and_never_the_other_way_round():
    live = {Key("shop", "web-1"), Key("shop", "web-2")}
    traffic = Traffic(2, 10, is_live=lambda key: key in live)
    traffic.ingest(report(http(), pod="gone-1"), WEB, 100.0)
    traffic.ingest(report(http(), pod="gone-2"), WEB, 110.0)
    traffic.ingest(report(http(), pod="web-1"), WEB, 120.0)
    assert set(traffic.sources) == {Key("shop", "gone-2"), Key("shop", "web-1")}
    traffic.ingest(report(http(), pod="web-2"), WEB, 120.0)
    traffic.ingest(report(http(), pod="invented"), WEB, 130.0)
    assert set(traffic.sources) == live


def test_longest_report_is_counted_in_a_bounded_number_of_steps():
    """12 s of processor time where every count was spread over every slot of the hour."""
    traffic = Traffic(10, 10_000)
    began_s = time.process_time()
    traffic.ingest(wide("web-1", 2000), WEB, 5000.0)
    assert time.process_time() - began_s < 2.0
