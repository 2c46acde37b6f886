"""The decision: a value that depends on its inputs alone."""

import ast
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyhouse import Spot, spots

import proxy.policy
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
from proxy.policy.balance import balancer_of, pick
from proxy.policy.balancer import NO_WISH
from proxy.policy.decide import Decision, View, decide
from proxy.policy.fault import draw
from proxy.policy.ring import key_of

IMPURE = {
    "trio",
    "socket",
    "ssl",
    "select",
    "time",
    "random",
    "logging",
    "os",
    "datetime",
    "secrets",
    "uuid",
    "asyncio",
}


class Asked:
    """A request's head. Satisfies fault.Head."""

    def __init__(self, method: bytes = b"GET", target: bytes = b"/", **headers: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = {name.replace("_", "-").encode(): value for name, value in headers.items()}

    def value(self, name: bytes) -> bytes:
        return self.headers.get(name, b"")


def view_of(policy: ServicePolicy | None, count: int = 3) -> View[Spot]:
    endpoints = spots(count)
    return View(endpoints, policy, balancer_of(endpoints, policy, Random(1).random, 100.0))


def decided(
    policy: ServicePolicy | None, head: Asked | None = None, random: Callable[[], float] = lambda: 0.5
) -> Decision[Spot]:
    return decide(head or Asked(), "10.1.0.9", view_of(policy), 100.0, random)


heads = st.builds(
    Asked,
    st.sampled_from([b"GET", b"POST"]),
    st.sampled_from([b"/", b"/a/b?c=d", b"*", b"http://x/a"]),
    x_user=st.sampled_from([b"", b"ann", b"bob"]),
    cookie=st.sampled_from([b"", b"t=abc; u=ann"]),
)
faults = st.builds(
    Fault,
    match=st.builds(Match, methods=st.sampled_from([(), ("GET",)]), path_prefix=st.sampled_from(["", "/a"])),
    ratio=st.floats(0.0, 1.0),
    delay_s=st.floats(0.0, 1.0),
    name=st.just("shop/slow"),
)
policies = st.none() | st.builds(
    ServicePolicy,
    timeouts=st.builds(Timeouts, request_s=st.floats(0.0, 9.0)),
    retries=st.none() | st.builds(Retries),
    hedging=st.none() | st.builds(Hedging, delay_s=st.floats(0.0, 1.0)),
    mirror=st.none() | st.builds(Mirror, target=st.just("10.96.0.9:80"), ratio=st.floats(0.0, 1.0)),
    balancing=st.builds(
        Balancing,
        algorithm=st.sampled_from(["peak-ewma", "least-request", "round-robin", "ring-hash"]),
        hash=st.sampled_from([Hash(header="x-user"), Hash(cookie="u"), Hash(source_ip=True)]),
        affinity=st.sampled_from([Affinity(), Affinity(cookie="t")]),
    ),
    faults=st.lists(faults, max_size=3).map(tuple),
)


@given(policies, heads, st.integers(), st.ip_addresses().map(str))
def test_the_decision_function_is_pure(policy: ServicePolicy | None, head: Asked, seed: int, peer_ip: str) -> None:
    """Twice the same inputs, twice the same output; what was decided before changes nothing."""
    view = view_of(policy)
    once = decide(head, peer_ip, view, 100.0, Random(seed).random)
    decide(Asked(b"POST", b"/other"), "10.9.9.9", view, 500.0, Random(seed + 1).random)

    assert once == decide(head, peer_ip, view, 100.0, Random(seed).random)


def test_no_decision_can_reach_a_clock_or_a_random_source() -> None:
    for path in sorted(Path(proxy.policy.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in modules if name.split(".")[0] in ("proxy", "contract")}

        assert not {name.split(".")[0] for name in modules} & IMPURE, path
        assert all(name.startswith(("proxy.policy", "contract.")) for name in ours), path


def test_without_a_policy_all_requests_share_one_decision() -> None:
    view = view_of(None)
    one = decide(Asked(), "10.1.0.9", view, 100.0, Random(1).random)

    assert one is decide(Asked(b"POST", b"/x"), "10.1.0.8", view, 200.0, Random(2).random)
    assert one.candidates is view.endpoints
    assert (one.retries, one.hedge, one.mirror, one.wish) == (None, None, None, NO_WISH)
    assert one.request_timeout_s == one.per_try_s == one.response_s == one.idle_s == 0.0


def test_a_policy_that_asks_nothing_of_the_request_shares_one_too() -> None:
    retries = Retries(limit_count=3)
    view = view_of(ServicePolicy(timeouts=Timeouts(1.0, 2.0, 3.0, 4.0), retries=retries))
    one = decide(Asked(), "10.1.0.9", view, 100.0, Random(1).random)

    assert one is decide(Asked(b"POST"), "10.1.0.8", view, 200.0, Random(2).random)
    assert (one.request_timeout_s, one.per_try_s, one.response_s, one.idle_s) == (1.0, 2.0, 3.0, 4.0)
    assert one.retries is retries


def test_only_idempotent_methods_are_hedged() -> None:
    policy = ServicePolicy(hedging=Hedging(delay_s=0.1), timeouts=Timeouts(request_s=2.0))

    assert decided(policy, Asked(b"GET")).hedge == policy.hedging
    assert decided(policy, Asked(b"POST")).hedge is None
    assert decided(policy, Asked(b"POST")).request_timeout_s == 2.0


@pytest.mark.parametrize(("ratio", "drawn", "is_mirrored"), [(1.0, 0.99, True), (0.5, 0.5, False), (0.5, 0.4, True)])
def test_a_share_of_the_requests_is_mirrored(ratio: float, drawn: float, is_mirrored: bool) -> None:
    mirror = Mirror("10.96.0.9:80", "next.shop", ratio)

    assert decided(ServicePolicy(mirror=mirror), random=lambda: drawn).mirror == (mirror if is_mirrored else None)


def test_a_copy_is_not_copied_again() -> None:
    policy = ServicePolicy(mirror=Mirror("10.96.0.9:80"))

    assert decided(policy, Asked(x_tulle_mirror=b"shop/web")).mirror is None


def test_the_first_fault_that_matches_and_is_drawn_happens() -> None:
    policy = ServicePolicy(
        faults=(
            Fault(match=Match(methods=("POST",)), delay_s=1.0),
            Fault(ratio=0.1, abort_status=500),
            Fault(ratio=0.9, abort_status=503, name="shop/broken"),
            Fault(abort_status=504),
        )
    )
    fault = draw(view_of(policy).injections, Asked(), lambda: 0.5)

    assert fault is not None
    assert (fault.abort_status, fault.name) == (503, "shop/broken")


@pytest.mark.parametrize(
    ("source", "head", "value"),
    [
        (Hash(header="X-User"), Asked(x_user=b"ann"), b"ann"),
        (Hash(header="x-user"), Asked(), b""),
        (Hash(cookie="u"), Asked(cookie=b"t=1; u=ann"), b"ann"),
        (Hash(cookie="u"), Asked(cookie=b"t=1"), b""),
        (Hash(source_ip=True), Asked(), b"10.1.0.9"),
    ],
)
def test_the_key_is_what_the_policy_hashes(source: Hash, head: Asked, value: bytes) -> None:
    policy = ServicePolicy(balancing=Balancing(algorithm="ring-hash", hash=source))

    assert decided(policy, head).wish.key == key_of(value)


@given(st.integers(0, 9), st.sampled_from(["peak-ewma", "least-request", "round-robin", "ring-hash"]))
def test_a_cookie_finds_its_endpoint(number: int, algorithm: str) -> None:
    policy = ServicePolicy(
        balancing=Balancing(algorithm=algorithm, hash=Hash(source_ip=True), affinity=Affinity(cookie="t"))  # type: ignore[arg-type]
    )
    view = view_of(policy, 10)
    head = Asked(cookie=b"a=b; t=" + mark(view.endpoints[number].address))
    decision = decide(head, "10.1.0.9", view, 100.0, Random(1).random)

    assert pick(decision.candidates, Random(2).random, 100.0, view.balancer, decision.wish) is view.endpoints[number]


def test_decisions_differ_when_anything_of_them_does() -> None:
    policy = ServicePolicy(mirror=Mirror("10.96.0.9:80", ratio=0.5))
    view = view_of(policy)
    one, other = (decide(Asked(), "10.1.0.9", view, 0.0, lambda value=value: value) for value in (0.1, 0.9))  # type: ignore[misc]

    assert one != other
    assert one != "a decision"
    assert repr(view) == "<View of 3 policy=>"
    assert repr(other).startswith("<Decision of 3 retries=None")
