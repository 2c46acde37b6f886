"""The front: a page and an API over HTTP, made of what catalog and tally say over gRPC.

Run it with `python -m samples.web`.

GET  /                 the page; its buttons POST to /vote/{id} and lead back to it
GET  /api/patterns     the catalog
GET  /api/results      [{"id", "name", "votes"}, ...], most votes first
GET  /api/live         {"id": votes, ...} at each change, as server-sent events; ends after LIVE_S seconds
POST /api/votes/{id}   201; 404 for what does not stand for election; 502 and 504 when a service behind fails or is late

CATALOG and TALLY say where those are (catalog:80, tally:80).
"""

import json
from collections.abc import Generator
from itertools import chain
from typing import Any

from samples import behind
from samples.page import render
from samples.serving import Reply, Request, as_json, nothing_here, serve

LIVE_S = 10.0
"""Then the browser asks again, and perhaps another replica answers; less than a drain waits."""


def answer(request: Request) -> Reply:
    try:
        return _answer(request)
    except behind.Trouble as trouble:
        return as_json(trouble.status, {"error": str(trouble)})


def _answer(request: Request) -> Reply:
    match request.method, request.path:
        case "GET" | "HEAD", []:
            return Reply(200, render(results(), request.query).encode(), "text/html; charset=utf-8")
        case "GET" | "HEAD", ["api", "patterns"]:
            fields = ("id", "name", "note", "background")
            return as_json(200, [{name: getattr(one, name) for name in fields} for one in behind.patterns()])
        case "GET" | "HEAD", ["api", "results"]:
            return as_json(200, [{key: one[key] for key in ("id", "name", "votes")} for one in results()])
        case "GET", ["api", "live"]:
            return _live()
        case "POST", ["api", "votes", pattern]:
            return as_json(201, {"voted": pattern, "votes": vote(pattern)})
        case "POST", ["vote", pattern]:
            return _vote_by_page(pattern)
    return nothing_here(request)


def results() -> list[dict[str, Any]]:
    """The catalog with its votes, most first."""
    votes = behind.votes()
    merged = [
        {"id": one.id, "name": one.name, "note": one.note, "background": one.background, "votes": votes.get(one.id, 0)}
        for one in behind.patterns()
    ]
    return sorted(merged, key=lambda one: -one["votes"])


def vote(pattern: str) -> int:
    """One vote for a pattern that stands for election; how many it has with it. Raises Trouble."""
    behind.check(pattern)
    return behind.cast(pattern)


def _live() -> Reply:
    standings = behind.watch(LIVE_S)
    first = next(standings)  # a tally that does not answer has a status of its own
    return Reply(200, b"", "text/event-stream", {"Cache-Control": "no-store"}, stream=_events(first, standings))


def _events(first: behind.Votes, others: Generator[behind.Votes]) -> Generator[bytes]:
    try:
        yield b"retry: 500\n"
        for votes in chain([first], others):
            yield b"data: %s\n\n" % json.dumps(votes).encode()
    except behind.Trouble:
        return  # what was told stays true; the browser asks again
    finally:
        others.close()


def _vote_by_page(pattern: str) -> Reply:
    try:
        vote(pattern)
    except behind.Trouble as trouble:
        if trouble.status == 404:
            raise
        return Reply(303, b"", headers={"Location": f"/?lost={pattern}"})
    return Reply(303, b"", headers={"Location": f"/?voted={pattern}"})


if __name__ == "__main__":
    serve(answer)
