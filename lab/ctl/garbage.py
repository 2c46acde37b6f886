"""Garbage collection: objects whose owners are gone go too. Waits.

Background: the owner goes at once, its dependents after it. Foreground: the owner stays, marked, until the dependents
that block it are gone. Orphan: the owner stays, marked, until its dependents no longer name it. An owner is known by
its uid: a new object of the same name is not the owner. Source: Kubernetes documentation, "Garbage Collection".
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.api.registry import Registry
from lab.ctl import owners
from lab.ctl.loop import Change, Controller, Handler, dispatcher, follow, work
from lab.ctl.owners import Object
from lab.ctl.queue import Key, Queue
from lab.ctl.writing import find, if_there, remove

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
DEFINITIONS = "customresourcedefinitions"


@dataclass(slots=True)
class Garbage:
    """Looks at every object of every kind that names an owner, or that waits for its dependents."""

    registry: Registry
    _dependents: dict[str, set[Key]] = field(default_factory=dict)
    """owner's uid -> the objects that name it; a key's `kind` is the registry's key of the kind."""

    async def run(self) -> None:
        """Watch all kinds, custom ones as they come and go, until cancelled."""
        queue = Queue()
        controller = Controller("garbage", {}, self.reconcile)
        watching: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            for _ in range(controller.workers_count):
                tasks.create_task(work(queue, controller), name="ctl garbage")

            def watch_new_kinds(_change: Change | None = None) -> None:
                for resource in kinds(self.registry):
                    if resource != DEFINITIONS and (resource not in watching or watching[resource].done()):
                        dispatch = dispatcher([(queue, self._handler(resource))])
                        watching[resource] = tasks.create_task(follow(self.registry, resource, dispatch))

            watch_new_kinds()
            dispatch = dispatcher([(queue, self._handler(DEFINITIONS))])

            def on_definition(change: Change) -> None:
                dispatch(change)
                watch_new_kinds(change)

            await follow(self.registry, DEFINITIONS, on_definition)

    def _handler(self, resource: str) -> Handler:
        def handle(change: Change) -> Iterable[Key]:
            metadata = change.latest["metadata"]
            key = Key(resource, metadata.get("namespace", ""), metadata["name"])
            return self._concerned(key, change)

        return handle

    def _concerned(self, key: Key, change: Change) -> list[Key]:
        """Keep the index, and name the objects that this change concerns."""
        before = {one["uid"] for one in owners.references(change.old)} if change.old else set()
        after = {one["uid"] for one in owners.references(change.new)} if change.new else set()
        for owner_uid in before - after:
            known = self._dependents.get(owner_uid, set())
            known.discard(key)
            if not known:
                self._dependents.pop(owner_uid, None)
        for owner_uid in after - before:
            self._dependents.setdefault(owner_uid, set()).add(key)
        if change.new is None:
            return [*self._dependents.get(owners.uid(change.latest), ()), *self._waiting_owners(change.latest)]
        waits = owners.is_deleted(change.new) and bool(_marks(change.new))
        return [key] if waits or after - before else []

    def _waiting_owners(self, gone: Object) -> Iterable[Key]:
        for reference in owners.references(gone):
            found = self._owner(gone, reference)
            if isinstance(found, tuple) and owners.is_deleted(found[1]):
                metadata = found[1]["metadata"]
                yield Key(found[0], metadata.get("namespace", ""), metadata["name"])

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one object."""
        if key.kind not in kinds(self.registry):
            return None
        item = find(self.registry, key.kind, key.namespace, key.name)
        if item is None:
            return None
        if owners.is_deleted(item):
            if ORPHAN in _marks(item):
                await self._let_dependents_go(key.kind, item)
            elif FOREGROUND in _marks(item):
                await self._delete_dependents(key.kind, item)
            return None
        await self._check_owners(key.kind, item)
        return None

    async def _check_owners(self, resource: str, item: Object) -> None:
        """Delete an object all of whose owners are gone; else only strike those that are."""
        references = owners.references(item)
        gone = [reference for reference in references if self._owner(item, reference) is None]
        if not gone:
            return
        if len(gone) == len(references):
            await remove(self.registry, resource, item)
            return
        for reference in gone:
            item = owners.released(item, reference["uid"])
        await if_there(self.registry.update(resource, item))

    async def _let_dependents_go(self, resource: str, owner: Object) -> None:
        for kind, dependent in self._all_dependents(owner):
            await if_there(self.registry.update(kind, owners.released(dependent, owners.uid(owner))))
        await self._unmark(resource, owner, ORPHAN)

    async def _delete_dependents(self, resource: str, owner: Object) -> None:
        for kind, dependent in self._all_dependents(owner):
            if not owners.is_deleted(dependent):
                await remove(self.registry, kind, dependent, propagation="Foreground")
        if not any(_blocks(dependent, owner) for _kind, dependent in self._all_dependents(owner)):
            await self._unmark(resource, owner, FOREGROUND)

    async def _unmark(self, resource: str, owner: Object, mark: str) -> None:
        metadata = owner["metadata"]
        current = find(self.registry, resource, metadata.get("namespace", ""), metadata["name"])
        if current is not None and owners.uid(current) == owners.uid(owner):
            kept = [word for word in _marks(current) if word != mark]
            await if_there(
                self.registry.update(resource, {**current, "metadata": {**current["metadata"], "finalizers": kept}})
            )

    def _all_dependents(self, owner: Object) -> list[tuple[str, Object]]:
        """Read anew rather than from the index, which may be a moment behind: nothing may be overlooked here."""
        own_uid = owners.uid(owner)
        return [
            (resource, item)
            for resource in kinds(self.registry)
            for item in self.registry.list(resource)
            if any(reference["uid"] == own_uid for reference in owners.references(item))
        ]

    def _owner(self, item: Object, reference: Object) -> tuple[str, Object] | bool | None:
        """(kind, owner); None when it is gone; True when the lab does not know its kind and so cannot tell."""
        row = self.registry.catalog.of_kind(reference["apiVersion"], reference["kind"])
        if row is None:
            return True
        namespace = item["metadata"].get("namespace", "") if row.namespaced else ""
        found = find(self.registry, row.key, namespace, reference["name"])
        return (row.key, found) if found is not None and owners.uid(found) == reference["uid"] else None


def _marks(item: Object) -> list[str]:
    marks: list[str] = item["metadata"].get("finalizers") or []
    return marks


def _blocks(dependent: Object, owner: Object) -> bool:
    references = owners.references(dependent)
    return any(one["uid"] == owners.uid(owner) and one.get("blockOwnerDeletion") for one in references)


def kinds(registry: Registry) -> list[str]:
    """The keys of all kinds that are stored, each once."""
    rows = [row for row in registry.catalog if row.is_storage and not row.is_view and "watch" in row.verbs]
    return sorted({row.key for row in rows if not row.is_refused})
