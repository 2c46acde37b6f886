"""Deadlines: the shortest limit holds, and shrinks along the chain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.deadline import EXPIRED, NO_LIMIT, deadline_ms, remaining_s, timeout_ms


@pytest.mark.parametrize(
    ("policy_s", "timeout", "deadline", "grpc_s", "left_s"),
    [
        (0.0, b"", b"", -1.0, NO_LIMIT),
        (2.0, b"", b"", -1.0, 2.0),
        (0.0, b"1500", b"", -1.0, 1.5),
        (0.0, b"", b"1000500", -1.0, 0.5),
        (0.0, b"", b"", 3.0, 3.0),
        (2.0, b"1500", b"1000500", 3.0, 0.5),
        (0.2, b"1500", b"1000500", 3.0, 0.2),
        (2.0, b"0", b"", -1.0, EXPIRED),
        (2.0, b"", b"999999", -1.0, EXPIRED),
        (2.0, b"", b"0", 1.0, EXPIRED),
        (2.0, b"100", b"", 0.0, EXPIRED),
        (2.0, b"-5", b"soon", -1.0, 2.0),
        (2.0, b"1.5", b"99999999999999999999", -1.0, 2.0),
    ],
)
def test_the_shortest_limit_holds(
    policy_s: float, timeout: bytes, deadline: bytes, grpc_s: float, left_s: float
) -> None:
    assert remaining_s(policy_s, timeout, deadline, grpc_s, 1000.0) == left_s


numbers = st.binary(max_size=6) | st.integers(0, 10**12).map(lambda number: b"%d" % number)


@given(st.floats(0.0, 100.0), numbers, numbers, st.floats(-1.0, 100.0))
def test_nothing_lengthens_what_the_policy_allows(
    policy_s: float, timeout: bytes, deadline: bytes, grpc_s: float
) -> None:
    left_s = remaining_s(policy_s, timeout, deadline, grpc_s, 1000.0)

    assert left_s == EXPIRED or left_s >= 0.0
    assert policy_s == NO_LIMIT or left_s <= policy_s
    assert left_s != NO_LIMIT or policy_s == NO_LIMIT


@given(st.floats(0.001, 1e6))
def test_a_chain_of_sidecars_only_shortens(left_s: float) -> None:
    passed_on_s = remaining_s(0.0, timeout_ms(left_s), b"", -1.0, 5000.0)
    assert left_s - 0.001 <= passed_on_s <= left_s + 1e-9

    by_application_s = remaining_s(0.0, b"", deadline_ms(left_s, 5000.0), -1.0, 5000.0)
    assert by_application_s == EXPIRED or by_application_s <= left_s + 1e-6


def test_a_rest_is_never_written_as_nothing() -> None:
    assert timeout_ms(0.0001) == b"1"
    assert timeout_ms(1.9999) == b"1999"
    assert deadline_ms(0.25, 1000.0) == b"1000250"
