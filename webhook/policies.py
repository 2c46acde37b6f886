"""Judge a policy at admission, by the reader that the controller uses too. Pure.

Two TrafficPolicies for one service are both let in: the controller lets the older one hold and says so on the other. An
update that leaves `spec` as it was is always let in, so that what came in before can still be labelled and deleted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract import kinds
from contract.kinds.doubts import doubts
from contract.kinds.injection import read_fault_injection
from contract.kinds.reading import Faulty
from contract.kinds.traffic import TrafficPolicy, read_traffic_policy
from webhook.review import Request

READERS: Final[Mapping[str, Callable[[Any], object]]] = {
    kinds.TRAFFIC_POLICY: read_traffic_policy,
    kinds.FAULT_INJECTION: read_fault_injection,
}
OPERATIONS: Final = ("CREATE", "UPDATE")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why it was let in, or refused; `fault` has one line a fault, "" lets it in."""

    reason: str
    fault: str = ""
    warnings: tuple[str, ...] = ()


def judge(request: Request) -> Verdict:
    """Look for faults in a policy; what is no policy that this version knows is let in."""
    kind = request.kind
    reader = READERS.get(kind.kind) if (kind.group, kind.version) == (kinds.GROUP, kinds.VERSION) else None
    if reader is None or request.operation not in OPERATIONS:
        return Verdict("NotAPolicy")
    if request.fault:
        return Verdict(kinds.INVALID, request.fault)
    new, old = request.object or {}, request.old_object
    if old is not None and old.get("spec") == new.get("spec"):
        return Verdict("SpecUnchanged")
    try:
        found = reader(new)
    except Faulty as fault:
        return Verdict(kinds.INVALID, _told(kind.kind, fault))
    return Verdict("Valid", warnings=tuple(doubts(found, new)) if isinstance(found, TrafficPolicy) else ())


def _told(kind: str, fault: Faulty) -> str:
    lines = str(fault).splitlines()
    if len(lines) == 1:
        return lines[0]
    return f"the {kind} has {len(fault.faults)} faults:\n" + "\n".join(f"  {line}" for line in lines)
