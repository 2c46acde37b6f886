"""Which endpoint takes the next request. Pure.

Two endpoints are drawn at random and the one with the lower load takes it: load = peak EWMA x (in flight + 1). The
peak EWMA jumps up to a slow answer at once and sinks slowly with time, so that a stalling endpoint is left alone
before an average would notice. Endpoints that refused a connection stay out until `barred_until_s`, unless all did.

That is the plain case, and it needs no state but the endpoints' own. Whatever a policy, weights or zones add to it is
the balancer's (see balancer), which is made only where there is such a thing.

Sources: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); the peak EWMA is an idea of
Twitter's Finagle.
"""

from collections.abc import Callable, Sequence
from math import exp
from typing import Final

from contract.policy import Balancing, ServicePolicy
from proxy.policy.balancer import NO_WISH, Balancer, Wish
from proxy.policy.load import DECAY_S, E, Load, burden

__all__ = ["NO_WISH", "Balancer", "Load", "Wish", "balancer_of", "bar", "observe", "observe_failure", "pick"]

DEFAULT_RTT_S: Final = 0.03
"""Latency of an endpoint that has not answered yet (seconds): cautious, so that a new one is not flooded."""

BAR_MIN_S: Final = 0.5
BAR_MAX_S: Final = 10.0
"""An endpoint that refuses stays out half a second, twice that the next time, at most ten seconds."""

PLAIN: Final = Balancing()


def pick(  # the plain case is spelled out here: it is on the way of every request
    endpoints: Sequence[E],
    random: Callable[[], float],
    now_s: float,
    balancer: Balancer[E] | None = None,
    wish: Wish = NO_WISH,
    avoided: tuple[E, ...] = (),
) -> E:  # stop 6
    """Choose an endpoint of a non-empty sequence.

    Args:
        endpoints: those of the balancer, if there is one.
        random: gives floats in [0, 1).
        now_s: monotonic.
        balancer: of `balancer_of`; None in the plain case, where `wish` and `avoided` say nothing.
        wish: what the request is known by.
        avoided: endpoints that have failed this request before, or are serving it.
    """
    if balancer is not None:
        return balancer.pick(wish, avoided, random, now_s)
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
    return one if burden(one, now_s) <= burden(other, now_s) else other


def balancer_of(
    endpoints: Sequence[E], policy: ServicePolicy | None, random: Callable[[], float], now_s: float
) -> Balancer[E] | None:
    """Make what picks need beyond the plain case; None when that is nothing. Call it with every snapshot."""
    if not endpoints:
        return None
    balancing = PLAIN
    full_count = 0
    is_plain = True
    if policy is not None:
        balancing = policy.balancing
        full_count = policy.endpoint_concurrency.limit_count
        is_plain = (
            policy.retries is None
            and policy.hedging is None
            and policy.circuit_breaker is None
            and full_count == 0
            and balancing.algorithm == PLAIN.algorithm
            and not balancing.affinity.cookie
            and balancing.slow_start_s <= 0.0
        )
    if is_plain:
        first = endpoints[0]
        is_zoned = balancing.prefers_zone
        for endpoint in endpoints:
            if endpoint.weight != first.weight or (is_zoned and endpoint.is_preferred != first.is_preferred):
                is_plain = False
    return None if is_plain else Balancer(endpoints, balancing, full_count, random, now_s)


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


def observe_failure(load: Load, latency_s: float, now_s: float) -> None:
    """Enter a failed answer, or a try that was broken off: it can make an endpoint look slower, never faster."""
    load.cost_s = max(load.cost_s, latency_s)  # an error is quickly given: that is no sign of a fast server
    load.cost_at_s = now_s


def bar(load: Load, now_s: float) -> None:
    """Leave an endpoint out for a while, because it refused a connection."""
    load.barred_until_s = now_s + min(BAR_MAX_S, BAR_MIN_S * 2**load.bars_count)
    load.bars_count = min(load.bars_count + 1, 16)
