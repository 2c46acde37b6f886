"""Connection takes off what concerns one connection, and nothing that the application needs."""

import pytest

from proxy.errors import WireFault
from proxy.model import RequestHead, ResponseHead
from proxy.wire.head import read_request, read_response

END_TO_END = [
    b"authorization",
    b"Cookie",
    b"content-type",
    b"Content-Encoding",
    b"accept",
    b"Accept-Language",
    b"x-forwarded-for",
    b"X-Forwarded-Proto",
    b"forwarded",
    b"range",
    b"if-none-match",
    b"origin",
    b"user-agent",
    b"x-request-id",
    b"traceparent",
    b"grpc-timeout",
    b"set-cookie",
    b"cache-control",
]


def request(*fields: bytes) -> RequestHead:
    raw = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *fields, b"", b""])
    return read_request(raw, raw.split(b"\r\n"), b"GET")


def response(*fields: bytes) -> ResponseHead:
    raw = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 0", *fields, b"", b""])
    return read_response(raw, raw.split(b"\r\n"), 200, b"GET")


@pytest.mark.parametrize("name", END_TO_END)
@pytest.mark.parametrize("option", [b"%b", b"close, %b", b"x-hop,\t%b ,close", b"keep-alive,%b"])
def test_a_request_whose_connection_names_what_the_application_needs_is_refused(name: bytes, option: bytes) -> None:
    for connection in ([b"Connection: " + option % name], [b"Connection: x-hop", b"connection: " + option % name]):
        with pytest.raises(WireFault) as caught:
            request(*connection, name + b": 1")

        assert ("bad-connection-option", name.lower().decode()) == (caught.value.reason, caught.value.detail)


@pytest.mark.parametrize("name", END_TO_END)
def test_a_response_keeps_what_its_connection_must_not_name(name: bytes) -> None:
    assert name + b": 1\r\n" in response(b"Connection: close, x-hop, " + name, name + b": 1", b"X-Hop: 2").raw
    assert b"X-Hop" not in response(b"Connection: close, x-hop, " + name, name + b": 1", b"X-Hop: 2").raw


@pytest.mark.parametrize("name", [b"x-hop", b"Keep-Alive", b"proxy-authorization", b"http2-settings", b"x-custom"])
def test_what_concerns_one_connection_is_taken_off(name: bytes) -> None:
    assert name not in request(b"Connection: " + name.lower(), name + b": 1").raw
    assert name not in response(b"Connection: " + name.lower(), name + b": 1").raw


@pytest.mark.parametrize("name", [b"host", b"te", b"x-tulle-timeout-ms", b"x-tulle-error"])
def test_what_the_proxy_handles_on_its_own_no_option_takes_off(name: bytes) -> None:
    line = {b"host": b"Host: a", b"te": b"te: trailers"}.get(name, name + b": 1")
    head = request(b"Connection: " + name, *([] if name == b"host" else [line]))

    assert line in head.raw
    assert name != b"x-tulle-timeout-ms" or head.has_marks
