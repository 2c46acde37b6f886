"""The options of Connection: which fields it may take off a message. Pure.

Connection names fields that concern one connection, and a proxy takes them off. A sender must not name fields that are
meant for the recipient (RFC 9110 section 7.6.1), but one who does takes from the application what it decides by: who
asks, for whom, in what form. So such names take nothing off. A request that has one is refused, as Envoy does for some
of them: whether its sender wants the field to arrive nobody can know. A response that has one goes on with the field:
its client did nothing wrong.

Sources: RFC 9110 sections 7.6.1, and the fields of its sections 8 and 10 to 15; RFC 6265, 7239, 9111; W3C Trace
Context.
"""

from typing import Final

from proxy.errors import WireFault

_END_TO_END: Final = frozenset(
    (
        b"age",
        b"allow",
        b"authentication-info",
        b"authorization",
        b"b3",
        b"baggage",
        b"cache-control",
        b"cookie",
        b"date",
        b"etag",
        b"expires",
        b"forwarded",
        b"from",
        b"last-modified",
        b"location",
        b"origin",
        b"pragma",
        b"range",
        b"referer",
        b"retry-after",
        b"server",
        b"set-cookie",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"vary",
        b"via",
        b"www-authenticate",
        b"x-real-ip",
        b"x-request-id",
    )
)
_END_TO_END_PREFIXES: Final = (
    b"accept",
    b"access-control-",
    b"content-",
    b"grpc-",
    b"if-",
    b"sec-",
    b"x-b3-",
    b"x-envoy-",
    b"x-forwarded-",
)
_OF_THE_PROXY: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te"))
"""Named or not, each is handled on its own: a client must not be able to have the framing or the authority dropped."""
_MARK: Final = b"x-tulle-"


def read(value: bytes, before: list[bytes] | None) -> list[bytes]:
    """Read a Connection, in lower case, behind the options of those before it."""
    return (before or []) + [option.strip().lower() for option in value.split(b",")]


def judged(options: list[bytes]) -> list[bytes]:
    """Give a request's options; raise WireFault where one names what is meant for the application."""
    for option in options:
        if option not in _OF_THE_PROXY and _is_end_to_end(option):
            raise WireFault("bad-connection-option", option[:80].decode("latin-1"))
    return options


def taken_off(options: list[bytes]) -> list[bytes]:
    """Give those that name a field to take off."""
    return [
        option
        for option in options
        if option not in _OF_THE_PROXY and not option.startswith(_MARK) and not _is_end_to_end(option)
    ]


def _is_end_to_end(option: bytes) -> bool:
    return option in _END_TO_END or option.startswith(_END_TO_END_PREFIXES)
