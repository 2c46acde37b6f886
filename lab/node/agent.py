"""The node: takes pods, leads their lives, keeps names and rules, answers for logs, exec and port-forward. Waits.

Always the stored pod counts, never an event's copy of it: an event only says which one to look at.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.events import Recorder

from . import commands, network, node_object
from .addresses import DNS_V4, DNS_V6, AddressPool
from .container import Backoff, Container
from .dns import DnsServer
from .endpoints import Object
from .environment import NodeFacts, Sources
from .heartbeat import beat
from .launching import Host
from .logs import Log
from .names import Names
from .pod import PodWorker, Surface
from .probes import Prober
from .runtime import Runtime, StartError
from .scheduler import schedule
from .volumes import Mint
from .watching import follow

log = structlog.get_logger("lab.node")
_REFRESH_S = 30.0


@dataclass(frozen=True)
class Settings:
    """What the daemon decides for the node. `folder` is where pods' files are; it belongs to the node alone."""

    name: str
    folder: str
    host: Host
    version: str
    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=1.0, max_s=300.0))


@dataclass(eq=False)
class Node:
    """The lab's only node. Runs inside of the node namespace, whose addresses are set up."""

    registry: Registry
    settings: Settings
    mint: Mint
    now: Callable[[], datetime]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _workers: dict[str, PodWorker] = field(default_factory=dict)  # by uid
    _facts: NodeFacts = field(init=False)
    _names: Names = field(init=False)
    _surface: Surface = field(init=False)

    def __post_init__(self) -> None:
        self._facts = node_object.facts(self.settings.name)
        self._names = Names(self.registry)

    async def run(self) -> None:
        """Serve until cancelled; then every container is ended."""
        runtime, prober = Runtime(), Prober.create()
        dns = DnsServer(lambda: self._names.zone)
        runtime.open()
        node_netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._surface = Surface(
            registry=self.registry,
            recorder=Recorder(self.registry, "kubelet", lambda: self.now().timestamp()),
            runtime=runtime,
            prober=prober,
            pool=AddressPool(),
            node_netns=node_netns,
            folder=self.settings.folder,
            host=self.settings.host,
            backoff=self.settings.backoff,
            mint=self.mint,
            now=self.now,
            sources=self._sources,
        )
        try:
            await dns.open((DNS_V4, DNS_V6))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._names.run(), name="names")
                tasks.create_task(self._watch_pods(tasks), name="pods")
                for resource in ("configmaps", "secrets"):
                    tasks.create_task(self._watch_sources(resource), name=resource)
                tasks.create_task(self._refresh(), name="refresh")
                beating = beat(
                    self.registry, self._facts, self.settings.version, self.now, self._names.applied, self.ready
                )
                tasks.create_task(beating, name="heartbeat")
                tasks.create_task(_stop_without(runtime), name="spawner")
        finally:
            dns.close()
            runtime.close()
            os.close(node_netns)
            await prober.client.aclose()

    def _sources(self, namespace: str) -> Sources:
        def found(resource: str, name: str) -> Object | None:
            try:
                return self.registry.get(resource, namespace, name)
            except ApiError:
                return None

        return Sources(
            config_map=lambda name: found("configmaps", name),
            secret=lambda name: found("secrets", name),
            services=self._names.services,
            node=self._facts,
        )

    # Pods.

    async def _watch_pods(self, tasks: asyncio.TaskGroup) -> None:
        await self._names.applied.wait()
        async for seen in follow(self.registry, "pods"):
            for pod in [seen] if seen is not None else [worker.stored for worker in self._workers.values()]:
                stored = self._stored(pod)
                if stored is not None:
                    self._on_pod(stored, tasks)
                elif pod["metadata"]["uid"] in self._workers:
                    self._workers[pod["metadata"]["uid"]].on_removed()

    def _stored(self, pod: Object) -> Object | None:
        """The pod as it is now; None when it is gone, or another one has its name."""
        metadata = pod["metadata"]
        try:
            found = self.registry.get("pods", metadata["namespace"], metadata["name"])
        except ApiError:
            return None
        return found if found["metadata"]["uid"] == metadata["uid"] else None

    def _on_pod(self, pod: Object, tasks: asyncio.TaskGroup) -> None:
        uid, where = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        if uid in self._workers:
            self._workers[uid].on_stored(pod)
        elif not where and not pod["metadata"].get("deletionTimestamp"):
            labels = node_object.node(self._facts, "", self.now(), ready=True)["metadata"]["labels"]
            scheduling = schedule(self.registry, pod, self.settings.name, labels, self.now)
            tasks.create_task(scheduling, name=f"schedule {pod['metadata']['name']}")
        elif where == self.settings.name and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            os.makedirs(os.path.join(self.settings.folder, uid), mode=0o755, exist_ok=True)
            worker = PodWorker(self._surface, pod)
            self._workers[uid] = worker
            worker.on_stored(pod)
            tasks.create_task(self._lead(uid, worker), name=f"pod {pod['metadata']['name']}")

    async def _lead(self, uid: str, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("bug while leading a pod", pod=worker.stored["metadata"]["name"])
        finally:
            self._workers.pop(uid, None)

    # Renewal.

    async def _watch_sources(self, resource: str) -> None:
        async for changed in follow(self.registry, resource):
            for worker in list(self._workers.values()):
                if changed is None or worker.stored["metadata"]["namespace"] == changed["metadata"]["namespace"]:
                    worker.refresh()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            for worker in list(self._workers.values()):
                worker.refresh()

    # What the API server's streams ask (lab.api.kubelet.Kubelet).

    def _container(self, namespace: str, pod: str, container: str) -> Container:
        found = self._worker(namespace, pod).container(container)
        if found is None:
            raise ApiError(400, "BadRequest", f"container {container} is not valid for pod {pod}")
        return found

    def _worker(self, namespace: str, pod: str) -> PodWorker:
        stored = self.registry.get("pods", namespace, pod)
        worker = self._workers.get(stored["metadata"]["uid"])
        if worker is None:
            raise ApiError(400, "BadRequest", f"pod {pod} does not have a host assigned")
        return worker

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool,
        previous: bool,
    ) -> AsyncIterator[bytes]:
        """Lines of the last run, or of the one before."""
        found = self._container(namespace, pod, container)
        chosen = _log_of(found, previous)
        if chosen is None:
            what = "previous terminated container" if previous else "container"
            state = "not found" if previous else f"is waiting to start: {found.view.reason or 'ContainerCreating'}"
            raise ApiError(400, "BadRequest", f'{what} "{container}" in pod "{pod}" {state}')
        since = self.now() - timedelta(seconds=since_s) if since_s is not None else None
        async for line in chosen.read(follow=follow, tail_lines=tail_lines, since=since, timestamps=timestamps):
            yield line

    async def execute(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> commands.Command | commands.NoCommand:
        """Start a command in a running container; one that cannot run says so on its stderr, and ends with 126."""
        found = self._container(namespace, pod, container)
        if found.process is None or found.launched is None:
            raise ApiError(400, "BadRequest", f"container {container} of pod {pod} is not running")
        try:
            return await commands.start(
                self._surface.runtime, found.process, found.launched, command, stdin=stdin, tty=tty
            )
        except StartError as error:
            return commands.NoCommand(str(error), tty)

    async def connect(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection to localhost:port inside of the pod, IPv4 first."""
        worker = self._worker(namespace, pod)
        if worker.netns < 0:
            raise ApiError(400, "BadRequest", f"pod {pod} has no network yet, or no longer")
        try:
            return await _connect(worker.netns, socket.AF_INET, "127.0.0.1", port)
        except OSError:
            return await _connect(worker.netns, socket.AF_INET6, "::1", port)


async def _connect(
    netns: int, family: socket.AddressFamily, host: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket belongs to the namespace that it was made in, wherever it is used."""
    with network.inside(netns):
        plain = socket.socket(family, socket.SOCK_STREAM)
    plain.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(plain, (host, port))
        return await asyncio.open_connection(sock=plain)
    except BaseException:
        plain.close()
        raise


def _log_of(container: Container, previous: bool) -> Log | None:
    wanted = 2 if previous else 1
    return container.logs[-wanted] if len(container.logs) >= wanted else None


async def _stop_without(runtime: Runtime) -> None:
    await runtime.gone.wait()
    raise RuntimeError("the lab's spawner died, and every container with it: `tulle lab up` starts a new lab")
