"""Who asks: the authenticated user of a request. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class User:
    """A name, its groups, and what the authenticator knows beside (`extra` maps a key to its values)."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# The lab's own controllers and node: in-process callers that no rule binds.
SYSTEM = User("system:masters-loop", ("system:masters",))
