"""What a write is told beside its body, and what it asks of admission. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from lab.api.identity import User
from lab.api.ownership import APPLY, UPDATE, Owner
from lab.api.resources import Resource

if TYPE_CHECKING:
    from lab.api.registry import Registry

Object = dict[str, Any]

LAB_MANAGER = "tulle-lab"
"""The field manager of the lab's own controllers and node."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a write may be told beside its body. `warnings` collects what the answer's Warning headers say."""

    dry_run: bool = False
    manager: str = ""
    validation: str = "Ignore"
    force: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Write:
    """One write on its way: by whom, how, to which subresource ("" = the object itself)."""

    user: User
    options: Options
    subresource: str = ""
    is_apply: bool = False

    @property
    def owner(self) -> Owner:
        """Under whom the fields of this write are recorded."""
        return Owner(self.options.manager or LAB_MANAGER, APPLY if self.is_apply else UPDATE, self.subresource)


class Admitted(Protocol):
    """What admission gives back: the object as webhooks left it, and their warnings."""

    @property
    def object(self) -> Any: ...
    @property
    def warnings(self) -> Any: ...


class Admission(Protocol):
    """Built-in and webhook admission; raises ApiError to refuse."""

    async def admit(
        self,
        operation: str,
        resource: Resource,
        subresource: str,
        old: Object | None,
        new: Object | None,
        *,
        namespace_object: Object | None,
        user: User,
        dry_run: bool,
    ) -> Admitted: ...


class Completion(Protocol):
    """What is decided in the very moment an object is kept, as it depends on all others of its kind: cluster IPs.

    Called after admission, with `old` None on creation; gives back the object to keep. Raises ApiError Invalid.
    """

    def __call__(self, registry: Registry, row: Resource, old: Object | None, new: Object) -> Object: ...


def utc_now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in whole seconds, as metav1.Time is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
