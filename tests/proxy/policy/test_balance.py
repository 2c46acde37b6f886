"""Balancing by every algorithm: shares, who is left out, what survives scaling. Seeded, with time as a number."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyhouse import Spot, spots

from contract.policy import (
    Affinity,
    Balancing,
    CircuitBreaker,
    Concurrency,
    Hash,
    Hedging,
    Retries,
    ServicePolicy,
    Timeouts,
)
from proxy.policy import affinity, balance
from proxy.policy.balancer import Balancer, Wish
from proxy.policy.load import EJECTED, HEALTHY, ON_TRIAL, TRIAL_S
from proxy.policy.ring import RANDOM_KEY, SLOTS_COUNT, key_of

ALGORITHMS = ["peak-ewma", "least-request", "round-robin", "ring-hash"]
algorithms = st.sampled_from(ALGORITHMS)
everyone = pytest.mark.parametrize("algorithm", ALGORITHMS)


def balancing(algorithm: str, **settings: object) -> Balancing:
    return Balancing(algorithm=algorithm, hash=Hash(header="x-user"), **settings)  # type: ignore[arg-type]


def balancer(
    endpoints: Sequence[Spot], algorithm: str, *, full_count: int = 0, now_s: float = 100.0, **settings: object
) -> Balancer[Spot]:
    return Balancer(endpoints, balancing(algorithm, **settings), full_count, Random(5).random, now_s)


def shares(picker: Balancer[Spot], count: int = 6000, now_s: float = 100.0, seed: int = 7) -> dict[str, float]:
    """Picks with keys of their own; nothing is in flight, so only the algorithm decides."""
    random = Random(seed)
    counts = Counter(picker.pick(Wish(random.getrandbits(31)), (), random.random, now_s).address for _ in range(count))
    return {spot.address: counts[spot.address] / count for spot in picker.endpoints}


# who is left out


@given(
    algorithms,
    st.lists(st.sampled_from(["healthy", "barred", "ejected", "on trial", "weightless"]), min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.integers(0, 3),
    st.integers(),
)
def test_an_ejected_endpoint_is_never_picked_while_another_is_healthy(
    algorithm: str, states: list[str], preferred: list[bool], avoided_count: int, seed: int
) -> None:
    endpoints = spots(len(states))
    for spot, state, is_preferred in zip(endpoints, states, preferred, strict=False):
        spot.is_preferred = is_preferred
        spot.weight = 0 if state == "weightless" else 1 + seed % 3
        spot.barred_until_s = 200.0 if state == "barred" else 0.0
        if state in ("ejected", "on trial"):
            spot.ejected_until_s, spot.probation = 200.0, EJECTED if state == "ejected" else ON_TRIAL
    random = Random(seed)
    picker = balancer(endpoints, algorithm, slow_start_s=float(seed % 2) * 30.0)
    avoided = tuple(endpoints[:avoided_count])
    usable = [s for s in endpoints if max(s.barred_until_s, s.ejected_until_s) <= 100.0]
    for _ in range(20):
        picked = picker.pick(Wish(random.getrandbits(31)), avoided, random.random, 100.0)

        assert picked in usable or not usable


@given(algorithms, st.integers(1, 6), st.integers())
def test_in_a_panic_all_are_used(algorithm: str, count: int, seed: int) -> None:
    endpoints = spots(count)
    for spot in endpoints:
        spot.ejected_until_s, spot.probation = 200.0, EJECTED
    picker = balancer(endpoints, algorithm)
    random = Random(seed)
    picked = {picker.pick(Wish(random.getrandbits(31)), (), random.random, 100.0).address for _ in range(40 * count)}

    assert picked == {spot.address for spot in endpoints}
    assert all(spot.probation == EJECTED for spot in endpoints)


@everyone
def test_a_request_goes_elsewhere_after_a_failure_if_it_can(algorithm: str) -> None:
    endpoints = spots(3)
    picker = balancer(endpoints, algorithm)
    random = Random(1).random
    for key in range(200):
        first = picker.pick(Wish(key), (), random, 100.0)
        second = picker.pick(Wish(key), (first,), random, 100.0)
        third = picker.pick(Wish(key), (first, second), random, 100.0)

        assert {first, second, third} == set(endpoints)
        assert picker.pick(Wish(key), (first, second, third), random, 100.0) in endpoints


@everyone
def test_in_a_panic_too_a_request_goes_elsewhere(algorithm: str) -> None:
    endpoints = spots(3)
    for spot in endpoints:
        spot.barred_until_s = 200.0
    picker = balancer(endpoints, algorithm)
    first = picker.pick(Wish(5), (), Random(2).random, 100.0)

    assert all(picker.pick(Wish(5), (first,), Random(n).random, 100.0) is not first for n in range(50))


@everyone
def test_a_full_endpoint_is_left_out_while_another_has_room(algorithm: str) -> None:
    endpoints = spots(3)
    endpoints[0].in_flight = endpoints[1].in_flight = 10
    picker = balancer(endpoints, algorithm, full_count=10)
    assert shares(picker, 100)[endpoints[2].address] == 1.0

    endpoints[2].in_flight = 11
    assert sum(shares(picker, 100).values()) == 1.0


@everyone
def test_an_endpoint_on_probation_gets_one_request_at_a_time(algorithm: str) -> None:
    endpoints = spots(2)
    back = endpoints[0]
    back.ejected_until_s, back.probation = 99.0, EJECTED
    picker = balancer(endpoints, algorithm)
    random = Random(3)
    picked = [picker.pick(Wish(random.getrandbits(31)), (), random.random, 100.0) for _ in range(200)]

    assert picked.count(back) == 1
    assert back.probation == ON_TRIAL
    assert back in {picker.pick(Wish(n), (), random.random, 100.0 + TRIAL_S) for n in range(200)}


@everyone
def test_endpoints_without_weight_get_nothing_while_another_is_usable(algorithm: str) -> None:
    endpoints = spots(3)
    endpoints[0].weight = 0
    picker = balancer(endpoints, algorithm)
    assert shares(picker, 300)[endpoints[0].address] == 0.0

    endpoints[1].barred_until_s = endpoints[2].barred_until_s = 200.0
    assert shares(picker, 300)[endpoints[0].address] == 1.0


@everyone
def test_when_none_has_weight_all_are_alike(algorithm: str) -> None:
    endpoints = spots(3)
    for spot in endpoints:
        spot.weight = 0
    endpoints[0].barred_until_s = 200.0
    told = shares(balancer(endpoints, algorithm), 1000)

    assert told[endpoints[0].address] == 0.0
    assert min(told[spot.address] for spot in endpoints[1:]) > 0.4

    endpoints[1].barred_until_s = endpoints[2].barred_until_s = 200.0
    assert min(shares(balancer(endpoints, algorithm), 1000).values()) > 0.25


# shares


@everyone
@settings(max_examples=25)
@given(weights=st.lists(st.integers(1, 20), min_size=2, max_size=8), seed=st.integers(0, 2**32))
def test_weights_come_out_within_statistical_bounds(algorithm: str, weights: list[int], seed: int) -> None:
    """Six standard deviations of a fair draw; for the ring also of the slots that it is made of."""
    endpoints = spots(len(weights))
    for spot, weight in zip(endpoints, weights, strict=True):
        spot.weight = weight
    told = shares(balancer(endpoints, algorithm), 4000, seed=seed)
    for spot in endpoints:
        due = spot.weight / sum(weights)
        variance = due * (1 - due) * (1 / 4000 + (1 / SLOTS_COUNT if algorithm == "ring-hash" else 0.0))

        assert abs(told[spot.address] - due) < 6 * variance**0.5 + 1e-9


@everyone
def test_the_shares_of_those_that_are_left_keep_their_ratio(algorithm: str) -> None:
    endpoints = spots(4)
    for spot, weight in zip(endpoints, (1, 2, 3, 4), strict=True):
        spot.weight = weight
    endpoints[3].ejected_until_s = 200.0
    told = shares(balancer(endpoints, algorithm))

    assert [told[spot.address] for spot in endpoints] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 0.0], abs=0.04)


@everyone
def test_weights_hold_whatever_the_latencies(algorithm: str) -> None:
    endpoints = spots(2)
    endpoints[0].weight, endpoints[1].weight = 9, 1
    endpoints[0].cost_s, endpoints[0].in_flight = 1.0, 20
    told = shares(balancer(endpoints, algorithm))

    assert told[endpoints[1].address] == pytest.approx(0.1, abs=0.03)


@everyone
def test_round_and_round_all_are_picked(algorithm: str) -> None:
    endpoints = spots(7)
    picker = balancer(endpoints, algorithm)

    assert {picker.pick(Wish(n), (), Random(n).random, 100.0) for n in range(500)} == set(endpoints)


def test_round_robin_is_fair_in_every_round() -> None:
    endpoints = spots(5)
    picker = balancer(endpoints, "round-robin")
    rounds = [[picker.pick(Wish(), (), Random(1).random, 100.0) for _ in range(5)] for _ in range(20)]

    assert all(set(one) == set(endpoints) for one in rounds)
    assert all(one == rounds[0] for one in rounds)


def test_round_robin_gives_a_missed_turn_to_nobody_in_particular() -> None:
    endpoints = spots(4)
    picker = balancer(endpoints, "round-robin")
    endpoints[0].barred_until_s = endpoints[2].barred_until_s = 200.0
    picked = Counter(picker.pick(Wish(), (), Random(1).random, 100.0).address for _ in range(100))

    assert set(picked.values()) == {50}

    picked = Counter(picker.pick(Wish(), (), Random(1).random, 300.0).address for _ in range(100))
    assert set(picked.values()) <= {24, 25, 26}


@everyone
def test_a_zone_is_preferred_while_one_of_it_is_usable(algorithm: str) -> None:
    endpoints = spots(4)
    endpoints[0].is_preferred = endpoints[1].is_preferred = True
    picker = balancer(endpoints, algorithm)
    told = shares(picker)
    assert [told[spot.address] for spot in endpoints] == pytest.approx([0.5, 0.5, 0.0, 0.0], abs=0.05)

    endpoints[0].barred_until_s = 200.0
    assert shares(picker, 500)[endpoints[1].address] == 1.0

    endpoints[1].ejected_until_s = 200.0
    told = shares(picker)
    assert [told[spot.address] for spot in endpoints] == pytest.approx([0.0, 0.0, 0.5, 0.5], abs=0.05)


@everyone
def test_no_zone_is_preferred_when_that_is_off(algorithm: str) -> None:
    endpoints = spots(4)
    endpoints[0].is_preferred = True
    told = shares(balancer(endpoints, algorithm, prefers_zone=False))

    assert list(told.values()) == pytest.approx([0.25] * 4, abs=0.05)


# slow start


@everyone
def test_the_share_of_a_new_endpoint_grows(algorithm: str) -> None:
    endpoints = spots(4)
    endpoints[0].added_s = 100.0
    picker = balancer(endpoints, algorithm, slow_start_s=60.0)
    told = [shares(picker, 8000, now_s)[endpoints[0].address] for now_s in (100.0, 115.0, 130.0, 145.0, 160.0)]

    assert told == sorted(told)
    assert told == pytest.approx([warm / (3 + warm) for warm in (0.1, 0.25, 0.5, 0.75, 1.0)], abs=0.045)


@everyone
def test_when_all_are_new_they_share_alike(algorithm: str) -> None:
    endpoints = spots(4)
    for spot in endpoints:
        spot.added_s = 100.0
    told = shares(balancer(endpoints, algorithm, slow_start_s=60.0), now_s=101.0)

    assert list(told.values()) == pytest.approx([0.25] * 4, abs=0.05)


@everyone
def test_a_new_endpoint_serves_at_once_when_it_is_the_only_usable_one(algorithm: str) -> None:
    endpoints = spots(3)
    endpoints[0].added_s = 100.0
    endpoints[1].barred_until_s = endpoints[2].ejected_until_s = 200.0
    picker = balancer(endpoints, algorithm, slow_start_s=60.0)

    assert shares(picker, 200, 100.0)[endpoints[0].address] == 1.0


def test_a_constant_random_source_ends_every_draw() -> None:
    endpoints = spots(3)
    for spot in endpoints:
        spot.added_s = 100.0
    for algorithm in ALGORITHMS:
        picker = balancer(endpoints, algorithm, slow_start_s=60.0)
        assert picker.pick(Wish(), (), lambda: 0.999999, 100.0) in endpoints


def test_a_key_moves_to_a_new_endpoint_once() -> None:
    endpoints = spots(4)
    endpoints[0].added_s = 100.0
    picker = balancer(endpoints, "ring-hash", slow_start_s=60.0)
    for key in range(500):
        owners = [picker.pick(Wish(key), (), Random(1).random, 100.0 + age_s) for age_s in range(0, 61, 5)]
        moves = sum(1 for one, other in pairwise(owners) if one is not other)

        assert moves <= 1
        assert moves == 0 or owners[-1] is endpoints[0]


# consistent hashing


def owners(endpoints: Sequence[Spot], keys: int = 3000) -> list[str]:
    picker = balancer(endpoints, "ring-hash")
    return [picker.pick(Wish(key_of(b"user-%d" % n)), (), Random(1).random, 100.0).address for n in range(keys)]


@settings(max_examples=20)
@given(st.integers(1, 20), st.data())
def test_the_ring_moves_only_the_keys_of_an_endpoint_that_comes_or_goes(count: int, data: st.DataObject) -> None:
    endpoints = spots(count + 1)
    changed = data.draw(st.integers(0, count))
    fewer = [spot for number, spot in enumerate(endpoints) if number != changed]
    before, after = owners(endpoints), owners(fewer)
    moved = [old for old, new in zip(before, after, strict=True) if old != new]

    assert set(moved) <= {endpoints[changed].address}
    assert len(moved) / 3000 == pytest.approx(1 / (count + 1), rel=0.35)


def test_the_keys_of_one_that_went_are_spread_over_all() -> None:
    endpoints = spots(6)
    before, after = owners(endpoints), owners(endpoints[1:])
    heirs = Counter(new for old, new in zip(before, after, strict=True) if old != new)

    assert len(heirs) == 5
    assert max(heirs.values()) < 2 * min(heirs.values())


def test_an_ejected_owner_gives_way_to_who_would_own_without_it_and_gets_its_keys_back() -> None:
    endpoints = spots(6)
    before, without = owners(endpoints), owners(endpoints[1:])
    endpoints[0].ejected_until_s = 200.0
    assert owners(endpoints) == without

    endpoints[0].ejected_until_s = 0.0
    assert owners(endpoints) == before


def test_all_sidecars_agree_on_the_ring_whatever_the_order_and_the_seed() -> None:
    endpoints = spots(6)
    picker = Balancer(endpoints[::-1], balancing("ring-hash"), 0, Random(99).random, 100.0)
    told = [picker.pick(Wish(key_of(b"user-%d" % n)), (), Random(n).random, 100.0).address for n in range(500)]

    assert told == owners(endpoints, 500)


def test_a_request_without_a_key_goes_anywhere() -> None:
    endpoints = spots(3)
    picker = balancer(endpoints, "ring-hash")
    random = Random(4).random

    assert {picker.pick(Wish(), (), random, 100.0) for _ in range(100)} == set(endpoints)
    assert key_of(b"") == RANDOM_KEY
    assert key_of(b"a") >= 0


# affinity


@everyone
def test_affinity_survives_scaling(algorithm: str) -> None:
    endpoints = spots(10)
    bound = endpoints[3]
    wish = Wish(5, affinity.mark(bound.address))
    sticky = Affinity(cookie="tulle")
    for alive in (endpoints, endpoints[2:5], [bound], endpoints[::-1], [*spots(20, 50), bound]):
        picker = balancer(alive, algorithm, affinity=sticky)
        assert all(picker.pick(wish, (), Random(n).random, 100.0) is bound for n in range(30))


@everyone
def test_affinity_gives_way_when_its_endpoint_is_gone_ejected_or_has_failed_the_request(algorithm: str) -> None:
    endpoints = spots(4)
    bound = endpoints[0]
    wish = Wish(5, affinity.mark(bound.address))
    picker = balancer(endpoints, algorithm, affinity=Affinity(cookie="tulle"))
    assert picker.pick(wish, (bound,), Random(1).random, 100.0) is not bound
    bound.ejected_until_s = 200.0
    assert picker.pick(wish, (), Random(1).random, 100.0) is not bound

    gone = balancer(endpoints[1:], algorithm, affinity=Affinity(cookie="tulle"))
    assert gone.pick(wish, (), Random(1).random, 100.0) in endpoints[1:]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"", b""),
        (b"tulle=abc", b"abc"),
        (b"a=b; tulle=abc; c=d", b"abc"),
        (b"a=b;tulle=abc", b"abc"),
        (b"nottulle=abc", b""),
        (b'tulle="abc"; x=y', b"abc"),
        (b"tulle=", b""),
        (b"tulle", b""),
    ],
)
def test_the_cookie_is_found_among_others(header: bytes, value: bytes) -> None:
    assert affinity.read_cookie(affinity.cookie_pattern("tulle"), header) == value


@given(st.binary())
def test_no_cookie_header_is_too_odd_to_read(header: bytes) -> None:
    assert isinstance(affinity.read_cookie(affinity.cookie_pattern("tulle"), header), bytes)


def test_the_cookie_names_the_endpoint_for_its_time_and_path() -> None:
    name = affinity.mark("10.0.0.1:80")
    assert len(name) == 12
    assert affinity.set_cookie(Affinity(cookie="t"), name) == b"t=" + name + b"; Path=/; HttpOnly"
    assert affinity.set_cookie(Affinity("t", 60.0, "/shop"), b"x") == b"t=x; Path=/shop; Max-Age=60; HttpOnly"


def test_ten_thousand_endpoints_have_names_of_their_own() -> None:
    assert len({affinity.mark(f"10.{n // 250}.{n % 250}.1:80") for n in range(10_000)}) == 10_000


# one slow replica of three


def simulate(pick: Callable[[float], Spot], latency_s: dict[str, float], seconds: float, per_s: float) -> Counter[str]:
    """Open loop: requests come at a constant rate, are in flight for as long as their endpoint takes, then observed."""
    counts: Counter[str] = Counter()
    pending: list[tuple[float, Spot, float]] = []
    for number in range(int(seconds * per_s)):
        now_s = 100.0 + number / per_s
        for at_s, spot, took_s in [one for one in pending if one[0] <= now_s]:
            spot.in_flight -= 1
            balance.observe(spot, took_s, at_s)
        pending = [one for one in pending if one[0] > now_s]
        spot = pick(now_s)
        spot.in_flight += 1
        counts[spot.address] += 1
        took_s = latency_s[spot.address]
        pending.append((now_s + took_s, spot, took_s))
    return counts


SLOW_ONE = {"10.0.0.2:80": 0.1, "10.0.0.3:80": 0.001, "10.0.0.4:80": 0.001}


@pytest.mark.parametrize("has_policy", [False, True])
def test_one_slow_replica_of_three_gets_under_five_percent_by_peak_ewma(has_policy: bool) -> None:
    endpoints = [Spot(address) for address in SLOW_ONE]
    picker = balancer(endpoints, "peak-ewma") if has_policy else None
    random = Random(11).random
    counts = simulate(lambda now_s: balance.pick(endpoints, random, now_s, picker), SLOW_ONE, 20.0, 300.0)

    assert counts["10.0.0.2:80"] / counts.total() < 0.05


def test_one_slow_replica_of_three_gets_a_third_by_round_robin() -> None:
    endpoints = [Spot(address) for address in SLOW_ONE]
    picker = balancer(endpoints, "round-robin")
    random = Random(11).random
    counts = simulate(lambda now_s: balance.pick(endpoints, random, now_s, picker), SLOW_ONE, 20.0, 300.0)

    assert counts["10.0.0.2:80"] / counts.total() == pytest.approx(1 / 3, abs=0.01)


def test_least_request_sends_less_to_a_slow_replica() -> None:
    endpoints = [Spot(address) for address in SLOW_ONE]
    picker = balancer(endpoints, "least-request")
    random = Random(11).random
    counts = simulate(lambda now_s: balance.pick(endpoints, random, now_s, picker), SLOW_ONE, 20.0, 300.0)

    assert counts["10.0.0.2:80"] / counts.total() < 0.1


def test_a_replica_that_fails_at_once_does_not_look_fast() -> None:
    endpoints = [Spot(address) for address in SLOW_ONE]
    random = Random(11).random
    counts: Counter[str] = Counter()
    for number in range(3000):
        now_s = 100.0 + number / 100
        spot = balance.pick(endpoints, random, now_s)
        counts[spot.address] += 1
        if spot is endpoints[0]:
            balance.observe_failure(spot, 0.0001, now_s)
        else:
            balance.observe(spot, 0.01, now_s)

    assert endpoints[0].cost_s == balance.DEFAULT_RTT_S
    assert counts[endpoints[0].address] / counts.total() < 0.05


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_a_failure_never_makes_an_endpoint_look_faster(cost_s: float, latency_s: float) -> None:
    spot = Spot(cost_s=cost_s)
    balance.observe_failure(spot, latency_s, 100.0)

    assert spot.cost_s == max(cost_s, latency_s)


# when a balancer is needed


@pytest.mark.parametrize(
    ("policy", "is_needed"),
    [
        (None, False),
        (ServicePolicy(), False),
        (ServicePolicy(timeouts=Timeouts(request_s=1.0)), False),
        (ServicePolicy(retries=Retries()), True),
        (ServicePolicy(hedging=Hedging()), True),
        (ServicePolicy(circuit_breaker=CircuitBreaker()), True),
        (ServicePolicy(endpoint_concurrency=Concurrency(limit_count=5)), True),
        (ServicePolicy(balancing=Balancing(algorithm="round-robin")), True),
        (ServicePolicy(balancing=Balancing(affinity=Affinity(cookie="t"))), True),
        (ServicePolicy(balancing=Balancing(slow_start_s=3.0)), True),
    ],
)
def test_a_balancer_is_made_only_where_there_is_something_to_balance_by(
    policy: ServicePolicy | None, is_needed: bool
) -> None:
    assert (balance.balancer_of(spots(3), policy, Random(1).random, 100.0) is not None) == is_needed
    assert balance.balancer_of((), policy, Random(1).random, 100.0) is None


def test_weights_and_zones_need_a_balancer_without_a_policy_too() -> None:
    weighty, zoned = spots(3), spots(3)
    weighty[1].weight, zoned[1].is_preferred = 2, True
    random = Random(1).random

    assert balance.balancer_of(weighty, None, random, 100.0) is not None
    assert balance.balancer_of(zoned, None, random, 100.0) is not None
    anywhere = ServicePolicy(balancing=Balancing(prefers_zone=False))
    assert balance.balancer_of(zoned, anywhere, random, 100.0) is None
    assert repr(balance.balancer_of(weighty, None, random, 100.0)) == "<Balancer peak-ewma of 3>"


def test_a_healthy_endpoint_is_left_as_it_is() -> None:
    endpoints = spots(2)
    balancer(endpoints, "peak-ewma").pick(Wish(), (), Random(1).random, 100.0)

    assert all(spot.probation == HEALTHY for spot in endpoints)


@pytest.mark.parametrize("algorithm", ["plain", "peak-ewma"])
def test_one_bad_answer_does_not_keep_an_endpoint_idle_for_ever(algorithm: str) -> None:
    """Requests come one after the other, a second apart: nothing but its past speaks against the endpoint."""
    endpoints = spots(2)
    now_s = 100.0
    balance.observe(endpoints[0], 0.002, now_s)
    balance.observe(endpoints[1], 2.0, now_s)
    random = Random(7)
    picker = None if algorithm == "plain" else balancer(endpoints, algorithm)
    picked = []
    for _ in range(120):
        now_s += 1.0
        spot = balance.pick(endpoints, random.random, now_s, picker)
        balance.observe(spot, 0.002, now_s)
        picked.append(spot)

    assert endpoints[1] not in picked[:30], "it is left alone at first"
    assert picked.count(endpoints[1]) > 10
