"""Heads of HTTP/2: what is read of them, and what a proxy refuses itself."""

import pytest
from hpack import Encoder
from http2house import GET, OK, POST, START, head, serve

from proxy.errors import REASONS, WireFault
from proxy.model import NO_BODY, UNTIL_CLOSE, Headers
from proxy.wire.head import read_response as read_http1_response
from proxy.wire.http2_head import protocol, read_request, read_response
from proxy.wire.marks import keep_of_response

WEBSOCKET: Headers = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:])


def test_a_request_is_read() -> None:
    fields = (*POST, (b"content-type", b"application/grpc+proto"), (b"content-length", b"7"), (b"x-tulle-try", b"1"))
    found = read_request(fields, False, 65536)
    assert (found.method, found.target, found.framing, found.length_bytes) == (b"POST", b"/", UNTIL_CLOSE, 7)
    assert found.is_grpc
    assert found.has_marks
    assert found.fields is fields
    assert found.value(b":authority") == b"a"


def test_a_request_that_ends_with_its_head_has_no_body() -> None:
    found = read_request(GET, True, 65536)
    assert found.framing == NO_BODY
    assert not found.is_grpc
    assert not found.has_marks


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+json", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"text/plain", False),
    ],
)
def test_grpc_is_known_by_its_content_type(content_type: bytes, is_grpc: bool) -> None:
    assert read_request((*POST, (b"content-type", content_type)), False, 65536).is_grpc is is_grpc


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (((b"host", b"b"),), "host-conflict"),
        (((b"host", b"a"), (b"host", b"a")), "duplicate-host"),
        (((b"x", b"y" * 65536),), "head-too-large"),
        (((b"x", b""),) * 2045, "head-too-large"),
    ],
)
def test_a_request_that_a_proxy_must_refuse_has_a_reason_with_an_answer(extra: Headers, reason: str) -> None:
    with pytest.raises(WireFault) as caught:
        read_request(GET + extra, True, 65536)
    assert caught.value.reason == reason
    assert 400 <= REASONS[reason].status < 500


@pytest.mark.parametrize("authority", [b"me@a", b"a:b", b"a:65536", b"a:1,b:c", b"[::1", b"a%zz"])
def test_an_authority_that_is_no_host_is_refused_as_http1_refuses_it(authority: bytes) -> None:
    for name in (b":authority", b"host"):
        with pytest.raises(WireFault, match="bad-host"):
            read_request((GET[0], GET[1], (name, authority), GET[3]), True, 65536)


@pytest.mark.parametrize(
    ("scheme", "authority", "host"),
    [(b"http", b"a", b"A"), (b"http", b"a:80", b"a"), (b"https", b"a", b"a:443"), (b"http", b"a.", b"a")],
)
def test_host_may_repeat_the_authority_in_another_spelling(scheme: bytes, authority: bytes, host: bytes) -> None:
    fields = (GET[0], (b":scheme", scheme), (b":authority", authority), GET[3], (b"host", host))

    assert read_request(fields, True, 65536).authority == b"a"


def test_a_grpc_client_may_name_all_its_addresses() -> None:
    fields = (*GET[:2], (b":authority", b"10.0.0.1:8080,10.0.0.2:8080"), GET[3])

    assert read_request(fields, True, 65536).authority == b"10.0.0.1:8080,10.0.0.2:8080"


def test_host_may_stand_for_the_authority() -> None:
    assert read_request((GET[0], GET[1], GET[3], (b"host", b"A:8080")), True, 65536).authority == b"a:8080"


def test_a_host_for_another_port_is_another_host() -> None:
    with pytest.raises(WireFault, match="host-conflict"):
        read_request((*GET, (b"host", b"a:8080")), True, 65536)


def test_a_connect_that_announces_a_body_is_refused() -> None:
    fields = ((b":method", b"CONNECT"), (b":authority", b"a:443"), (b"content-length", b"5"))
    with pytest.raises(WireFault, match="connect-with-body"):
        read_request(fields, False, 65536)


def test_a_connect_asks_for_its_authority() -> None:
    assert read_request(((b":method", b"CONNECT"), (b":authority", b"a:443")), False, 65536).target == b"a:443"
    assert protocol(WEBSOCKET) == b"websocket"
    assert protocol(GET) == b""
    assert protocol((*GET, (b"x", b"y"))) == b""


