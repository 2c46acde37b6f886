"""The front: a page and an API, made of what catalog and tally say. Run it with `python -m samples.web`.

GET  /                 the page; its buttons POST to /vote/{id} and lead back to it
GET  /api/patterns     the catalog
GET  /api/results      [{"id", "name", "votes"}, ...], most votes first
POST /api/votes/{id}   201; 404 for what does not stand for election; 502 when the tally fails or does not answer

CATALOG_URL and TALLY_URL say where those are (http://catalog, http://tally).
"""

import json
import os
import secrets
from typing import Any

from samples.calling import Caller, Unreachable
from samples.page import render
from samples.serving import Reply, Request, as_json, nothing_here, serve

CATALOG = Caller(os.environ.get("CATALOG_URL", "http://catalog"))
TALLY = Caller(os.environ.get("TALLY_URL", "http://tally"))


class Trouble(Exception):
    """The services behind could not do their part: the status to answer with, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def answer(request: Request) -> Reply:
    try:
        return _answer(request)
    except Trouble as trouble:
        return as_json(trouble.status, {"error": str(trouble)})


def _answer(request: Request) -> Reply:
    match request.method, request.path:
        case "GET" | "HEAD", []:
            return Reply(200, render(results(), request.query).encode(), "text/html; charset=utf-8")
        case "GET" | "HEAD", ["api", "patterns"]:
            return as_json(200, _get(CATALOG, "/patterns"))
        case "GET" | "HEAD", ["api", "results"]:
            return as_json(200, [{key: one[key] for key in ("id", "name", "votes")} for one in results()])
        case "POST", ["api", "votes", pattern]:
            vote(pattern)
            return as_json(201, {"voted": pattern})
        case "POST", ["vote", pattern]:
            return _vote_by_page(pattern)
    return nothing_here(request)


def results() -> list[dict[str, Any]]:
    """The catalog with its votes, most first."""
    votes = _get(TALLY, "/votes")
    merged = [{**one, "votes": votes.get(one["id"], 0)} for one in _get(CATALOG, "/patterns")]
    return sorted(merged, key=lambda one: -one["votes"])


def vote(pattern: str) -> None:
    """One vote for a pattern that stands for election. Raises Trouble."""
    _get(CATALOG, f"/patterns/{pattern}")
    status, _body = _call(TALLY, "POST", f"/votes/{pattern}", secrets.token_hex(8).encode())
    if status >= 300:
        raise Trouble(502, f"the tally did not take the vote for {pattern}: status {status}")


def _vote_by_page(pattern: str) -> Reply:
    try:
        vote(pattern)
    except Trouble as trouble:
        if trouble.status == 404:
            raise
        return Reply(303, b"", headers={"Location": f"/?lost={pattern}"})
    return Reply(303, b"", headers={"Location": f"/?voted={pattern}"})


def _get(caller: Caller, path: str) -> Any:
    status, body = _call(caller, "GET", path)
    if status == 404:
        raise Trouble(404, json.loads(body)["error"])
    if status != 200:
        raise Trouble(502, f"{caller.url}{path} answered with status {status}")
    return json.loads(body)


def _call(caller: Caller, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    try:
        return caller.call(method, path, body)
    except Unreachable as error:
        raise Trouble(502, str(error)) from error


if __name__ == "__main__":
    serve(answer)
