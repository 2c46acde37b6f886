"""Circuit breaking: who is ejected, for how long, and how it comes back."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyhouse import Spot, spots

from contract.policy import Balancing, CircuitBreaker
from proxy.policy import outlier
from proxy.policy.balancer import Balancer, Wish
from proxy.policy.load import EJECTED, HEALTHY, ON_TRIAL

THREE = CircuitBreaker(consecutive_failures_count=3)


def fail(spot: Spot, now_s: float, terms: CircuitBreaker = THREE, among: list[Spot] | None = None) -> str:
    return outlier.record(terms, spot, False, among or [spot], now_s)


def test_failures_in_a_row_eject() -> None:
    spot = Spot()

    assert [fail(spot, 100.0), fail(spot, 100.0), fail(spot, 100.0)] == ["", "", "consecutive-failures"]
    assert spot.ejected_until_s == 101.0
    assert spot.probation == EJECTED
    assert outlier.ejected_count([spot]) == 1


def test_an_endpoint_is_ejected_until_a_trial_goes_well_in_the_gauge_as_under_the_cap() -> None:
    one, other = Spot(), Spot()
    for _ in range(3):
        fail(one, 100.0, among=[one, other])

    assert [fail(other, 150.0, among=[one, other]) for _ in range(3)][-1] == "capped"
    assert outlier.ejected_count([one, other]) == 1
    assert outlier.record(THREE, one, True, [one, other], 150.0) == "recovered"
    assert outlier.ejected_count([one, other]) == 0


def test_a_success_between_breaks_the_row() -> None:
    spot = Spot()
    told = [fail(spot, 1.0), fail(spot, 1.0), outlier.record(THREE, spot, True, [spot], 1.0), fail(spot, 1.0)]

    assert told == ["", "", "", ""]


def test_too_few_successes_eject_but_only_when_there_are_results_enough() -> None:
    terms = CircuitBreaker(success_ratio=0.8, min_requests_count=10, window_s=10.0)
    spot = Spot()
    told = [outlier.record(terms, spot, number % 2 == 0, [spot], 100.0 + number / 10) for number in range(10)]

    assert told == [""] * 9 + ["success-ratio"]


def test_a_good_share_of_successes_ejects_nobody() -> None:
    terms = CircuitBreaker(success_ratio=0.8, min_requests_count=10)
    spot = Spot()
    told = {outlier.record(terms, spot, number % 10 != 0, [spot], 100.0 + number / 10) for number in range(1, 200)}

    assert told == {""}


def test_old_results_say_nothing() -> None:
    terms = CircuitBreaker(success_ratio=0.5, min_requests_count=10, window_s=10.0)
    spot = Spot()
    told = {outlier.record(terms, spot, False, [spot], 100.0 + 2.0 * number) for number in range(100)}

    assert told == {""}


def test_each_ejection_in_a_row_lasts_twice_as_long_up_to_the_limit() -> None:
    terms = CircuitBreaker(consecutive_failures_count=1, ejection_min_s=1.0, ejection_max_s=10.0)
    spot, now_s, durations = Spot(), 100.0, []
    for _ in range(6):
        fail(spot, now_s, terms)
        durations.append(spot.ejected_until_s - now_s)
        now_s = spot.ejected_until_s

    assert durations == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_one_success_on_probation_brings_back_and_one_failure_ejects() -> None:
    spot = Spot()
    for _ in range(3):
        fail(spot, 100.0)

    assert fail(spot, 101.5) == "probation"
    assert spot.ejected_until_s == 103.5
    assert outlier.record(THREE, spot, True, [spot], 104.0) == "recovered"
    assert (spot.probation, spot.ejected_until_s) == (HEALTHY, 0.0)


def test_results_during_the_ejection_count_for_nothing() -> None:
    spot = Spot()
    for _ in range(3):
        fail(spot, 100.0)

    assert outlier.record(THREE, spot, True, [spot], 100.5) == ""
    assert fail(spot, 100.5) == ""
    assert (spot.probation, spot.ejected_until_s) == (EJECTED, 101.0)


@pytest.mark.parametrize(("healthy_s", "duration_s"), [(1.5, 4.0), (2.5, 1.0)])
def test_ejections_are_forgiven_after_health_as_long_as_the_last(healthy_s: float, duration_s: float) -> None:
    spot = Spot()
    for _ in range(3):
        fail(spot, 100.0)
    fail(spot, 101.0)  # ejected anew, for two seconds
    outlier.record(THREE, spot, True, [spot], 103.0)
    for _ in range(3):
        fail(spot, 103.0 + healthy_s)

    assert spot.ejected_until_s == 103.0 + healthy_s + duration_s


def test_a_trial_without_a_result_makes_room_for_the_next() -> None:
    spot = Spot(probation=ON_TRIAL, ejected_until_s=110.0)
    outlier.abandon(spot)
    assert (spot.probation, spot.ejected_until_s) == (EJECTED, 0.0)

    healthy = Spot(ejected_until_s=0.0)
    outlier.abandon(healthy)
    assert healthy.probation == HEALTHY


def test_a_pardon_forgets_all() -> None:
    spot = Spot()
    for _ in range(3):
        fail(spot, 100.0)
    outlier.pardon(spot)

    assert (spot.probation, spot.ejected_until_s, spot.health) == (HEALTHY, 0.0, None)


@given(
    st.integers(1, 8),
    st.floats(0.0, 1.0),
    st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.floats(0.0, 3.0)), max_size=150),
)
def test_no_more_are_ejected_than_the_cap_allows(
    count: int, ratio: float, steps: list[tuple[int, bool, float]]
) -> None:
    terms = CircuitBreaker(
        consecutive_failures_count=2, success_ratio=0.5, min_requests_count=3, max_ejected_ratio=ratio
    )
    endpoints, now_s = spots(count), 100.0
    for number, is_success, pause_s in steps:
        now_s += pause_s
        outlier.record(terms, endpoints[number % count], is_success, endpoints, now_s)

        assert outlier.ejected_count(endpoints) <= max(1, ratio * count)


def test_an_ejection_that_the_cap_prevents_is_told() -> None:
    endpoints = spots(2)
    for endpoint in endpoints:
        told = [fail(endpoint, 100.0, among=endpoints) for _ in range(4)]

    assert told == ["", "", "capped", "capped"]
    assert endpoints[1].probation == HEALTHY


@pytest.mark.parametrize("algorithm", ["peak-ewma", "least-request", "round-robin", "ring-hash"])
def test_a_broken_endpoint_costs_a_few_requests_and_comes_back_when_it_works(algorithm: str) -> None:
    """Balancer and circuit breaker together: a minute of 100 requests a second, one endpoint broken for half of it."""
    endpoints = spots(3)
    picker = Balancer(endpoints, Balancing(algorithm=algorithm), 0, Random(1).random, 100.0)  # type: ignore[arg-type]
    random = Random(2)
    failures_count, served_late_count, verdicts = 0, 0, []
    for number in range(6000):
        now_s = 100.0 + number / 100
        spot = picker.pick(Wish(random.getrandbits(31)), (), random.random, now_s)
        is_success = spot is not endpoints[0] or now_s > 130.0
        failures_count += not is_success
        served_late_count += spot is endpoints[0] and now_s > 150.0
        verdicts.append(outlier.record(THREE, spot, is_success, endpoints, now_s))

    assert failures_count <= 3 + 5  # three to eject it, then a trial after 1, 2, 4, 8 and 16 seconds
    assert verdicts.count("consecutive-failures") == verdicts.count("recovered") == 1
    assert verdicts.count("probation") == failures_count - 3
    assert served_late_count > 200
