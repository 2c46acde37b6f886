"""Indices of names: what is looked up by something else than its own name, and never left behind empty. Pure."""

from collections.abc import Hashable, MutableMapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


def drop(index: MutableMapping[K, tuple[V, ...]], at: K, member: V) -> None:
    """Take a member out of an ordered entry."""
    left = tuple(other for other in index.get(at, ()) if other != member)
    if left:
        index[at] = left
    else:
        index.pop(at, None)


def discard(index: MutableMapping[K, set[V]], at: K, member: V) -> None:
    """Take a member out of an entry."""
    members = index.get(at, set())
    members.discard(member)
    if not members:
        index.pop(at, None)
