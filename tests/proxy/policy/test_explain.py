"""Explanations: what was decided, and why the rest was not."""

from policyhouse import spots
from test_decide import Asked, view_of

from contract.policy import (
    Affinity,
    Balancing,
    Fault,
    Hash,
    Hedging,
    Match,
    Mirror,
    Retries,
    ServicePolicy,
    Timeouts,
)
from proxy.policy.affinity import mark
from proxy.policy.decide import View, decide
from proxy.policy.explain import explain
from proxy.policy.load import EJECTED


def explained(policy: ServicePolicy | None, head: Asked) -> tuple[str, ...]:
    view = view_of(policy, 1)
    return explain(decide(head, "10.1.0.9", view, 100.0, lambda: 0.5), head, view, 100.0)


def test_without_a_policy_there_is_little_to_explain() -> None:
    assert explained(None, Asked()) == (
        "no policy: one try, the sidecar's own timeouts",
        "endpoint 10.0.0.2:80: weight 1, in flight 0, cost 30.0 ms",
    )
    empty = View((), None, None)  # type: ignore[var-annotated]
    told = explain(decide(Asked(), "10.1.0.9", empty, 0.0, lambda: 0.5), Asked(), empty, 0.0)
    assert told[-1] == "no endpoint is ready"


def test_an_empty_policy_names_what_it_has_not() -> None:
    assert explained(ServicePolicy(name="shop/web"), Asked())[:5] == (
        "policy shop/web",
        "no retries: the policy has none",
        "no hedging: the policy has none",
        "no mirror: the policy has none",
        "balanced by peak-ewma",
    )


def test_each_part_says_why_it_takes_part_or_not() -> None:
    policy = ServicePolicy(
        name="shop/web",
        timeouts=Timeouts(request_s=2.0, per_try_s=0.5),
        retries=Retries(limit_count=2),
        hedging=Hedging(percentile=95.0),
        mirror=Mirror("10.96.0.9:80", "next.shop", 0.3),
        balancing=Balancing(algorithm="ring-hash", hash=Hash(header="x-user")),
        faults=(
            Fault(match=Match(path="/slow"), name="shop/a"),
            Fault(ratio=0.2, name="shop/b"),
            Fault(),
            Fault(name="shop/d"),
        ),
    )
    assert explained(policy, Asked(b"POST", b"/x"))[:-1] == (
        "policy shop/web",
        "request timeout 2 s",
        "per-try timeout 0.5 s",
        "up to 2 retries, for POST only of what no server has read",
        "no hedging: POST is not idempotent",
        "fault shop/a: its path does not match",
        "fault shop/b: not drawn by its ratio",
        "fault unnamed: injected",
        "not mirrored to next.shop: a copy itself, or not drawn by the ratio of 0.3",
        "balanced by ring-hash: the request has nothing to hash, any endpoint will do",
    )


def test_what_takes_part_is_told_too() -> None:
    name = mark("10.0.0.2:80")
    policy = ServicePolicy(
        retries=Retries(),
        hedging=Hedging(delay_s=0.1),
        mirror=Mirror("10.96.0.9:80"),
        balancing=Balancing(affinity=Affinity(cookie="t")),
    )
    assert explained(policy, Asked(cookie=b"t=" + name))[:-1] == (
        "policy of the mesh",
        "up to 1 retries",
        "up to 1 hedges, each after 0.1 s",
        "mirrored to 10.96.0.9:80",
        f"balanced by affinity to {name.decode()}, else peak-ewma",
    )


def test_endpoints_say_why_they_are_left_out() -> None:
    endpoints = spots(4)
    endpoints[0].barred_until_s = 101.5
    endpoints[1].ejected_until_s, endpoints[1].probation = 103.0, EJECTED
    endpoints[2].ejected_until_s, endpoints[2].probation = 99.0, EJECTED
    endpoints[3].added_s, endpoints[3].is_preferred = 95.0, True
    view = View(endpoints, ServicePolicy(balancing=Balancing(slow_start_s=10.0)), None)
    told = explain(decide(Asked(), "", view, 100.0, lambda: 0.5), Asked(), view, 100.0)[-4:]

    assert [line.split("ms", 1)[1] for line in told] == [
        ", barred for 1.5 s: it refused a connection",
        ", ejected for 3.0 s: it failed",
        ", on probation: one request at a time",
        ", warm to 50%, preferred: of this zone",
    ]
