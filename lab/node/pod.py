"""A pod's life, as a kubelet leads it: network, volumes, init containers, sidecars, main containers, the end. Waits.

One task lives (`_live`), another waits for the deletion; whatever happens, the stored pod is what counts: the agent
hands in each new version of it. Sources: "Pod Lifecycle", "Sidecar Containers" (KEP-753), "Termination of Pods".
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import structlog

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.events import Recorder

from .addresses import AddressPool
from .container import Backoff, Container
from .endpoints import Object
from .environment import Sources
from .ground import Ground
from .launch import Launch
from .launching import Host
from .probes import Prober
from .refusals import refusals
from .reporting import report
from .runtime import Runtime
from .status import PodView
from .volumes import Mint

log = structlog.get_logger("lab.node")


@dataclass
class Surface:
    """What all pods of the node share."""

    registry: Registry
    recorder: Recorder
    runtime: Runtime
    prober: Prober
    pool: AddressPool
    node_netns: int
    folder: str
    host: Host
    backoff: Backoff
    mint: Mint
    now: Callable[[], datetime]
    sources: Callable[[str], Sources]


class _Failed(Exception):
    """The pod is over, and failed."""


@dataclass(eq=False)
class PodWorker:
    """One pod. `run` returns when nothing of it is left."""

    shared: Surface
    stored: Object
    ground: Ground = field(init=False)
    init: list[Container] = field(init=False)
    main: list[Container] = field(init=False)
    _tasks: dict[str, asyncio.Task[int]] = field(default_factory=dict)
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _dying: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _end_s: float = float("inf")
    _gone: bool = False
    _over: PodView = field(default_factory=PodView)
    _started_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        spec, metadata, shared = self.stored["spec"], self.stored["metadata"], self.shared
        self.ground = Ground(
            folder=f"{shared.folder}/{metadata['uid']}",
            pool=shared.pool,
            node_netns=shared.node_netns,
            host=shared.host,
            sources=lambda: shared.sources(metadata["namespace"]),
            mint=shared.mint,
            now=shared.now,
        )
        self.init = [Container(c, self, self.shared.backoff) for c in spec.get("initContainers") or []]
        self.main = [Container(c, self, self.shared.backoff) for c in spec["containers"]]
        self._started_at = self.shared.now()

    # What containers need of their pod (`container.Surroundings`).

    @property
    def runtime(self) -> Runtime:
        return self.shared.runtime

    @property
    def prober(self) -> Prober:
        return self.shared.prober

    @property
    def pod(self) -> Object:
        ips = self.ground.ips
        if not ips:
            return self.stored
        addresses = {"podIP": ips[0], "podIPs": [{"ip": address} for address in ips]}
        return {**self.stored, "status": {**(self.stored.get("status") or {}), **addresses}}

    @property
    def address(self) -> str:
        return self.ground.ips[0]

    @property
    def netns(self) -> int:
        return self.ground.netns

    def now(self) -> datetime:
        return self.shared.now()

    def changed(self) -> None:
        self._dirty.set()

    def path(self, *parts: str) -> str:
        return self.ground.path(*parts)

    def deadline(self) -> float:
        return self._end_s

    async def deadline_moved(self) -> None:
        await self._moved.wait()

    async def tell(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        record = self.shared.recorder.normal if kind == "Normal" else self.shared.recorder.warning
        await record(self.stored, reason, message)

    def launch(self, container: Object, termination_log: str) -> Launch:
        return self.ground.launch(self.pod, container, termination_log)

    # What the agent tells.

    def on_stored(self, pod: Object) -> None:
        """A new version of the pod: perhaps it is to end, or to end sooner."""
        self.stored = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._end_within(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
            self._dying.set()
        else:
            self.refresh()

    def on_removed(self) -> None:
        """The pod is no longer stored: end it now."""
        self._gone = True
        self._end_within(0.0)
        self._dying.set()

    def refresh(self) -> None:
        """Bring the volumes up to date; one that cannot be (its object is gone) stays as it was."""
        if not self._dying.is_set():
            self.ground.refresh(self.pod)

    def container(self, name: str) -> Container | None:
        return next((c for c in (*self.init, *self.main) if c.name == name), None)

    def _end_within(self, grace_s: float) -> None:
        end = asyncio.get_running_loop().time() + grace_s
        if end < self._end_s:
            self._end_s = end
            self._moved.set()
            self._moved = asyncio.Event()

    # Its life.

    async def run(self) -> None:
        """Lead the pod's life to its end, and remove it from the registry."""
        reporting = asyncio.create_task(
            report(self.shared.registry, lambda: self.stored, self.view, self._dirty, self.shared.now)
        )
        living = asyncio.create_task(self._live())
        dying = asyncio.create_task(self._dying.wait())
        try:
            await asyncio.wait([living, dying], return_when=asyncio.FIRST_COMPLETED)
            if living.done() and not living.cancelled() and living.exception():
                log.error("bug in a pod's life", pod=self.stored["metadata"]["name"], exc_info=living.exception())
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await self._stop()
            await self.ground.release()
            self.changed()
            await dying
        finally:
            await self._abandon([reporting, living, dying])
        await self._remove()

    async def _abandon(self, tasks: list["asyncio.Task[Any]"]) -> None:
        for task in (*tasks, *self._tasks.values()):
            task.cancel()
        await asyncio.gather(*tasks, *self._tasks.values(), return_exceptions=True)
        for container in (*self.init, *self.main):
            for kept in container.logs:
                kept.close()

    async def _live(self) -> None:
        problems = refusals(self.stored)
        if problems:
            message = "; ".join(problems)
            for container in (*self.init, *self.main):
                container._see(reason="CreateContainerConfigError", message=message)
            await self.tell("Warning", "Failed", f"The lab cannot run this pod: {message}")
            return await _for_ever()
        limit_s = self.stored["spec"].get("activeDeadlineSeconds")
        try:
            async with asyncio.timeout(limit_s):
                await self._set_up()
                await self._initialize()
                codes = await self._main()
        except TimeoutError:
            why = f"Pod was active on the node longer than the specified deadline of {limit_s} seconds"
            self._end_within(self._grace_s())
            self._over = PodView(phase="Failed", reason="DeadlineExceeded", message=why)
            return None
        except _Failed:
            self._over = PodView(phase="Failed")
            return None
        self._over = PodView(phase="Failed" if any(codes) else "Succeeded")
        return None

    async def _set_up(self) -> None:
        """Network, files and volumes; waits for what is not there yet."""
        await self.ground.connect(self.stored, self.tell)
        self.changed()
        for container in self.main:
            if not self.init:
                container._see(reason="ContainerCreating")
        self.ground.write_files(self.stored)
        await self.ground.mount(lambda: self.pod, self.tell)

    async def _initialize(self) -> None:
        never = self.stored["spec"].get("restartPolicy", "Always") == "Never"
        for container in self.init:
            if container.spec.get("restartPolicy") == "Always":
                self._supervise(container, lambda code: True)
                await container.ready_to_go_on.wait()
                continue
            task = self._supervise(container, lambda code: code != 0 and not never)
            await asyncio.wait([task])  # not the task itself: what ends this wait must not end the container unasked
            if task.result():
                raise _Failed

    async def _main(self) -> list[int]:
        policy = self.stored["spec"].get("restartPolicy", "Always")
        runs_again: dict[str, Callable[[int], bool]] = {
            "Never": lambda code: False,
            "OnFailure": lambda code: code != 0,
        }
        for container in self.main:
            container._see(reason="ContainerCreating")
        for container in self.main:
            self._supervise(container, runs_again.get(policy, lambda code: True))
            await container.tried.wait()
        tasks = [self._tasks[container.name] for container in self.main]
        await asyncio.wait(tasks)
        return [task.result() for task in tasks]

    def _supervise(self, container: Container, runs_again: Callable[[int], bool]) -> "asyncio.Task[int]":
        task = asyncio.create_task(container.supervise(runs_again), name=f"container {container.name}")
        self._tasks[container.name] = task
        return task

    # Its end.

    def _grace_s(self) -> float:
        return float(self.stored["spec"].get("terminationGracePeriodSeconds", 30))

    async def _stop(self) -> None:
        """Main containers together, then sidecars, the last one first."""
        if not self._dying.is_set():
            self._end_within(self._grace_s())
        sidecars = [c for c in self.init if c.spec.get("restartPolicy") == "Always"]
        ordinary = [c for c in self.init if c not in sidecars]
        await asyncio.gather(*(self._stop_one(container) for container in (*ordinary, *self.main)))
        for container in reversed(sidecars):
            await self._stop_one(container)

    async def _stop_one(self, container: Container) -> None:
        task = self._tasks.get(container.name)
        if task is None:
            return
        if container.process is None:
            container.stopping = True
            task.cancel()
        else:
            await container.stop()
        await asyncio.gather(task, return_exceptions=True)

    async def _remove(self) -> None:
        self.ground.remove()
        if self._gone:
            return
        metadata = self.stored["metadata"]
        try:
            await self.shared.registry.delete(
                "pods", metadata["namespace"], metadata["name"], grace_s=0, uid=metadata["uid"]
            )
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    # Its status.

    def view(self) -> PodView:
        sidecars = frozenset(c.name for c in self.init if c.spec.get("restartPolicy") == "Always")
        return PodView(
            self.ground.ips,
            self._started_at,
            tuple(c.view for c in self.init),
            tuple(c.view for c in self.main),
            sidecars,
            self._over.phase,
            self._over.reason,
            self._over.message,
        )


async def _for_ever() -> None:
    await asyncio.Event().wait()
