"""The job controller: carries out what `job_plan` decides. Waits."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl import job_plan, owners, pods
from lab.ctl.events import Recorder
from lab.ctl.job_plan import Tally
from lab.ctl.loop import Change, Controller, own_key
from lab.ctl.owners import Object
from lab.ctl.queue import Key
from lab.ctl.writing import find, if_there, is_namespace_going, remove, write_status

RETRY_CREATE_S = 2.0
"""After a pod could not be made the next try comes this soon."""


@dataclass(slots=True)
class Jobs:
    """Job -> Pods. The tallies live as long as their jobs."""

    registry: Registry
    now: Callable[[], float]
    recorder: Recorder
    _tallies: dict[str, Tally] = field(default_factory=dict)
    """job's uid -> what has ended of it"""

    def controller(self) -> Controller:
        return Controller("jobs", {"jobs": self._on_job, "pods": self._on_pod}, self.reconcile, workers_count=4)

    def _on_job(self, change: Change) -> Iterable[Key]:
        if change.new is None:
            self._tallies.pop(owners.uid(change.latest), None)
        return own_key(change)

    def _on_pod(self, change: Change) -> Iterable[Key]:
        """Count here, as a pod may end and be gone before the job's turn comes."""
        reference = owners.controller_of(change.latest)
        if reference is None or reference["kind"] != "Job":
            return
        metadata = change.latest["metadata"]
        job = find(self.registry, "jobs", metadata["namespace"], reference["name"])
        if job is None or owners.uid(job) != reference["uid"]:
            return
        tally = self._tally(job)
        if change.new is None and not pods.is_finished(change.latest):
            last = {**change.latest, "metadata": {**metadata, "deletionTimestamp": "gone"}}
            tally.observe(last, self.now())
        else:
            tally.observe(change.latest, self.now())
        yield Key("Job", metadata["namespace"], reference["name"])

    def _tally(self, job: Object) -> Tally:
        return self._tallies.setdefault(owners.uid(job), Tally())

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one job."""
        job = find(self.registry, "jobs", key.namespace, key.name)
        if job is None or owners.is_deleted(job):
            return None
        if not job["spec"].get("selector"):
            await if_there(self.registry.update("jobs", job_plan.labelled(job)))
            return None  # the write brings the job back here
        tally = self._tally(job)
        own_pods = self._pods(job)
        for pod in own_pods:
            tally.observe(pod, self.now())
        plan = job_plan.plan(job, own_pods, tally, self.now())
        if plan.expired:
            await remove(self.registry, "jobs", job, propagation="Foreground")
            return None
        return await self._carry_out(job, plan, tally)

    async def _carry_out(self, job: Object, plan: job_plan.Plan, tally: Tally) -> float | None:
        tally.dismissed.update(map(owners.uid, plan.delete))
        for pod in plan.delete:
            await remove(self.registry, "pods", pod)
            await self.recorder.normal(job, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        for is_warning, reason, message in plan.news:
            tell = self.recorder.warning if is_warning else self.recorder.normal
            await tell(job, reason, message)
        results = await asyncio.gather(*(self._create(job) for _ in range(plan.create_count)))
        made_count = sum(result == "" for result in results)
        status = {**plan.status, "active": plan.status.get("active", 0) + made_count}
        await write_status(
            self.registry, "jobs", job, {key: value for key, value in status.items() if value != 0 or key == "ready"}
        )
        waits = [plan.recheck_s, RETRY_CREATE_S if made_count < plan.create_count else None]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _create(self, job: Object) -> str:
        """Make one pod; why not, or empty."""
        new = pods.from_template(job["spec"]["template"], job, f"{job['metadata']['name']}-")
        try:
            pod = await self.registry.create("pods", new)
        except ApiError as error:
            if not is_namespace_going(error):
                await self.recorder.warning(job, "FailedCreate", f"Error creating: {error.message}")
            return error.message
        await self.recorder.normal(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return ""

    def _pods(self, job: Object) -> list[Object]:
        own_uid = owners.uid(job)
        return [
            pod
            for pod in self.registry.list("pods", job["metadata"]["namespace"])
            if owners.controlled_by(pod, own_uid)
        ]
