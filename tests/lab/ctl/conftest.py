"""A whole control plane in one process: the real Registry, the real controllers, a pretended node, and time that jumps.

No test here sleeps: `VirtualLoop` moves its clock to the next timer instead of waiting for it.
"""

import asyncio
import random
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from lab import ctl
from lab.api.errors import ApiError
from lab.api.registry import MERGE, Registry
from lab.ctl.owners import Object, is_deleted, uid
from lab.ctl.times import to_text

START_S = 1_800_000_000.0


class _JumpingSelector(selectors.SelectSelector):
    """Reports nothing ready, and moves the time by what it was told to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and for nothing that will come"
            self.passed_s += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose sleeps take no time."""

    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.passed_s

    def now(self) -> float:
        """Seconds since the epoch."""
        return START_S + self.jumping.passed_s


@dataclass(slots=True)
class FakeNode:
    """Does to pods what a kubelet does, without containers: addresses, phases, readiness, graceful ends."""

    registry: Registry
    now: Callable[[], float]
    ready_after_s: float = 0.5
    ends_after_s: float = 0.2
    ip_families: tuple[str, ...] = ("IPv4", "IPv6")
    broken: set[str] = field(default_factory=set)
    """Images whose containers never become ready."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """Images whose containers end by themselves: the phase of the pod."""
    _busy: dict[tuple[str, bool], asyncio.Task[None]] = field(default_factory=dict)
    _count: int = 0

    async def run(self) -> None:
        async for event in self.registry.watch("pods"):
            pod = event.object
            key = (uid(pod), is_deleted(pod))
            if event.type != "DELETED" and key not in self._busy:
                self._busy[key] = asyncio.create_task(self._end(pod) if key[1] else self._start(pod))

    async def _start(self, pod: Object) -> None:
        self._count += 1
        number = self._count
        metadata = pod["metadata"]
        with suppress(ApiError):
            await self.registry.patch(
                "pods", metadata["namespace"], metadata["name"], {"spec": {"nodeName": "node-1"}}, MERGE
            )
            ips = {"IPv4": f"10.244.1.{number}", "IPv6": f"fd00:10:244::{number:x}"}
            listed = [{"ip": ips[family]} for family in self.ip_families]
            await self.status(pod, {"phase": "Running", "podIP": listed[0]["ip"], "podIPs": listed})
            image = pod["spec"]["containers"][0].get("image", "")
            if image in self.broken:
                return
            await asyncio.sleep(self.ready_after_s)
            await self.status(pod, {"conditions": [self.ready(True)]})
            if image in self.outcomes:
                await asyncio.sleep(self.ready_after_s)
                await self.status(pod, {"phase": self.outcomes[image], "conditions": [self.ready(False)]})

    async def _end(self, pod: Object) -> None:
        metadata = pod["metadata"]
        await asyncio.sleep(self.ends_after_s)
        with suppress(ApiError):
            await self.registry.delete("pods", metadata["namespace"], metadata["name"], grace_s=0, uid=uid(pod))

    def ready(self, is_ready: bool) -> Object:
        return {"type": "Ready", "status": str(is_ready), "lastTransitionTime": to_text(self.now())}

    async def status(self, pod: Object, status: Object) -> None:
        """Merge into a pod's status, as the kubelet's PATCH does."""
        metadata = pod["metadata"]
        await self.registry.patch(
            "pods", metadata["namespace"], metadata["name"], {"status": status}, MERGE, subresource="status"
        )


@dataclass(slots=True)
class Cluster:
    """What a test acts on and looks at."""

    loop: VirtualLoop
    registry: Registry
    node: FakeNode

    def pods(self, labels: str = "") -> list[Object]:
        return self.registry.list("pods", "default", labels=labels)

    def get(self, resource: str, name: str, namespace: str = "default") -> Object:
        return self.registry.get(resource, namespace, name)

    def events(self, reason: str) -> list[str]:
        return [event["message"] for event in self.registry.list("events") if event["reason"] == reason]

    async def merge(self, resource: str, name: str, body: Object) -> Object:
        return await self.registry.patch(resource, "default", name, body, MERGE)

    async def until(self, holds: Callable[[], object], within_s: float = 60.0) -> float:
        """Let virtual time pass until something holds; how long that took. Fails when it takes too long."""
        start = self.loop.time()
        while not _truth(holds):
            if self.loop.time() - start > within_s:
                raise AssertionError(f"not within {within_s} s: {holds}")
            await asyncio.sleep(0.001)
        return self.loop.time() - start

    async def rolled_out(self, name: str, within_s: float = 60.0) -> None:
        """What `kubectl rollout status` waits for."""
        await self.until(lambda: is_rolled_out(self.get("deployments", name)), within_s)

    @asynccontextmanager
    async def sampling(self, resource: str, measure: Callable[[], Any]) -> AsyncIterator[list[Any]]:
        """Within the block: what `measure` gives at each change of a kind."""
        samples: list[Any] = []

        async def look() -> None:
            async for _event in self.registry.watch(resource):
                samples.append(measure())  # noqa: PERF401  (the list is read while it grows)

        looking = asyncio.create_task(look())
        yield samples
        assert not looking.done()
        looking.cancel()


def _truth(holds: Callable[[], object]) -> bool:
    try:
        return bool(holds())
    except (ApiError, KeyError):
        return False  # not there yet


def is_rolled_out(deployment: Object) -> bool:
    """kubectl's own rule (polymorphichelpers, rollout status)."""
    status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
    updated = status.get("updatedReplicas", 0)
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and updated >= replicas
        and status.get("replicas", 0) <= updated
        and status.get("availableReplicas", 0) >= updated
    )


Scenario = Callable[[Cluster], Awaitable[None]]


@pytest.fixture
def play() -> Iterator[Callable[[Scenario], None]]:
    """Run a scenario against a fresh cluster with all controllers and a node."""
    loop = VirtualLoop()

    async def main(scenario: Scenario) -> None:
        registry = Registry(now=lambda: datetime.fromtimestamp(loop.now(), UTC), entropy=random.Random(7))
        cluster = Cluster(loop, registry, FakeNode(registry, loop.now))
        running = [
            asyncio.create_task(ctl.run(registry, root_ca="PEM", now=loop.now)),
            asyncio.create_task(cluster.node.run()),
        ]
        try:
            await cluster.until(lambda: cluster.get("serviceaccounts", "default"))
            await scenario(cluster)
        finally:
            for task in running:
                task.cancel()
            for result in await asyncio.gather(*running, return_exceptions=True):
                if not isinstance(result, asyncio.CancelledError):
                    raise AssertionError("a controller ended") from result

    def run(scenario: Scenario) -> None:
        loop.run_until_complete(main(scenario))

    yield run
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture(scope="session")
def objects() -> object:
    """The module of objects beside this file (tests are no packages, so it cannot be imported by name)."""
    import importlib.util
    from pathlib import Path

    place = Path(__file__).parent / "objects.py"
    spec = importlib.util.spec_from_file_location("lab_ctl_objects", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
