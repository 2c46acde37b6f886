"""Whom a request is for: what is an authority, in which form two are compared, and where HTTP/1 names it."""

import pytest
from http1house import Notes, read_requests, single_bytes
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import WireFault
from proxy.model import RequestHead
from proxy.wire.authority import normal_form
from proxy.wire.http1 import RequestReader

NORMAL = {
    b"": b"",
    b"web": b"web",
    b"Web.Shop.SVC": b"web.shop.svc",
    b"web:8080": b"web:8080",
    b"web:80": b"web",
    b"web:": b"web",
    b"web:0080": b"web",
    b"web:443": b"web:443",
    b"web.": b"web",
    b"web.:8080": b"web:8080",
    b"my_web": b"my_web",
    b"10.0.0.7:65535": b"10.0.0.7:65535",
    b"[::1]": b"[::1]",
    b"[0:0::0:1]:8080": b"[::1]:8080",
    b"[FD00::A]:80": b"[fd00::a]",
    b"%77eb": b"web",
    b"a%2Fb": b"a%2fb",
    b"web:0": b"web:0",
    b"a,b": b"a,b",
}

NO_HOST = [
    b"user@h", b"u:p@h", b"h/path", b"a, b", b"a b", b"h?q", b"h#f", b"a:b", b"a:1:2", b":80", b".", b"::1", b"[::1",
    b"[::1]x", b"[1.2.3.4]", b"[fe80::1%25eth0]", b"h:65536", b"h:999999", b"h:-1", b"h:+1", b"h%", b"h%zz", b"h\\a",
    "hôte".encode(), b"h\x00", b"h\t", b"http://h", b"<h>", b"h|", b"@", b"/run/agent.sock", b"#initially=[a]",
]  # fmt: skip


@pytest.mark.parametrize(("told", "normal"), NORMAL.items())
def test_an_authority_has_one_normal_form(told: bytes, normal: bytes) -> None:
    assert normal_form(told) == normal
    assert normal_form(normal) == normal


def test_the_port_that_goes_without_saying_is_the_schemes() -> None:
    assert normal_form(b"web:443", 443) == b"web"
    assert normal_form(b"web:80", 443) == b"web:80"


@pytest.mark.parametrize("told", NO_HOST)
def test_what_is_no_host_is_refused(told: bytes) -> None:
    with pytest.raises(WireFault, match="bad-host"):
        normal_form(told)


@given(st.text("aA0.:-[]%4~,_", max_size=8))
def test_a_normal_form_is_its_own(text: str) -> None:
    try:
        normal = normal_form(text.encode())
    except WireFault:
        return
    assert normal_form(normal) == normal


def head_of(raw: bytes) -> RequestHead:
    notes = Notes()
    RequestReader(notes, 65536).feed(raw)
    head = notes.heads[0]
    assert isinstance(head, RequestHead)
    return head


@pytest.mark.parametrize("minor", [b"0", b"1"])
@pytest.mark.parametrize("told", [b"user@h", b"h/path", b"a, b", b"a b", b"h:x", "hôte".encode()])
def test_a_host_that_is_none_is_refused_however_it_is_cut(told: bytes, minor: bytes) -> None:
    raw = b"GET / HTTP/1." + minor + b"\r\nHost: " + told + b"\r\n\r\n"

    assert read_requests([raw]) == read_requests(single_bytes(raw)) == [("bad-host", b"")]


def test_http11_wants_a_host_and_http10_does_not() -> None:
    for line in (b"GET / HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://a/ HTTP/1.1", b"CONNECT a:1 HTTP/1.1"):
        assert read_requests([line + b"\r\nA: b\r\n\r\n"]) == [("bad-host", b"")]
    assert head_of(b"GET / HTTP/1.0\r\n\r\n").authority == b""


def test_an_empty_host_says_that_the_connection_alone_tells_whom_the_request_is_for() -> None:
    head = head_of(b"GET / HTTP/1.1\r\nHost: \r\n\r\n")

    assert (head.authority, head.raw) == (b"", b"GET / HTTP/1.1\r\nHost: \r\n\r\n")


