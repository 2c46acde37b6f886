"""The two HTTP/1 readers: a client's requests, a server's responses. Pure.

See wire.message for how a message is cut; here stands what the two directions do differently: the methods that llhttp
does not know, upgrades, and responses whose end depends on the request (HEAD, CONNECT) or on the connection's end.
"""

import re
from typing import Final, Protocol

import httptools

from proxy.errors import WireFault
from proxy.model import LENGTH, NO_BODY, UNTIL_CLOSE, RequestHead, ResponseHead
from proxy.wire import credentials
from proxy.wire.head import read_request, read_response
from proxy.wire.message import BLANK, BODY, DONE, HEAD, MessageReader, MessageSink, fault_of

_METHODS: Final = b"GET POST HEAD PUT DELETE PATCH OPTIONS CONNECT TRACE".split()
"""The frequent ones first. A reader keeps its last method for as long as its connection lives: it is one of these."""
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")

_LEFT: Final = "Pause on CONNECT/Upgrade"
"""How llhttp says that after a complete head (of a 101) it stops, where the headers announce no upgrade."""


class RequestSink(MessageSink, Protocol):
    """Who hears a RequestReader."""

    __slots__ = ()

    def on_request(self, head: RequestHead) -> None: ...


class ResponseSink(MessageSink, Protocol):
    """Who hears a ResponseReader."""

    __slots__ = ()

    def on_response(self, head: ResponseHead) -> None: ...


class _Nobody(RequestSink, ResponseSink):
    """Hears a reader whose bytes are nobody's; a server that speaks unasked has nothing to say."""

    def on_request(self, head: RequestHead) -> None: ...
    def on_response(self, head: ResponseHead) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...


NOBODY: Final = _Nobody()


class RequestReader(MessageReader[RequestSink]):
    """Reads a client's requests."""

    __slots__ = ("_is_begun", "_is_upgraded", "_method")

    def __init__(self, sink: RequestSink, max_head_bytes: int, max_fields_count: int = 2048) -> None:
        self._method = b""
        self._is_begun = False
        self._is_upgraded = False
        super().__init__(sink, max_head_bytes, max_fields_count)

    def release(self) -> None:
        self.sink = NOBODY
        super().release()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def _validate(self, held: bytes, head: bytes) -> None:
        fresh = head
        if self._is_begun:
            fresh = head[len(held) :]
        else:
            method = _method_of(head)
            if not method:
                size = len(head) if (space := head.find(b" ")) < 0 else space
                if not _METHOD.fullmatch(head, 0, size):
                    raise WireFault("bad-request-line", "the method is no token of at most 32 bytes")
                if space < 0:
                    return
                # llhttp knows a list of methods; any other is validated as the nearest it knows.
                method = head[:size]
                fresh = b"POST" + head[size:]
            self._method = method
            self._is_begun = True
        self._complete = False
        try:
            self._parser.feed_data(fresh)
        except httptools.HttpParserUpgrade:
            self._is_upgraded = True
        except httptools.HttpParserError as error:
            raise fault_of(error) from None

    def _on_head(self, raw: bytes, lines: list[bytes]) -> None:
        self._is_begun = False
        head = read_request(raw, lines, self._method)
        if credentials.of_connection(lines):
            head.is_personal = True
        if self._is_upgraded:
            self._is_upgraded = False
            self._renew()  # llhttp takes all that follows for the new protocol; whether it is, the server says
            if head.framing != NO_BODY:
                self._prime(head)
        if head.framing != NO_BODY:
            self._complete = False
        sink: RequestSink = self.sink
        sink.on_request(head)
        if self._state == HEAD:
            self._begin_body(head.framing, head.length_bytes)

    def _prime(self, head: RequestHead) -> None:
        """Bring a new parser to where a body of this framing begins."""
        framing = b"Content-Length: %d" % head.length_bytes if head.framing == LENGTH else b"Transfer-Encoding: chunked"
        self._parse(b"POST / HTTP/1.1\r\n" + framing + BLANK)


def _method_of(head: bytes) -> bytes:
    """Give the method of a head that begins with a usual one and a space, else nothing."""
    for method in _METHODS:
        if head.startswith(method) and len(head) > len(method) and head[len(method)] == 32:
            return method
    return b""


class _Payload:
    """llhttp's callbacks for a response whose chunks are decoded."""

    def __init__(self, reader: "ResponseReader", payload: list[bytes]) -> None:
        self.on_body = payload.append
        self.on_message_complete = reader.on_message_complete


class ResponseReader(MessageReader[ResponseSink]):
    """Reads a server's responses; `expect` says to which method the next one answers."""

    __slots__ = ("_method", "is_personal", "keep_alive")

    def __init__(self, sink: ResponseSink, max_head_bytes: int, max_fields_count: int = 2048) -> None:
        self._method = b"GET"
        self.is_personal = False
        """Whether the connection has come to know its client (wire.credentials), which lasts as long as it does."""
        self.keep_alive = False
        """Whether the server lets its connection live on after the response whose head was read last."""
        super().__init__(sink, max_head_bytes, max_fields_count)

    def expect(self, method: bytes) -> None:
        """Make ready for the response to the next request."""
        self._method = method
        self._state = HEAD
        if self._payload is not None:
            self._payload = None
            self._renew()

    def decode_chunks(self) -> None:
        """Give the sink the payload of this response instead of its chunks (called within `on_response`)."""
        self._payload = []
        self._parser = httptools.HttpResponseParser(_Payload(self, self._payload))
        self._parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + BLANK)

    def feed_eof(self) -> bool:
        """Take the end of the connection; tell whether it ended the message as it should."""
        if self._state == BODY and self.framing == UNTIL_CLOSE:
            self._finish()
            return True
        return self._state == DONE

    def release(self) -> None:
        self.sink = NOBODY
        super().release()

    def _renew(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    def _validate(self, held: bytes, head: bytes) -> None:
        self._complete = False
        try:
            self._parser.feed_data(head[len(held) :] if held else head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            if str(error) != _LEFT:
                raise fault_of(error) from None

    def _on_head(self, raw: bytes, lines: list[bytes]) -> None:
        status = self._parser.get_status_code()
        method = self._method
        head = read_response(raw, lines, status, method)
        sink: ResponseSink = self.sink
        if status < 200 and status != 101:
            sink.on_response(head)
            return
        if head.framing == NO_BODY and (method in (b"HEAD", b"CONNECT") or status == 101):
            self._renew()  # llhttp cannot know that no body follows
        if head.framing != NO_BODY:
            self._complete = False
        self.keep_alive = head.keep_alive
        if credentials.of_connection(lines):
            self.is_personal = True
        sink.on_response(head)
        if self._state == HEAD:
            self._begin_body(head.framing, head.length_bytes)
