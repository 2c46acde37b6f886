"""The ClientHello: real ones from OpenSSL, cut in every way, and what only looks like one."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.detect import protocol
from proxy.wire.hello import EMPTY, MAX_HELLO_BYTES, Hello, parse


def hello(name: str | None, *alpn: str) -> bytes:
    """What OpenSSL says first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    return sent.read()


def recut(data: bytes, sizes: list[int]) -> bytes:
    """Cut the one record of a hello into records of these sizes and a last one."""
    body, cut = data[5:], b""
    for size in sizes:
        part, body = body[:size], body[size:]
        cut += b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part if part else b""
    return cut + (b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body if body else b"")


def with_name(name: bytes) -> bytes:
    """A small hello made by hand that asks for any name."""
    entry = b"\x00" + len(name).to_bytes(2, "big") + name
    listed = len(entry).to_bytes(2, "big") + entry
    extension = b"\x00\x00" + len(listed).to_bytes(2, "big") + listed
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += len(extension).to_bytes(2, "big") + extension
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


REAL = hello("api.Example.com", "h2", "http/1.1")


def test_a_real_hello_tells_its_name_and_protocols() -> None:
    assert Hello("api.example.com", (b"h2", b"http/1.1")) == parse(REAL)
    assert EMPTY == parse(hello(None))
    assert Hello("", (b"tulle/1",)) == parse(hello(None, "tulle/1"))


def test_an_address_is_no_name() -> None:
    assert EMPTY == parse(hello("127.0.0.1"))
    assert EMPTY == parse(with_name(b"10.1.2.3"))


@pytest.mark.parametrize(
    "name", [b"a", b"a.b-c.d_e.example", b"xn--bcher-kva.example", b"a" * 63 + b".example", b"3.io"]
)
def test_hosts_names_are_told(name: bytes) -> None:
    assert name.decode() == parse(with_name(name)).sni  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"a b",
        b'a"b',
        b"a\nb",
        b"a..b",
        b".a",
        b"a.",
        b"-a.b",
        b"a" * 64,
        b".".join([b"a" * 50] * 6),
        b"\xc3\xbc.de",
    ],
)
def test_what_is_no_hosts_name_is_not_told(name: bytes) -> None:
    assert parse(with_name(name)) == EMPTY


def test_every_beginning_of_a_hello_asks_for_more() -> None:
    for end in range(len(REAL)):
        assert parse(REAL[:end]) is None
        assert protocol(REAL[:end] or b"\x16") == "more"
    assert protocol(REAL) == "tls"


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 2000))
def test_a_hello_cut_over_records_and_pieces_tells_the_same(sizes: list[int], end: int) -> None:
    data = recut(REAL, sizes)

    assert parse(data) == parse(REAL)
    assert parse(data + b"early data") == parse(REAL)
    assert parse(data[:end]) in (None, parse(REAL))
    assert end < len(data) or parse(data[:end]) is not None


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    parse(data)
    parse(b"\x16\x03\x01" + data)
    parse(b"\x16\x03\x01\x01\x90\x01\x00\x01\x8c" + data)


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255), st.integers(0, 40))
def test_a_damaged_hello_never_raises_and_its_name_is_always_a_hosts(at: int, byte: int, cut: int) -> None:
    for damaged in (REAL[:at] + bytes([byte]) + REAL[at + 1 :], REAL[:at] + REAL[at + cut :]):
        found = parse(damaged)

        assert found is None or len(found.sni) <= 253
        assert found is None or not set(found.sni) & set(' "\\\n')


@given(st.binary(min_size=1, max_size=80))
def test_a_verdict_is_never_taken_back(data: bytes) -> None:
    whole = b"\x16\x03\x01\x00" + data
    told = [found for found in (parse(whole[:end]) for end in range(len(whole) + 1)) if found is not None]

    assert len(set(told)) <= 1


def test_a_hello_beyond_all_measure_passes_without_a_name() -> None:
    size = MAX_HELLO_BYTES + 1

    assert parse(b"\x16\x03\x01\x40\x00\x01" + size.to_bytes(3, "big")) == EMPTY


def test_other_handshake_messages_and_records_are_no_hello() -> None:
    assert parse(b"\x16\x03\x03\x00\x04\x02\x00\x00\x00") == EMPTY
    assert parse(b"\x17\x03\x03\x00\x01x") == EMPTY
    assert parse(b"\x16\x03\x01\x00\x00") == EMPTY
    assert parse(REAL[:5][:3] + b"\x00\x01\x01" + b"\x17\x03\x03") == EMPTY
