"""Limits of rate and of concurrency."""

from hypothesis import given
from hypothesis import strategies as st

from contract.policy import Rate, RateLimit
from proxy.policy.limit import Bucket, Limiter

rates = st.builds(Rate, per_s=st.floats(0.1, 1000.0), burst_count=st.integers(0, 20))


@given(rates, st.lists(st.floats(0.0, 3.0), max_size=150))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(rate: Rate, pauses_s: list[float]) -> None:
    bucket, now_s, given_count = Bucket(rate, 100.0), 100.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        given_count += bucket.take(now_s) == 0.0

        assert given_count <= max(1, rate.burst_count) + rate.per_s * (now_s - 100.0) + 1e-6


@given(rates, st.lists(st.floats(0.0, 0.5), min_size=1, max_size=60))
def test_who_waits_as_told_is_let_in(rate: Rate, pauses_s: list[float]) -> None:
    bucket, now_s = Bucket(rate, 100.0), 100.0
    for pause_s in pauses_s:
        now_s += pause_s
        wait_s = bucket.take(now_s)

        assert wait_s <= 1 / rate.per_s + 1e-9
        if wait_s > 0.0:
            now_s += wait_s + 1e-6
            assert bucket.take(now_s) == 0.0


def test_a_burst_passes_at_once_and_then_the_rate() -> None:
    bucket = Bucket(Rate(per_s=2.0, burst_count=3), 100.0)

    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert [bucket.take(100.5), bucket.take(100.5)] == [0.0, 0.5]


def test_each_client_has_its_own_limit_within_the_services() -> None:
    limiter = Limiter(RateLimit(service=Rate(1.0, 3), client=Rate(1.0, 2)), 100.0)
    told = [limiter.take(client, 100.0) for client in ("a", "a", "a", "b", "b")]

    assert [refused.by if refused else "" for refused in told] == ["", "", "client", "", "service"]
    assert told[4] is not None
    assert told[4].retry_after_s == 1.0
    assert repr(limiter) == "<Limiter 1/s clients=2>"


def test_what_the_service_refuses_costs_the_client_nothing() -> None:
    limiter = Limiter(RateLimit(service=Rate(1.0, 1), client=Rate(0.001, 2)), 100.0)
    told = [limiter.take("a", now_s) for now_s in (100.0, 100.0, 101.0)]

    assert [refused.by if refused else "" for refused in told] == ["", "service", ""]


def test_a_service_can_have_a_limit_alone() -> None:
    limiter = Limiter(RateLimit(service=Rate(4.0, 1)), 100.0)

    assert [limiter.take("a", 100.0), limiter.take("b", 100.0)] == [None, ("service", 0.25)]
    assert limiter.clients_count == 0


def test_without_limits_all_are_let_in() -> None:
    limiter = Limiter(RateLimit(), 100.0)

    assert {limiter.take("a", 100.0) for _ in range(100)} == {None}
    assert limiter.clients_count == 0


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 5))
def test_the_table_of_clients_is_bounded_and_forgets_the_silent_ones(clients: list[int], max_count: int) -> None:
    limiter = Limiter(RateLimit(client=Rate(1.0, 10**6)), 100.0, max_count)
    kept: list[int] = []
    for client in clients:
        limiter.take(str(client), 100.0)
        kept = [*(other for other in kept if other != client), client][-max_count:]

        assert limiter.clients_count == len(kept)
        assert list(limiter._clients) == [str(other) for other in kept]


@given(st.lists(st.sampled_from(["address", "client"]), max_size=12))
def test_what_was_let_in_for_an_address_counts_for_its_client(who: list[str]) -> None:
    limiter = Limiter(RateLimit(client=Rate(0.01, 4)), 100.0)
    passed = sum(limiter.take(one, 100.0) is None for one in who)
    limiter.merge("address", "client", 100.0)
    limiter.merge("address", "client", 100.0)

    left = sum(limiter.take("client", 100.0) is None for _ in range(5))

    assert left == max(0, 4 - passed)
    assert limiter.clients_count == 1
    later_s = 100.0 + (1 + max(0, passed - 4)) * 100.0
    assert limiter.take("client", later_s - 1.0) is not None
    assert limiter.take("client", later_s + 1.0) is None
