"""The deployment controller: carries out what `rollout` plans and writes what `progress` says. Waits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.api.errors import ApiError
from lab.api.registry import MERGE, Registry
from lab.api.selectors import selects
from lab.ctl import owners, revisions, rollout
from lab.ctl.events import Recorder
from lab.ctl.loop import Change, Controller, own_key
from lab.ctl.owners import Object
from lab.ctl.progress import progress
from lab.ctl.queue import Key
from lab.ctl.writing import find, if_there, is_namespace_going, remove, write_status


@dataclass(frozen=True, slots=True)
class Deployments:
    """Deployment -> ReplicaSets."""

    registry: Registry
    now: Callable[[], float]
    recorder: Recorder

    def controller(self) -> Controller:
        watches = {"deployments": own_key, "replicasets": self._owners_of_set, "pods": self._owners_of_pod}
        return Controller("deployments", watches, self.reconcile, workers_count=4)

    def _owners_of_set(self, change: Change) -> Iterable[Key]:
        for side in change.sides:
            reference = owners.controller_of(side)
            if reference is not None and reference["kind"] == "Deployment":
                yield Key("Deployment", side["metadata"]["namespace"], reference["name"])

    def _owners_of_pod(self, change: Change) -> Iterable[Key]:
        """Only a pod that went away matters, to a deployment that recreates."""
        reference = owners.controller_of(change.latest)
        if change.new is not None or reference is None or reference["kind"] != "ReplicaSet":
            return
        namespace = change.latest["metadata"]["namespace"]
        replica_set = find(self.registry, "replicasets", namespace, reference["name"])
        if replica_set is not None:
            yield from self._owners_of_set(Change(None, replica_set))

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one deployment; returns in how many seconds its progress deadline strikes."""
        deployment = find(self.registry, "deployments", key.namespace, key.name)
        if deployment is None or owners.is_deleted(deployment):
            return None
        await self._claim(deployment)
        sets = self._sets(deployment)
        uids = {owners.uid(one) for one in sets}
        pods = [pod for pod in self.registry.list("pods", key.namespace) if _controller_uid(pod) in uids]
        plan = rollout.plan(deployment, sets, pods)
        created = await self._create(deployment, plan.create) if plan.create else ""
        for update in plan.updates:
            await self._update(deployment, update)
        for old in plan.remove:
            await remove(self.registry, "replicasets", old)
        return await self._settle(deployment, created)

    def _sets(self, deployment: Object) -> list[Object]:
        own_uid = owners.uid(deployment)
        sets = self.registry.list("replicasets", deployment["metadata"]["namespace"])
        return [one for one in sets if owners.controlled_by(one, own_uid)]

    async def _claim(self, deployment: Object) -> None:
        """Take in the orphaned replica sets that the selector selects, let go those that it no longer does."""
        for one in self.registry.list("replicasets", deployment["metadata"]["namespace"]):
            fits = selects(deployment["spec"]["selector"], one["metadata"].get("labels") or {})
            mine = owners.controlled_by(one, owners.uid(deployment))
            if fits and owners.controller_of(one) is None and not owners.is_deleted(one):
                await if_there(self.registry.update("replicasets", owners.adopted(one, deployment)))
            elif mine and not fits:
                await if_there(self.registry.update("replicasets", owners.released(one, owners.uid(deployment))))

    async def _create(self, deployment: Object, new: Object) -> str:
        """Make the replica set; its name, or empty when it could not be made."""
        name = str(new["metadata"]["name"])
        try:
            await self.registry.create("replicasets", new)
        except ApiError as error:
            if is_namespace_going(error):
                return ""
            if error.reason == "AlreadyExists":
                await self._count_collision(deployment)
            raise
        await self._tell_scaled(deployment, name, 0, new["spec"]["replicas"])
        return name

    async def _count_collision(self, deployment: Object) -> None:
        """Another object has the name: the next hash is another one."""
        status = deployment.get("status", {})
        await write_status(
            self.registry, "deployments", deployment, {**status, "collisionCount": status.get("collisionCount", 0) + 1}
        )

    async def _update(self, deployment: Object, update: rollout.Update) -> None:
        await if_there(self.registry.update("replicasets", update.new))
        name = update.new["metadata"]["name"]
        await self._tell_scaled(deployment, name, rollout.size(update.old), rollout.size(update.new))

    async def _tell_scaled(self, deployment: Object, name: str, before: int, after: int) -> None:
        if before != after:
            way = "up" if after > before else "down"
            text = f"Scaled {way} replica set {name} from {before} to {after}"
            await self.recorder.normal(deployment, "ScalingReplicaSet", text)

    async def _settle(self, deployment: Object, created: str) -> float | None:
        """Write revision and status by the sets as they are now."""
        sets = self._sets(deployment)
        new = revisions.newest(deployment, [one for one in sets if not owners.is_deleted(one)])
        metadata = deployment["metadata"]
        if new is not None and revisions.revision(new) != revisions.revision(deployment):
            body = {"metadata": {"annotations": {revisions.REVISION: str(revisions.revision(new))}}}
            await if_there(self.registry.patch("deployments", metadata["namespace"], metadata["name"], body, MERGE))
        result = progress(deployment, sets, new, created, self.now())
        await write_status(self.registry, "deployments", deployment, result.status)
        return result.recheck_s


def _controller_uid(item: Object) -> str:
    return str((owners.controller_of(item) or {}).get("uid", ""))
