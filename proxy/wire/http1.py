"""The two HTTP/1 readers: a client's requests, a server's responses. Pure.

See wire.message for how a message is cut; here stands what the two directions do differently: the methods that llhttp
does not know, upgrades, and responses whose end depends on the request (HEAD, CONNECT) or on the connection's end.

What llhttp refuses and the RFCs want passed on (a target in raw UTF-8, responses that wire.repair and wire.framing can
put right) is odd: such a head is gathered whole, brought into a form that llhttp can judge, and judged again.
"""

import re
from typing import Final, Protocol

import httptools

from proxy.errors import WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, RequestHead, ResponseHead
from proxy.wire import repair
from proxy.wire.head import read_request, read_response
from proxy.wire.message import BLANK, BODY, CRLF, DONE, HEAD, MessageReader, MessageSink, fault_of

_METHODS: Final = b"GET POST HEAD PUT DELETE PATCH OPTIONS CONNECT TRACE".split()
"""The frequent ones first. A reader keeps its last method for as long as its connection lives: it is one of these."""
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")

_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]").sub

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

    __slots__ = ("_authority", "_is_begun", "_is_odd", "_is_upgraded", "_method")

    def __init__(self, sink: RequestSink, max_head_bytes: int, max_fields_count: int = 2048) -> None:
        self._authority = b""
        """The normal form of the last Host; one that a target named may be of another scheme, where it is another."""
        self._method = b""
        self._is_begun = False
        self._is_odd = False
        """The head is gathered whole before llhttp judges it."""
        self._is_upgraded = False
        super().__init__(sink, max_head_bytes, max_fields_count)

    def release(self) -> None:
        self.sink = NOBODY
        super().release()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def _validate(self, held: bytes, head: bytes) -> None:
        if self._is_odd:
            return
        if self._is_begun:
            self._judge(head[len(held) :], head)
            return
        method = _method_of(head)
        if not method:
            size = len(head) if (space := head.find(b" ")) < 0 else space
            if not _METHOD.fullmatch(head, 0, size):
                raise WireFault("bad-request-line", "the method is no token of at most 32 bytes")
            if space < 0:
                return
            method = head[:size]
        self._method = method
        self._is_begun = True
        self._judge(_known(head, method), head)

    def _judge(self, fresh: bytes, head: bytes) -> None:
        """Let llhttp see what is new of a head."""
        self._complete = False
        try:
            self._parser.feed_data(fresh)
        except httptools.HttpParserUpgrade:
            self._is_upgraded = True
        except httptools.HttpParserInvalidURLError as error:
            if self._is_odd or head.split(CRLF, 1)[0].isascii():
                raise fault_of(error) from None
            self._is_odd = True
        except httptools.HttpParserError as error:
            flaw = repair.flaw(str(error), head)
            raise (WireFault(flaw, str(error)) if flaw else fault_of(error)) from None

    def _on_head(self, raw: bytes, lines: list[bytes]) -> None:
        self._is_begun = False
        if self._is_odd:
            self._renew()
            self._judge(_known(_ascii_target(raw), self._method), raw)
            self._is_odd = False
        head = read_request(raw, lines, self._method, self._authority)
        self._authority = head.authority if head.target[0] == 47 and self._method != b"CONNECT" else b""
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
        self._parse(b"POST / HTTP/1.1\r\n" + _framing_field(head.framing, head.length_bytes) + BLANK)


def _method_of(head: bytes) -> bytes:
    """Give the method of a head that begins with a usual one and a space, else nothing."""
    for method in _METHODS:
        if head.startswith(method) and len(head) > len(method) and head[len(method)] == 32:
            return method
    return b""


def _known(head: bytes, method: bytes) -> bytes:
    """llhttp knows a list of methods; any other is validated as the nearest it knows."""
    return head if method in _METHODS else b"POST" + head[len(method) :]


def _ascii_target(head: bytes) -> bytes:
    """Put a letter for each byte of the target that llhttp would refuse for being none of ASCII."""
    start, end = head.find(b" ") + 1, head.find(CRLF)
    end = max(start, head.rfind(b" ", start, end))
    return head[:start] + _NOT_ASCII(b"x", head[start:end]) + head[end:]


def _framing_field(framing: Framing, length_bytes: int) -> bytes:
    return b"Content-Length: %d" % length_bytes if framing == LENGTH else b"Transfer-Encoding: chunked"


