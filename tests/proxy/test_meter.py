"""Series: bounded, expired, held by reference; rendered as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from contract.report import Peer
from proxy import render
from proxy.meter import HttpSeries, Meter
from proxy.policy import classify
from proxy.report import http_totals


def labels(address: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("direction", "outbound"), ("target_addr", address), *more)


def test_series_above_the_bound_fall_into_one_overflow_series_of_their_direction() -> None:
    meter = Meter(max_series_count=20)
    taken = [meter.take_http(labels(f"10.0.0.{n}:80"), Peer(service="web")) for n in range(100)]

    assert len(meter.http) <= 20
    assert len({id(series) for series in taken[50:]}) == 1
    assert taken[-1].labels == (("direction", "outbound"), ("target_addr", "overflow"))
    assert taken[-1].peer == Peer()
    assert meter.overflows_count == 100 - 16


def test_a_series_expires_only_when_nobody_holds_it_and_nothing_changes() -> None:
    meter = Meter(100)
    held = meter.take_tcp(labels("a"), Peer())
    released = meter.take_tcp(labels("b"), Peer())
    meter.give(released)
    meter.expire(0.0, 600.0)
    meter.expire(599.0, 600.0)
    assert len(meter.tcp) == 2

    released.read_bytes += 1
    meter.expire(601.0, 600.0)
    assert len(meter.tcp) == 2

    meter.expire(1300.0, 600.0)
    assert list(meter.tcp.values()) == [held]


def test_prometheus_reads_what_is_rendered_with_any_label_value() -> None:
    meter = Meter(100)
    value = 'a"b\\c\nd'
    series = meter.take_http(labels("a", ("dst_pod", value)), Peer())
    series.requests += 3
    for latency_ms in (0.5, 1.0, 1.01, 60000.0):
        series.status(200, True).record(latency_ms)
    tcp = meter.take_tcp(labels("a"), Peer())
    tcp.opened = tcp.open_now = 1
    tcp.close("ECONNRESET")
    meter.count("http1_faults_total", (("reason", "bad-chunk"),))
    families = {f.name: f for f in text_string_to_metric_families("".join(render.render(meter)))}
    buckets = {s.labels.get("le"): s.value for s in families["response_latency_ms"].samples}

    assert families["request"].samples[0].labels["dst_pod"] == value
    assert (buckets["1"], buckets["2"], buckets["50000"], buckets["+Inf"]) == (2, 3, 3, 4)
    assert [sample.labels["errno"] for sample in families["tcp_close"].samples] == ["ECONNRESET"]
    assert families["http1_faults"].samples[0].value == 1


def test_grpc_responses_are_told_apart_by_their_status_and_judged_by_it() -> None:
    meter = Meter(100)
    series = meter.take_http(labels("a"), Peer())
    for code in ("0", "0", "5", "14", "77", "nonsense"):
        series.status(200, classify.grpc(200, code), code).record(3.0)
    series.status(200, classify.response(200)).record(3.0)
    families = {f.name: f for f in text_string_to_metric_families("".join(render.render(meter)))}
    found = {
        (s.labels.get("grpc_status", ""), s.labels["classification"]): s.value for s in families["response"].samples
    }

    assert found == {
        ("0", "success"): 2,
        ("5", "success"): 1,
        ("14", "failure"): 1,
        ("2", "failure"): 2,
        ("", "success"): 1,
    }
    assert http_totals(series)[:2] == (4, 3)


def test_a_server_that_makes_up_grpc_statuses_makes_no_series_of_its_own() -> None:
    series = HttpSeries((), Peer())
    for code in range(1000):
        series.status(200, False, str(code)).record(1.0)

    assert len(series.by_status) == 17
    assert sum(found.count for found in series.by_status.values()) == 1000
