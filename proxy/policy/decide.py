"""What is done with a request: the decision. Pure: the same inputs, the same output.

Theory of operation: a `View` is what is known of a target, made with each snapshot, with everything of its policy made
ready. Where nothing depends on the single request (no policy, or one of timeouts, retries and the like) the view holds
the one decision for all of them, and deciding is to return it. Else what the request is known by (the ring's key, the
affinity cookie) is read, and the mirror is drawn.

Who picks, when to hedge, how long is left and which fault a try meets are asked when it comes to that (balance, hedge,
deadline, fault): they depend on time, load and the try, a decision on the request.
"""

from collections.abc import Callable, Sequence
from typing import Final, Generic

from contract.headers import MIRROR
from contract.policy import Balancing, Hedging, Mirror, Retries, ServicePolicy, Timeouts
from proxy.policy.affinity import cookie_pattern, read_cookie
from proxy.policy.balancer import NO_WISH, Balancer, Wish
from proxy.policy.fault import Head, Injection
from proxy.policy.hedge import IDEMPOTENT
from proxy.policy.load import E
from proxy.policy.ring import RANDOM_KEY, key_of

_COOKIE: Final = b"cookie"
_MIRROR: Final = MIRROR.encode()

_NO_POLICY: Final = ServicePolicy()


class Decision(Generic[E]):
    """All that a request's fate depends on; shared by requests, never changed.

    Attributes:
        candidates: the endpoints to pick from; empty only for a service that has none ready.
        request_timeout_s, per_try_s, response_s, idle_s: as in contract.policy.Timeouts; 0.0: no limit, or the
            sidecar's own setting.
        retries: when a failed try is followed by another; None: never.
        hedge: when a second request goes beside a slow one; None: never, also for methods that are not idempotent.
        mirror: where a copy goes; None: this request has none.
        wish: what the balancer is told of the request.
    """

    __slots__ = (
        "candidates",
        "hedge",
        "idle_s",
        "mirror",
        "per_try_s",
        "request_timeout_s",
        "response_s",
        "retries",
        "wish",
    )

    def __init__(self, candidates: Sequence[E], timeouts: Timeouts, retries: Retries | None) -> None:
        self.candidates = candidates
        self.request_timeout_s = timeouts.request_s
        self.per_try_s = timeouts.per_try_s
        self.response_s = timeouts.response_s
        self.idle_s = timeouts.idle_s
        self.retries = retries
        self.hedge: Hedging | None = None
        self.mirror: Mirror | None = None
        self.wish = NO_WISH

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and self._key() == other._key()

    def __repr__(self) -> str:
        return f"<Decision of {len(self.candidates)} retries={self.retries} mirror={self.mirror}>"

    def _key(self) -> tuple[object, ...]:
        return (
            tuple(self.candidates),
            (self.request_timeout_s, self.per_try_s, self.response_s, self.idle_s),
            self.retries,
            self.hedge,
            self.mirror,
            (self.wish.key, self.wish.affinity),
        )


class View(Generic[E]):
    """What is known of a target; made for each of its snapshots, read by every request."""

    __slots__ = (
        "_affinity_search",
        "_hash_header",
        "_hash_search",
        "balancer",
        "endpoints",
        "hedged",
        "injections",
        "is_settled",
        "policy",
        "usual",
    )

    def __init__(self, endpoints: Sequence[E], policy: ServicePolicy | None, balancer: Balancer[E] | None) -> None:
        """`balancer`: of balance.balancer_of, for the same endpoints and policy."""
        self.endpoints = endpoints
        self.policy = policy
        self.balancer = balancer
        told = policy if policy is not None else _NO_POLICY
        self.is_settled = not depends_on_request(told)
        """Whether all requests are decided alike: as `usual`."""
        self.usual: Decision[E] = Decision(endpoints, told.timeouts, told.retries)
        """The decision for requests that nothing singles out."""
        self.hedged = self.usual
        """The same for those of idempotent methods."""
        if told.hedging is not None:
            self.hedged = Decision(endpoints, told.timeouts, told.retries)
            self.hedged.hedge = told.hedging
        self.injections = tuple(Injection(fault) for fault in told.faults)
        """What may be done on purpose to each try (fault.draw)."""
        source = told.balancing.hash
        self._hash_header = _COOKIE if source.cookie else source.header.lower().encode()
        self._hash_search = cookie_pattern(source.cookie)
        self._affinity_search = cookie_pattern(told.balancing.affinity.cookie)

    def __repr__(self) -> str:
        return f"<View of {len(self.endpoints)} policy={self.policy.name if self.policy is not None else None}>"

    def wish_of(self, head: Head, peer_ip: str, balancing: Balancing) -> Wish:
        """Read what the request is known by."""
        key = RANDOM_KEY
        affinity = b""
        if balancing.algorithm == "ring-hash":
            if balancing.hash.source_ip:
                key = key_of(peer_ip.encode())
            else:
                value = head.value(self._hash_header)
                key = key_of(read_cookie(self._hash_search, value) if balancing.hash.cookie else value)
        if balancing.affinity.cookie:
            affinity = read_cookie(self._affinity_search, head.value(_COOKIE))
        return Wish(key, affinity) if key >= 0 or affinity else NO_WISH


def decide(head: Head, peer_ip: str, view: View[E], now_s: float, random: Callable[[], float]) -> Decision[E]:
    """Decide on a request.

    Args:
        head: of the request.
        peer_ip: of the client's connection.
        view: of the target.
        now_s: monotonic; no rule of today depends on it.
        random: floats in [0, 1); asked only for mirrors.
    """
    policy = view.policy
    if view.is_settled or policy is None:
        return view.usual
    usual = view.hedged if head.method in IDEMPOTENT else view.usual
    balancing = policy.balancing
    wish = NO_WISH
    if balancing.algorithm == "ring-hash" or balancing.affinity.cookie:
        wish = view.wish_of(head, peer_ip, balancing)
    mirror = policy.mirror
    if mirror is not None and not is_mirrored(mirror, head, random):
        mirror = None
    if wish is NO_WISH and mirror is None:
        return usual
    decision = Decision(view.endpoints, policy.timeouts, policy.retries)
    decision.hedge = usual.hedge
    decision.wish = wish
    decision.mirror = mirror
    return decision


def is_mirrored(mirror: Mirror, head: Head, random: Callable[[], float]) -> bool:
    """Draw by the ratio; a copy is never copied again, so that two services can mirror each other."""
    return (mirror.ratio >= 1.0 or random() < mirror.ratio) and not head.value(_MIRROR)


def depends_on_request(policy: ServicePolicy) -> bool:
    """Tell whether two requests of one target can be decided differently."""
    return (
        policy.hedging is not None
        or policy.mirror is not None
        or policy.balancing.algorithm == "ring-hash"
        or bool(policy.balancing.affinity.cookie)
    )
