"""Limits: how many requests a second a pod takes, and how many a sidecar has in flight. Pure.

Theory of operation, rates: a bucket holds up to `burst_count` tokens and earns `per_s` of them a second; a request
takes one, and one that finds none is told when there will be one. Each client has a bucket of its own besides the
service's; its own is asked first, so that a client that is refused anyway takes nothing from the others. The table of
clients is bounded: the one that was silent for longest is forgotten, which gives it a full bucket if it comes back. So
whoever can take on ever new identities is bounded by the service's bucket alone.

Concurrency: a gate counts who is in and who waits. It holds no queue itself: whoever is told to wait does so in its
caller's queue, and `leave` tells the caller when the first of them may go on in the place of the one that left.
"""

from typing import Final, Literal, NamedTuple

from contract.policy import Concurrency, Rate, RateLimit

CLIENTS_MAX_COUNT: Final = 10_000
"""Clients remembered (about 1.5 MB); more than a sidecar has sessions."""

Admission = Literal["admit", "queue", "shed"]


class Bucket:
    """Tokens; full at first."""

    __slots__ = ("_at_s", "_burst_count", "_per_s", "_tokens")

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._per_s = rate.per_s
        self._burst_count = float(max(1, rate.burst_count))
        self._tokens = self._burst_count
        self._at_s = now_s

    def take(self, now_s: float) -> float:
        """Take a token; 0.0 when there was one, else the seconds until there will be one."""
        tokens = min(self._burst_count, self._tokens + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / self._per_s

    def give_back(self) -> None:
        """Undo a take."""
        self._tokens = min(self._burst_count, self._tokens + 1.0)


class Refused(NamedTuple):
    """A request that is too many."""

    by: Literal["service", "client"]
    """Whose limit it met; for metrics."""
    retry_after_s: float


class Limiter:
    """The rate limit of one port of a pod."""

    __slots__ = ("_clients", "_max_count", "_service", "terms")

    def __init__(self, terms: RateLimit, now_s: float, max_count: int = CLIENTS_MAX_COUNT) -> None:
        """`max_count`: clients that are remembered."""
        self.terms = terms
        self._service: Bucket | None = Bucket(terms.service, now_s) if terms.service.per_s > 0.0 else None
        self._clients: dict[str, Bucket] = {}
        """The one that was silent for longest comes first."""
        self._max_count = max_count

    def __repr__(self) -> str:
        return f"<Limiter {self.terms.service.per_s:g}/s clients={len(self._clients)}>"

    @property
    def clients_count(self) -> int:
        return len(self._clients)

    def take(self, client: str, now_s: float) -> Refused | None:
        """Let a request in, or tell why not; `client`: identity, or else address."""
        bucket: Bucket | None = None
        if self.terms.client.per_s > 0.0:
            bucket = self._bucket_of(client, now_s)
            wait_s = bucket.take(now_s)
            if wait_s > 0.0:
                return Refused("client", wait_s)
        service = self._service
        if service is not None:
            wait_s = service.take(now_s)
            if wait_s > 0.0:
                if bucket is not None:
                    bucket.give_back()
                return Refused("service", wait_s)
        return None

    def _bucket_of(self, client: str, now_s: float) -> Bucket:
        clients = self._clients
        bucket = clients.pop(client, None)
        if bucket is None:
            bucket = Bucket(self.terms.client, now_s)
            if len(clients) >= self._max_count:
                del clients[next(iter(clients))]
        clients[client] = bucket
        return bucket


class Gate:
    """Who is in and who waits, for one service or one endpoint."""

    __slots__ = ("active_count", "queued_count", "terms")

    def __init__(self, terms: Concurrency) -> None:
        self.terms = terms
        self.active_count = 0
        self.queued_count = 0

    def __repr__(self) -> str:
        return f"<Gate {self.active_count}/{self.terms.limit_count} queued={self.queued_count}>"

    def enter(self) -> Admission:
        """Ask for a place: it is had at once, or after waiting in the queue, or not at all."""
        terms = self.terms
        if terms.limit_count <= 0 or (self.active_count < terms.limit_count and not self.queued_count):
            self.active_count += 1
            return "admit"
        if self.queued_count < terms.queue_count:
            self.queued_count += 1
            return "queue"
        return "shed"

    def leave(self) -> bool:
        """Give a place back; when True, the first of the queue has it now."""
        self.active_count -= 1
        return self._let_in()

    def give_up(self) -> None:
        """One of the queue waits no more (see Concurrency.queue_timeout_s), without having got a place."""
        self.queued_count -= 1

    def adjust(self, terms: Concurrency) -> int:
        """Take new terms; tell how many of the queue, from its front, have a place now."""
        self.terms = terms
        count = 0
        while self._let_in():
            count += 1
        return count

    def _let_in(self) -> bool:
        if not self.queued_count or 0 < self.terms.limit_count <= self.active_count:
            return False
        self.queued_count -= 1
        self.active_count += 1
        return True
