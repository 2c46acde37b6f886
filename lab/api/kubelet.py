"""What the API server's streams need of the node. Pure (Protocols; the node's agent has these shapes)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol


class RunningCommand(Protocol):
    """A command inside a container. `stdin` is None when it was not asked for, `stderr` is None with a terminal."""

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    @property
    def stderr(self) -> asyncio.StreamReader | None: ...

    def resize(self, width: int, height: int) -> None:
        """New size of the terminal, in characters."""

    async def wait(self) -> int:
        """The exit code, once it has ended; 128 + N for one that signal N ended."""

    def kill(self) -> None:
        """End it now."""


class Kubelet(Protocol):
    """The node. Each raises ApiError when the container is not there or not running."""

    def logs(
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
        """What the container wrote, in pieces of any size; with `follow`, until it ends."""

    async def execute(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> RunningCommand:
        """Start a command in a running container."""

    async def connect(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection to localhost:port inside the pod. Raises OSError when nothing listens there."""
