"""gRPC's own headers: deadlines, messages, statuses."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import REASONS
from proxy.wire import grpc


@pytest.mark.parametrize(
    ("value", "timeout_s"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"250m", 0.25),
        (b"500u", 0.0005),
        (b"10n", 1e-8),
        (b"0S", 0),
        (b"99999999S", 99999999),
    ],
)
def test_a_timeout_has_up_to_eight_digits_and_a_unit(value: bytes, timeout_s: float) -> None:
    assert grpc.parse_timeout_s(value) == pytest.approx(timeout_s)


@pytest.mark.parametrize(
    "value", [b"", b"S", b"1", b"1s", b"-1S", b"+1S", b"1.5S", b" 1S", b"1S ", b"123456789S", b"1SS"]
)
def test_a_malformed_timeout_counts_as_none(value: bytes) -> None:
    assert grpc.parse_timeout_s(value) == -1


@given(st.floats(0, 3e11))
def test_a_written_timeout_is_valid_and_never_longer(timeout_s: float) -> None:
    written_s = grpc.parse_timeout_s(grpc.format_timeout(timeout_s))
    assert 0 <= written_s <= timeout_s * (1 + 1e-9)
    assert written_s >= min(timeout_s, 99999999 * 3600) * (1 - 1e-3) - 1e-9


def test_a_timeout_is_written_in_the_finest_unit_that_has_room() -> None:
    assert grpc.format_timeout(0.05) == b"50000000n"
    assert grpc.format_timeout(1) == b"1000000u"
    assert grpc.format_timeout(86400) == b"86400000m"
    assert grpc.format_timeout(-1) == b"0n"


@given(st.text(st.characters(codec="utf-8")))
def test_a_message_is_printable_ascii_and_can_be_read_back(text: str) -> None:
    message = grpc.encode_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in message)
    assert unquote(message.decode()) == text


def test_a_message_keeps_what_is_printable() -> None:
    assert grpc.encode_message("it's 100% ü\n") == b"it's 100%25 %C3%BC%0A"


@pytest.mark.parametrize("reason", [r for r in REASONS.values() if r.status])
def test_every_reason_with_an_answer_has_a_status_of_its_own_right(reason: object) -> None:
    word, status = reason.word, reason.status  # type: ignore[attr-defined]
    assert 0 < grpc.status_for(word, status) <= grpc.MAX_STATUS
    assert grpc.status_for(word, status) != grpc.UNKNOWN


def test_timeouts_of_the_request_exceed_its_deadline_and_those_of_the_mesh_do_not() -> None:
    assert grpc.status_for("request-timeout", 504) == grpc.DEADLINE_EXCEEDED
    assert grpc.status_for("connect-timeout", 504) == grpc.UNAVAILABLE
    assert grpc.status_for("no-endpoints", 503) == grpc.UNAVAILABLE
    assert grpc.status_for("anything", 429) == grpc.RESOURCE_EXHAUSTED
    assert grpc.status_for("anything", 299) == grpc.UNKNOWN


def test_a_failure_is_one_head() -> None:
    fields = grpc.failure(14, "no-endpoints: ü")
    assert fields[0] == (b":status", b"200")
    assert grpc.status_of(fields) == 14
    assert (b"grpc-message", b"no-endpoints: %C3%BC") in fields


def test_a_status_is_read_or_unknown() -> None:
    assert grpc.status_of(((b"grpc-status", b"0"),)) == 0
    assert grpc.status_of(((b"grpc-status", b"16"),)) == 16
    assert grpc.status_of(((b"grpc-status", b"17"),)) == grpc.UNKNOWN
    assert grpc.status_of(((b"grpc-status", b"x"),)) == grpc.UNKNOWN
    assert grpc.status_of(((b"grpc-status", b"0000"),)) == grpc.UNKNOWN
    assert grpc.status_of(((b"x", b"0"),)) == -1
