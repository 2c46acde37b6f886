"""Every failure that the sidecar knows, with what it answers. Pure; imports only the standard library.

`REASONS` is the one table of reason words: they are the value of the `x-tulle-error` header, the `error` label of
`outbound_http_errors_total` and `inbound_http_errors_total`, and the word in the log. docs/errors.md repeats it.
"""

from typing import Final, NamedTuple


class Reason(NamedTuple):
    """One way to fail."""

    word: str
    status: int
    """HTTP status of the answer; 0 where no answer is possible and the connection is closed."""
    meaning: str


REASONS: Final[dict[str, Reason]] = {
    reason.word: reason
    for reason in (
        # The client broke the protocol.
        Reason("content-length-and-transfer-encoding", 400, "the head has both framings: a smuggling risk"),
        Reason("bad-content-length", 400, "Content-Length is empty, repeated, above 2^63-1 or no number"),
        Reason("bad-transfer-encoding", 400, "Transfer-Encoding has not `chunked` last, or the version is HTTP/1.0"),
        Reason("unknown-transfer-coding", 501, "a request with a transfer coding other than `chunked`"),
        Reason("connect-with-body", 400, "a CONNECT with Content-Length or Transfer-Encoding: it has no body"),
        Reason("bad-chunk", 400, "a chunk's size or end is malformed"),
        Reason("folded-header", 400, "a header continues on a second line (obs-fold)"),
        Reason("bare-line-feed", 400, "a line of the head ends without CRLF"),
        Reason("duplicate-host", 400, "more than one Host header"),
        Reason("bad-host", 400, "no Host in HTTP/1.1, or the authority is not `host` or `host:port`"),
        Reason("control-character", 400, "a header name or value holds a forbidden character"),
        Reason("bad-request-line", 400, "the request line is not `METHOD target HTTP/1.x`"),
        Reason(
            "not-http",
            400,
            "the port is declared as HTTP (appProtocol) or has a rate limit, and the client's first bytes are not HTTP",
        ),
        Reason("bad-connection-option", 400, "Connection names a field that is meant for the application"),
        Reason("bad-head", 400, "the head is malformed in another way"),
        Reason(
            "head-too-large", 431, "the head is larger than TULLE_PROXY_MAX_HEAD_BYTES or TULLE_PROXY_MAX_FIELDS_COUNT"
        ),
        Reason("host-conflict", 400, "HTTP/2: `:authority` and Host name different hosts"),
        Reason("head-timeout", 408, "the head did not arrive within TULLE_PROXY_HEAD_TIMEOUT_S"),
        # A peer broke HTTP/2, and with that its connection.
        Reason("http2-protocol", 0, "a frame that HTTP/2 does not allow"),
        Reason("http2-flood", 0, "frames that cost much and say nothing, or answers that the peer does not read"),
        Reason(
            "header-list-too-large", 0, "a head of four times what TULLE_PROXY_MAX_HEAD_BYTES and _FIELDS_COUNT allow"
        ),
        Reason(
            "malformed-message",
            0,
            "a head or body that RFC 9113 section 8 forbids (names in upper case, `connection`, spaces around a value, "
            "an odd `:authority`, a late pseudo-header, another length than was said): its stream is reset",
        ),
        Reason("continuation-flood", 0, "too many CONTINUATION frames after one HEADERS"),
        Reason("rapid-reset", 0, "requests cancelled faster than served (CVE-2023-44487)"),
        Reason("stream-errors", 0, "requests broken so that the server must reset them (CVE-2025-8671)"),
        Reason("settings-flood", 0, "too many SETTINGS or GOAWAY frames, or too many entries in one"),
        Reason("ping-flood", 0, "too many PING frames"),
        Reason("empty-frames", 0, "too many DATA frames without data"),
        Reason("window-flood", 0, "far more WINDOW_UPDATE frames than there was data"),
        # The server failed, or there is none.
        Reason("no-endpoints", 503, "the service exists and has no ready endpoint"),
        Reason("connect-refused", 502, "the server's host refused the connection: nothing listens on the port"),
        Reason("connect-unreachable", 502, "there is no way to the server's address"),
        Reason("connect-timeout", 504, "the server did not accept within TULLE_PROXY_CONNECT_TIMEOUT_S"),
        Reason("server-closed", 502, "the server's connection ended before its response was whole"),
        Reason("bad-response", 502, "the server's response is not valid HTTP/1"),
        Reason("stream-refused", 503, "the server took no part of the request (REFUSED_STREAM, GOAWAY)"),
        Reason(
            "stream-reset",
            502,
            "the server reset its stream before the response began; so is the client's (HTTP/2)",
        ),
        Reason("ping-timeout", 504, "the server's HTTP/2 connection answers no PING"),
        Reason("no-extended-connect", 501, "the server takes no extended CONNECT (WebSocket over HTTP/2)"),
        Reason(
            "request-timeout",
            504,
            "the time of the request's policy was up, or TULLE_PROXY_REQUEST_TIMEOUT_S without a response",
        ),
        Reason("caller-timeout", 504, "the time that the caller itself had set was up; no failure of the server's"),
        Reason(
            "try-timeout", 504, "a try's response did not begin within its policy's time, and no other try followed"
        ),
        Reason("response-timeout", 504, "the response was not whole within its policy's time after the request was"),
        Reason("idle-timeout", 504, "neither side moved a byte within TULLE_PROXY_STREAM_IDLE_TIMEOUT_S"),
        # A policy said so.
        Reason(
            "overloaded", 503, "as many requests as its policy allows are under way; the queue is full, or too slow"
        ),
        Reason("rate-limited", 429, "more requests than its policy allows; Retry-After tells when there is room"),
        Reason("fault-injected", 503, "a FaultInjection asked for this failure"),
        # The sidecar itself.
        Reason("loop", 508, "the destination is the sidecar's own listener"),
        Reason(
            "crowded-out",
            503,
            "all TULLE_PROXY_MAX_SESSIONS_COUNT inbound connections were taken, and this client held the most of them",
        ),
        Reason("draining", 503, "the sidecar is going away and cuts what outlived TULLE_PROXY_DRAIN_TIMEOUT_S"),
        Reason(
            "memory-shed",
            503,
            "clients hold more than TULLE_PROXY_MEMORY_BYTES allows, and this one's address the most",
        ),
        Reason("bug", 500, "an unexpected error in the sidecar; the log has the traceback"),
        # The exchange ended without an answer to give.
        Reason("client-closed", 0, "the client went away before its request or response was whole"),
        Reason("response-cut", 0, "the server's response broke off, or went bad, after it had begun"),
        # Nobody's failure, but told like one.
        Reason(
            "mirror-differs", 0, "a mirror answered otherwise than the server did; the client has the server's answer"
        ),
    )
}

REPICK_REASONS: Final = frozenset({"connect-refused", "connect-unreachable", "connect-timeout"})
"""Failures after which another endpoint may be tried for any method: no byte has reached a server."""


def explain(direction: str, pod_name: str, reason: str, detail: str) -> bytes:
    """Write the body of an answer that the sidecar itself makes: which part of the mesh, what, and why."""
    who = f"{direction} sidecar of pod {pod_name or '(unnamed)'}"
    return f"{who}: {reason}: {REASONS[reason].meaning} [{detail}]\n".encode()


class TulleError(Exception):
    """Root of all expected failures; anything else is a bug."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Final = reason
        self.detail: Final = detail


class WireFault(TulleError):
    """A peer broke HTTP/1. The reader raises it without knowing who is at fault; the exchange names the side."""


class ConfigFault(Exception):
    """Bad settings; `faults` names every one of them at once."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults: Final = faults
