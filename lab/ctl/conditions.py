"""Status conditions: set one and keep the time of its last turn. Pure.

Source: Kubernetes API conventions, "Typical status properties": `lastTransitionTime` moves only when `status` does.
"""

from collections.abc import Iterable

from lab.ctl.owners import Object
from lab.ctl.times import to_text


def find(conditions: Iterable[Object], kind: str) -> Object | None:
    """The condition of this type, if it is there."""
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def without(conditions: Iterable[Object], kind: str) -> list[Object]:
    """The conditions but for one type."""
    return [condition for condition in conditions if condition.get("type") != kind]


def with_one(conditions: Iterable[Object], new: Object) -> list[Object]:
    """The conditions with `new` in the place of its type. Unchanged when status, reason and message are the same.

    Args: new: type, status, reason, message and `lastTransitionTime` (used only if the status turned).
    """
    held = list(conditions)
    old = find(held, new["type"])
    if old is None:
        return [*held, new]
    if all(old.get(key) == new.get(key) for key in ("status", "reason", "message")):
        return held
    if old.get("status") == new["status"]:
        new = {**new, "lastTransitionTime": old.get("lastTransitionTime", new["lastTransitionTime"])}
    return [new if condition is old else condition for condition in held]


def condition(kind: str, holds: bool | None, reason: str, message: str, now: float) -> Object:
    """A fresh condition; `holds` None is status Unknown."""
    return {
        "type": kind,
        "status": "Unknown" if holds is None else str(holds),
        "reason": reason,
        "message": message,
        "lastTransitionTime": to_text(now),
    }
