"""A live API server for a module of tests: the real application over loopback, and the real clients beside it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import uvicorn

from lab.api.app import make_app
from lab.api.registry import Registry, bootstrap
from lab.ctl.completion import complete

KUBECTL = Path(sys.executable).parent / "kubectl"


@dataclass
class Server:
    """One running API server. `registry` lives on another thread's loop: use `run` to call its writes."""

    registry: Registry
    loop: asyncio.AbstractEventLoop
    url: str
    kubeconfig: Path

    def run(self, work: Callable[[Registry], Coroutine[Any, Any, Any]]) -> Any:
        """Run `work(registry)` where the server runs, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work(self.registry), self.loop).result(10)

    @property
    def command(self) -> list[str]:
        """The beginning of every kubectl command line."""
        return [str(KUBECTL), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.kubeconfig.parent / 'cache'}"]

    def kubectl(self, *words: str, given: str = "", fails: bool = False) -> str:
        """The output of a kubectl command; of `fails=True` the error output. Checks the exit code."""
        env = {"HOME": str(self.kubeconfig.parent)}
        done = subprocess.run(
            [*self.command, *words], input=given, capture_output=True, text=True, timeout=30, env=env, check=False
        )
        assert (done.returncode != 0) is fails, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr if fails else done.stdout

    def kubectl_json(self, *words: str) -> Any:
        return json.loads(self.kubectl(*words, "-o", "json"))

    def client(self) -> kubernetes.client.ApiClient:
        """The official Python client, with a configuration of its own."""
        return kubernetes.client.ApiClient(kubernetes.client.Configuration(host=self.url))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a free port of loopback, without authentication, controllers or node."""
    registry = Registry(completion=complete)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only on sockets that it made
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        make_app(registry, None, None), ws="wsproto", lifespan="off", log_level="warning", timeout_graceful_shutdown=1
    )
    runner, loop = uvicorn.Server(config), asyncio.new_event_loop()
    started = threading.Event()

    async def serve() -> None:
        await bootstrap(registry)
        started.set()
        await runner.serve([listener])

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    home = tmp_path_factory.mktemp("kube")
    yield Server(registry, loop, url, _kubeconfig(home, url))
    runner.should_exit = True
    thread.join(10)
    loop.close()


def _kubeconfig(home: Path, url: str) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        "current-context": "lab",
    }
    path = home / "kubeconfig"
    path.write_text(json.dumps(content))
    return path
