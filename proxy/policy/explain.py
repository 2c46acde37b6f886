"""Why a request was decided so, and the other choices were not made. Pure; on demand only.

For `explain` commands, taps and logs: the path of a request never comes here.
"""

from contract.policy import Retries
from proxy.policy.decide import Decision, View
from proxy.policy.fault import Head, Injection
from proxy.policy.hedge import IDEMPOTENT
from proxy.policy.load import E, is_usable, warmth
from proxy.policy.ring import RANDOM_KEY


def explain(decision: Decision[E], head: Head, view: View[E], now_s: float) -> tuple[str, ...]:
    """Tell in lines what was decided, and what kept the rest of the policy from taking part.

    Args:
        decision: what `decide` gave for this head and view.
        head: of the request.
        view: of the target.
        now_s: for the state of the endpoints.
    """
    policy = view.policy
    if policy is None:
        return ("no policy: one try, the sidecar's own timeouts", *_endpoints(view, now_s))
    lines = [f"policy {policy.name or 'of the mesh'}"]
    for word, limit_s in (
        ("request", decision.request_timeout_s),
        ("per-try", decision.per_try_s),
        ("response", decision.response_s),
        ("idle", decision.idle_s),
    ):
        if limit_s:
            lines.append(f"{word} timeout {limit_s:g} s")
    lines.append(_retries(decision.retries, head))
    lines.append(_hedging(decision, head, view))
    lines.extend(_faults(decision.fault, head, view))
    lines.append(_mirror(decision, head, view))
    lines.append(_balancing(decision, view))
    lines.extend(_endpoints(view, now_s))
    return tuple(lines)


def _retries(retries: Retries | None, head: Head) -> str:
    if retries is None:
        return "no retries: the policy has none"
    method = head.method.decode("latin-1")
    if method in retries.methods:
        return f"up to {retries.limit_count} retries"
    return f"up to {retries.limit_count} retries, for {method} only of what no server has read"


def _hedging(decision: Decision[E], head: Head, view: View[E]) -> str:
    policy = view.policy
    if policy is None or policy.hedging is None:
        return "no hedging: the policy has none"
    if head.method not in IDEMPOTENT:
        return f"no hedging: {head.method.decode('latin-1')} is not idempotent"
    hedging = policy.hedging
    after = f"the {hedging.percentile:g}th percentile" if hedging.percentile else f"{hedging.delay_s:g} s"
    return f"up to {hedging.limit_count} hedges, each after {after}"


def _faults(drawn: Injection | None, head: Head, view: View[E]) -> list[str]:
    lines = []
    for injection in view.injections:
        name = injection.name or "unnamed"
        missed = injection.misses(head)
        if injection is drawn:
            lines.append(f"fault {name}: injected")
            break
        lines.append(f"fault {name}: {f'its {missed} does not match' if missed else 'not drawn by its ratio'}")
    return lines


def _mirror(decision: Decision[E], head: Head, view: View[E]) -> str:
    policy = view.policy
    if policy is None or policy.mirror is None:
        return "no mirror: the policy has none"
    name = policy.mirror.name or policy.mirror.target
    if decision.mirror is not None:
        return f"mirrored to {name}"
    return f"not mirrored to {name}: a copy itself, or not drawn by the ratio of {policy.mirror.ratio:g}"


def _balancing(decision: Decision[E], view: View[E]) -> str:
    balancer = view.balancer
    algorithm = balancer.balancing.algorithm if balancer is not None else "peak-ewma"
    wish = decision.wish
    if wish.affinity:
        return f"balanced by affinity to {wish.affinity.decode('latin-1')}, else {algorithm}"
    if algorithm == "ring-hash" and wish.key == RANDOM_KEY:
        return "balanced by ring-hash: the request has nothing to hash, any endpoint will do"
    return f"balanced by {algorithm}"


def _endpoints(view: View[E], now_s: float) -> list[str]:
    lines = []
    slow_start_s = view.policy.balancing.slow_start_s if view.policy is not None else 0.0
    for endpoint in view.endpoints:
        words = [f"weight {endpoint.weight}", f"in flight {endpoint.in_flight}", f"cost {endpoint.cost_s * 1e3:.1f} ms"]
        if endpoint.barred_until_s > now_s:
            words.append(f"barred for {endpoint.barred_until_s - now_s:.1f} s: it refused a connection")
        if endpoint.ejected_until_s > now_s:
            words.append(f"ejected for {endpoint.ejected_until_s - now_s:.1f} s: it failed")
        if is_usable(endpoint, now_s) and endpoint.probation:
            words.append("on probation: one request at a time")
        if slow_start_s > 0.0 and warmth(endpoint, slow_start_s, now_s) < 1.0:
            words.append(f"warm to {warmth(endpoint, slow_start_s, now_s):.0%}")
        if endpoint.is_preferred:
            words.append("preferred: of this zone")
        lines.append(f"endpoint {endpoint.address}: {', '.join(words)}")
    return lines or ["no endpoint is ready"]
