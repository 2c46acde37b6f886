"""Objects made of fields, and lists: read strictly, every fault told with its path. Pure.

`read` walks a value by its section. What is absent takes its default, read like any other value; what is unknown, of a
wrong form, or missing becomes a fault. A part with a fault is left out of the result, so that the rest is judged too.
"""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from contract.kinds.forms import Form, Integer, Number, Percent, shown
from contract.spelling import cut, nearest

Found = dict[str, Any]
"""What a section's fields mean, by name; None for what is absent and has no default."""


class Fault(NamedTuple):
    """Something that cannot be honoured."""

    path: str
    """`spec.retries.limit`."""
    text: str
    """What is wrong, and what to write instead."""

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A contradiction that the API server can find by itself, in its expression language."""

    expression: str
    message: str


@dataclass(frozen=True, slots=True)
class Section:
    """An object of known fields."""

    fields: tuple["Field", ...]
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Many:
    """A list."""

    item: "Form | Section"
    high: int
    """Most items."""
    low: int = 0


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name as users write it, what it holds, what it means."""

    name: str
    form: "Form | Section | Many"
    text: str
    """A sentence or two for `kubectl explain` and the documentation."""
    default: Any = None
    """As users would write it; None: none."""
    default_text: str = ""
    """Where the default depends on something else: in words."""
    is_required: bool = False


KEPT_COUNT: Final = 1000
"""Faults of one object that are gathered; a message shows fewer."""


@dataclass(slots=True)
class Faults:
    """Gathers faults."""

    found: list[Fault] = field(default_factory=list)

    def add(self, path: str, text: str) -> None:
        if not self.is_full:
            self.found.append(Fault(path, text))

    @property
    def is_full(self) -> bool:
        """Whether more faults would help nobody: they are not gathered."""
        return len(self.found) >= KEPT_COUNT

    def are_under(self, path: str) -> bool:
        """Whether some part of the object at `path` has a fault already: then it is not said to be empty as well."""
        return any(fault.path.startswith((f"{path}.", f"{path}[")) for fault in self.found)


def read(section: Section, value: object, path: str, faults: Faults) -> Found:
    """Read an object; what is at fault is None in the result."""
    if not isinstance(value, dict):
        faults.add(path, f"{shown(value)} is no object; write the fields {', '.join(_names(section))} under it")
        return dict.fromkeys(_names(section))
    known = _names(section)
    for name in value:
        if name not in known:
            near = "" if faults.is_full else nearest(str(name), known)
            hint = f"did you mean {near}?" if near else f"write one of {', '.join(known)}"
            faults.add(f"{path}.{cut(str(name))}", f"is unknown; {hint}")
    return {one.name: _member(one, value.get(one.name), f"{path}.{one.name}", faults) for one in section.fields}


def _names(section: Section) -> list[str]:
    return [one.name for one in section.fields]


def _member(one: Field, value: object, path: str, faults: Faults) -> Any:
    if value is None:
        if one.is_required:
            faults.add(path, f"is missing; write {_wanted(one.form)}")
        value = one.default
    return None if value is None else _value(one.form, value, path, faults)


def _wanted(form: "Form | Section | Many") -> str:
    if isinstance(form, Section):
        return f"the fields {', '.join(_names(form))} under it"
    if isinstance(form, (Integer, Number)):
        return f"{form.low} to {form.high}"
    if isinstance(form, Percent):
        return f"{form.low} to 100"
    return "a list" if isinstance(form, Many) else form.unit


def _value(form: "Form | Section | Many", value: object, path: str, faults: Faults) -> Any:
    if isinstance(form, Section):
        return read(form, value, path, faults)
    if isinstance(form, Many):
        return _items(form, value, path, faults)
    try:
        return form.read(value)
    except ValueError as fault:
        faults.add(path, str(fault))
        return None


def _items(many: Many, value: object, path: str, faults: Faults) -> tuple[Any, ...]:
    if not isinstance(value, list):
        faults.add(path, f"{shown(value)} is no list; write [{shown(value)}]")
        return ()
    if len(value) > many.high:
        faults.add(path, f"has {len(value)} items; write at most {many.high}")
        return ()
    if len(value) < many.low:
        faults.add(path, f"has {len(value)} items; write at least {many.low}")
    found = (_value(many.item, item, f"{path}[{index}]", faults) for index, item in enumerate(value))
    return tuple(item for item in found if item is not None)
