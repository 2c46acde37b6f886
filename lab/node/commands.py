"""Further processes in a running container: probes' and hooks' commands, and `kubectl exec`. Waits."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from dataclasses import dataclass

from .launch import Launch
from .runtime import Process, Runtime, StartError

_KEPT_BYTES = 10 << 10  # of a hook's or probe's output; the rest is read and dropped
_STREAM_BYTES = 1 << 20
_CANNOT_RUN = 126  # a shell's exit code for it


def joining(launch: Launch, argv: list[str], terminal: bool = False) -> Launch:
    """The launch of a further process in a container that was started by `launch`."""
    environment = {**({"TERM": "xterm"} if terminal else {}), **launch.environment}
    return Launch(tuple(argv), environment, launch.folder, launch.credentials, None, terminal)


async def run(
    runtime: Runtime, container: Process, launch: Launch, argv: list[str], timeout_s: float
) -> tuple[int, str]:
    """Run a command to its end: (exit code, output). It is killed after `timeout_s`, which raises TimeoutError."""
    if not argv:
        return _CANNOT_RUN, "exec: no command"
    read, write = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    process: Process | None = None
    try:
        try:
            files = {"stdin": null, "stdout": write, "stderr": write}
            process = await runtime.enter(container, joining(launch, argv), **files)
        except StartError as error:
            os.close(read)
            return _CANNOT_RUN, str(error)
        finally:
            os.close(write)
            os.close(null)
        reading = asyncio.ensure_future(_read_some(read))
        try:
            async with asyncio.timeout(timeout_s):
                code = await asyncio.shield(process.ended)
                return code, (await reading).decode(errors="replace")
        finally:
            reading.cancel()
    finally:
        if process is not None:
            runtime.signal(process, signal.SIGKILL)


async def _read_some(file: int) -> bytes:
    reader = await _reader(file)
    kept = bytearray()
    while data := await reader.read(4096):
        kept += data[: max(0, _KEPT_BYTES - len(kept))]
    return bytes(kept)


async def _reader(file: int) -> asyncio.StreamReader:
    """A stream over the reading end of a pipe or a terminal; a terminal's end (EIO) is an end as well."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_STREAM_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: protocol, os.fdopen(file, "rb", buffering=0))
    return reader


async def _writer(file: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(file, "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


@dataclass(eq=False)
class Command:
    """A command started for somebody at the API; `lab.api.kubelet.RunningCommand` is its shape."""

    runtime: Runtime
    process: Process
    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader | None
    stderr: asyncio.StreamReader | None
    terminal: int | None = None

    def resize(self, width: int, height: int) -> None:
        if self.terminal is not None and not self.process.ended.done():
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        try:
            return await asyncio.shield(self.process.ended)
        finally:
            if self.terminal is not None and self.process.ended.done():
                os.close(self.terminal)
                self.terminal = None

    def kill(self) -> None:
        self.runtime.signal(self.process, signal.SIGKILL)


class NoCommand:
    """The stand-in for a command that could not be started: it says why, and ends as a shell's would."""

    stdin: asyncio.StreamWriter | None = None

    def __init__(self, why: str, tty: bool) -> None:
        said, nothing = asyncio.StreamReader(), asyncio.StreamReader()
        said.feed_data(f"{why}\n".encode())
        for reader in (said, nothing):
            reader.feed_eof()
        self.stdout: asyncio.StreamReader | None = said if tty else nothing
        self.stderr: asyncio.StreamReader | None = None if tty else said

    def resize(self, width: int, height: int) -> None:
        pass

    async def wait(self) -> int:
        return _CANNOT_RUN

    def kill(self) -> None:
        pass


async def start(
    runtime: Runtime, container: Process, launch: Launch, argv: list[str], *, stdin: bool, tty: bool
) -> Command:
    """Start a command with streams, on a terminal of its own when `tty`. StartError."""
    if tty:
        return await _start_on_terminal(runtime, container, launch, argv, stdin)
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
    ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
    try:
        process = await runtime.enter(
            container, joining(launch, argv), stdin=theirs[0], stdout=theirs[1], stderr=theirs[2]
        )
    except BaseException:
        for file in ours:
            os.close(file)
        raise
    finally:
        for file in theirs:
            os.close(file)
    writer = await _writer(ours[0])
    if not stdin:
        writer.close()
    return Command(runtime, process, writer if stdin else None, await _reader(ours[1]), await _reader(ours[2]))


async def _start_on_terminal(
    runtime: Runtime, container: Process, launch: Launch, argv: list[str], stdin: bool
) -> Command:
    ours, theirs = pty.openpty()
    try:
        process = await runtime.enter(
            container, joining(launch, argv, terminal=True), stdin=theirs, stdout=theirs, stderr=theirs
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    writer = await _writer(os.dup(ours)) if stdin else None
    return Command(runtime, process, writer, await _reader(os.dup(ours)), None, ours)
