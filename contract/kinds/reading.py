"""What both kinds share: the outermost fields, the target, and the error that holds all faults. Pure."""

from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from contract.kinds.sections import Fault, Faults, Found, Section, read
from contract.spelling import cut

_OUTER: Final = ("apiVersion", "kind", "metadata", "spec", "status")

S = TypeVar("S", bound=msgspec.Struct)

FAULTS_SHOWN_COUNT: Final = 50
"""Faults in one message; more are counted."""


class Faulty(ValueError):
    """An object that cannot be honoured, with every fault of it; the message has one line a fault."""

    def __init__(self, faults: list[Fault]) -> None:
        lines = [str(fault) for fault in faults[:FAULTS_SHOWN_COUNT]]
        if len(faults) > FAULTS_SHOWN_COUNT:
            lines.append(f"and {len(faults) - FAULTS_SHOWN_COUNT} more")
        super().__init__("\n".join(lines))
        self.faults = tuple(faults)


class Target(NamedTuple):
    """The Service that a policy is attached to, in the policy's namespace, and perhaps one port of it."""

    service: str
    port_name: str = ""
    """"" for all ports."""


def read_spec(section: Section, obj: Any, faults: Faults) -> Found:
    """Read `spec` of an object, and look at what stands beside it."""
    if not isinstance(obj, dict):
        faults.add("spec", "is missing")
        return dict.fromkeys(field.name for field in section.fields)
    for name in obj:
        if name not in _OUTER:
            faults.add(cut(str(name)), "is unknown; all fields belong under spec")
    return read(section, obj.get("spec") or {}, "spec", faults)


def target_of(spec: Found) -> Target:
    reference = spec["targetRef"] or {}
    return Target(reference.get("name") or "", reference.get("sectionName") or "")


def compact(value: S) -> S:
    """The same value, short on the wire: msgspec leaves out what is a default itself, not what equals it."""
    members: dict[str, Any] = {}
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        inner = compact(found) if isinstance(found, msgspec.Struct) else found
        if inner != field.default:
            members[field.name] = inner
    return type(value)(**members)
