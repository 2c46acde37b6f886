"""Rounds become rows, rows become tables and the page, without losing or mixing any."""

from dataclasses import replace
from string import Template

from bench.cases import GROUPS, QUICK
from bench.discovery import FEATURES, policy, update
from bench.report import TEMPLATE
from bench.rivals import envoy, haproxy
from bench.rows import Row, as_json, merge_all, of_envoy
from bench.setups import ECHO, HTTP2_FEATURES, REPLICAS
from bench.tables import SPECS, markdown, rich_tables, rows_of

ROW = Row("http1", "tulle", 8, cpu_us_per_request=20.0, requests_per_s=1000.0, p99_ms=1.0)


def test_rounds_of_one_measurement_become_their_median_and_spread() -> None:
    rounds = [replace(ROW, cpu_us_per_request=cost) for cost in (30.0, 10.0, 20.0)]

    (row,) = merge_all(rounds)

    assert (20.0, 10.0, 30.0, 3) == (row.cpu_us_per_request, row.low, row.high, row.rounds)


def test_rows_that_differ_in_shape_or_system_are_not_merged() -> None:
    others = [replace(ROW, connections=64), replace(ROW, system="envoy"), replace(ROW, features="on")]

    assert len(merge_all([ROW, *others])) == 4


def test_the_share_of_envoy_is_of_the_same_shape() -> None:
    rows = [
        ROW,
        replace(ROW, system="envoy", cpu_us_per_request=40.0),
        replace(ROW, system="envoy", connections=64, cpu_us_per_request=80.0),
    ]

    assert of_envoy(rows, ROW, "cpu_us_per_request") == 0.5
    assert of_envoy(rows[:1], ROW, "cpu_us_per_request") is None


def test_json_keeps_the_fields_of_old_and_leaves_out_what_says_nothing() -> None:
    fields = as_json(Row("memory", "envoy", 0, rss_mb=60.0))

    assert fields["p50_ms"] is None
    assert "gb_per_s" not in fields


def test_every_row_stands_in_exactly_one_table() -> None:
    cases = [name for spec in SPECS for name in spec.cases]
    rows = [replace(ROW, case=case, features=flag) for case in set(cases) for flag in (None, "on")]
    shown = [row for spec in SPECS for row in rows_of(spec, rows)]

    assert len(shown) == len(set(shown))
    assert {row.case for row in shown} == set(cases)
    assert len(rich_tables([ROW])) == 1


def test_the_page_has_a_place_for_every_table() -> None:
    text = TEMPLATE.read_text()

    assert all(f"$table_{spec.name.replace('-', '_')}\n" in text for spec in SPECS)
    assert Template(text).is_valid()
    assert "**tulle**" in markdown(SPECS[0], [ROW])


def test_quick_cases_exist() -> None:
    assert set(QUICK) <= {group.case for group in GROUPS}


def test_all_systems_are_promised_the_same() -> None:
    cluster = envoy(HTTP2_FEATURES, "10.0.0.1", 1)["static_resources"]["clusters"][0]
    assert FEATURES.retries is not None
    assert FEATURES.circuit_breaker is not None

    assert cluster["outlier_detection"]["consecutive_5xx"] == FEATURES.circuit_breaker.consecutive_failures_count
    assert f"retries {FEATURES.retries.limit_count}\n" in haproxy(HTTP2_FEATURES, "10.0.0.1", 1)
    assert policy(HTTP2_FEATURES) == FEATURES


def test_a_set_up_says_the_same_servers_to_all() -> None:
    (destination,) = update(REPLICAS).destinations
    (cluster,) = envoy(REPLICAS, "10.0.0.1", 1)["static_resources"]["clusters"]

    assert len(destination.endpoints) == len(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 3
    assert update(ECHO).destinations[0].protocol == "opaque"
    assert "mode tcp" in haproxy(ECHO, "10.0.0.1", 1)
