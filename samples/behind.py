"""The services behind the page, as web calls them.

A channel for each service, a deadline for each call, a reason for each failure.
"""

import os
import secrets
from collections.abc import Generator

import grpc

from samples.poll_pb2 import Ballot, CountRequest, GetRequest, ListRequest, Pattern, WatchRequest
from samples.poll_pb2_grpc import CatalogStub, TallyStub

DEADLINE_S = 2.0
WATCH_SLACK_S = 5.0
"""A stream's deadline comes this long after the time for which it was asked."""

Votes = dict[str, int]

_STATUS = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""How the page's own protocol says it; all else is 502."""


class Trouble(Exception):
    """A service behind could not do its part: the HTTP status to answer with, and why."""

    def __init__(self, service: str, error: grpc.RpcError) -> None:
        code: grpc.StatusCode = error.code()
        super().__init__(f"{service} answered {code.name}: {error.details()}")
        self.status = _STATUS.get(code, 502)


def _channel(variable: str, default: str) -> grpc.Channel:
    """A connection that is opened by the first call, and again soon after it is lost."""
    target = os.environ.get(variable, default)
    if "//" in target:
        raise SystemExit(f"{variable}={target!r}: write it as HOST:PORT")
    return grpc.insecure_channel(target, [("grpc.max_reconnect_backoff_ms", 1000)])


_CATALOG = CatalogStub(_channel("CATALOG", "catalog:80"))
_TALLY = TallyStub(_channel("TALLY", "tally:80"))


def patterns() -> list[Pattern]:
    """All that stand for election. Raises Trouble."""
    try:
        return list(_CATALOG.List(ListRequest(), timeout=DEADLINE_S).patterns)
    except grpc.RpcError as error:
        raise Trouble("catalog", error) from error


def check(pattern: str) -> None:
    """Raises Trouble when it does not stand for election."""
    try:
        _CATALOG.Get(GetRequest(id=pattern), timeout=DEADLINE_S)
    except grpc.RpcError as error:
        raise Trouble("catalog", error) from error


def votes() -> Votes:
    """How many each pattern has. Raises Trouble."""
    try:
        return dict(_TALLY.Count(CountRequest(), timeout=DEADLINE_S).votes)
    except grpc.RpcError as error:
        raise Trouble("tally", error) from error


def cast(pattern: str) -> int:
    """One more vote; how many the pattern has with it. Raises Trouble."""
    try:
        return _TALLY.Cast(Ballot(pattern=pattern, number=secrets.token_hex(8)), timeout=DEADLINE_S).votes
    except grpc.RpcError as error:
        raise Trouble("tally", error) from error


def watch(seconds: float) -> Generator[Votes]:
    """The votes, now and after each change; closing the iterator cancels the call. Raises Trouble."""
    call = _TALLY.Watch(WatchRequest(seconds=seconds), timeout=seconds + WATCH_SLACK_S)
    try:
        for standing in call:
            yield dict(standing.votes)
    except grpc.RpcError as error:
        raise Trouble("tally", error) from error
    finally:
        call.cancel()
