"""The copy of a request that goes to a mirror, and what became of it. Turn.

A shadow is the caller of an exchange that nobody waits for: it takes the answer as fast as it comes and keeps its
status, its headers and a digest of its body. When the original is over too, the two are compared; differences are
counted and told. A shadow never holds up the original: where it cannot keep pace it is dropped, and that is counted.
"""

from typing import TYPE_CHECKING, Final

from contract.headers import MIRROR
from contract.policy import Mirror
from proxy.model import CHUNKED, SIDECAR, Direction, Headers, PeerKind, ResponseHead, parse_address
from proxy.parts import Limited, Parts
from proxy.policy.mirror import Answer, compare
from proxy.seams import Caller, Leg
from proxy.targets import Target
from proxy.traffic import Place
from proxy.wire.chunks import Unchunker
from proxy.wire.streams import CANCEL

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.server import Server

MIRROR_NAME: Final = MIRROR.encode()

MAX_SHADOWS_COUNT: Final = 128
"""Shadows of one process at once; requests beyond go without."""

MAX_BEHIND_BYTES: Final = 1048576
"""Request bytes that a mirror may be behind the original before it is dropped."""

MAX_LIFE_S: Final = 60.0
"""A shadow's answer is waited for no longer."""


class Shadow(Caller, Limited):
    """Over when both its own exchange and the original are."""

    __slots__ = (
        "_answer",
        "_early",
        "_early_end",
        "_ends_s",
        "_exchange",
        "_is_alive",
        "_is_begun",
        "_is_original_whole",
        "_mirror",
        "_peer_ip",
        "_sent_bytes",
        "_unchunker",
        "direction",
        "original",
        "own",
        "parts",
        "target",
    )

    def __init__(self, caller: Caller, mirror: Mirror, target: Target) -> None:
        self.parts: Parts = caller.parts
        self.target = target
        self.direction: Direction = target.direction
        self.own: Server | None = None
        self._peer_ip = caller.peer_ip
        self.original = Answer() if mirror.compares else None
        """What the original's client gets; the original's tap tells it."""
        self._mirror = mirror
        self._answer = Answer()
        self._unchunker: Unchunker | None = None
        self._exchange: Exchange | None = None
        self._ends_s = self.parts.pump.now_s + MAX_LIFE_S
        self._early: list[bytes] = []
        self._early_end: Headers | None = None
        self._sent_bytes = 0
        self._is_begun = False
        self._is_alive = True
        self._is_original_whole = False
        self.parts.shadows_count += 1
        self.parts.sessions[self] = None

    def __repr__(self) -> str:
        return f"<Shadow to {self._mirror.name} {'alive' if self._is_alive else 'over'}>"

    @property
    def peer_ip(self) -> str:
        return self._peer_ip

    @property
    def peer(self) -> PeerKind:
        """The copy is this sidecar's own."""
        return SIDECAR

    @property
    def active_s(self) -> float:
        return self._ends_s - MAX_LIFE_S

    # the copy

    def begin(self, exchange: "Exchange") -> None:
        """Send the copy as soon as it is known what stands behind the mirror's address."""
        self._exchange = exchange
        self._count("outbound_mirror_requests_total")
        if self.target.is_settled:
            self.parts.pump.defer(self._start)
        else:
            self.target.waiters.append(self._start)

    def _start(self) -> None:
        exchange = self._exchange
        if exchange is None or not self._is_alive:
            return
        self._is_begun = True
        exchange.on_request()
        early, self._early = self._early, []
        for data in early:
            exchange.send_body(data)
        if self._early_end is not None and not exchange.is_over:
            exchange.end_request(self._early_end)

    def send_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or not self._is_alive:
            return
        self._sent_bytes += len(data)
        if not self._is_begun:
            self._early.append(data)
        else:
            exchange.send_body(data)
        behind_bytes = exchange.queued_bytes if self._is_begun else self._sent_bytes
        if behind_bytes > MAX_BEHIND_BYTES:
            self._drop("slow")

    def end_request(self, trailers: Headers) -> None:
        exchange = self._exchange
        if self._is_begun and exchange is not None and self._is_alive and not exchange.is_over:
            exchange.end_request(trailers)
        else:
            self._early_end = trailers

    # the caller of its exchange

    def couple(self, leg: Leg) -> None:
        leg.run_free()

    def uncouple(self) -> None: ...

    def hold(self) -> None: ...

    def release(self) -> None: ...

    def pass_informational(self, head: ResponseHead) -> None: ...

    def begin_response(self, head: ResponseHead, leg: Leg) -> None:
        self._answer.begin(head.status, head.pairs())
        if head.framing == CHUNKED:
            self._unchunker = Unchunker()

    def write_body(self, data: bytes) -> None:
        if self.original is not None:
            self._answer.add(data if self._unchunker is None else self._unchunker.feed(data))

    def end_response(self, trailers: Headers) -> None:
        self._answer.end(trailers)
        self._compare()

    def switch(self, head: ResponseHead, leg: Leg, place: Place | None) -> None:
        leg.cancel(CANCEL)
        if place is not None:
            place.leave()
        self._drop("switched")

    def answer(
        self, reason: str, detail: str, status: int = 0, grpc_status: int = -1, retry_after_s: float = 0.0
    ) -> None:
        """The mirror could not be reached, or not in time."""
        self._exchange = None
        self._drop(reason)

    def cut(self, code: int, trailers: Headers = ()) -> None:
        self._exchange = None
        self._drop("response-cut")

    # the end

    def on_original_over(self, is_whole: bool) -> None:
        """The original's client has its answer, or will get none: then there is nothing to compare with."""
        if not self._is_alive:
            return
        self._is_original_whole = is_whole
        if not is_whole:
            self._drop("original-failed")
        else:
            self._compare()

    def _compare(self) -> None:
        """Both answers are whole: tell what differs."""
        original = self.original
        if not self._answer.is_whole or not self._is_original_whole:
            return
        if original is not None and self._is_alive:
            differences = compare(original, self._answer, self._mirror.ignored_headers)
            for difference in differences:
                self._count("outbound_mirror_differences_total", ("part", difference.word))
            if differences:
                told = "; ".join(str(difference) for difference in differences)
                self.parts.notice(self.direction, "mirror-differs", f"{self._mirror.name}: {told}", "")
        self._end()

    def _drop(self, reason: str) -> None:
        if self._is_alive:
            self._count("outbound_mirror_dropped_total", ("reason", reason))
            self._end()

    def _end(self) -> None:
        if not self._is_alive:
            return
        self._is_alive = False
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.is_over:
            exchange.abort()
        self.parts.shadows_count -= 1
        self.parts.sessions.pop(self, None)
        outbound = self.parts.outbound
        if outbound is not None:
            outbound.give(self.target)

    @property
    def is_idle(self) -> bool:
        return False

    def check(self, now_s: float) -> None:
        if now_s > self._ends_s:
            self._drop("timeout")
        elif self._exchange is not None and self._is_begun and not self._exchange.is_over:
            self._exchange.check(now_s)

    @property
    def source(self) -> str:
        return f"{self.direction} {self._peer_ip}"

    @property
    def held_bytes(self) -> int:
        exchange = self._exchange
        if exchange is None:
            return 0
        return exchange.held_bytes if self._is_begun else self._sent_bytes

    def abort(self, reason: str) -> None:
        self._drop(reason)

    def _count(self, name: str, *labels: tuple[str, str]) -> None:
        self.parts.meter.count(name, (*labels, ("mirror", self._mirror.name)))


def cast_shadow(exchange: "Exchange", mirror: Mirror) -> Shadow | None:
    """Send a copy of an exchange's request to a mirror, if it can be copied and there is room for one more."""
    parts = exchange.parts
    outbound = parts.outbound
    head = exchange.head
    if outbound is None or head.method == b"CONNECT" or head.upgrade:
        return None
    if parts.shadows_count >= MAX_SHADOWS_COUNT:
        parts.meter.count("outbound_mirror_dropped_total", (("reason", "busy"), ("mirror", mirror.name)))
        return None
    shadow = Shadow(exchange.caller, mirror, outbound.take(parse_address(mirror.target)))
    shadow.begin(exchange.twin(shadow, head.with_value(MIRROR_NAME, b"1")))
    return shadow
