"""What the node's tests share: a network namespace for one coroutine, and a Node with its registry in it."""

import asyncio
import contextlib
import os
import pwd
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.api.registry import Registry, bootstrap
from lab.ctl.endpoints import Endpoints
from lab.ctl.loop import run_all
from lab.node import network
from lab.node import syscalls as sc
from lab.node.agent import Node, Settings
from lab.node.container import Backoff
from lab.node.launching import Host

T = TypeVar("T")
Object = dict[str, Any]
PROJECT = str(Path(__file__).resolve().parents[3])


@pytest.fixture
def in_namespace() -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Run a coroutine function in a thread that has a fresh node namespace; its result, or its exception."""
    if os.geteuid() != 0:
        pytest.skip("needs root")

    def run(work: Callable[[], Awaitable[T]]) -> T:
        outcome: dict[str, Any] = {}

        def body() -> None:
            try:
                sc.unshare(sc.CLONE_NEWNET)
                network.set_up_node()
                outcome["result"] = asyncio.run(asyncio.wait_for(work(), 30))
            except BaseException as error:
                outcome["error"] = error

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if "error" in outcome:
            raise outcome["error"]
        return outcome["result"]

    return run


@dataclass
class Bench:
    """A running node. `apply` creates a pod in the namespace `default` and returns it."""

    registry: Registry
    node: Node

    async def apply(self, name: str, *containers: Object, **spec: Any) -> Object:
        labels = spec.pop("labels", {})
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"containers": list(containers), "restartPolicy": "Always", **spec},
        }
        return await self.registry.create("pods", pod)

    def status(self, name: str) -> Object:
        return self.registry.get("pods", "default", name).get("status") or {}

    async def until(self, name: str, holds: Callable[[Object], Any]) -> Object:
        """The pod's status, once `holds` is true of it; the watch tells, nobody sleeps."""
        watch = self.registry.watch("pods", "default", fields=f"metadata.name={name}")
        async with asyncio.timeout(15):
            async for event in watch:
                status = event.object.get("status") or {}
                if event.type != "DELETED" and holds(status):
                    watch.close()
                    return status
        raise AssertionError("the watch ended")

    async def until_gone(self, name: str) -> None:
        watch = self.registry.watch("pods", "default", fields=f"metadata.name={name}")
        async with asyncio.timeout(15):
            async for event in watch:
                if event.type == "DELETED":
                    watch.close()
                    return

    async def log(self, name: str, container: str, *, follow: bool = False, previous: bool = False) -> str:
        options = {"tail_lines": None, "since_s": None, "timestamps": False}
        pieces = self.node.logs("default", name, container, follow=follow, previous=previous, **options)
        return b"".join([piece async for piece in pieces]).decode()

    async def until_said(self, name: str, container: str, words: str) -> str:
        """The container's log, as soon as it has `words`."""
        options = {"tail_lines": None, "since_s": None, "timestamps": False}
        text = ""
        async with asyncio.timeout(15):
            async for piece in self.node.logs("default", name, container, follow=True, previous=False, **options):
                text += piece.decode()
                if words in text:
                    return text
        raise AssertionError(f"{words!r} is not in {text!r}")

    async def output(self, name: str, container: str, *command: str) -> str:
        running = await self.node.execute("default", name, container, list(command), stdin=False, tty=False)
        assert running.stdout is not None
        text = (await running.stdout.read()).decode()
        await running.wait()
        return text

    def events(self) -> list[tuple[str, str]]:
        return [(event["reason"], event["message"]) for event in self.registry.list("events", "default")]


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., contextlib.AbstractAsyncContextManager[Bench]]:
    """A node to be entered in the coroutine that `in_namespace` runs."""

    @contextlib.asynccontextmanager
    async def start(*installation: str) -> AsyncIterator[Bench]:
        registry = Registry()
        await bootstrap(registry)
        host = Host(
            programs=os.path.dirname(sys.executable),
            traversable=(sys.prefix, sys.base_prefix, PROJECT, *installation),
            homes={entry.pw_uid: entry.pw_dir for entry in pwd.getpwall()},
        )
        folder = str(tmp_path_factory.mktemp("pods"))
        for place in (folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))):
            os.chmod(place, 0o755)
        settings = Settings("lab", folder, host, "v1.32.0", Backoff(base_s=0.05, max_s=1.0))
        node = Node(registry, settings, lambda pod, audience, life_s: f"{audience}:{life_s}", lambda: datetime.now(UTC))
        running = asyncio.create_task(node.run())
        slices = asyncio.create_task(run_all(registry, [Endpoints(registry).controller()]))
        try:
            await asyncio.wait_for(node.ready.wait(), 10)
            yield Bench(registry, node)
        finally:
            for task in (running, slices):
                task.cancel()
            await asyncio.gather(running, slices, return_exceptions=True)

    return start


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    mine = {entry for entry in os.listdir("/proc") if entry.isdigit() and _parent(entry) == os.getpid()}
    names = [Path(f"/proc/{pid}/cmdline").read_text() for pid in mine if os.path.exists(f"/proc/{pid}/cmdline")]
    assert not [name for name in names if "lab.node.spawner" in name]


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0
