"""TrafficPolicy: from the object as users write it to the policy that sidecars follow. Pure."""

from math import ceil
from typing import Any, NamedTuple

from contract.kinds.fields import TRAFFIC_POLICY
from contract.kinds.fields_load import ALGORITHMS
from contract.kinds.forms import write_duration
from contract.kinds.reading import Faulty, Target, compact, read_spec, target_of
from contract.kinds.sections import Faults, Found
from contract.policy import (
    Affinity,
    Balancing,
    Budget,
    CircuitBreaker,
    Concurrency,
    Hash,
    Hedging,
    Mirror,
    Rate,
    RateLimit,
    Retries,
    ServicePolicy,
    Timeouts,
)

BACKOFF_FACTOR = 10
"""`backoff.max` over `backoff.min`, where it is not written."""
EJECTION_MAX_S = 60.0


class Backend(NamedTuple):
    """A port of another Service."""

    namespace: str
    """"" for the policy's own."""
    service: str
    port: int


class TrafficPolicy(NamedTuple):
    """A TrafficPolicy without a fault."""

    target: Target
    policy: ServicePolicy
    """Without a name, and without a target in `mirror`: the cluster tells that."""
    backend: Backend | None
    """Where the mirror leads."""


def read_traffic_policy(obj: Any) -> TrafficPolicy:
    """Read a TrafficPolicy object. Raises Faulty with every fault."""
    faults = Faults()
    spec = read_spec(TRAFFIC_POLICY, obj, faults)
    mirror = spec["mirror"]
    policy = ServicePolicy(
        timeouts=_timeouts(spec["timeouts"], faults),
        retries=_retries(spec["retries"], faults),
        hedging=_hedging(spec["hedging"], faults),
        budget=_budget(spec["retryBudget"]),
        circuit_breaker=_breaker(spec["circuitBreaker"], faults),
        service_concurrency=_concurrency(spec["concurrency"], "service"),
        endpoint_concurrency=_concurrency(spec["concurrency"], "endpoint"),
        rate_limit=_rate_limit(spec["rateLimit"], faults),
        mirror=None if mirror is None else _mirror(mirror),
        balancing=_balancing(spec["loadBalancing"], faults),
    )
    _check_times(policy, faults)
    if faults.found:
        raise Faulty(faults.found)
    return TrafficPolicy(target_of(spec), compact(policy), None if mirror is None else _backend(mirror["backendRef"]))


def _timeouts(found: Found | None, faults: Faults) -> Timeouts:
    if found is None:
        return Timeouts()
    request_s = found["request"] or 0.0
    for name in ("perTry", "response"):
        if request_s and (found[name] or 0.0) > request_s:
            text = f"{_written(found[name])} is more than request, {_written(request_s)}, and would never be up"
            faults.add(f"spec.timeouts.{name}", f"{text}; write {_written(request_s)} or less")
    return Timeouts(
        request_s=request_s,
        per_try_s=found["perTry"] or 0.0,
        response_s=found["response"] or 0.0,
        idle_s=found["idle"] or 0.0,
    )


def _retries(found: Found | None, faults: Faults) -> Retries | None:
    if found is None:
        return None
    on, backoff = found["retryOn"] or {}, found["backoff"] or {}
    min_s = backoff.get("min") or Retries().backoff_min_s
    max_s = backoff.get("max") or min_s * BACKOFF_FACTOR
    if max_s < min_s:
        text = f"{_written(max_s)} is less than min, {_written(min_s)}"
        faults.add("spec.retries.backoff.max", f"{text}; write {_written(min_s)} or more")
    if on.get("connectFailure") is False and not any(on.get(name) for name in ("statusCodes", "grpcStatuses", "reset")):
        faults.add("spec.retries.retryOn", "names nothing to try again after; write connectFailure, reset or statuses")
    return Retries(
        limit_count=_or(found["limit"], 1),
        statuses=_merged(on.get("statusCodes") or ()),
        grpc_statuses=tuple(sorted(set(on.get("grpcStatuses") or ()))),
        on_connect_failure=on.get("connectFailure") is not False,
        on_reset=bool(on.get("reset")),
        methods=tuple(dict.fromkeys(found["methods"] or ())),
        backoff_min_s=min_s,
        backoff_max_s=max_s,
        body_bytes=_or(found["bodyLimit"], 0),
    )


