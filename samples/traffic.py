"""The traffic generator: people who look and vote. Run it with `python -m samples.traffic`.

WEB_URL                where the front is (http://web)
TRAFFIC_RATE           requests a second, 0.1 to 200 (10)
TRAFFIC_DURATION_S     seconds until it ends by itself; 0: when it is stopped (0)
TRAFFIC_ALIVE          a file to touch at each request, for a liveness probe (none)

One request at a time. Of ten requests two load the page, three the results, one the catalog, and four vote for a random
pattern, so about one in thirty hits the route that always fails. Beside them one viewer follows the live results.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from samples.calling import Caller, Unreachable

REPORT_EVERY_S = 10.0


def setting(name: str, default: float, least: float, most: float) -> float:
    """A number from the environment, within bounds; ends the program with a message that says what would do."""
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SystemExit(f"{name}={text!r}: give a number from {least:g} to {most:g}")
    return value


def patterns(web: Caller) -> list[str]:
    """The names to vote for; none while the front does not say."""
    try:
        status, body = web.call("GET", "/api/patterns")
    except Unreachable:
        return []
    return [one["id"] for one in json.loads(body)] if status == 200 else []


def next_request(chance: random.Random, names: list[str]) -> tuple[str, str]:
    """Method and path of the next request."""
    if names and chance.random() < 0.4:
        return "POST", f"/api/votes/{chance.choice(names)}"
    return "GET", chance.choice(["/", "/", "/api/results", "/api/results", "/api/results", "/api/patterns"])


def send(web: Caller, method: str, path: str) -> str:
    """One request; its outcome as a word."""
    try:
        return f"{web.call(method, path)[0] // 100}xx"
    except Unreachable:
        return "unreachable"


def follow(web: Caller, stop: threading.Event) -> None:
    """Keep one stream of live results open, anew whenever it ends."""
    while not stop.is_set():
        try:
            web.call("GET", "/api/live")
        except Unreachable:
            pass
        stop.wait(0.5)


def main() -> None:
    rate = setting("TRAFFIC_RATE", 10, 0.1, 200)
    duration_s = setting("TRAFFIC_DURATION_S", 0, 0, 10**7)
    web = Caller(os.environ.get("WEB_URL", "http://web"))
    alive = os.environ.get("TRAFFIC_ALIVE")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=follow, args=(web, stop), daemon=True).start()
    chance, counts, names = random.Random(), Counter[str](), list[str]()
    start = due = reported = time.monotonic()
    while not stop.is_set() and not (duration_s and due - start >= duration_s):
        names = names or patterns(web)
        method, path = next_request(chance, names)
        counts[send(web, method, path)] += 1
        if alive:
            Path(alive).touch()
        now = time.monotonic()
        if now - reported >= REPORT_EVERY_S:
            print(" ".join(f"{word}={count}" for word, count in sorted(counts.items())), flush=True)
            reported = now
        due = max(due + 1 / rate, now - 1.0)  # behind by more than a second: forget what was missed
        stop.wait(max(0.0, due - now))
    print("total", " ".join(f"{word}={count}" for word, count in sorted(counts.items())), flush=True)


if __name__ == "__main__":
    main()
