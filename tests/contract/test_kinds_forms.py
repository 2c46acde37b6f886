"""The written forms of values, and the definitions that the API server judges by: neither is stricter than it says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import kinds
from contract.kinds import fields
from contract.kinds.forms import Duration, Quantity, Statuses, write_duration
from contract.kinds.injection import read_fault_injection
from contract.kinds.reading import Faulty
from contract.kinds.schema import definition_spec
from contract.kinds.sections import Section
from contract.kinds.traffic import read_traffic_policy
from lab.api import schema
from lab.api.defaults import fill_custom
from tests.contract.kinds import section

KINDS = [
    (kinds.TRAFFIC_POLICY, fields.TRAFFIC_POLICY, read_traffic_policy),
    (kinds.FAULT_INJECTION, fields.FAULT_INJECTION, read_fault_injection),
]


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [("250ms", 0.25), ("1h30m", 5400), ("10s", 10), ("1h1m1s1ms", 3661.001), ("0s", 0), ("90m", 5400), ("1m1m", 120)],
)
def test_durations_are_read_as_the_gateway_api_reads_them(text: str, duration_s: float) -> None:
    assert duration_s == Duration().read(text)


@pytest.mark.parametrize(
    "value", ["", "5", "-5s", "5S", "1us", "1d", "100000s", "1s ", "١s", "1h1m1s1ms1s", None, 1.5, True]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no duration"):
        Duration().read(value)


@given(st.integers(0, 24 * 3_600_000))
def test_a_duration_that_is_written_reads_the_same(duration_ms: int) -> None:
    assert duration_ms / 1000 == Duration().read(write_duration(duration_ms))


@pytest.mark.parametrize(("value", "count"), [(0, 0), (4096, 4096), ("64Ki", 65536), ("1k", 1000), ("1Mi", 1 << 20)])
def test_quantities_are_read_as_kubernetes_reads_them(value: object, count: int) -> None:
    assert count == Quantity(0, 1 << 20).read(value)


@pytest.mark.parametrize(
    ("value", "found"),
    [(503, (503, 503)), ("503", (503, 503)), ("5xx", (500, 599)), ("4XX", (400, 499)), ("502-504", (502, 504))],
)
def test_statuses_are_codes_ranges_and_classes(value: object, found: tuple[int, int]) -> None:
    assert found == Statuses().read(value)


@pytest.mark.parametrize(
    "value", ["", "50x", "x", 0, 99, 200, 600, "6xx", "500-", "-500", "500-600", True, 503.0, None]
)
def test_what_is_no_status_to_try_again_after_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="write "):
        Statuses().read(value)


def judged(kind: str, spec: Any) -> list[str]:
    """What the definition's schema finds."""
    found = schema.check({"spec": spec}, definition_spec(kind)["versions"][0]["schema"]["openAPIV3Schema"])
    return [*found.unknown, *map(str, [*found.wrong_types, *found.missing, *found.bad_values])]


@pytest.mark.parametrize(("kind", "form", "read"), KINDS)
@given(data=st.data())
def test_the_definition_refuses_nothing_that_the_reader_takes(
    kind: str, form: Section, read: Any, data: st.DataObject
) -> None:
    spec = data.draw(section(form, odd=data.draw(st.booleans())))

    try:
        read({"spec": spec})
    except Faulty:
        return

    assert [] == judged(kind, spec)


@pytest.mark.parametrize(("kind", "form", "read"), KINDS)
@given(data=st.data())
def test_defaults_that_the_api_server_fills_in_change_no_meaning(
    kind: str, form: Section, read: Any, data: st.DataObject
) -> None:
    spec = data.draw(section(form, odd=False))
    try:
        before = read({"spec": spec})
    except Faulty as faulty:
        before = faulty.faults
    filled = {"spec": spec}

    fill_custom(filled, definition_spec(kind)["versions"][0]["schema"]["openAPIV3Schema"])

    try:
        after = read(filled)
    except Faulty as faulty:
        after = faulty.faults
    assert before == after


@pytest.mark.parametrize(("kind", "form", "read"), KINDS)
def test_every_field_is_described_and_no_list_has_hidden_defaults(kind: str, form: Section, read: Any) -> None:
    def walk(found: dict[str, Any], path: str, *, in_list: bool) -> None:
        for name, inner in (found.get("properties") or {}).items():
            assert len(inner["description"]) > 5, f"{path}.{name}"
            assert not (in_list and "default" in inner), f"{path}.{name}"
            walk(inner, f"{path}.{name}", in_list=in_list)
        if "items" in found:
            walk(found["items"], f"{path}[]", in_list=True)

    walk(definition_spec(kind)["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec", in_list=False)
