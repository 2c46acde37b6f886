"""Rate limits: how many requests a second a pod takes. Pure.

Theory of operation: a bucket holds up to `burst_count` tokens and earns `per_s` of them a second; a request
takes one, and one that finds none is told when there will be one. Each client has a bucket of its own besides the
service's; its own is asked first, so that a client that is refused anyway takes nothing from the others. The table of
clients is bounded: the one that was silent for longest is forgotten, which gives it a full bucket if it comes back. So
whoever can take on ever new identities is bounded by the service's bucket alone.
"""

from typing import Final, Literal, NamedTuple

from contract.policy import Rate, RateLimit

CLIENTS_MAX_COUNT: Final = 10_000
"""Clients remembered (about 1.5 MB); more than a sidecar has sessions."""


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
        tokens = self._earn(now_s)
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        return (1.0 - tokens) / self._per_s

    def _earn(self, now_s: float) -> float:
        """Enter what time has brought; give the tokens that are there."""
        self._tokens = min(self._burst_count, self._tokens + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return self._tokens

    def charge(self, other: "Bucket", now_s: float) -> None:
        """Take as many tokens as another bucket of the same rate lacks, those that are not there as a debt."""
        lacked = other._burst_count - other._earn(now_s)
        self._tokens = max(-self._burst_count, self._earn(now_s) - lacked)

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

    def merge(self, address: str, client: str, now_s: float) -> None:
        """An address has turned out to be a client's: what was let in for it counts for the client."""
        bucket = self._clients.pop(address, None)
        if bucket is not None:
            self._bucket_of(client, now_s).charge(bucket, now_s)

    def _bucket_of(self, client: str, now_s: float) -> Bucket:
        clients = self._clients
        bucket = clients.pop(client, None)
        if bucket is None:
            bucket = Bucket(self.terms.client, now_s)
            if len(clients) >= self._max_count:
                del clients[next(iter(clients))]
        clients[client] = bucket
        return bucket
