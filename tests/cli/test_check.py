"""Running checks: limits, patience, and the three forms of the report. The clock is the test's."""

import json
import threading
from collections.abc import Callable

import pytest

from cli import check
from cli.checks import Check
from cli.cluster import ClusterError
from cli.findings import OK, Finding

BAD = Finding("error", "it is broken", "mend it")


class Clock:
    """Moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s


def one(look: Callable[[], Finding], *, waits: bool = False, fatal: bool = False, category: str = "some") -> Check:
    return Check(category, "is well", look, waits=waits, fatal=fatal)


def run(*checks: Check, wait_s: float = 0.0, retry: Callable[[], None] = lambda: None) -> list[check.Result]:
    clock = Clock()
    return list(check.run(checks, wait_s, clock.now, clock.sleep, retry))


def test_a_check_that_waits_is_tried_until_it_is_well() -> None:
    answers = iter([BAD, BAD, OK])
    retries: list[int] = []
    (result,) = run(one(lambda: next(answers), waits=True), wait_s=10, retry=lambda: retries.append(1))
    assert result.finding == OK
    assert len(retries) == 2


def test_patience_ends_with_the_wait_and_is_shared_by_all_checks() -> None:
    tries: list[str] = []

    def look(name: str) -> Callable[[], Finding]:
        def looked() -> Finding:
            tries.append(name)
            return BAD

        return looked

    run(one(look("a"), waits=True), one(look("b"), waits=True), one(look("c")), wait_s=3)
    assert tries == ["a"] * 4 + ["b", "c"]


def test_warnings_are_not_waited_for() -> None:
    (result,) = run(one(lambda: Finding("warning", "old", "renew"), waits=True), wait_s=100)
    assert result.finding.outcome == "warning"


def test_nothing_is_tried_after_a_fatal_error() -> None:
    assert len(run(one(lambda: BAD, fatal=True), one(lambda: OK))) == 1
    assert len(run(one(lambda: OK, fatal=True), one(lambda: OK))) == 2


def test_a_check_that_hangs_is_cut_off() -> None:
    never = threading.Event()

    def hang() -> Finding:
        never.wait()
        return OK

    finding = check.limited(hang, 0.05)
    never.set()
    assert (finding.outcome, finding.reason) == ("error", "no result in 0.05 s")


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ClusterError("no rights", 403, "Forbidden"), "warning", "this user may not look: no rights"),
        (ClusterError("gone", 404, "NotFound"), "error", "gone"),
        (ClusterError("no answer"), "error", "no answer"),
        (KeyError("spec"), "error", "the cluster's answer was not understood: KeyError: 'spec'"),
    ],
)
def test_whatever_a_check_raises_becomes_a_finding_with_a_hint_or_a_reason(
    error: Exception, outcome: str, reason: str
) -> None:
    def look() -> Finding:
        raise error

    finding = check.limited(look, 5)
    assert (finding.outcome, finding.reason) == (outcome, reason)


RESULTS = [
    check.Result(one(lambda: OK), OK),
    check.Result(one(lambda: OK), Finding("warning", "old", "renew")),
    check.Result(one(lambda: OK, category="other"), BAD),
]


def test_lines_carry_symbol_reason_and_hint() -> None:
    assert [check.line(result) for result in RESULTS] == [
        "√ is well",
        "‼ is well\n    old\n    hint: renew",
        "× is well\n    it is broken\n    hint: mend it",
    ]
    assert check.header("some") == "some\n----"


def test_only_errors_fail() -> None:
    assert (check.failed(RESULTS), check.failed(RESULTS[:2])) == (True, False)
    assert (check.verdict(RESULTS)[-1], check.verdict(RESULTS[:2])[-1]) == ("×", "√")


def test_json_groups_checks_by_category() -> None:
    assert json.loads(check.as_json(RESULTS)) == {
        "success": False,
        "categories": [
            {
                "categoryName": "some",
                "checks": [
                    {"description": "is well", "result": "success"},
                    {"description": "is well", "result": "warning", "error": "old", "hint": "renew"},
                ],
            },
            {
                "categoryName": "other",
                "checks": [{"description": "is well", "result": "error", "error": "it is broken", "hint": "mend it"}],
            },
        ],
    }
