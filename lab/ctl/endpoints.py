"""The endpoint slice controller: writes what `slices` plans. Waits.

A pod's turn to ready or to terminating is in the slices within the same few turns of the event loop, so that a rolling
restart loses no request.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lab.api.registry import Registry
from lab.ctl import slices
from lab.ctl.loop import Change, Controller, own_key
from lab.ctl.owners import Object, is_deleted
from lab.ctl.queue import Key
from lab.ctl.writing import find, if_there, remove


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Service -> EndpointSlices."""

    registry: Registry

    def controller(self) -> Controller:
        watches = {"services": own_key, "pods": self._services_of_pod, "endpointslices": _service_of_slice}
        return Controller("endpoints", {**watches, "nodes": self._services_of_node}, self.reconcile, workers_count=4)

    def _services_of_pod(self, change: Change) -> Iterable[Key]:
        labels = [side["metadata"].get("labels") or {} for side in change.sides]
        for service in self.registry.list("services", change.latest["metadata"]["namespace"]):
            if any(slices.selects(service, each) for each in labels):
                yield _key(service)

    def _services_of_node(self, change: Change) -> Iterable[Key]:
        """Every service, when a node's zone changed (its heartbeat is no news)."""
        zones = {(side["metadata"].get("labels") or {}).get(slices.ZONE) for side in change.sides}
        if len(change.sides) == 1 or len(zones) > 1:
            yield from map(_key, self.registry.list("services"))

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one service."""
        service = find(self.registry, "services", key.namespace, key.name)
        if service is None or is_deleted(service):
            return None  # its slices go with it, by their owner reference
        present = self._present(service)
        if not slices.is_managed(service):
            for old in present:
                await remove(self.registry, "endpointslices", old)
            return None
        pods = self.registry.list("pods", key.namespace)
        chosen = [pod for pod in pods if slices.selects(service, pod["metadata"].get("labels") or {})]
        plan = slices.plan(service, chosen, self._zones(), present)
        for new in plan.update:
            await if_there(self.registry.update("endpointslices", new))
        for new in plan.create:
            await self.registry.create("endpointslices", new)
        for old in plan.delete:
            await remove(self.registry, "endpointslices", old)
        return None

    def _present(self, service: Object) -> list[Object]:
        metadata = service["metadata"]
        labels = f"{slices.SERVICE}={metadata['name']},{slices.MANAGED_BY}={slices.MANAGER}"
        return self.registry.list("endpointslices", metadata["namespace"], labels=labels)

    def _zones(self) -> dict[str, str]:
        labels = {
            node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in self.registry.list("nodes")
        }
        return {name: each[slices.ZONE] for name, each in labels.items() if slices.ZONE in each}


def _key(service: Object) -> Key:
    return Key("Service", service["metadata"]["namespace"], service["metadata"]["name"])


def _service_of_slice(change: Change) -> Iterable[Key]:
    """Someone else changed or deleted a slice of ours: put it right."""
    for side in change.sides:
        labels = side["metadata"].get("labels") or {}
        if labels.get(slices.MANAGED_BY) == slices.MANAGER and slices.SERVICE in labels:
            yield Key("Service", side["metadata"]["namespace"], labels[slices.SERVICE])
