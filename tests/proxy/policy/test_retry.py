"""Whether a failed try is followed by another."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.policy import Budget, Retries
from proxy.policy import retry
from proxy.policy.budget import Account
from proxy.policy.retry import Failure, Tried

POLICY = Retries(limit_count=2, statuses=((502, 504),), grpc_statuses=(14,), on_reset=True)


def judge(
    failure: Failure, retries: Retries = POLICY, *, method: bytes = b"GET", is_grpc: bool = False, made: int = 0
) -> str:
    return retry.judge(retries, failure, Tried(method, is_grpc, made, True), Account(Budget()), 1.0)


@pytest.mark.parametrize(
    ("failure", "method", "told"),
    [
        (Failure("answer", 503), b"GET", ""),
        (Failure("answer", 500), b"GET", "status"),
        (Failure("answer", 200), b"GET", "status"),
        (Failure("answer", 503), b"POST", "method"),
        (Failure("reset"), b"DELETE", ""),
        (Failure("reset"), b"PATCH", "method"),
        (Failure("timeout"), b"GET", ""),
        (Failure("unsent"), b"POST", ""),
    ],
)
def test_a_listed_failure_of_a_request_that_may_be_sent_twice_is_retried(
    failure: Failure, method: bytes, told: str
) -> None:
    assert judge(failure, method=method) == told


@pytest.mark.parametrize("kind", ["reset", "timeout"])
def test_resets_are_not_retried_unasked(kind: retry.Kind) -> None:
    assert judge(Failure(kind), Retries()) == "status"


def test_connect_failures_are_not_retried_when_that_is_off() -> None:
    assert judge(Failure("unsent"), Retries(on_connect_failure=False)) == "status"


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure("answer", 200, 14), ""),
        (Failure("answer", 200, 13), "status"),
        (Failure("answer", 200, 0), "status"),
        (Failure("answer", 503, 2), "status"),
        (Failure("reset"), ""),
        (Failure("timeout"), "status"),
    ],
)
def test_grpc_is_judged_by_its_own_status_whatever_the_method(failure: Failure, told: str) -> None:
    retries = Retries(statuses=((500, 599),), grpc_statuses=(14,))

    assert judge(failure, retries, method=b"POST", is_grpc=True) == told


def test_the_limit_holds() -> None:
    assert [judge(Failure("answer", 503), made=made) for made in range(4)] == ["", "", "limit", "limit"]


def test_a_body_that_is_gone_cannot_be_sent_again() -> None:
    account = Account(Budget())
    before = account.balance(1.0)

    assert retry.judge(POLICY, Failure("reset"), Tried(b"PUT", False, 0, False), account, 1.0) == "body"
    assert account.balance(1.0) == before


def test_the_budget_has_the_last_word() -> None:
    account = Account(Budget(ratio=0.0, min_per_s=0.2, window_s=10.0))
    told = [retry.judge(POLICY, Failure("reset"), Tried(b"GET", False, 0, True), account, 1.0) for _ in range(3)]

    assert told == ["", "", "budget"]


@given(
    st.builds(
        Failure,
        st.sampled_from(["answer", "unsent", "reset", "timeout"]),
        st.integers(0, 599),
        st.integers(-1, 16),
    ),
    st.sampled_from([b"GET", b"POST", b"\xff"]),
    st.booleans(),
    st.integers(0, 4),
    st.booleans(),
)
def test_only_a_retry_costs(failure: Failure, method: bytes, is_grpc: bool, made: int, is_held: bool) -> None:
    account = Account(Budget())
    before = account.balance(1.0)
    refusal = retry.judge(POLICY, failure, Tried(method, is_grpc, made, is_held), account, 1.0)

    assert account.balance(1.0) == before - (refusal == "")


@given(st.integers(0, 2000), st.integers())
def test_the_pause_is_drawn_from_nothing_to_a_doubling_limit(made: int, seed: int) -> None:
    retries = Retries(backoff_min_s=0.025, backoff_max_s=0.25)

    assert 0.0 <= retry.backoff_s(retries, made, Random(seed).random) <= min(0.25, 0.025 * 2 ** min(made, 20))
    assert retry.backoff_s(retries, made, lambda: 0.0) == 0.0


def test_the_first_pause_is_at_most_the_shortest_one() -> None:
    longest = [retry.backoff_s(Retries(), made, lambda: 1.0) for made in range(5)]

    assert longest == [0.025, 0.05, 0.1, 0.2, 0.25]
