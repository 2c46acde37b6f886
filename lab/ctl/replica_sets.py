"""The replica set controller: makes and deletes pods as `replicas` plans, and writes the status. Waits."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.api.selectors import selects
from lab.ctl import owners, replicas
from lab.ctl.events import Recorder
from lab.ctl.loop import Change, Controller, own_key
from lab.ctl.owners import Object
from lab.ctl.queue import Key
from lab.ctl.writing import find, if_there, is_namespace_going, remove, write_status

RETRY_CREATE_S = 2.0
"""After a pod could not be made (an admission webhook refused it or is down) the next try comes this soon."""
LARGEST_BATCH_COUNT = 32
"""Pods made at the same time, at most."""


@dataclass(frozen=True, slots=True)
class ReplicaSets:
    """ReplicaSet -> Pods."""

    registry: Registry
    now: Callable[[], float]
    recorder: Recorder

    def controller(self) -> Controller:
        watches = {"replicasets": own_key, "pods": self._sets_of_pod}
        return Controller("replicasets", watches, self.reconcile, workers_count=8)

    def _sets_of_pod(self, change: Change) -> Iterable[Key]:
        for side in change.sides:
            reference = owners.controller_of(side)
            namespace = side["metadata"]["namespace"]
            if reference is None:
                labels = side["metadata"].get("labels") or {}
                for one in self.registry.list("replicasets", namespace):
                    if selects(one["spec"]["selector"], labels):
                        yield Key("ReplicaSet", namespace, one["metadata"]["name"])
            elif reference["kind"] == "ReplicaSet":
                yield Key("ReplicaSet", namespace, reference["name"])

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns when to look again: after a failed create, or when a ready pod becomes available."""
        replica_set = find(self.registry, "replicasets", key.namespace, key.name)
        if replica_set is None:
            return None
        plan = replicas.plan(replica_set, self.registry.list("pods", key.namespace))
        for pod in plan.adopt:
            await if_there(self.registry.update("pods", owners.adopted(pod, replica_set)))
        for pod in plan.release:
            await if_there(self.registry.update("pods", owners.released(pod, owners.uid(replica_set))))
        await asyncio.gather(*(self._delete(replica_set, pod) for pod in plan.delete))
        failure = await self._create(replica_set, plan.create_count)
        active = replicas.owned(replica_set, self.registry.list("pods", key.namespace))
        result = replicas.standing(replica_set, active, failure, self.now())
        await write_status(self.registry, "replicasets", replica_set, result.status)
        waits = [wait for wait in (result.recheck_s, RETRY_CREATE_S if failure else None) if wait is not None]
        return min(waits, default=None)

    async def _delete(self, replica_set: Object, pod: Object) -> None:
        await remove(self.registry, "pods", pod)
        await self.recorder.normal(replica_set, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    async def _create(self, replica_set: Object, count: int) -> str:
        """Make pods, in batches that double while all goes well; the first failure's message, else empty."""
        batch = 1
        while count > 0:
            batch = min(batch, count, LARGEST_BATCH_COUNT)
            failures = await asyncio.gather(*(self._create_one(replica_set) for _ in range(batch)))
            failure = next(filter(None, failures), "")
            if failure:
                await self.recorder.warning(replica_set, "FailedCreate", f"Error creating: {failure}")
                return failure
            count -= batch
            batch *= 2
        return ""

    async def _create_one(self, replica_set: Object) -> str:
        try:
            pod = await self.registry.create("pods", replicas.new_pod(replica_set))
        except ApiError as error:
            return "" if is_namespace_going(error) else error.message
        await self.recorder.normal(replica_set, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return ""
