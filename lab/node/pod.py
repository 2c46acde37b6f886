"""A pod's life, as a kubelet leads it: network, volumes, init containers, sidecars, main containers, the end. Waits.

One task lives (`_live`), another waits for the deletion; whatever happens, the stored pod is what counts: the agent
hands in each new version of it. Sources: "Pod Lifecycle", "Sidecar Containers" (KEP-753), "Termination of Pods".
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import structlog

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.events import Recorder

from . import network, pod_files, volume_files
from .addresses import NODE_V4, NODE_V6, AddressPool, NoAddressLeft, PodAddresses
from .container import Backoff, Container
from .endpoints import Object
from .environment import ConfigurationFault, Sources
from .launch import Launch
from .launching import Host, Places, launch
from .probes import Prober
from .refusals import refusals
from .runtime import Runtime
from .status import PodView, pod_status
from .volumes import Mint, Volumes

log = structlog.get_logger("lab.node")

_MOUNT_AGAIN_S = 1.0
_OLD_TOKENS_S = 30.0


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
    folder: str = field(init=False)
    init: list[Container] = field(init=False)
    main: list[Container] = field(init=False)
    netns: int = -1
    _addresses: PodAddresses | None = None
    _ips: tuple[str, ...] = ()
    _volumes: Volumes = field(init=False)
    _places: dict[str, tuple[str, bool]] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[int]] = field(default_factory=dict)
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _dying: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _end_s: float = float("inf")
    _gone: bool = False
    _over: PodView = field(default_factory=PodView)
    _started_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        spec = self.stored["spec"]
        self.folder = f"{self.shared.folder}/{self.stored['metadata']['uid']}"
        self.init = [Container(c, self, self.shared.backoff) for c in spec.get("initContainers") or []]
        self.main = [Container(c, self, self.shared.backoff) for c in spec["containers"]]
        self._volumes = Volumes(f"{self.folder}/volumes", self.shared.mint, self.shared.now)
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
        if not self._ips:
            return self.stored
        addresses = {"podIP": self._ips[0], "podIPs": [{"ip": address} for address in self._ips]}
        return {**self.stored, "status": {**(self.stored.get("status") or {}), **addresses}}

    @property
    def address(self) -> str:
        return self._ips[0]

    def now(self) -> datetime:
        return self.shared.now()

    def changed(self) -> None:
        self._dirty.set()

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def deadline(self) -> float:
        return self._end_s

    async def deadline_moved(self) -> None:
        await self._moved.wait()

    async def tell(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        record = self.shared.recorder.normal if kind == "Normal" else self.shared.recorder.warning
        await record(self.stored, reason, message)

    def launch(self, container: Object, termination_log: str) -> Launch:
        places = Places(
            scratch=self.path("scratch"),
            hosts=self.path("hosts"),
            resolv_conf=self.path("resolv.conf"),
            hostname=self.path("hostname"),
            termination_log=termination_log,
            volumes=self._places,
        )
        sources = self.shared.sources(self.stored["metadata"]["namespace"])
        return launch(self.pod, container, sources, self.shared.host, places, volume_files.sub_path)

    # What the agent tells.

    def on_stored(self, pod: Object) -> None:
        """A new version of the pod: perhaps it is to end, or to end sooner."""
        self.stored = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._end_within(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
            self._dying.set()
        elif self._places:
            self.refresh()

    def on_removed(self) -> None:
        """The pod is no longer stored: end it now."""
        self._gone = True
        self._end_within(0.0)
        self._dying.set()

    def refresh(self) -> None:
        """Bring the volumes up to date; one that cannot be (its object is gone) stays as it was."""
        if self._places and not self._dying.is_set():
            try:
                self._volumes.apply(self.pod, self.shared.sources(self.stored["metadata"]["namespace"]))
            except (ConfigurationFault, OSError, ApiError):
                pass

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
        reporting = asyncio.create_task(self._report())
        living = asyncio.create_task(self._live())
        dying = asyncio.create_task(self._dying.wait())
        try:
            await asyncio.wait([living, dying], return_when=asyncio.FIRST_COMPLETED)
            if living.done() and not living.cancelled() and living.exception():
                log.error("bug in a pod's life", pod=self.stored["metadata"]["name"], exc_info=living.exception())
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await self._stop()
            await self._release()
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
        if self.stored["spec"].get("hostNetwork"):
            self.netns, self._ips = os.dup(self.shared.node_netns), (NODE_V4, NODE_V6)
        else:
            await self._connect()
        os.makedirs(self.path("scratch"), exist_ok=True)
        self._write("hosts", pod_files.hosts(self.stored, self._ips))
        self._write("resolv.conf", pod_files.resolv_conf(self.stored))
        self._write("hostname", pod_files.hostname(self.stored) + "\n")
        for container in self.main:
            if not self.init:
                container._see(reason="ContainerCreating")
        await self._mount()

    async def _connect(self) -> None:
        while True:
            try:
                self._addresses = self.shared.pool.take()
                break
            except NoAddressLeft as error:
                await self.tell("Warning", "FailedCreatePodSandBox", str(error))
                await asyncio.sleep(_MOUNT_AGAIN_S)
        adding = asyncio.create_task(asyncio.to_thread(network.add_pod, self.shared.node_netns, self._addresses))
        try:
            self.netns = await asyncio.shield(adding)
        except asyncio.CancelledError:
            self.netns = await adding
            raise
        self._ips = (self._addresses.v4, self._addresses.v6)
        self.changed()

    def _write(self, name: str, text: str) -> None:
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    async def _mount(self) -> None:
        told = ""
        while True:
            try:
                sources = self.shared.sources(self.stored["metadata"]["namespace"])
                self._places = self._volumes.apply(self.pod, sources)
                return
            except (ConfigurationFault, OSError, ValueError, ApiError) as error:
                if str(error) != told:
                    told = str(error)
                    await self.tell("Warning", "FailedMount", f"MountVolume.SetUp failed: {told}")
            await asyncio.sleep(_MOUNT_AGAIN_S)

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

    async def _release(self) -> None:
        """Give the network back; the volumes stay until the pod is gone, for its logs."""
        if self._addresses is not None:
            await asyncio.to_thread(network.remove_pod, self.shared.node_netns, self._addresses)
            self.shared.pool.give(self._addresses)
            self._addresses = None
        if self.netns >= 0:
            os.close(self.netns)
            self.netns = -1

    async def _remove(self) -> None:
        volume_files.remove_tree(self.folder)
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
            self._ips,
            self._started_at,
            tuple(c.view for c in self.init),
            tuple(c.view for c in self.main),
            sidecars,
            self._over.phase,
            self._over.reason,
            self._over.message,
        )

    async def _report(self) -> None:
        """Write the status each time something changed; while one write waits, further changes gather."""
        self._dirty.set()
        while not self._gone:
            await self._dirty.wait()
            self._dirty.clear()
            metadata = self.stored["metadata"]
            try:
                current = self.shared.registry.get("pods", metadata["namespace"], metadata["name"])
                if current["metadata"]["uid"] != metadata["uid"]:
                    return
                status = pod_status(current, self.view(), (NODE_V4, NODE_V6), self.shared.now())
                if status != current.get("status"):
                    await self.shared.registry.update("pods", {**current, "status": status}, subresource="status")
            except ApiError as error:
                if error.reason == "NotFound":
                    return
                if error.reason != "Conflict":
                    log.warning("a pod's status was refused", pod=metadata["name"], error=error.message)
                    continue
                self._dirty.set()
                await asyncio.sleep(0.01)


async def _for_ever() -> None:
    await asyncio.Event().wait()
