"""What happens to a response's body on its way to the client, where a policy asks for it. Turn.

A fault may break it off after some bytes or slow it down; a comparison with a mirror takes its digest. Without either
there is no tap, and bodies are passed on as they come.
"""

from typing import TYPE_CHECKING, Final

from proxy.model import CHUNKED, Headers, ResponseHead
from proxy.policy.fault import Pacer
from proxy.policy.mirror import Answer
from proxy.wire.chunks import Unchunker

if TYPE_CHECKING:
    from proxy.attempt import Attempt
    from proxy.exchange import Exchange

MAX_HELD_BYTES: Final = 65536
"""Bytes held back by a bandwidth fault; above, the server is."""

CUT_DELAY_S: Final = 0.02
"""Between the last byte of a truncated body and the reset."""


class Tap:
    """Stands between an attempt and the caller of one exchange."""

    __slots__ = (
        "_ended_with",
        "_exchange",
        "_held",
        "_held_bytes",
        "_is_cut",
        "_is_pacing",
        "_left_bytes",
        "_pacer",
        "_unchunker",
        "answer",
        "has_all",
        "pending",
    )

    def __init__(self, exchange: "Exchange", answer: Answer | None) -> None:
        self.answer = answer
        """What the client gets, to be compared with what a mirror gives."""
        self._unchunker: Unchunker | None = None
        self.pending: tuple[Attempt, ResponseHead] | None = None
        """A gRPC head that waits for its trailers, because its status decides on another try; data end the wait."""
        self.has_all = False
        """The server's part is over: what becomes of its connection, or stream, means nothing any more."""
        self._exchange = exchange
        self._left_bytes = -1
        """Until the body breaks off; -1: never."""
        self._pacer: Pacer | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_pacing = False
        self._is_cut = False
        """What goes no further has come."""
        self._ended_with: tuple[Attempt, Headers] | None = None

    def narrow(self, truncate_bytes: int, pacer: Pacer | None) -> None:
        """A fault concerns the client's response, whose body has not begun; `truncate_bytes` is -1 for a whole body."""
        self._left_bytes = truncate_bytes
        self._pacer = pacer

    def on_head(self, head: ResponseHead) -> None:
        """The client's response begins."""
        if self.answer is not None:
            self.answer.begin(head.status, head.pairs())
            if head.framing == CHUNKED:
                self._unchunker = Unchunker()

    def on_body(self, data: bytes) -> None:
        if self.pending is not None:
            (attempt, head), self.pending = self.pending, None
            self._exchange.settle(attempt, head)
        if self.answer is not None:
            self.answer.add(data if self._unchunker is None else self._unchunker.feed(data))
        if self._left_bytes >= 0:
            if self._is_cut:
                return
            if len(data) > self._left_bytes:
                self._is_cut = True
                data = data[: self._left_bytes]
            self._left_bytes -= len(data)
        if self._pacer is None:
            self._exchange.caller.write_body(data)
            if self._is_cut:
                self._cut_soon()
        else:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > MAX_HELD_BYTES:
                self._exchange.hold_response()
            if not self._is_pacing:
                self._pace()

    def on_end(self, attempt: "Attempt", trailers: Headers) -> bool:
        """Tell whether the response may end now; else there is another try, or it ends when what is held has gone."""
        if self.pending is not None:
            (_, head), self.pending = self.pending, None
            if not self._exchange.settle_by_trailers(attempt, head, trailers):
                return False
        if self._ended_with is not None:
            return True  # all that was held has gone
        if self._left_bytes >= 0:
            self.has_all = True
            if not self._is_cut:  # a body shorter than where it was to break off: break it here
                self._is_cut = True
                if not self._held:
                    self._cut_soon()
            return False
        if self.answer is not None:
            self.answer.end(trailers)
        if not self._held:
            return True
        self.has_all = True
        self._ended_with = (attempt, trailers)
        return False

    def _pace(self) -> None:
        pacer = self._pacer
        exchange = self._exchange
        self._is_pacing = False
        if pacer is None or exchange.is_over:
            return
        now_s = exchange.parts.pump.now_s
        while self._held:
            allowed_bytes = pacer.allowed_bytes(now_s)
            if not allowed_bytes:
                self._is_pacing = True
                exchange.parts.pump.call_at(pacer.next_s(now_s), self._pace)
                return
            data = self._held[0]
            if allowed_bytes < len(data):
                self._held[0] = data[allowed_bytes:]
                data = data[:allowed_bytes]
            else:
                del self._held[0]
            pacer.spend(len(data))
            self._held_bytes -= len(data)
            exchange.caller.write_body(data)
        exchange.release_response()
        if self._is_cut:
            self._cut_soon()
        elif self._ended_with is not None:
            exchange.finish(*self._ended_with)

    def _cut_soon(self) -> None:
        """Break off when what went before has left: a reset throws away what has not."""
        pump = self._exchange.parts.pump
        pump.call_at(pump.now_s + CUT_DELAY_S, self._cut)

    def _cut(self) -> None:
        if not self._exchange.is_over:
            self._exchange.break_off("fault-injected")
