"""One request on an HTTP/2 connection to a server: the leg of an exchange. Turn.

Sources: RFC 9113 section 8.1 (a whole response to an unread request); RFC 8441 section 3.
"""

from typing import TYPE_CHECKING

from proxy.errors import WireFault
from proxy.link import Mover
from proxy.model import NO_BODY, Headers, RequestHead
from proxy.seams import Leg, LegUser
from proxy.wire.http2_head import protocol, read_response
from proxy.wire.streams import CANCEL, REFUSED_STREAM

if TYPE_CHECKING:
    from proxy.stream import Stream
    from proxy.trunk import Trunk


class TrunkStream(Leg, Mover):
    """One request on a trunk."""

    __slots__ = (
        "_active_s",
        "_has_body",
        "_is_free",
        "_is_held",
        "_is_unheard",
        "_moved_bytes",
        "_trunk",
        "_user",
        "caller",
        "has_grown",
        "stream_id",
        "unacked_bytes",
    )

    def __init__(self, trunk: "Trunk") -> None:
        self.stream_id = 0
        self.caller: Stream | None = None
        """Whose windows depend on this stream."""
        self._active_s = trunk.parts.pump.now_s
        self.unacked_bytes = 0
        """Of the response's body: heard, and not moved on yet."""
        self._is_unheard = True
        self._trunk = trunk
        self._user: LegUser | None = None
        self._is_free = False
        self._is_held = False
        self._has_body = False
        self._moved_bytes = 0
        """Acknowledged, and perhaps not told to the server yet."""
        self.has_grown = False
        """Its window is as large as any can be."""

    def __repr__(self) -> str:
        return f"<TrunkStream {self.stream_id} of {self._trunk!r}>"

    # the leg of an exchange

    @property
    def active_s(self) -> float:
        return self._active_s

    @property
    def is_unheard(self) -> bool:
        return self._is_unheard

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for more of the response."""
        return self._user is None

    def begin(self, user: LegUser, head: RequestHead, is_ended: bool) -> None:
        self._user = user
        trunk = self._trunk
        if head.method == b"CONNECT" and protocol(head.fields) and not trunk.http2.has_connect_protocol:
            trunk.parts.pump.defer(self._refuse_connect)
            return
        self.stream_id = stream_id = trunk.http2.request(head.fields, is_ended)
        if not stream_id:
            trunk.leave()
            trunk.parts.pump.defer(self._refuse)
            return
        trunk.streams[stream_id] = self
        trunk.link.unsent_bytes += head.memory_bytes
        trunk.link.touch()

    def _refuse(self) -> None:
        self.lose("stream-refused", REFUSED_STREAM)

    def _refuse_connect(self) -> None:
        self.lose("no-extended-connect", 0)

    def write_body(self, data: bytes) -> None:
        trunk = self._trunk
        caller = self.caller
        self._active_s = trunk.parts.pump.now_s
        self._has_body = True
        trunk.http2.send_body(self.stream_id, data, False)
        if caller is not None and caller.unacked_bytes > trunk.lazy_bytes:
            trunk.link.watch(self)
        trunk.link.touch()

    def end_request(self, trailers: Headers) -> None:
        http2 = self._trunk.http2
        if trailers:
            http2.send_trailers(self.stream_id, trailers)
        else:
            http2.send_body(self.stream_id, b"", True)
        self._trunk.link.touch()

    def finish(self, is_request_done: bool, now_s: float) -> None:
        """Let the stream close; when the server has answered without having read the request, break that off."""
        self._user = None
        self._is_held = False
        self.acknowledge(0)
        if not is_request_done or (self._has_body and self._trunk.http2.queued_bytes(self.stream_id)):
            self._trunk.reset(self.stream_id, CANCEL)

    def cancel(self, code: int) -> None:
        self._user = None
        self._is_held = False
        self.acknowledge(0)
        self._trunk.reset(self.stream_id, code)

    def hold(self) -> None:
        """Acknowledge nothing for now; at other times what has moved on, so that the window holds the server."""
        self._is_held = True

    def release(self) -> None:
        """See `hold`; what has just been passed on is acknowledged when it has moved."""
        self._is_held = False

    def run_free(self) -> None:
        self._is_free = True

    @property
    def queued_bytes(self) -> int:
        return self._trunk.http2.queued_bytes(self.stream_id) if self.stream_id else 0

    def acknowledge(self, queued_bytes: int) -> None:
        """Of what was heard only these bytes are still on their way: let the server send more."""
        moved_bytes = self.unacked_bytes - queued_bytes
        if moved_bytes > 0 and not self._is_held:
            trunk = self._trunk
            self.unacked_bytes = queued_bytes
            self._moved_bytes += moved_bytes
            if self._moved_bytes > trunk.lazy_bytes // 2:  # else no window opens by it (fast)
                self._moved_bytes = 0
                if not self.has_grown and self._user is not None:
                    self.has_grown = trunk.windows.grow(trunk.http2, self.stream_id)
                trunk.link.touch()
            trunk.http2.acknowledge(self.stream_id, moved_bytes)

    def on_moved(self, queued_bytes: int) -> None:
        """The server has taken more of the request: let the client send more."""
        self._active_s = self._trunk.parts.pump.now_s
        if self.caller is not None:
            self.caller.acknowledge(queued_bytes)

    # from the trunk

    def on_head(self, fields: Headers, ended: bool) -> None:
        user = self._user
        self._is_unheard = False
        self._active_s = self._trunk.parts.pump.now_s
        if user is None:
            return
        trunk = self._trunk
        try:
            head = read_response(fields, ended, trunk.max_head_bytes, trunk.max_fields_count)
        except WireFault as fault:
            trunk.count(fault.reason)
            self.acknowledge(0)
            trunk.reset(self.stream_id, CANCEL)
            self.lose(f"bad-response:{fault}, from {trunk.endpoint.address}", 0)
            return
        user.on_response(head)
        if ended and head.framing == NO_BODY:
            self.end(())

    def on_body(self, data: bytes, ended: bool) -> None:
        user = self._user
        self.unacked_bytes += len(data)
        self._active_s = self._trunk.parts.pump.now_s
        if user is None:
            self.acknowledge(0)
            return
        if data:
            user.on_body(data)
            if self._is_free:
                self.acknowledge(0)
        if ended:
            self.end(())

    def end(self, trailers: Headers) -> None:
        user = self._user
        if user is not None:
            user.on_end(trailers)

    def lose(self, reason: str, code: int) -> None:
        """Tell the exchange, once, that no response will come, or no more of it."""
        user, self._user = self._user, None
        if user is not None:
            if self.caller is not None:
                self.caller.reset_code = code
            user.on_server_lost(reason, code)