def test_a_response_is_read() -> None:
    fields = (*OK, (b"grpc-status", b"14"), (b"x-tulle-error", b"no-endpoints"), (b"content-length", b"3"))
    found = read_response(fields, True)
    assert (found.status, found.framing, found.length_bytes) == (200, NO_BODY, 3)
    assert (found.grpc_status, found.error, found.fields) == (14, b"no-endpoints", fields)
    assert read_response(OK, False).framing == UNTIL_CLOSE
    assert read_response(OK, False).grpc_status == -1


BAD_HEADS: dict[str, Headers] = {
    "no method": GET[1:],
    "no scheme": (GET[0], *GET[2:]),
    "no path": GET[:3],
    "no authority, no host": (GET[0], GET[1], GET[3]),
    "empty path": (*GET[:3], (b":path", b"")),
    "relative path": (*GET[:3], (b":path", b"a")),
    "method twice": (GET[0], *GET),
    "path twice": (*GET, GET[3]),
    "authority twice": (*GET, GET[2]),
    "unknown pseudo-header": (*GET, (b":foo", b"x")),
    "response's pseudo-header": (*GET, (b":status", b"200")),
    "pseudo-header after others": ((b"x", b"y"), *GET),
    "upper-case name": (*GET, (b"Upper", b"x")),
    "name with space": (*GET, (b"x y", b"z")),
    "empty name": (*GET, (b"", b"z")),
    "value with NUL": (*GET, (b"x", b"a\0b")),
    "value with line feed": (*GET, (b"x", b"a\nb")),
    "value with leading space": (*GET, (b"x", b" a")),
    "connection": (*GET, (b"connection", b"close")),
    "keep-alive": (*GET, (b"keep-alive", b"1")),
    "proxy-connection": (*GET, (b"proxy-connection", b"close")),
    "transfer-encoding": (*GET, (b"transfer-encoding", b"chunked")),
    "upgrade": (*GET, (b"upgrade", b"h2c")),
    "te other than trailers": (*GET, (b"te", b"gzip")),
    "content-length negative": (*GET, (b"content-length", b"-1")),
    "content-length no number": (*GET, (b"content-length", b"1x")),
    "content-length twice": (*GET, (b"content-length", b"0"), (b"content-length", b"0")),
    "content-length not kept": (*GET, (b"content-length", b"5")),
    "protocol without connect": (*GET, (b":protocol", b"websocket")),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_what_http2_forbids_never_reaches_the_sink(name: str) -> None:
    """The stream is reset, or the connection ends; which, RFC 9113 leaves open."""
    reason, notes, sent = serve([START, head(Encoder(), 1, BAD_HEADS[name])])
    assert notes.of("head") == []
    assert reason == "" or REASONS[reason].status == 0
    assert len(sent) > 30


GOOD_HEADS: dict[str, Headers] = {
    "te trailers": (*GET, (b"te", b"trailers")),
    "options of all": ((b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")),
    "extended connect": WEBSOCKET,
    "connect": ((b":method", b"CONNECT"), (b":authority", b"a:443")),
    "cookie crumbs": (*GET, (b"cookie", b"a=b"), (b"cookie", b"c=d")),
    "obs-text": (*GET, (b"x", "ü".encode())),
    "empty value": (*GET, (b"x", b"")),
}


@pytest.mark.parametrize("name", GOOD_HEADS)
def test_what_http2_allows_comes_as_it_was_sent(name: str) -> None:
    fields = GOOD_HEADS[name]
    reason, notes, _ = serve([START, head(Encoder(), 1, fields, ended=False)])
    assert reason == ""
    assert notes.of("head") == [(1, fields, False)]
    read_request(fields, False, 65536)


def test_what_only_the_mesh_may_say_is_dropped_from_either_protocols_head() -> None:
    http2 = read_response(((b":status", b"502"), (b"x-tulle-error", b"connect-refused"), (b"a", b"b")), True)
    raw = b"HTTP/1.1 502 No\r\nX-Tulle-Error: connect-refused\r\na: b\r\n\r\n"
    http1 = read_http1_response(raw, raw.split(b"\r\n"), 502, b"GET")
    assert (http2.error, http1.error) == (b"connect-refused", b"connect-refused")
    for one in (http2, http1):
        assert one.has_marks
        keep_of_response(one, ())

    assert http2.fields == ((b":status", b"502"), (b"a", b"b"))
    assert http1.raw == b"HTTP/1.1 502 No\r\na: b\r\n\r\n"
    assert http2.error == http1.error == b""
