"""TrafficPolicy and FaultInjection as users write them: what they mean, and what is said of their faults."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contract.kinds import fields, parse_weight
from contract.kinds.injection import read_fault_injection
from contract.kinds.reading import FAULTS_SHOWN_COUNT, Faulty, Target
from contract.kinds.sections import Fault as Told
from contract.kinds.sections import Section
from contract.kinds.traffic import Backend, read_traffic_policy
from contract.policy import (
    Affinity,
    Balancing,
    Budget,
    CircuitBreaker,
    Concurrency,
    Fault,
    Hash,
    Hedging,
    Match,
    Mirror,
    Rate,
    RateLimit,
    Retries,
    ServicePolicy,
    Timeouts,
)
from tests.contract.kinds import ODD, Object, fault_injection, section, traffic_policy

DOCS = Path(__file__).parents[2] / "docs" / "policy.md"


def told(read: Any, obj: Any) -> list[str]:
    with pytest.raises(Faulty) as caught:
        read(obj)
    return str(caught.value).splitlines()


def of(**spec: Any) -> ServicePolicy:
    return read_traffic_policy(traffic_policy(**spec)).policy


# --- what is written is what is meant


def test_a_policy_that_says_nothing_changes_nothing() -> None:
    read = read_traffic_policy(traffic_policy())

    assert (Target("web", ""), ServicePolicy(), None) == read


def test_a_part_without_words_has_the_defaults_of_the_wire() -> None:
    assert Retries() == of(retries={}).retries
    assert Retries() == of(retries={"retryOn": {}, "backoff": {}}).retries
    assert Budget() == of(retryBudget={}).budget
    assert Balancing() == of(loadBalancing={}).balancing
    assert Timeouts() == of(timeouts={}).timeouts
    assert CircuitBreaker(consecutive_failures_count=5) == of(circuitBreaker={"consecutiveFailures": 5}).circuit_breaker
    assert Concurrency(limit_count=8) == of(concurrency={"service": {"limit": 8}}).service_concurrency
    assert Mirror(target="") == of(mirror={"backendRef": {"name": "b", "port": 80}}).mirror
    assert (Fault(delay_s=0.1),) == read_fault_injection(fault_injection({"delay": "100ms"})).faults


def test_every_field_of_a_traffic_policy_has_its_meaning() -> None:
    read = read_traffic_policy(
        {
            "apiVersion": "policy.tulle.mesh/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": "web"},
            "spec": {
                "targetRef": {"group": "", "kind": "Service", "name": "web", "sectionName": "http"},
                "timeouts": {"request": "2s", "perTry": "250ms", "response": "1s500ms", "idle": "1m"},
                "retries": {
                    "limit": 3,
                    "retryOn": {
                        "statusCodes": ["502-504", 503, "429"],
                        "grpcStatuses": ["unavailable", "cancelled"],
                        "connectFailure": False,
                        "reset": True,
                    },
                    "methods": ["GET", "POST"],
                    "backoff": {"min": "10ms", "max": "1s"},
                    "bodyLimit": "128Ki",
                },
                "retryBudget": {"percent": 12.5, "minPerSecond": 3, "window": "30s"},
                "hedging": {"percentile": 95, "limit": 2},
                "circuitBreaker": {
                    "consecutiveFailures": 7,
                    "successRate": {"percent": 90, "window": "20s", "minRequests": 50},
                    "ejection": {"min": "2s", "max": "30s", "maxPercent": 25},
                },
                "concurrency": {
                    "service": {"limit": 100, "queue": 50, "queueTimeout": "200ms"},
                    "endpoint": {"limit": 10},
                },
                "rateLimit": {
                    "service": {"requestsPerSecond": 10.5},
                    "client": {"requestsPerSecond": 1, "burst": 5},
                },
                "mirror": {
                    "backendRef": {"name": "next", "namespace": "lab", "port": 8080},
                    "percent": 10,
                    "compare": False,
                    "ignoreHeaders": ["Date", "X-Trace"],
                },
                "loadBalancing": {
                    "algorithm": "RingHash",
                    "hashOn": {"header": "X-User"},
                    "slowStart": "30s",
                    "preferZone": False,
                },
            },
        }
    )

    assert Target("web", "http") == read.target
    assert Backend("lab", "next", 8080) == read.backend
    assert read.policy == ServicePolicy(
        timeouts=Timeouts(request_s=2, per_try_s=0.25, response_s=1.5, idle_s=60),
        retries=Retries(
            limit_count=3,
            statuses=((429, 429), (502, 504)),
            grpc_statuses=(1, 14),
            on_connect_failure=False,
            on_reset=True,
            methods=("GET", "POST"),
            backoff_min_s=0.01,
            backoff_max_s=1,
            body_bytes=131072,
        ),
        budget=Budget(ratio=0.125, min_per_s=3, window_s=30),
        hedging=Hedging(percentile=95, limit_count=2),
        circuit_breaker=CircuitBreaker(
            consecutive_failures_count=7,
            success_ratio=0.9,
            window_s=20,
            min_requests_count=50,
            ejection_min_s=2,
            ejection_max_s=30,
            max_ejected_ratio=0.25,
        ),
        service_concurrency=Concurrency(limit_count=100, queue_count=50, queue_timeout_s=0.2),
        endpoint_concurrency=Concurrency(limit_count=10),
        rate_limit=RateLimit(service=Rate(per_s=10.5, burst_count=11), client=Rate(per_s=1, burst_count=5)),
        mirror=Mirror(target="", ratio=0.1, compares=False, ignored_headers=("date", "x-trace")),
        balancing=Balancing(algorithm="ring-hash", hash=Hash(header="x-user"), slow_start_s=30, prefers_zone=False),
    )


def test_affinity_and_the_other_keys_have_their_meaning() -> None:
    affinity = of(loadBalancing={"affinity": {"cookie": "s", "ttl": "1h", "path": "/shop"}}).balancing.affinity
    by_cookie = of(loadBalancing={"algorithm": "RingHash", "hashOn": {"cookie": "Session"}}).balancing.hash
    by_address = of(loadBalancing={"algorithm": "RingHash", "hashOn": {"sourceIP": True}}).balancing.hash

    assert Affinity(cookie="s", ttl_s=3600, path="/shop") == affinity
    assert (Hash(cookie="Session"), Hash(source_ip=True)) == (by_cookie, by_address)


def test_every_field_of_a_fault_injection_has_its_meaning() -> None:
    match = {
        "methods": ["GET"],
        "path": {"type": "Exact", "value": "/cart"},
        "headers": [{"name": "X-Chaos", "value": "yes"}],
    }

    read = read_fault_injection(
        fault_injection(
            {"match": match, "percent": 0.1, "delay": "1s", "abort": {"httpStatus": 503, "grpcStatus": "unavailable"}},
            {"match": {"path": {"value": "/api"}}, "truncateAfterBytes": "1Ki", "bandwidthBytesPerSecond": 2048},
            {"reset": True},
            {"abort": {"grpcStatus": "internal"}, "reset": False},
        )
    )

    assert read.faults == (
        Fault(
            match=Match(methods=("GET",), path="/cart", headers=(("x-chaos", "yes"),)),
            ratio=0.001,
            delay_s=1,
            abort_status=503,
            abort_grpc_status=14,
        ),
        Fault(match=Match(path_prefix="/api"), truncate_bytes=1024, bandwidth_bytes_per_s=2048),
        Fault(is_reset=True),
        Fault(abort_grpc_status=13),
    )


def test_the_longest_pause_and_ejection_follow_the_shortest_where_they_are_not_written() -> None:
    retries = of(retries={"backoff": {"min": "1s"}}).retries
    breaker = of(circuitBreaker={"consecutiveFailures": 1, "ejection": {"min": "5m"}}).circuit_breaker

    assert retries is not None
    assert breaker is not None
    assert (10, 300) == (retries.backoff_max_s, breaker.ejection_max_s)


# --- faults


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"retries": {"limit": 12}}, "spec.retries.limit: 12 is more than 10; write 0 to 10"),
        ({"retries": {"limit": True}}, "spec.retries.limit: true is no whole number; write 0 to 10"),
        ({"retries": {"limt": 1}}, "spec.retries.limt: is unknown; did you mean limit?"),
        ({"retries": []}, None),
        ({"retries": {"retryOn": {"statusCodes": [600]}}}, None),
        (
            {"retries": {"retryOn": {"statusCodes": "5xx"}}},
            'spec.retries.retryOn.statusCodes: "5xx" is no list; write ["5xx"]',
        ),
        (
            {"retries": {"retryOn": {"statusCodes": ["504-502"]}}},
            'spec.retries.retryOn.statusCodes[0]: "504-502" runs backwards; write "502-504"',
        ),
        (
            {"retries": {"retryOn": {"grpcStatuses": ["DeadlineExceeded"]}}},
            'spec.retries.retryOn.grpcStatuses[0]: "DeadlineExceeded" is no name of a gRPC status; '
            "write deadline-exceeded",
        ),
        (
            {"retries": {"retryOn": {"grpcStatuses": [14]}}},
            "spec.retries.retryOn.grpcStatuses[0]: 14 is no name of a gRPC status; write unavailable",
        ),
        (
            {"retries": {"retryOn": {"connectFailure": False}}},
            "spec.retries.retryOn: names nothing to try again after; write connectFailure, reset or statuses",
        ),
        ({"retries": {"methods": ["get"]}}, None),
        ({"retries": {"methods": []}}, "spec.retries.methods: has 0 items; write at least 1"),
        (
            {"retries": {"backoff": {"min": "1s", "max": "500ms"}}},
            "spec.retries.backoff.max: 500ms is less than min, 1s; write 1s or more",
        ),
        (
            {"retries": {"bodyLimit": "2Mi"}},
            'spec.retries.bodyLimit: "2Mi" is more than 1Mi; write 0 to 1Mi',
        ),
        ({"timeouts": {"request": 5}}, 'spec.timeouts.request: 5 is no duration; it has no unit; write "5s" or "5ms"'),
        (
            {"timeouts": {"request": "1.5s"}},
            'spec.timeouts.request: "1.5s" is no duration; it has decimals; write 1s500ms',
        ),
        ({"timeouts": {"request": "25h"}}, "spec.timeouts.request: 25h is more than 24h; write 0s to 24h"),
        (
            {"timeouts": {"request": "1s", "perTry": "2s"}},
            "spec.timeouts.perTry: 2s is more than request, 1s, and would never be up; write 1s or less",
        ),
        (
            {"hedging": {"delay": "1s", "percentile": 95}},
            "spec.hedging: has both delay and percentile; write one of them",
        ),
        ({"hedging": {}}, "spec.hedging: says not when; write delay or percentile"),
        (
            {"hedging": {"delay": "2s"}, "timeouts": {"request": "2s"}},
            "spec.hedging.delay: 2s is not less than timeouts.request, 2s; write less than 2s",
        ),
        (
            {"circuitBreaker": {}},
            "spec.circuitBreaker: judges by nothing; write consecutiveFailures or successRate, or both",
        ),
        (
            {"circuitBreaker": {"successRate": {}}},
            "spec.circuitBreaker.successRate.percent: is missing; write 1 to 100",
        ),
        ({"rateLimit": {}}, "spec.rateLimit: limits nothing; write service or client, or both"),
        (
            {"rateLimit": {"client": {"requestsPerSecond": 0}}},
            "spec.rateLimit.client.requestsPerSecond: 0 is less than 0.001; write 0.001 to 1000000",
        ),
        ({"mirror": {"backendRef": {"name": "b"}}}, "spec.mirror.backendRef.port: is missing; write 1 to 65535"),
        (
            {"loadBalancing": {"algorithm": "round-robin"}},
            'spec.loadBalancing.algorithm: "round-robin" is not allowed here; write RoundRobin',
        ),
        (
            {"loadBalancing": {"algorithm": "RingHash"}},
            "spec.loadBalancing.hashOn: is missing; RingHash needs header, cookie or sourceIP",
        ),
        (
            {"loadBalancing": {"hashOn": {"header": "a"}}},
            "spec.loadBalancing.hashOn: is for the algorithm RingHash, and this is PeakEWMA; "
            "write algorithm: RingHash, or take hashOn away",
        ),
        (
            {"loadBalancing": {"algorithm": "RingHash", "hashOn": {"header": "a", "cookie": "b"}}},
            "spec.loadBalancing.hashOn: has header and cookie; write one of them",
        ),
        (
            {"loadBalancing": {"algorithm": "RingHash", "hashOn": {"cookie": "b"}, "affinity": {"cookie": "b"}}},
            None,
        ),
        ({"concurrency": {"service": {}}}, "spec.concurrency.service.limit: is missing; write 1 to 1000000"),
        ({"targetRef": {"kind": "Pod", "name": "a"}}, 'spec.targetRef.kind: "Pod" is not allowed here; write Service'),
        ({"targetRef": {"name": "Web_1"}}, None),
        ({"targetRef": {}}, "spec.targetRef.name: is missing; write the name of a Service"),
    ],
)
def test_a_fault_is_told_with_its_place_and_the_fix(spec: Object, line: str | None) -> None:
    (found,) = told(read_traffic_policy, traffic_policy(**spec))

    place, _, text = found.partition(": ")
    assert re.fullmatch(r"spec\.[a-zA-Z.]+(\[\d\])?", place)
    assert ";" in text
    assert line in (None, found)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            {},
            "spec.faults[0]: does nothing; write delay, abort, reset, truncateAfterBytes or bandwidthBytesPerSecond",
        ),
        (
            {"reset": True, "truncateAfterBytes": 0},
            "spec.faults[0]: has reset and truncateAfterBytes, and a request ends once; write one of them",
        ),
        (
            {"abort": {"httpStatus": 500}, "bandwidthBytesPerSecond": 1},
            "spec.faults[0].bandwidthBytesPerSecond: slows a body that abort leaves no room for; take one of them away",
        ),
        ({"abort": {}}, "spec.faults[0].abort: says not how; write httpStatus or grpcStatus, or both"),
        ({"delay": "1s", "percent": 101}, "spec.faults[0].percent: 101 is more than 100; write 0 to 100"),
        ({"delay": "1s", "match": {"path": {"value": "api"}}}, None),
        ({"delay": "1s", "match": {"headers": [{"name": "a b", "value": "c"}]}}, None),
        ({"delay": "0s"}, "spec.faults[0].delay: 0s is less than 1ms; write 1ms to 1h"),
    ],
)
def test_a_fault_of_a_fault_injection_is_told_with_its_place_and_the_fix(fault: Object, line: str | None) -> None:
    (found,) = told(read_fault_injection, fault_injection(fault))

    assert found.startswith("spec.faults[0]")
    assert ";" in found
    assert line in (None, found)


def test_all_faults_are_told_at_once() -> None:
    lines = told(
        read_traffic_policy,
        {
            "spec": {
                "targetRef": {"name": "web", "port": 80},
                "timeouts": {"request": "1s", "perTry": "2s", "idle": "x"},
                "retries": {"limit": -1, "retryOn": {"statusCodes": ["abc", 200]}},
                "hedging": {"delay": "1s", "percentile": 5},
                "loadBalancing": {"algorithm": "Random"},
            }
        },
    )

    assert {line.partition(": ")[0] for line in lines} == {
        "spec.targetRef.port",
        "spec.timeouts.perTry",
        "spec.timeouts.idle",
        "spec.retries.limit",
        "spec.retries.retryOn.statusCodes[0]",
        "spec.retries.retryOn.statusCodes[1]",
        "spec.hedging",
        "spec.hedging.delay",
        "spec.loadBalancing.algorithm",
    }


@pytest.mark.parametrize("obj", [{}, {"spec": None}, {"spec": []}, {"spec": 5}, None, [], "x", {"sepc": {}}])
def test_what_is_no_policy_at_all_is_told_too(obj: Any) -> None:
    assert told(read_traffic_policy, obj)
    assert told(read_fault_injection, obj)


HUGE = {
    "large": 10**400,
    "larger": -(10**5000),
    "float": 1e308,
    "infinite": float("inf"),
    "none": float("nan"),
    "text": "x" * 10**6,
}


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
@pytest.mark.parametrize("place", ["limit", "bodyLimit", "methods", "backoff"])
def test_a_value_out_of_all_bounds_is_told_in_few_words(value: Any, place: str) -> None:
    (line,) = told(read_traffic_policy, traffic_policy(retries={place: value}))

    assert len(line) < 500
    assert line.startswith(f"spec.retries.{place}: ")


def test_a_value_nested_deeper_than_python_goes_is_told() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]

    assert "a huge list" in told(read_traffic_policy, traffic_policy(retries={"limit": nested}))[0]


def test_a_message_has_an_end() -> None:
    lines = told(read_traffic_policy, traffic_policy(**{f"x{number}": 1 for number in range(200)}))

    assert (FAULTS_SHOWN_COUNT + 1, "and 150 more") == (len(lines), lines[-1])


@pytest.mark.parametrize(
    ("read", "form"), [(read_traffic_policy, fields.TRAFFIC_POLICY), (read_fault_injection, fields.FAULT_INJECTION)]
)
@given(data=st.data())
def test_whatever_is_written_is_read_or_told(read: Any, form: Section, data: st.DataObject) -> None:
    spec = data.draw(section(form, odd=True) | ODD)

    try:
        read({"spec": spec})
        faults: tuple[Told, ...] = (Told("spec", "none"),)
    except Faulty as faulty:
        faults = faulty.faults

    assert faults
    assert all(fault.path and fault.text for fault in faults)


# --- the weight of a pod


@pytest.mark.parametrize("text", ["1", "1000", " 20 "])
def test_a_weight_is_a_whole_number(text: str) -> None:
    assert int(text) == parse_weight(text)


@pytest.mark.parametrize("text", ["", "0", "1001", "-1", "1.5", "one", "٣", "9" * 5000])
def test_a_wrong_weight_is_told_with_the_fix(text: str) -> None:
    with pytest.raises(ValueError, match="is no weight; write a whole number from 1 to 1000"):
        parse_weight(text)


def test_the_examples_of_the_documentation_have_no_fault() -> None:
    readers = {"TrafficPolicy": read_traffic_policy, "FaultInjection": read_fault_injection}
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    objects = [obj for block in blocks for obj in yaml.safe_load_all(block) if obj.get("kind") in readers]

    assert len(objects) >= 6
    for obj in objects:
        assert obj["apiVersion"] == "policy.tulle.mesh/v1alpha1"
        readers[obj["kind"]](obj)
