"""Upgrade: what is asked of a server, and to what it may agree."""

import pytest
from http1house import Notes

from proxy.model import RequestHead, ResponseHead
from proxy.wire.http1 import RequestReader, ResponseReader
from proxy.wire.upgrade import agrees


def asked(upgrade: bytes, connection: bytes = b"Upgrade", line: bytes = b"GET / HTTP/1.1") -> tuple[bytes, bytes]:
    """Give what a request asks for, and the fields that go on."""
    notes = Notes()
    raw = line + b"\r\nHost: a\r\nConnection: " + connection + b"\r\n" + upgrade + b"\r\n"
    RequestReader(notes, 65536).feed(raw)
    head = notes.heads[0]
    assert isinstance(head, RequestHead)
    return head.upgrade, head.raw.partition(b"Host: a\r\n")[2][:-2]


@pytest.mark.parametrize(
    ("value", "onwards"),
    [
        (b"websocket", b"websocket"),
        (b"SPDY/3.1", b"SPDY/3.1"),
        (b"x, h2c", b"x"),
        (b"h2c, x", b"x"),
        (b"H2C", b""),
        (b" h2c\t", b""),
        (b"x,h2c/1,,y", b"x, y"),
        (b"h2c;x", b""),
        (b"a b, c", b"c"),
        (b"", b""),
    ],
)
def test_h2c_is_never_asked_onwards(value: bytes, onwards: bytes) -> None:
    upgrade, fields = asked(b"Upgrade: " + value + b"\r\n")

    assert upgrade == onwards
    assert fields == (b"Connection: upgrade\r\nUpgrade: " + onwards + b"\r\n" if onwards else b"")


def test_h2c_is_found_in_a_second_field_too() -> None:
    assert asked(b"Upgrade: x\r\nUpgrade: h2c\r\nUPGRADE: y\r\n")[0] == b"x, y"


def test_an_upgrade_wants_its_option_and_http11() -> None:
    assert asked(b"Upgrade: x\r\n", b"close") == (b"", b"")
    assert asked(b"Upgrade: x\r\n", line=b"GET / HTTP/1.0") == (b"", b"")


@pytest.mark.parametrize(
    ("wanted", "given", "is_agreed"),
    [
        (b"websocket", b"WebSocket", True),
        (b"TLS/1.2, TLS/1.0", b"TLS/1.0, HTTP/1.1", True),
        (b"a, b", b"b, a", True),
        (b"x", b"h2c", False),
        (b"x", b"x, h2c", False),
        (b"x", b"y", False),
        (b"x", b"", False),
        (b"", b"x", False),
        (b"x", b"http", False),
        (b"h2c", b"h2c", False),
    ],
)
def test_a_server_may_agree_to_what_was_asked_alone(wanted: bytes, given: bytes, is_agreed: bool) -> None:
    assert agrees(wanted, given) is is_agreed


@pytest.mark.parametrize(("status", "is_kept"), [(101, True), (426, True), (200, False), (404, False)])
def test_upgrade_passes_in_responses_that_need_it(status: int, is_kept: bool) -> None:
    notes = Notes()
    raw = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: upgrade\r\nUpgrade: x/1, y\r\n\r\n" % status
    ResponseReader(notes, 65536).feed(raw)
    head = notes.heads[0]
    assert isinstance(head, ResponseHead)

    assert (b"Connection: upgrade\r\nUpgrade: x/1, y\r\n" in head.raw) is is_kept
    assert head.upgrade == (b"x/1, y" if status == 101 else b"")
