"""Choosing, verifying and rolling back, with a backend whose failures can be asked for.

What the stand-in promises is held against the real backends in test_command.py, which needs root.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from init.apply import capture, choose, verify
from init.capabilities import NET_ADMIN, NET_RAW, parse_effective
from init.child import run_in_child
from init.config import Config
from init.errors import BackendError
from init.lock import table_lock
from init.nft_text import essence, render_table
from init.rules import FAMILIES, Family, Rule, plan, rules_for

RULES = plan(Config())


class Recorded:
    """Keeps rules in a dictionary; fails where told to."""

    def __init__(self, name: str = "recorded", fails: Iterable[str] = (), loses: str = "") -> None:
        self.name = name
        self.tables: dict[Family, list[str]] = {}
        self._fails = set(fails)
        self._loses = loses

    def probe(self, family: Family) -> None:
        self._fail(f"probe {family}")

    def apply(self, rules: Iterable[Rule], families: Iterable[Family]) -> None:
        plan = tuple(rules)
        for family in families:
            self._fail(f"apply {family}")
            self.tables[family] = [name for name in self.expected(plan, family) if name != self._loses]

    def clear(self, families: Iterable[Family] = FAMILIES) -> None:
        for family in families:
            self._fail(f"clear {family}")
            self.tables.pop(family, None)

    def read(self, family: Family) -> list[str]:
        return self.tables.get(family, [])

    def expected(self, rules: Iterable[Rule], family: Family) -> list[str]:
        return [rule.name for rule in rules_for(family, rules)]

    def _fail(self, what: str) -> None:
        if what in self._fails:
            raise BackendError(f"{what} failed")


def test_the_first_backend_that_works_for_all_families_is_taken() -> None:
    first, second = Recorded("first", ["probe 6"]), Recorded("second")

    assert (second, ("first: probe 6 failed",)) == choose([first, second], FAMILIES)
    assert (first, ()) == choose([first, second], [4])


def test_when_none_works_all_reasons_are_told() -> None:
    with pytest.raises(BackendError, match=r"first: probe 4 failed \| second: probe 6 failed"):
        choose([Recorded("first", ["probe 4"]), Recorded("second", ["probe 6"])], FAMILIES)


def test_a_failure_in_the_second_family_takes_the_first_back() -> None:
    backend = Recorded(fails=["apply 6"])

    with pytest.raises(BackendError, match="apply 6 failed; all rules were removed again"):
        capture(backend, RULES, FAMILIES)

    assert {} == backend.tables


def test_a_rule_that_is_not_there_takes_everything_back() -> None:
    backend = Recorded(loses="redirect-outbound")

    with pytest.raises(BackendError, match="reads back as 'enter-inbound' instead of 'redirect-outbound'"):
        capture(backend, RULES, FAMILIES)

    assert {} == backend.tables


def test_a_last_rule_that_is_not_there_is_missed_too() -> None:
    backend = Recorded(loses="enter-outbound")
    backend.apply(RULES, [4])

    with pytest.raises(BackendError, match="IPv4 reads back as 9 lines instead of 10"):
        verify(backend, RULES, 4)


def test_a_roll_back_that_fails_is_told_and_goes_on_with_the_other_family() -> None:
    backend = Recorded(fails=["apply 6", "clear 4"])
    backend.tables[6] = ["of an earlier run"]

    with pytest.raises(BackendError, match="apply 6 failed; and they could not all be removed: clear 4 failed"):
        capture(backend, RULES, FAMILIES)

    assert [4] == list(backend.tables)


def test_what_another_backend_left_goes_first() -> None:
    other = Recorded("other")
    other.apply(RULES, FAMILIES)

    capture(Recorded(), RULES, FAMILIES, [other])

    assert {} == other.tables


def test_a_family_that_is_not_wanted_loses_its_rules() -> None:
    backend = Recorded()
    capture(backend, RULES, FAMILIES)

    capture(backend, RULES, [4])

    assert [4] == list(backend.tables)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_essence_of_a_table_has_a_line_for_every_rule_chain_and_hook(family: Family) -> None:
    lines = essence(render_table(RULES, family))

    assert len(rules_for(family, RULES)) + 4 + 2 == len(lines)
    assert "return tulle/outbound-of-proxy" in lines
    assert "redirect to :4143 tulle/redirect-inbound" in lines
    assert "type nat hook prerouting" in lines


def test_a_rule_of_somebody_else_makes_a_difference() -> None:
    written = render_table(RULES, 4)

    assert essence(written) != essence(written.replace("chain OUTPUT {", "chain OUTPUT {\n\t\tmeta mark 1 accept"))


def test_a_child_that_does_its_work_says_nothing() -> None:
    assert run_in_child(lambda: os.write(2, b"noise") and None) is None


@pytest.mark.parametrize(
    ("work", "failure"),
    [
        (lambda: (_ for _ in ()).throw(ValueError("why")), "why"),
        (lambda: os._exit(3), "ended with status 3"),
        (lambda: os.kill(os.getpid(), 9), "ended with status -9"),
        (lambda: (os.write(2, b"line one\nline two\n"), os._exit(1)), "line one; line two"),
        (lambda: (os.write(2, b"x" * 60_000), os._exit(1)), "x" * 4096),
    ],
)
def test_a_child_that_fails_tells_why_in_one_line(work: "Sequence[object]", failure: str) -> None:
    assert failure == run_in_child(work)  # type: ignore[arg-type]


def test_capabilities_are_read_from_the_effective_set() -> None:
    status = "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000003000\nCapBnd:\t0\n"

    assert {NET_ADMIN, NET_RAW} == parse_effective(status)
    assert frozenset() == parse_effective("Name:\tx\n")


def test_a_lock_that_another_program_keeps_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")

    with table_lock(path), pytest.raises(BackendError, match="held by another program"), table_lock(path, wait_s=0.02):
        pass


def test_where_no_lock_can_be_made_none_is_needed(tmp_path: Path) -> None:
    with table_lock(str(tmp_path / "missing" / "lock")):
        pass
