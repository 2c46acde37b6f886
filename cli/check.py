"""Runs checks one by one, each within a hard limit, and shows the results. Waits (for answers, and between tries)."""

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cli.checks import Check
from cli.cluster import ClusterError
from cli.errors import CliError
from cli.findings import Finding

CHECK_LIMIT_S = 30.0
"""Seconds that one try of a check may take in all; then it has failed, whatever hangs."""

RETRY_S = 1.0
"""Seconds between two tries of a check that waits."""

SYMBOLS = {"ok": "√", "warning": "‼", "error": "×"}
_RESULTS = {"ok": "success", "warning": "warning", "error": "error"}


@dataclass(frozen=True, slots=True)
class Result:
    """A check's last finding."""

    check: Check
    finding: Finding


def run(
    checks: Iterable[Check],
    wait_s: float,
    now: Callable[[], float],
    sleep: Callable[[float], None],
    retry: Callable[[], None],
) -> Iterator[Result]:
    """Try each check, those that wait until `now()` is `wait_s` later than at the start; stop at a fatal error.

    `retry` is called before each new try.
    """
    deadline = now() + wait_s
    for check in checks:
        finding = limited(check.look, CHECK_LIMIT_S)
        while check.waits and finding.outcome == "error" and now() + RETRY_S <= deadline:
            sleep(RETRY_S)
            retry()
            finding = limited(check.look, CHECK_LIMIT_S)
        yield Result(check, finding)
        if check.fatal and finding.outcome == "error":
            return


def limited(look: Callable[[], Finding], limit_s: float) -> Finding:
    """Give a check `limit_s`; a refusal for lack of rights is a warning, every other trouble an error."""
    answers: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_caught(look)), daemon=True).start()
    try:
        return answers.get(timeout=limit_s)
    except queue.Empty:
        return Finding("error", f"no result in {limit_s:g} s", "is the API server overloaded?")


def _caught(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except ClusterError as error:
        if error.status == 403:
            return Finding("warning", f"this user may not look: {error}", "ask for the right to")
        return Finding("error", str(error), _HINTS.get(error.status, "look at the reason above"))
    except CliError as error:
        return Finding("error", str(error))
    except Exception as error:  # the thread's end: what is raised here would be lost, and the check would hang
        return Finding("error", f"the cluster's answer was not understood: {type(error).__name__}: {error}")


_HINTS = {
    0: "check the kubeconfig and the network: kubectl version",
    401: "log in again: kubectl auth whoami",
    404: "is it installed? tulle install | kubectl apply -f -",
    503: "is one of its pods ready? kubectl get pods in its namespace",
}
"""By HTTP status; 0 is no answer."""


def line(result: Result) -> str:
    """`√ description`, and under it reason and hint when there is something to say."""
    text = f"{SYMBOLS[result.finding.outcome]} {result.check.description}"
    for more in (result.finding.reason, result.finding.hint and f"hint: {result.finding.hint}"):
        text += f"\n    {more}" if more else ""
    return text


def header(category: str) -> str:
    """A category's name, underlined."""
    return f"{category}\n{'-' * len(category)}"


def verdict(results: list[Result]) -> str:
    """The last line of the table."""
    return f"Status check results are {SYMBOLS['error' if failed(results) else 'ok']}"


def failed(results: list[Result]) -> bool:
    """Whether any check ended in an error (warnings do not count)."""
    return any(result.finding.outcome == "error" for result in results)


def as_json(results: list[Result]) -> str:
    """`{"success", "categories": [{"categoryName", "checks": [{"description", "result", "error", "hint"}]}]}`."""
    categories: dict[str, list[dict[str, str]]] = {}
    for result in results:
        shown = {"description": result.check.description, "result": _RESULTS[result.finding.outcome]}
        if result.finding.outcome != "ok":
            shown |= {"error": result.finding.reason, "hint": result.finding.hint}
        categories.setdefault(result.check.category, []).append(shown)
    listed = [{"categoryName": name, "checks": checks} for name, checks in categories.items()]
    return json.dumps({"success": not failed(results), "categories": listed}, indent=2, ensure_ascii=False)
