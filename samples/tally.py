"""The tally: how many votes each pattern has. Run it with `python -m samples.tally`.

GET  /votes            {"gingham": 3, ...}
POST /votes/{id}       one more; the body, if any, is the ballot's number, which counts once. 201
POST /votes/moth-holes always fails with 500: something has eaten the ballot box. That is so on purpose.
"""

import threading
from collections import Counter, OrderedDict

from samples.serving import Reply, Request, as_json, nothing_here, serve

ALWAYS_FAILS = "moth-holes"
BALLOTS_MAX_COUNT = 10_000
"""Ballot numbers remembered, to know one that comes twice."""
NAME_MAX_LETTERS_COUNT = 40
PATTERNS_MAX_COUNT = 100


class Box:
    """The ballot box; safe to use from many threads."""

    def __init__(self) -> None:
        self._votes: Counter[str] = Counter()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def votes(self) -> dict[str, int]:
        with self._lock:
            return dict(self._votes)

    def cast(self, pattern: str, ballot: bytes) -> bool:
        """Count a vote; False when the box has no room for another pattern."""
        with self._lock:
            if ballot and ballot in self._seen:
                return True
            if pattern not in self._votes and len(self._votes) >= PATTERNS_MAX_COUNT:
                return False
            self._votes[pattern] += 1
            if ballot:
                self._seen[ballot] = None
                if len(self._seen) > BALLOTS_MAX_COUNT:
                    self._seen.popitem(last=False)
            return True


BOX = Box()


def answer(request: Request) -> Reply:
    match request.method, request.path:
        case "GET" | "HEAD", ["votes"]:
            return as_json(200, BOX.votes())
        case "POST", ["votes", key] if key == ALWAYS_FAILS:
            return as_json(500, {"error": "something has eaten the ballot box"})
        case "POST", ["votes", key] if len(key) > NAME_MAX_LETTERS_COUNT or len(request.body) > NAME_MAX_LETTERS_COUNT:
            return as_json(400, {"error": f"a pattern and a ballot have at most {NAME_MAX_LETTERS_COUNT} letters"})
        case "POST", ["votes", key]:
            return as_json(201, {"voted": key}) if BOX.cast(key, request.body) else as_json(507, {"error": "full"})
    return nothing_here(request)


if __name__ == "__main__":
    serve(answer)
