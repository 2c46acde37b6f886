"""What balancing knows of an endpoint, and whether it may be chosen. Pure."""

from math import exp
from typing import Final, Generic, Protocol, TypeVar

HEALTHY: Final = 0
EJECTED: Final = 1
"""Left out until `ejected_until_s`; from then on one request may try it."""
ON_TRIAL: Final = 2
"""That request is on its way; `ejected_until_s` keeps the others off."""

TRIAL_S: Final = 10.0
"""A trial that has told nothing for so long (seconds; its client may have gone) makes room for another."""

WARM_MIN_RATIO: Final = 0.1
"""Least share of its weight that an endpoint in slow start has (Envoy's `min_weight_percent`): from nothing it would
learn nothing."""


DECAY_S: Final = 10.0
"""Time constant of the average (seconds)."""

QUIET_S: Final = 1.0
"""An endpoint that has not answered for so long (seconds) is judged by less and less, so that one bad answer, or the
caution towards a new one, does not keep it idle for ever."""

FLOOR_S: Final = 0.001
"""What that sinks to (Linkerd's floor)."""


class Load(Protocol):
    """An endpoint, as far as balancing cares; proxy.pool.Endpoint is one."""

    cost_s: float
    """Peak EWMA of the latency to the response's first byte."""
    cost_at_s: float
    in_flight: int
    barred_until_s: float
    """It refused a connection: left out until then."""
    bars_count: int
    """Refusals in a row."""
    weight: int
    """Share of the requests, against the other endpoints'."""
    is_preferred: bool
    """Hinted for the client's zone."""
    added_s: float
    """When discovery began to name it; 0.0 for the endpoints of a target's first snapshot, which are not new."""
    ejected_until_s: float
    probation: int
    """HEALTHY, EJECTED or ON_TRIAL; only policy.outlier and policy.balancer set it."""

    @property
    def name(self) -> str:
        """The same for as long as it stands at its address, in every process."""
        ...


E = TypeVar("E", bound=Load)


def burden(load: Load, now_s: float) -> float:
    """Give what balancing compares: peak EWMA x (in flight + 1)."""
    cost_s = load.cost_s
    quiet_s = now_s - load.cost_at_s
    if quiet_s > QUIET_S and cost_s > FLOOR_S:
        cost_s = max(FLOOR_S, cost_s * exp(-quiet_s / DECAY_S))
    return cost_s * (load.in_flight + 1)


def is_usable(load: Load, now_s: float) -> bool:
    """Tell whether an endpoint is neither barred nor ejected."""
    return load.barred_until_s <= now_s and load.ejected_until_s <= now_s


def warmth(load: Load, slow_start_s: float, now_s: float) -> float:
    """Give the share of its weight that an endpoint has by now, in (0, 1]."""
    age_s = now_s - load.added_s
    if age_s >= slow_start_s:
        return 1.0
    return max(WARM_MIN_RATIO, age_s / slow_start_s)


ANY: Final = 0
OTHER: Final = 1
"""Usable or not, but not tried before by the same request."""
USABLE: Final = 2
FREE: Final = 3
"""Usable, and below the limit of requests in flight."""
FRESH: Final = 4
"""Free, and not tried before by the same request."""


class Sieve(Generic[E]):
    """Which endpoints may be drawn; one record for each balancer, set anew for every pick."""

    __slots__ = ("avoided", "full_count", "grade", "now_s")

    def __init__(self, full_count: int) -> None:
        self.full_count = full_count
        """Requests in flight that make an endpoint full; 0: none do."""
        self.now_s = 0.0
        self.avoided: tuple[E, ...] = ()
        self.grade = FRESH

    def passes(self, endpoint: E) -> bool:
        """Tell whether the endpoint is of the grade that is asked for."""
        grade = self.grade
        if grade <= OTHER:
            return grade == ANY or endpoint not in self.avoided
        if endpoint.barred_until_s > self.now_s or endpoint.ejected_until_s > self.now_s:
            return False
        if grade == USABLE:
            return True
        if 0 < self.full_count <= endpoint.in_flight:
            return False
        return grade == FREE or endpoint not in self.avoided
