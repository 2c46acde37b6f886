"""How controllers run: watches feed keys into queues, workers look at one object at a time. Waits.

A controller says which kinds it watches, which keys a change concerns, and what to do with a key (`reconcile`, which
reads the registry anew: the change itself is only a hint). Nothing polls: an idle loop sleeps until a watch or a timer
wakes it. A reconcile that fails is logged and tried again later; it never takes the others down.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.owners import Object, uid
from lab.ctl.queue import Key, Queue

log = structlog.get_logger("lab.ctl")


@dataclass(frozen=True, slots=True)
class Change:
    """One object before and after; None where it is not there. Both sides carry the same uid, or one is None."""

    old: Object | None
    new: Object | None

    @property
    def sides(self) -> tuple[Object, ...]:
        """The sides that exist."""
        return tuple(side for side in (self.old, self.new) if side is not None)

    @property
    def latest(self) -> Object:
        """The object as last seen."""
        return self.sides[-1]


Handler = Callable[[Change], Iterable[Key]]


@dataclass(frozen=True, slots=True)
class Controller:
    """One control loop.

    `watches`: kind ("pods") -> which keys a change of one concerns. `reconcile`: does what the key's object needs now
    and returns the seconds after which to look again (None: only when something changes).
    """

    name: str
    watches: Mapping[str, Handler]
    reconcile: Callable[[Key], Awaitable[float | None]]
    workers_count: int = 2


def own_key(change: Change) -> list[Key]:
    """The key of the changed object itself."""
    item = change.latest
    return [Key(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])]


async def run_all(registry: Registry, controllers: Iterable[Controller]) -> None:
    """Run the controllers until cancelled. Each kind is watched once, whoever asks."""
    handlers: dict[str, list[tuple[Queue, Handler]]] = {}
    queues = []
    async with asyncio.TaskGroup() as tasks:
        for controller in controllers:
            queue = Queue()
            queues.append(queue)
            for resource, handler in controller.watches.items():
                handlers.setdefault(resource, []).append((queue, handler))
            for _ in range(controller.workers_count):
                tasks.create_task(work(queue, controller), name=f"ctl {controller.name}")
        for resource, interested in handlers.items():
            tasks.create_task(follow(registry, resource, dispatcher(interested)), name=f"ctl watch {resource}")


def dispatcher(interested: Iterable[tuple[Queue, Handler]]) -> Callable[[Change], None]:
    """A function that puts each change's keys into the queues concerned."""
    pairs = list(interested)

    def dispatch(change: Change) -> None:
        for queue, handler in pairs:
            for key in handler(change):
                queue.add(key)

    return dispatch


async def follow(registry: Registry, resource: str, dispatch: Callable[[Change], None]) -> None:
    """Report every change of a kind, the present objects first, until the kind is no longer served.

    A watch that ended because this reader was too slow is begun anew; what vanished meanwhile is reported as gone.
    """
    known: dict[tuple[str, str], Object] = {}
    while True:
        watch = registry.watch(resource)
        here = {_place(item) for item in registry.list(resource)}
        for place in [place for place in known if place not in here]:
            dispatch(Change(known.pop(place), None))
        try:
            async for event in watch:
                for change in _changes(known, event.type, event.object):
                    dispatch(change)
            return
        except ApiError as error:
            log.warning("watch_restarted", resource=resource, why=error.message)
        finally:
            watch.close()


def _changes(known: dict[tuple[str, str], Object], kind: str, item: Object) -> list[Change]:
    """What an event means beside what is known; an object that was replaced by another of its name is two changes."""
    place = _place(item)
    old = known.pop(place, None)
    if kind == "DELETED":
        return [Change(old if old is not None and uid(old) != uid(item) else item, None)]
    known[place] = item
    if old is not None and uid(old) != uid(item):
        return [Change(old, None), Change(None, item)]
    return [Change(old, item)]


def _place(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


async def work(queue: Queue, controller: Controller) -> None:
    """One worker: take a key, reconcile it, for ever."""
    try:
        while True:
            key = await queue.take()
            try:
                await _once(queue, controller, key)
            finally:
                queue.done(key)
    finally:
        queue.close()


async def _once(queue: Queue, controller: Controller, key: Key) -> None:
    try:
        again_s = await controller.reconcile(key)
    except ApiError as error:
        if error.reason != "Conflict":
            log.warning("reconcile_failed", controller=controller.name, key=str(key), why=error.message)
        queue.retry(key)
    except Exception:
        log.exception("reconcile_bug", controller=controller.name, key=str(key))
        queue.retry(key)
    else:
        queue.forget(key)
        if again_s is not None:
            queue.add_after(key, again_s)