@pytest.mark.parametrize(
    ("target", "told", "authority"),
    [
        (b"http://Other:80/x", b"Other:80", b"other"),
        (b"HTTP://other", b"other", b"other"),
        (b"http://other?q", b"other", b"other"),
        (b"https://other:443/x", b"other:443", b"other"),
        (b"https://other:80/x", b"other:80", b"other:80"),
        (b"http://[::1]:80/", b"[::1]:80", b"[::1]"),
    ],
)
@pytest.mark.parametrize("host", [b"web", b"other", b"", b"OTHER"])
def test_the_authority_of_an_absolute_target_takes_the_place_of_host(
    target: bytes, told: bytes, authority: bytes, host: bytes
) -> None:
    head = head_of(b"GET " + target + b" HTTP/1.1\r\nA: b\r\nHost: " + host + b"\r\n\r\n")

    assert head.raw == b"GET " + target + b" HTTP/1.1\r\nA: b\r\nHost: " + told + b"\r\n\r\n"
    assert (head.authority, head.target) == (authority, target)


def test_an_absolute_target_in_http10_brings_its_host_along() -> None:
    assert (
        head_of(b"GET http://a/ HTTP/1.0\r\nA: b\r\n\r\n").raw == b"GET http://a/ HTTP/1.0\r\nHost: a\r\nA: b\r\n\r\n"
    )


@pytest.mark.parametrize("target", [b"http://", b"http:///x", b"http://u@h/", b"http://a:b/", b"http://a,%/"])
def test_an_absolute_target_without_a_host_is_refused(target: bytes) -> None:
    events = read_requests([b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"])

    assert events in ([("bad-host", b"")], [("bad-request-line", b"")])


@pytest.mark.parametrize("first", ["GET https://web:80/", "GET ftp://web:80/", "CONNECT web:80"])
def test_a_host_is_judged_anew_after_a_target_in_whose_scheme_it_is_something_else(first: str) -> None:
    """Port 80 goes without saying in Host, not in those: the request after them must not be taken for another's."""
    notes = Notes()
    reader = RequestReader(notes, 65536)
    heads = [f"{first} HTTP/1.1\r\nHost: web:80\r\n\r\n", "GET / HTTP/1.1\r\nHost: web:80\r\n\r\n"]
    authorities = []
    for head in heads:
        reader.feed(head.encode())
        found = notes.heads[-1]
        assert isinstance(found, RequestHead)
        authorities.append(found.authority)
        reader.next_message()

    assert authorities == [b"web:80", b"web"]


def test_the_host_of_a_connect_is_its_target() -> None:
    head = head_of(b"CONNECT A:443 HTTP/1.1\r\nHost: evil\r\n\r\n")

    assert head.raw == b"CONNECT A:443 HTTP/1.1\r\nHost: A:443\r\n\r\n"
    assert head.authority == b"a:443"


@pytest.mark.parametrize("target", ["/ü".encode(), b"/\xff\x80", "http://a/ü?ä#ö".encode(), "/" + "ä" * 20])
@pytest.mark.parametrize("method", [b"GET", b"MADE-UP"])
def test_a_target_in_raw_utf8_passes_as_it_came(target: bytes | str, method: bytes) -> None:
    target = target.encode() if isinstance(target, str) else target
    raw = method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    events = read_requests([raw])

    assert events == [("head", raw), ("end", b"")]
    assert events == read_requests(single_bytes(raw))
    assert read_requests([raw + raw]) == [*events, *events]


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\t", b"\x0b", b"\x1f", b"\x7f", b" ", b"\r"])
def test_a_target_with_control_characters_is_refused_beside_utf8_too(byte: bytes) -> None:
    for target in (b"/a" + byte + b"b", b"/\xc3\xbc" + byte + b"b", b"/a" + byte + b"\xc3\xbc"):
        raw = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"

        assert read_requests([raw])[-1][0] in ("bad-request-line", "bare-line-feed")
        assert read_requests(single_bytes(raw))[-1][0] in ("bad-request-line", "bare-line-feed")


def test_raw_utf8_is_for_targets_alone() -> None:
    for raw in (
        "GÜT / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /ü HTTP/ü.1\r\nHost: a\r\n\r\n",
        "GET /ü HTTP/1.1\r\nü: a\r\n\r\n",
    ):
        assert read_requests([raw.encode()])[-1][0] in ("bad-request-line", "control-character")
