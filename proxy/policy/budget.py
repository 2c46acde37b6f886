"""What retries and hedges may cost a service. Pure.

Theory of operation: each request of a client is a deposit, each try or hedge beyond the first a withdrawal. A
withdrawal is granted while the withdrawals of the last `window_s`, this one included, are at most `ratio` times the
deposits of the same time plus `min_per_s` x `window_s`. So retries can never multiply the load of a service that is
already down, whatever the limit of each request, and the account can never be overdrawn: deposits are counted over
slightly less than the window, withdrawals over slightly more (see window).

Sources: the idea of a retry budget is Finagle's; the defaults (0.2, 10 a second, 10 s) are Linkerd's.
"""

from contract.policy import Budget
from proxy.policy.window import BUCKETS_COUNT, Window


class Account:
    """One for each service; shared by its retries and hedges."""

    __slots__ = ("_deposits", "_reserve", "_withdrawals", "terms")

    def __init__(self, terms: Budget) -> None:
        self.terms = terms
        self._reserve = terms.min_per_s * terms.window_s
        self._deposits = Window(terms.window_s, BUCKETS_COUNT)
        self._withdrawals = Window(terms.window_s, BUCKETS_COUNT + 1)

    def __repr__(self) -> str:
        return f"<Account {self.terms.ratio:g} + {self.terms.min_per_s:g}/s>"

    def deposit(self, now_s: float) -> None:
        """Enter a client's request; once for each, however many tries it takes."""
        self._deposits.add(now_s)

    def withdraw(self, now_s: float) -> bool:
        """Pay for one more try if the account allows it."""
        if self.balance(now_s) < 1.0:
            return False
        self._withdrawals.add(now_s)
        return True

    def balance(self, now_s: float) -> float:
        """How many tries may still be made now; below 0 when deposits have aged since they were spent."""
        return self._reserve + self.terms.ratio * self._deposits.total(now_s) - self._withdrawals.total(now_s)
