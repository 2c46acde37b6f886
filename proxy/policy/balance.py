"""Which endpoint takes the next request. Pure.

Two endpoints are drawn at random and the one with the lower load takes it: load = peak EWMA x (in flight + 1). The
peak EWMA jumps up to a slow answer at once and sinks slowly with time, so that a stalling endpoint is left alone
before an average would notice. Endpoints that refused a connection stay out until `barred_until_s`, unless all did.

Sources: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); the peak EWMA is an idea of
Twitter's Finagle.
"""

from collections.abc import Callable, Sequence
from math import exp
from typing import Final, Protocol, TypeVar

DEFAULT_RTT_S: Final = 0.03
"""Latency of an endpoint that has not answered yet (seconds): cautious, so that a new one is not flooded."""

DECAY_S: Final = 10.0
"""Time constant of the average (seconds)."""

BAR_MIN_S: Final = 0.5
BAR_MAX_S: Final = 10.0
"""An endpoint that refuses stays out half a second, twice that the next time, at most ten seconds."""


class Load(Protocol):
    """What the balancer knows of an endpoint."""

    cost_s: float
    """Peak EWMA of the latency to the response's first byte."""
    cost_at_s: float
    in_flight: int
    barred_until_s: float
    bars_count: int
    """Refusals in a row."""


E = TypeVar("E", bound=Load)


def pick(endpoints: Sequence[E], random: Callable[[], float], now_s: float) -> E:  # stop 6
    """Choose an endpoint of a non-empty sequence; `random` gives floats in [0, 1)."""
    count = len(endpoints)
    if count == 1:
        return endpoints[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    if second >= first:
        second += 1
    one, other = endpoints[first], endpoints[second]
    if one.barred_until_s > now_s or other.barred_until_s > now_s:
        usable = [endpoint for endpoint in endpoints if endpoint.barred_until_s <= now_s]
        if usable and len(usable) < count:
            return pick(usable, random, now_s)
    return one if one.cost_s * (one.in_flight + 1) <= other.cost_s * (other.in_flight + 1) else other


def observe(load: Load, latency_s: float, now_s: float) -> None:
    """Enter one answer's latency into the peak EWMA and forgive earlier refusals."""
    cost_s = load.cost_s
    if latency_s >= cost_s:
        load.cost_s = latency_s
    else:
        weight = exp((load.cost_at_s - now_s) / DECAY_S)
        load.cost_s = latency_s + (cost_s - latency_s) * weight
    load.cost_at_s = now_s
    load.bars_count = 0


def bar(load: Load, now_s: float) -> None:
    """Leave an endpoint out for a while, because it refused a connection."""
    load.barred_until_s = now_s + min(BAR_MAX_S, BAR_MIN_S * 2**load.bars_count)
    load.bars_count = min(load.bars_count + 1, 16)
