"""An API server on loopback for the tests of its edge: real TLS, real clients, containers that are plain processes."""

import asyncio
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp

from lab.api import errors, pki, tokens
from lab.api.admission import Admission
from lab.api.authn import Authority, install_built_ins
from lab.api.registry import Registry, bootstrap

KUBECTL = str(Path(sys.executable).parent / "kubectl")


@dataclass
class Process:
    """A RunningCommand that is a process of this machine."""

    process: asyncio.subprocess.Process
    stdin: Any
    stdout: Any
    stderr: Any
    terminal: int | None = None
    output: Any = None

    def resize(self, width: int, height: int) -> None:
        if self.terminal is not None:
            import fcntl
            import struct
            import termios

            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        code = await self.process.wait()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        if self.terminal is not None:
            self.stdin.transport.abort()
            self.output.close()


@dataclass
class ProcessKubelet:
    """A kubelet whose containers all are this machine, and whose logs are lists of lines."""

    lines: dict[str, list[bytes]] = field(default_factory=dict)
    ended: dict[str, bool] = field(default_factory=dict)

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
        if previous:
            raise errors.bad_request(f'previous terminated container "{container}" in pod "{pod}" not found')
        lines = self.lines.get(pod, [])
        position = max(0, len(lines) - tail_lines) if tail_lines is not None else 0
        while True:
            while position < len(lines):
                stamp = b"2026-01-01T00:00:00.000000000Z " if timestamps else b""
                yield stamp + lines[position]
                position += 1
            if not follow or self.ended.get(pod):
                return
            await asyncio.sleep(0.01)

    async def execute(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> Process:
        if tty:
            return await self._terminal(command)
        pipe = asyncio.subprocess.PIPE
        source = pipe if stdin else asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdin=source, stdout=pipe, stderr=pipe)
        return Process(process, process.stdin, process.stdout, process.stderr)

    async def _terminal(self, command: list[str]) -> Process:
        loop = asyncio.get_running_loop()
        leader, follower = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
        )
        os.close(follower)
        reader = asyncio.StreamReader()
        output, _reading = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(leader), "rb", 0)
        )
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(leader, "wb", 0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        return Process(process, writer, reader, None, leader, output)

    async def connect(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def stop(self) -> None:
        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # TLS connections that wait 30 s for a farewell which a client that is gone never sends.
            for transport in list(self.loop._transports.values()):  # type: ignore[attr-defined]
                transport.abort()
            await asyncio.sleep(0)

        self.run(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def serving(loop: Loop, app: ASGIApp, leaf: pki.Leaf | None, folder: Path) -> Iterator[int]:
    """uvicorn for `app` on a free loopback port, with TLS when there is a leaf."""
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: else each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    settings: dict[str, Any] = {
        "log_level": "error",
        "lifespan": "off",
        "ws": "wsproto",
        "ws_ping_interval": None,
        "timeout_graceful_shutdown": 1,
    }
    if leaf is not None:
        (folder / f"{port}.crt").write_bytes(leaf.certificate)
        (folder / f"{port}.key").write_bytes(leaf.key)
        settings |= {"ssl_certfile": folder / f"{port}.crt", "ssl_keyfile": folder / f"{port}.key"}
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # we are in a thread
    future = asyncio.run_coroutine_threadsafe(server.serve([listener]), loop.loop)
    wait_until(lambda: server.started)
    try:
        yield port
    finally:
        server.should_exit = True
        future.result(10)
        listener.close()


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.005)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Server:
    """The running API server and what tests need of it."""

    port: int
    loop: Loop
    registry: Registry
    authority: Authority
    kubelet: ProcessKubelet
    authority_pem: bytes
    folder: Path
    admin_token: str

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def create(self, resource: str, item: dict[str, Any]) -> dict[str, Any]:
        created: dict[str, Any] = self.loop.run(self.registry.create(resource, item))
        return created

    def command(self, *arguments: str) -> list[str]:
        return [KUBECTL, "--kubeconfig", str(self.kubeconfig), "--cache-dir", str(self.folder / "cache"), *arguments]

    def kubectl(self, *arguments: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(self.command(*arguments), input=stdin, capture_output=True, timeout=30, check=False)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """The function `serving`, for tests that run a server of their own."""
    return serving


@pytest.fixture(scope="module")
def authority_of_tests() -> pki.CertificateAuthority:
    return pki.CertificateAuthority("tests", now=now())


@pytest.fixture(scope="module")
def server(
    loop: Loop, authority_of_tests: pki.CertificateAuthority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    from lab.api.app import make_app

    folder = tmp_path_factory.mktemp("api")
    kubelet = ProcessKubelet()
    admin = tokens.admin_token()
    registry = Registry()
    registry.admission = Admission(registry)
    authority = Authority(registry, tokens.TokenIssuer(), admin)

    async def populate() -> None:
        await bootstrap(registry)
        await install_built_ins(registry)
        await registry.create("serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}})
        await running_pod(registry, "web", ["main"])

    loop.run(populate())
    app = make_app(registry, authority, kubelet)
    with serving(loop, app, authority_of_tests.issue_api(now=now()), folder) as port:
        pem = authority_of_tests.certificate
        made = Server(port, loop, registry, authority, kubelet, pem, folder, admin)
        made.kubeconfig.write_text(pki.kubeconfig(made.url, pem, admin, context="tests"))
        yield made


async def running_pod(registry: Registry, name: str, containers: list[str], address: str = "127.0.0.1") -> None:
    """A pod that a node would report as running."""
    spec = {"containers": [{"name": item, "image": "none"} for item in containers]}
    item = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
    stored = await registry.create("pods", item)
    known = {"ready": True, "restartCount": 0, "image": "none", "imageID": "none", "state": {"running": {}}}
    statuses = [{"name": item, **known} for item in containers]
    status = {"phase": "Running", "podIP": address, "containerStatuses": statuses}
    await registry.update("pods", {**stored, "status": status}, subresource="status")
