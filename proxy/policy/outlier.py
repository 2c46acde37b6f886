"""Circuit breaking: leaves out the endpoints that fail. Pure.

Theory of operation: every result of an endpoint is recorded. `consecutive_failures_count` failures in a row, or too few
successes within the window, eject it: balancing leaves it out for `ejection_min_s`, doubled with each ejection in a
row up to `ejection_max_s`. Then it is on probation: balancing gives it one request at a time, a success brings it
back, a failure ejects it anew. What it answers while ejected (to requests sent before, or in a panic) counts for
nothing. Its ejections are forgiven when it has been healthy for as long as the last one lasted, so that an endpoint
that fails in bursts is left out longer and longer. No more than `max_ejected_ratio` of a service's endpoints are
ejected at once (one always may be): when most of them fail, the cause is elsewhere, and fewer servers would not help.

Sources: Envoy's outlier detection and Linkerd's failure accrual, for the ideas of ejection, cap and probation.
"""

from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeVar

from contract.policy import CircuitBreaker
from proxy.policy.load import EJECTED, HEALTHY, ON_TRIAL
from proxy.policy.window import Window

Verdict = Literal["", "consecutive-failures", "success-ratio", "probation", "capped", "recovered"]
"""What a result has led to: nothing, an ejection and its cause, an ejection that the cap has prevented, or the end of
a probation."""

EXPONENT_MAX: Final = 16
"""Doublings that are counted; more could only overflow."""


class Health:
    """The history of one endpoint's results."""

    __slots__ = ("ejections_count", "failures_in_row_count", "last_ejection_s", "recovered_s", "results", "successes")

    def __init__(self, window_s: float) -> None:
        self.failures_in_row_count = 0
        self.ejections_count = 0
        """In a row: not yet forgiven."""
        self.last_ejection_s = 0.0
        """How long the last ejection lasted."""
        self.recovered_s = 0.0
        self.results = Window(window_s)
        self.successes = Window(window_s)

    def clear(self) -> None:
        self.failures_in_row_count = 0
        self.results.clear()
        self.successes.clear()


class Judged(Protocol):
    """What circuit breaking knows of an endpoint; proxy.pool.Endpoint is one."""

    ejected_until_s: float
    probation: int
    health: Health | None
    """Made with the first result, so that endpoints without circuit breaking have none."""


J = TypeVar("J", bound=Judged)


def record(terms: CircuitBreaker, endpoint: J, is_success: bool, endpoints: Sequence[J], now_s: float) -> Verdict:
    """Enter a result; `endpoints` are all of the service's, among which the cap is counted."""
    health = endpoint.health
    if health is None:
        endpoint.health = health = Health(terms.window_s)
    if endpoint.probation != HEALTHY:
        return _end_trial(terms, endpoint, health, is_success, now_s)
    health.failures_in_row_count = 0 if is_success else health.failures_in_row_count + 1
    cause = _cause(terms, health, is_success, now_s)
    if not cause:
        return ""
    if not _has_room(terms, endpoints):
        return "capped"
    _eject(terms, endpoint, health, now_s)
    return cause


def pardon(endpoint: Judged) -> None:
    """Forget all: the policy that judged the endpoint is gone, or has changed."""
    endpoint.ejected_until_s = 0.0
    endpoint.probation = HEALTHY
    endpoint.health = None


def abandon(endpoint: Judged) -> None:
    """A trial ended without a result (its client went away): let the next request be the trial."""
    if endpoint.probation == ON_TRIAL:
        endpoint.probation = EJECTED
        endpoint.ejected_until_s = 0.0


def ejected_count(endpoints: Sequence[J]) -> int:
    """Count the endpoints that are ejected: left out, or not yet healthy again by a trial that went well."""
    count = 0
    for endpoint in endpoints:
        if endpoint.probation != HEALTHY:
            count += 1
    return count


def _cause(terms: CircuitBreaker, health: Health, is_success: bool, now_s: float) -> Verdict:
    limit_count = terms.consecutive_failures_count
    min_ratio = terms.success_ratio
    if min_ratio > 0.0:
        health.results.add(now_s)
        if is_success:
            health.successes.add(now_s)
    if 0 < limit_count <= health.failures_in_row_count:
        return "consecutive-failures"
    if min_ratio > 0.0:
        results_count = health.results.total(now_s)
        if results_count >= terms.min_requests_count and health.successes.total(now_s) < min_ratio * results_count:
            return "success-ratio"
    return ""


def _has_room(terms: CircuitBreaker, endpoints: Sequence[J]) -> bool:
    """Those on probation count too: each of them may be left out again at any moment."""
    return ejected_count(endpoints) < max(1, int(terms.max_ejected_ratio * len(endpoints)))


def _eject(terms: CircuitBreaker, endpoint: Judged, health: Health, now_s: float) -> None:
    if now_s - health.recovered_s >= health.last_ejection_s:
        health.ejections_count = 0
    duration_s = min(terms.ejection_max_s, terms.ejection_min_s * 2.0**health.ejections_count)
    health.ejections_count = min(health.ejections_count + 1, EXPONENT_MAX)
    health.last_ejection_s = duration_s
    health.clear()
    endpoint.ejected_until_s = now_s + duration_s
    endpoint.probation = EJECTED


def _end_trial(terms: CircuitBreaker, endpoint: Judged, health: Health, is_success: bool, now_s: float) -> Verdict:
    if endpoint.probation == EJECTED and endpoint.ejected_until_s > now_s:
        return ""
    if is_success:
        endpoint.probation = HEALTHY
        endpoint.ejected_until_s = 0.0
        health.recovered_s = now_s
        health.clear()
        return "recovered"
    health.recovered_s = now_s  # it never was: the next ejection is one more in the row
    _eject(terms, endpoint, health, now_s)
    return "probation"
