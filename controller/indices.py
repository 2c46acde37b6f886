"""Indices of names: what is looked up by something else than its own name, and never left behind empty. Pure."""

from collections.abc import Collection, Hashable, MutableMapping
from typing import Generic, TypeVar

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


class Index(Generic[K, V]):
    """Keys and their members. A member that is alone is kept bare: most are, and a set takes 200 bytes."""

    def __init__(self) -> None:
        self._found: dict[K, V | set[V]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def at(self, key: K) -> Collection[V]:
        found = self._found.get(key)
        if found is None:
            return ()
        return found if isinstance(found, set) else (found,)

    def add(self, key: K, member: V) -> None:
        found = self._found.get(key)
        if found is None:
            self._found[key] = member
        elif isinstance(found, set):
            found.add(member)
        elif found != member:
            self._found[key] = {found, member}

    def discard(self, key: K, member: V) -> bool:
        """Take a member out; True when the key has none left."""
        found = self._found.get(key)
        if isinstance(found, set):
            found.discard(member)
            if len(found) == 1:
                self._found[key] = found.pop()
        elif found == member:
            del self._found[key]
        return key not in self._found