def _merged(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Sorted ranges that neither overlap nor touch."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _budget(found: Found | None) -> Budget:
    found, default = found or {}, Budget()
    return Budget(
        ratio=_or(found.get("percent"), default.ratio),
        min_per_s=_or(found.get("minPerSecond"), default.min_per_s),
        window_s=found.get("window") or default.window_s,
    )


def _hedging(found: Found | None, faults: Faults) -> Hedging | None:
    if found is None:
        return None
    delay_s, percentile = found["delay"] or 0.0, found["percentile"] or 0.0
    if delay_s and percentile:
        faults.add("spec.hedging", "has both delay and percentile; write one of them")
    if not delay_s and not percentile and not faults.are_under("spec.hedging"):
        faults.add("spec.hedging", "says not when; write delay or percentile")
    return Hedging(delay_s=delay_s, percentile=percentile, limit_count=_or(found["limit"], 1))


def _breaker(found: Found | None, faults: Faults) -> CircuitBreaker | None:
    if found is None:
        return None
    rate, ejection, default = found["successRate"] or {}, found["ejection"] or {}, CircuitBreaker()
    if not rate and not found["consecutiveFailures"] and not faults.are_under("spec.circuitBreaker"):
        faults.add("spec.circuitBreaker", "judges by nothing; write consecutiveFailures or successRate, or both")
    min_s = ejection.get("min") or default.ejection_min_s
    max_s = ejection.get("max") or max(EJECTION_MAX_S, min_s)
    if max_s < min_s:
        text = f"{_written(max_s)} is less than min, {_written(min_s)}"
        faults.add("spec.circuitBreaker.ejection.max", f"{text}; write {_written(min_s)} or more")
    return CircuitBreaker(
        consecutive_failures_count=found["consecutiveFailures"] or 0,
        success_ratio=rate.get("percent") or 0.0,
        window_s=rate.get("window") or default.window_s,
        min_requests_count=rate.get("minRequests") or default.min_requests_count,
        ejection_min_s=min_s,
        ejection_max_s=max_s,
        max_ejected_ratio=_or(ejection.get("maxPercent"), default.max_ejected_ratio),
    )


def _concurrency(found: Found | None, name: str) -> Concurrency:
    limits = (found or {}).get(name)
    if limits is None:
        return Concurrency()
    return Concurrency(
        limit_count=limits["limit"] or 0,
        queue_count=limits["queue"] or 0,
        queue_timeout_s=limits["queueTimeout"] or Concurrency().queue_timeout_s,
    )


def _rate_limit(found: Found | None, faults: Faults) -> RateLimit | None:
    if found is None:
        return None
    if found["service"] is None and found["client"] is None:
        faults.add("spec.rateLimit", "limits nothing; write service or client, or both")
    return RateLimit(service=_rate(found["service"]), client=_rate(found["client"]))


def _rate(found: Found | None) -> Rate:
    if found is None:
        return Rate()
    per_s = found["requestsPerSecond"] or 0.0
    return Rate(per_s=per_s, burst_count=found["burst"] or max(1, ceil(per_s)))


def _mirror(found: Found) -> Mirror:
    return Mirror(
        target="",
        ratio=_or(found["percent"], 1.0),
        compares=found["compare"] is not False,
        ignored_headers=tuple(dict.fromkeys(found["ignoreHeaders"] or ())),
    )


def _backend(found: Found) -> Backend:
    return Backend(found["namespace"] or "", found["name"], found["port"])


def _balancing(found: Found | None, faults: Faults) -> Balancing:
    if found is None:
        return Balancing()
    hash_on, affinity = found["hashOn"], found["affinity"]
    is_ring = found["algorithm"] == "RingHash"
    if hash_on is not None:
        _check_hash(hash_on, faults)
        if found["algorithm"] is not None and not is_ring:
            text = f"is for the algorithm RingHash, and this is {found['algorithm']}"
            faults.add("spec.loadBalancing.hashOn", f"{text}; write algorithm: RingHash, or take hashOn away")
    elif is_ring:
        faults.add("spec.loadBalancing.hashOn", "is missing; RingHash needs header, cookie or sourceIP")
    if affinity is not None and is_ring:
        text = "is no use with RingHash, which chooses by its key; take affinity away, or choose another algorithm"
        faults.add("spec.loadBalancing.affinity", text)
    hash_on, affinity = hash_on or {}, affinity or {}
    return Balancing(
        algorithm=ALGORITHMS.get(found["algorithm"], "peak-ewma"),
        hash=Hash(
            header=hash_on.get("header") or "",
            cookie=hash_on.get("cookie") or "",
            source_ip=bool(hash_on.get("sourceIP")),
        ),
        affinity=Affinity(
            cookie=affinity.get("cookie") or "", ttl_s=affinity.get("ttl") or 0.0, path=affinity.get("path") or "/"
        ),
        slow_start_s=found["slowStart"] or 0.0,
        prefers_zone=found["preferZone"] is not False,
    )


def _check_hash(found: Found, faults: Faults) -> None:
    if found["sourceIP"] is False:
        faults.add("spec.loadBalancing.hashOn.sourceIP", "false means nothing; write true, or take it away")
    chosen = [name for name, value in found.items() if value]
    if len(chosen) > 1:
        faults.add("spec.loadBalancing.hashOn", f"has {' and '.join(chosen)}; write one of them")
    elif not chosen and not faults.are_under("spec.loadBalancing.hashOn"):
        faults.add("spec.loadBalancing.hashOn", "is empty; write header, cookie or sourceIP: true")


def _check_times(policy: ServicePolicy, faults: Faults) -> None:
    """What two parts of the policy say about time must leave room for both."""
    request_s = policy.timeouts.request_s
    if policy.hedging is not None and request_s and policy.hedging.delay_s >= request_s:
        text = f"{_written(policy.hedging.delay_s)} is not less than timeouts.request, {_written(request_s)}"
        faults.add("spec.hedging.delay", f"{text}; write less than {_written(request_s)}")


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _written(duration_s: float) -> str:
    return write_duration(round(duration_s * 1000))
