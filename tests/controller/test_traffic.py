"""Reports are counted once, within bounds."""

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
