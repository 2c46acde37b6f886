"""Faults: which requests they meet, and the pace of a narrowed response."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.policy import Fault, Match
from proxy.policy import fault
from proxy.policy.fault import Injection, Pacer


class Asked:
    """A request's head. Satisfies fault.Head."""

    def __init__(self, method: bytes = b"GET", target: bytes = b"/", headers: dict[bytes, bytes] | None = None) -> None:
        self.method = method
        self.target = target
        self.headers = headers or {}

    def value(self, name: bytes) -> bytes:
        return self.headers.get(name, b"")


@pytest.mark.parametrize(
    ("match", "head", "missed"),
    [
        (Match(), Asked(b"PATCH", b"*"), ""),
        (Match(methods=("GET", "PUT")), Asked(b"PUT"), ""),
        (Match(methods=("GET",)), Asked(b"PUT"), "method"),
        (Match(path="/a"), Asked(target=b"/a?b=c"), ""),
        (Match(path="/a"), Asked(target=b"/a/"), "path"),
        (Match(path="/a"), Asked(target=b"http://shop/a?b"), ""),
        (Match(path="/"), Asked(target=b"http://shop"), ""),
        (Match(path_prefix="/a"), Asked(target=b"/a"), ""),
        (Match(path_prefix="/a"), Asked(target=b"/a/b?c"), ""),
        (Match(path_prefix="/a/"), Asked(target=b"/a/b"), ""),
        (Match(path_prefix="/a"), Asked(target=b"/ab"), "path"),
        (Match(path_prefix="/"), Asked(target=b"/ab"), ""),
        (Match(headers=(("x-user", "ann"),)), Asked(headers={b"x-user": b"ann"}), ""),
        (Match(headers=(("x-user", "ann"),)), Asked(), "header"),
        (Match(headers=(("a", "1"), ("b", "2"))), Asked(headers={b"a": b"1", b"b": b"3"}), "header"),
    ],
)
def test_a_fault_meets_the_requests_that_match_in_all_parts(match: Match, head: Asked, missed: str) -> None:
    assert Injection(Fault(match=match)).misses(head) == missed


def test_an_injection_is_all_of_its_fault() -> None:
    told = Fault(Match(), 0.5, 1.0, 503, 14, True, 100, 2048.0, "shop/slow")
    injection = Injection(told)

    for name in ("delay_s", "abort_status", "abort_grpc_status", "is_reset", "truncate_bytes", "bandwidth_bytes_per_s"):
        assert getattr(injection, name) == getattr(told, name)
    assert repr(injection) == "<Injection shop/slow 0.5>"


@given(st.floats(0.05, 0.95), st.integers())
def test_faults_come_out_by_their_ratio(ratio: float, seed: int) -> None:
    injections = [Injection(Fault(ratio=ratio))]
    random = Random(seed).random
    drawn = sum(fault.draw(injections, Asked(), random) is not None for _ in range(2000))

    assert abs(drawn / 2000 - ratio) < 6 * (ratio * (1 - ratio) / 2000) ** 0.5


def test_a_fault_of_ratio_zero_never_happens() -> None:
    assert fault.draw([Injection(Fault(ratio=0.0))], Asked(), lambda: 0.0) is None


@given(st.floats(1.0, 1e7), st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 10**6)), max_size=40))
def test_no_more_bytes_pass_than_the_bandwidth_allows(per_s: float, steps: list[tuple[float, int]]) -> None:
    now_s, passed_bytes = 100.0, 0
    pacer = Pacer(per_s, now_s)
    for pause_s, wanted_bytes in steps:
        now_s += pause_s
        moved_bytes = min(wanted_bytes, pacer.allowed_bytes(now_s))
        pacer.spend(moved_bytes)
        passed_bytes += moved_bytes

        assert passed_bytes <= per_s * (now_s - 100.0 + fault.BURST_S) + 1


@pytest.mark.parametrize("per_s", [10.0, 1000.0, 1e6, 1e8])
def test_the_bandwidth_is_used_up_when_there_is_enough_to_send(per_s: float) -> None:
    now_s, passed_bytes, turns_s = 100.0, 0, [100.0]
    pacer = Pacer(per_s, now_s)
    while now_s < 110.0:
        moved_bytes = pacer.allowed_bytes(now_s)
        pacer.spend(moved_bytes)
        passed_bytes += moved_bytes
        now_s = pacer.next_s(now_s)
        turns_s.append(now_s)

    assert passed_bytes == pytest.approx(10 * per_s, rel=0.02, abs=2)
    assert min(later - sooner for sooner, later in pairwise(turns_s)) > 0.9 * fault.PAUSE_MIN_S


def test_a_debt_is_paid_by_waiting() -> None:
    pacer = Pacer(1000.0, 100.0)
    pacer.spend(1050)

    assert pacer.allowed_bytes(100.5) == 0
    assert pacer.next_s(100.5) == pytest.approx(101.05)
    assert pacer.allowed_bytes(101.06) == 50
