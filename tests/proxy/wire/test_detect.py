"""Detection: what the first bytes tell, and when they do not tell yet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.detect import PREFACE, leaning, protocol


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"GET / HTTP/1.1\r\n", "http/1"),
        (b"POST /", "http/1"),
        (b"PURGE /x HTTP/1.1\r\n", "http/1"),
        (b"MADE-UP /x HTTP/1.0\r\n", "http/1"),
        (b"FOO / HTTP/1.1\n", "http/1"),
        (b"\r\nGET / HTTP/1.1\r\n", "http/1"),
        (b"G", "more"),
        (b"PURGE /x", "more"),
        (b"P", "more"),
        (b"PRI * HT", "more"),
        (PREFACE + b"x", "http/2"),
        (b"\x16\x03\x01", "more"),
        (b"\x16\x03", "more"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00", "more"),
        (b"\x16\x03\x01\x00\x05\x02\x00\x00", "tls"),
        (b"\x16\x00\x00", "opaque"),
        (b"*1\r\n$4\r\nPING\r\n", "opaque"),
        (b"PING\r\n", "opaque"),
        (b"SET key value\r\n", "opaque"),
        (b"NICK me\r\n", "opaque"),
        (b"\x00\x01", "opaque"),
        (b"SSH-2.0-OpenSSH\r\n", "opaque"),
    ],
)
def test_first_bytes_tell_the_protocol(data: bytes, verdict: str) -> None:
    assert verdict == protocol(data)


@given(st.binary(min_size=1, max_size=60))
def test_opaque_is_final_and_more_bytes_never_take_a_verdict_back(data: bytes) -> None:
    verdicts = [protocol(data[:n]) for n in range(1, len(data) + 1)]
    told = [verdict for verdict in verdicts if verdict != "more"]

    assert len(set(told)) <= 1


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"G", "http/1"),
        (b"GET /x", "http/1"),
        (b"HELO", "opaque"),
        (b"USE tube", "opaque"),
        (b"\x16\x03\x01\x02", "tls"),
        (b"\x16", "tls"),
        (b"\x16\x04", "opaque"),
    ],
)
def test_a_silent_beginning_is_judged_by_its_leaning(data: bytes, verdict: str) -> None:
    assert verdict == leaning(data)
