"""The daemon's hand on the spawner: start a process, join a container, signal, learn of its end. Waits.

Bounded: a start that gives no sign within START_TIMEOUT_S is a failure; the packet socket holds a few hundred requests.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field

import msgspec

from .launch import Launch, Report, Request

START_TIMEOUT_S = 20.0
_FAULT_BYTES = 4096


class StartError(Exception):
    """The process never ran; the text says why."""


@dataclass(eq=False)
class Process:
    """A started process. `ended` carries its exit code, 128 + signal number for a signal's death."""

    id: int
    started: asyncio.Future[int]
    ended: asyncio.Future[int]
    pid: int = 0


@dataclass(eq=False)
class Runtime:
    """Owner of the spawner process. Call `open` inside the node namespace, `close` at the end."""

    _door: socket.socket = field(init=False)
    _spawner: subprocess.Popen[bytes] = field(init=False)
    _processes: dict[int, Process] = field(default_factory=dict)
    _next_id: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # the spawner died, and all containers with it

    def open(self) -> None:
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._spawner = subprocess.Popen(
            [sys.executable, "-m", "lab.node.spawner", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._door.setblocking(False)
        asyncio.get_running_loop().add_reader(self._door, self._on_reports)

    def close(self) -> None:
        """End the spawner and whatever still runs."""
        asyncio.get_running_loop().remove_reader(self._door)
        self._door.close()
        self._spawner.kill()
        self._spawner.wait()

    async def run(self, launch: Launch, *, netns: int, stdin: int, stdout: int, stderr: int) -> Process:
        """Start a container's program in the network namespace of the open file `netns`. StartError."""
        return await self._start("run", 0, launch, [stdin, stdout, stderr], netns)

    async def enter(self, container: Process, launch: Launch, *, stdin: int, stdout: int, stderr: int) -> Process:
        """Start a further process in a running container; StartError when it cannot run."""
        return await self._start("enter", container.id, launch, [stdin, stdout, stderr], None)

    def signal(self, process: Process, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if not process.ended.done():
            self._send(Request("signal", process.id, signal=number), [])

    async def _start(self, operation: str, target: int, launch: Launch, files: list[int], netns: int | None) -> Process:
        loop = asyncio.get_running_loop()
        self._next_id += 1
        process = Process(self._next_id, loop.create_future(), loop.create_future())
        self._processes[process.id] = process
        text = os.memfd_create("launch", os.MFD_CLOEXEC)
        os.write(text, msgspec.json.encode(launch))
        os.lseek(text, 0, os.SEEK_SET)
        fault_read, fault_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            sent = [text, *files, fault_write] + ([] if netns is None else [netns])
            self._send(msgspec.convert({"operation": operation, "id": process.id, "target": target}, Request), sent)
        finally:
            os.close(text)
            os.close(fault_write)
        try:
            fault = await _read_fault(fault_read)
            if fault:
                raise StartError(fault)
            async with asyncio.timeout(START_TIMEOUT_S):
                process.pid = await process.started
        except BaseException:  # nobody will ever hold this process: it must not run on
            self.signal(process, signal.SIGKILL)
            raise
        return process

    def _send(self, request: Request, files: list[int]) -> None:
        try:
            socket.send_fds(self._door, [msgspec.json.encode(request)], files)
        except OSError as error:
            raise StartError(f"the lab's spawner does not answer: {error}") from error

    def _on_reports(self) -> None:
        try:
            message = self._door.recv(4096)
        except BlockingIOError:
            return
        except ConnectionResetError:  # it died with a request unread
            message = b""
        if not message:
            asyncio.get_running_loop().remove_reader(self._door)
            self.gone.set()
            return
        report = msgspec.json.decode(message, type=Report)
        process = self._processes.get(report.id)
        if process is None:
            return
        if report.pid and not process.started.done():
            process.started.set_result(report.pid)
        if report.code is not None:
            self._processes.pop(report.id, None)
            if not process.started.done():
                process.started.set_result(0)
            process.ended.set_result(report.code)


async def _read_fault(file: int) -> str:
    """Read until the program ran (the pipe closes with nothing said) or the child said what went wrong."""
    loop = asyncio.get_running_loop()
    said = bytearray()
    ready: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        data = os.read(file, _FAULT_BYTES)
        said.extend(data)
        if (not data or len(said) > _FAULT_BYTES) and not ready.done():
            ready.set_result(None)

    loop.add_reader(file, on_readable)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await ready
    except TimeoutError:
        return f"no sign of the process after {START_TIMEOUT_S:.0f} s"
    finally:
        loop.remove_reader(file)
        os.close(file)
    return said.decode(errors="replace")
