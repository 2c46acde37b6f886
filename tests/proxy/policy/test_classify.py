"""What an answer says: of the call, and of the endpoint that gave it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import classify


def test_a_servers_fault_counts_as_failure_for_grpc_too() -> None:
    assert [code for code in range(18) if not classify.grpc(200, str(code))] == [2, 4, 7, 13, 14, 15, 17]
    assert not classify.grpc(503, "0")
    assert not classify.grpc(200, "")


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [(200, 0, 0), (200, 14, 14), (503, 0, 0), (503, -1, 14), (404, -1, 12), (200, -1, 2), (0, -1, 2)],
)
def test_the_outcome_of_a_call_is_what_its_client_sees(status: int, code: int, told: int) -> None:
    assert classify.grpc_status(status, code) == told


@given(st.integers(0, 999), st.integers(-1, 16))
def test_every_outcome_is_a_code_of_grpc(status: int, code: int) -> None:
    assert 0 <= classify.grpc_status(status, code) <= classify.GRPC_MAX


def test_only_the_servers_own_faults_speak_against_an_endpoint() -> None:
    assert [classify.is_server_sound(status) for status in (0, 200, 404, 429, 500, 503)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert [code for code in range(-1, 17) if not classify.is_server_sound(200, code)] == [2, 4, 13, 14, 15]
