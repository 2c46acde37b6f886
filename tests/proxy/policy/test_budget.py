"""The retry budget: never overdrawn, never lost."""

from hypothesis import given
from hypothesis import strategies as st

from contract.policy import Budget
from proxy.policy.budget import Account
from proxy.policy.window import BUCKETS_COUNT, Window

steps = st.lists(st.tuples(st.sampled_from(["request", "retry"]), st.floats(0.0, 4.0)), max_size=200)
terms = st.builds(
    Budget, ratio=st.floats(0.0, 1.0), min_per_s=st.sampled_from([0.0, 0.3, 1.0, 5.0]), window_s=st.floats(0.5, 20.0)
)


@given(terms, steps)
def test_the_budget_is_never_overdrawn(terms: Budget, steps: list[tuple[str, float]]) -> None:
    """Held against an exact account of the very same window, kept with every event."""
    account = Account(terms)
    requests: list[float] = []
    retries: list[float] = []
    now_s = 1000.0
    for kind, pause_s in steps:
        now_s += pause_s
        if kind == "request":
            account.deposit(now_s)
            requests.append(now_s)
        elif account.withdraw(now_s):
            retries.append(now_s)
            since_s = now_s - terms.window_s
            spent = sum(1 for at_s in retries if at_s > since_s + 1e-6)
            paid = sum(1 for at_s in requests if at_s >= since_s - 1e-6)

            assert spent <= terms.ratio * paid + terms.min_per_s * terms.window_s + 1e-9


@given(terms, steps)
def test_what_is_paid_in_can_be_spent(terms: Budget, steps: list[tuple[str, float]]) -> None:
    """A refusal is only ever due to less than one whole try being left in nine tenths of the window."""
    account = Account(terms)
    requests: list[float] = []
    retries: list[float] = []
    now_s = 1000.0
    for kind, pause_s in steps:
        now_s += pause_s
        if kind == "request":
            account.deposit(now_s)
            requests.append(now_s)
        elif account.withdraw(now_s):
            retries.append(now_s)
        else:
            spent = sum(1 for at_s in retries if at_s >= now_s - 1.1 * terms.window_s - 1e-6)
            paid = sum(1 for at_s in requests if at_s > now_s - 0.9 * terms.window_s + 1e-6)

            assert spent + 1 > terms.ratio * paid + terms.min_per_s * terms.window_s - 1e-9


def test_a_quiet_service_may_still_retry() -> None:
    account = Account(Budget(ratio=0.2, min_per_s=1.0, window_s=10.0))

    assert [account.withdraw(1000.0) for _ in range(12)] == [True] * 10 + [False] * 2


def test_a_fifth_of_the_requests_may_be_retried() -> None:
    account = Account(Budget(ratio=0.2, min_per_s=0.0, window_s=10.0))
    for _ in range(100):
        account.deposit(1000.0)

    assert sum(account.withdraw(1000.5) for _ in range(100)) == 20
    assert not account.withdraw(1009.0)
    assert account.balance(1000.5) == 0.0


def test_old_requests_pay_for_nothing() -> None:
    account = Account(Budget(ratio=1.0, min_per_s=0.0, window_s=10.0))
    account.deposit(1000.0)

    assert not account.withdraw(1010.1)


def test_an_account_names_its_terms() -> None:
    assert repr(Account(Budget())) == "<Account 0.2 + 10/s>"


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(1, 3)), max_size=60), st.sampled_from([10, 11]))
def test_a_window_counts_what_its_buckets_cover(steps: list[tuple[float, int]], buckets_count: int) -> None:
    window = Window(10.0, buckets_count)
    now_s, events = 0.0, []
    for pause_s, count in steps:
        now_s += pause_s
        window.add(now_s, count)
        events.append((int(now_s), count))

        assert window.total(now_s) == sum(n for slot, n in events if slot > int(now_s) - buckets_count)


def test_a_cleared_window_begins_anew() -> None:
    window = Window(1.0)
    window.add(5.0)
    window.clear()
    window.add(5.0)

    assert window.total(5.0) == 1
    assert window.total(3.0) == 1  # time never runs back here: it is taken for now
    assert BUCKETS_COUNT == 10
