"""The tally: how many votes each pattern has. Run it with `python -m samples.tally`; poll.proto says what it answers.

Cast for moth-holes always fails with INTERNAL: something has eaten the ballot box. That is so on purpose.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator

import grpc

from samples.poll_pb2 import Ballot, CountRequest, Receipt, Standing, WatchRequest
from samples.poll_pb2_grpc import TallyServicer, add_TallyServicer_to_server
from samples.rpc import Draining, serve

ALWAYS_FAILS = "moth-holes"
BALLOTS_MAX_COUNT = 10_000
"""Ballot numbers remembered, to know one that comes twice."""
NAME_MAX_LETTERS_COUNT = 40
PATTERNS_MAX_COUNT = 100
WATCH_MAX_S = 60.0
"""A stream ends by itself, so that its next one may go to another replica."""
WATCH_EVERY_S = 0.2
"""Changes within this time are told together."""


class Full(Exception):
    """The box has no room for another pattern."""


class Box:
    """The ballot box."""

    def __init__(self) -> None:
        self.votes: Counter[str] = Counter()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def cast(self, pattern: str, number: str) -> int:
        """Count a vote, unless its ballot has come before; the votes that the pattern then has. Raises Full."""
        if number and number in self._seen:
            return self.votes[pattern]
        if pattern not in self.votes and len(self.votes) >= PATTERNS_MAX_COUNT:
            raise Full
        self.votes[pattern] += 1
        if number:
            self._seen[number] = None
            if len(self._seen) > BALLOTS_MAX_COUNT:
                self._seen.popitem(last=False)
        return self.votes[pattern]


class Tally(TallyServicer):
    """The service. One thread runs all its calls, so the box needs no lock."""

    def __init__(self, draining: Draining) -> None:
        self._box = Box()
        self._draining = draining

    async def Cast(self, request: Ballot, context: grpc.aio.ServicerContext) -> Receipt:
        if request.pattern == ALWAYS_FAILS:
            await context.abort(grpc.StatusCode.INTERNAL, "something has eaten the ballot box")
        if not request.pattern or max(len(request.pattern), len(request.number)) > NAME_MAX_LETTERS_COUNT:
            why = f"a pattern and a ballot have at most {NAME_MAX_LETTERS_COUNT} letters"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)
        try:
            return Receipt(votes=self._box.cast(request.pattern, request.number))
        except Full:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the ballot box has no room for another pattern")

    async def Count(self, request: CountRequest, context: grpc.aio.ServicerContext) -> Standing:
        return Standing(votes=self._box.votes)

    async def Watch(self, request: WatchRequest, context: grpc.aio.ServicerContext) -> AsyncIterator[Standing]:
        clock = asyncio.get_running_loop().time
        end_s = clock() + min(request.seconds, WATCH_MAX_S)
        told: dict[str, int] | None = None
        while not self._draining.is_set() and (told is None or clock() < end_s):
            if told != self._box.votes:
                told = dict(self._box.votes)
                yield Standing(votes=told)
            await asyncio.sleep(WATCH_EVERY_S)


def register(server: grpc.aio.Server, draining: Draining) -> None:
    add_TallyServicer_to_server(Tally(draining), server)


if __name__ == "__main__":
    serve(register)