class _Payload:
    """llhttp's callbacks for a response whose chunks are decoded."""

    def __init__(self, reader: "ResponseReader", payload: list[bytes]) -> None:
        self.on_body = payload.append
        self.on_message_complete = reader.on_message_complete


class ResponseReader(MessageReader[ResponseSink]):
    """Reads a server's responses; `expect` says to which method the next one answers."""

    __slots__ = ("_has_informed", "_is_odd", "_knows_chunks", "_method", "is_personal", "keep_alive")

    def __init__(self, sink: ResponseSink, max_head_bytes: int, max_fields_count: int = 2048) -> None:
        self._method = b"GET"
        self._knows_chunks = True
        self._has_informed = False
        self._is_odd = False
        """The head is gathered whole, and put right, before llhttp judges it."""
        self.is_personal = False
        """Whether the connection has come to know its client (wire.credentials), which lasts as long as it does."""
        self.keep_alive = False
        """Whether the connection can be used again after the response whose head was read last."""
        super().__init__(sink, max_head_bytes, max_fields_count)

    def expect(self, method: bytes, minor: int = 1) -> None:
        """Make ready for the response to the next request, of HTTP/1.`minor`."""
        self._method = method
        self._knows_chunks = minor == 1
        self._has_informed = False
        self._state = HEAD
        if self._payload is not None:
            self._payload = None
            self._renew()

    @property
    def is_unheard(self) -> bool:
        """Whether the server has not said a word of its response."""
        return self.is_idle and not self._has_informed

    def _decode_chunks(self) -> None:
        """Give the sink the payload of this response instead of its chunks."""
        self._payload = []
        self._parser = httptools.HttpResponseParser(_Payload(self, self._payload))
        self._prime(CHUNKED, 0)

    def _prime(self, framing: Framing, length_bytes: int) -> None:
        """Bring a new parser to where a body of this framing begins."""
        self._parse(b"HTTP/1.1 200 OK\r\n" + _framing_field(framing, length_bytes) + BLANK)

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
        if not self._is_odd:
            self._judge(head[len(held) :] if held else head, head)

    def _judge(self, fresh: bytes, head: bytes) -> None:
        """Let llhttp see what is new of a head."""
        self._complete = False
        try:
            self._parser.feed_data(fresh)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            if str(error) == _LEFT:
                return
            if self._is_odd or not repair.can_repair(str(error), head):
                raise fault_of(error) from None
            self._is_odd = True

    def _on_head(self, raw: bytes, lines: list[bytes]) -> None:
        if self._is_odd:
            raw = repair.repaired(raw)
            lines = raw.split(CRLF)
            self._renew()
            self._judge(repair.without_framing(raw), raw)
        status = self._parser.get_status_code()
        method = self._method
        head = read_response(raw, lines, status, method, self._knows_chunks)
        if self._is_odd:
            self._is_odd = False
            head.is_reframed = True
        sink: ResponseSink = self.sink
        if status < 200 and status != 101:
            self._has_informed = True
            self._renew()  # llhttp takes what this says of the connection for the last word
            sink.on_response(head)
            return
        self._align(head, status)
        # The far end of a CONNECT may have taken what followed for a tunnel; who speaks HTTP/1.0 closes.
        self.keep_alive = head.keep_alive and method != b"CONNECT" and self._knows_chunks
        if head.is_personal:
            self.is_personal = True
        framing = CHUNKED if head.is_unchunked else head.framing
        if framing == CHUNKED and self.rest:
            self._begin_chunks(head)
            return
        sink.on_response(head)
        if self._state == HEAD:
            self._begin_body(framing, head.length_bytes)

    def _begin_chunks(self, head: ResponseHead) -> None:
        """Have the chunks that came with a head validated before it: of bad ones the client can still be told."""
        data, self.rest = self.rest, b""
        self._tail = b""
        data = self._take_chunks(data)
        self.sink.on_response(head)
        if self._state == HEAD:
            self.framing = CHUNKED
            self._state = BODY
            self.sink.on_body(data)
            if self._complete:
                self._finish()

    def _align(self, head: ResponseHead, status: int) -> None:
        """Let llhttp expect the body that was decided on, where it cannot know or has seen something else."""
        framing = head.framing
        if head.is_unchunked:
            self._decode_chunks()
        elif head.is_reframed or (framing == NO_BODY and (self._method in (b"HEAD", b"CONNECT") or status == 101)):
            self._renew()
            if framing in (LENGTH, CHUNKED):
                self._prime(framing, head.length_bytes)
        if framing != NO_BODY:
            self._complete = False
