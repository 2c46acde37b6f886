"""The lab's controllers: deployments, replica sets, jobs, endpoint slices, namespaces, garbage. Waits.

`run` starts them all over one Registry. Each is watch-driven; decisions are pure functions in modules of their own:
`rollout`, `revisions`, `progress`, `replicas`, `job_plan`, `slices`, `addresses`.
"""

import asyncio
import time
from collections.abc import Callable

from lab.api.registry import Registry
from lab.ctl.built_in import create_built_ins
from lab.ctl.completion import complete
from lab.ctl.deployments import Deployments
from lab.ctl.endpoints import Endpoints
from lab.ctl.events import Recorder, expiry
from lab.ctl.garbage import Garbage
from lab.ctl.jobs import Jobs
from lab.ctl.loop import run_all
from lab.ctl.namespaces import Namespaces
from lab.ctl.replica_sets import ReplicaSets

__all__ = ["complete", "create_built_ins", "run"]


async def run(registry: Registry, *, root_ca: str, now: Callable[[], float] = time.time) -> None:
    """Run all controllers until cancelled.

    Args:
        registry: the objects; its built-in ones are made here when they are missing, and its `completion` is set when
            it has none.
        root_ca: PEM text of the authority that signed the API server's certificate, for kube-root-ca.crt.
        now: seconds since the epoch.
    """
    registry.completion = registry.completion or complete
    await create_built_ins(registry)

    def recorder(component: str) -> Recorder:
        return Recorder(registry, component, now)

    controllers = [
        Deployments(registry, now, recorder("deployment-controller")).controller(),
        ReplicaSets(registry, now, recorder("replicaset-controller")).controller(),
        Jobs(registry, now, recorder("job-controller")).controller(),
        Endpoints(registry).controller(),
        Namespaces(registry, root_ca, now).controller(),
        expiry(registry, now),
    ]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Garbage(registry).run(), name="ctl garbage")
        tasks.create_task(run_all(registry, controllers), name="ctl")
