"""A container's output: pipes in, a bounded file out, and readers that may follow it. Waits (on the event loop's
readiness).

Each line is kept with its moment and its stream ("2026-01-31T12:00:00.000000Z stdout F text", the form of CRI logs; P
marks a piece of a line that is longer than LINE_BYTES). A file that passes HALF_BYTES becomes the one old file, so a
container keeps at most twice that.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime

HALF_BYTES = 8 << 20
LINE_BYTES = 16 << 10  # as containerd cuts lines
_READ_BYTES = 64 << 10
Clock = Callable[[], datetime]


class Log:
    """The output of one run of a container. Owns `path` and `path`.old."""

    def __init__(self, path: str, now: Clock, half_bytes: int = HALF_BYTES) -> None:
        self.path = path
        self._now = now
        self._half_bytes = half_bytes
        self._partial: dict[str, bytes] = {}
        self._open_streams = 0
        self._changed = asyncio.Event()
        self._file = open(path, "ab")  # noqa: SIM115 - closed when both streams have ended
        self._reading: set[int] = set()
        self._size_bytes = 0
        self.ended = asyncio.Event()

    def pipe(self, stream: str) -> int:
        """The writing end for one stream of the container; the caller closes it once the container has it."""
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        self._open_streams += 1
        self._reading.add(read)
        loop = asyncio.get_running_loop()

        def on_readable() -> None:
            data = os.read(read, _READ_BYTES)
            if data:
                self.write(stream, data)
                return
            loop.remove_reader(read)
            self._reading.discard(read)
            os.close(read)
            self._end_stream(stream)

        loop.add_reader(read, on_readable)
        return write

    def close(self) -> None:
        """Read no more, whatever the container may still say."""
        for read in self._reading:
            asyncio.get_running_loop().remove_reader(read)
            os.close(read)
        self._reading.clear()
        self._file.close()
        self.ended.set()
        self._wake()

    def _end_stream(self, stream: str) -> None:
        rest = self._partial.pop(stream, b"")
        if rest:
            self._append([f"{self._moment()} {stream} F ".encode() + rest + b"\n"])
        self._open_streams -= 1
        if self._open_streams == 0:
            self._file.close()
            self.ended.set()
        self._wake()

    def write(self, stream: str, data: bytes) -> None:
        """Keep what a stream said."""
        *lines, rest = (self._partial.get(stream, b"") + data).split(b"\n")
        head = f"{self._moment()} {stream} ".encode()
        entries = []
        for line in lines:
            while len(line) > LINE_BYTES:
                entries.append(head + b"P " + line[:LINE_BYTES] + b"\n")
                line = line[LINE_BYTES:]
            entries.append(head + b"F " + line + b"\n")
        while len(rest) > LINE_BYTES:
            entries.append(head + b"P " + rest[:LINE_BYTES] + b"\n")
            rest = rest[LINE_BYTES:]
        self._partial[stream] = rest
        self._append(entries)

    def _moment(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _append(self, entries: list[bytes]) -> None:
        if not entries:
            return
        data = b"".join(entries)
        if self._size_bytes and self._size_bytes + len(data) > self._half_bytes:
            self._file.close()
            os.replace(self.path, f"{self.path}.old")
            self._file = open(self.path, "ab")  # noqa: SIM115
            self._size_bytes = 0
        self._file.write(data)
        self._file.flush()
        self._size_bytes += len(data)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def read(
        self, *, follow: bool, tail_lines: int | None, since: datetime | None, timestamps: bool
    ) -> AsyncIterator[bytes]:
        """The kept lines, then, while following, the new ones until the container's output ends."""
        current = open(self.path, "rb")  # noqa: ASYNC230, SIM115 - a local file in memory
        try:
            kept = deque(self._kept(current, since), maxlen=tail_lines)
            for entry in kept:
                yield _shown(entry, timestamps)
            while follow:
                changed = self._changed
                progress = False
                for entry in current:
                    progress = True
                    yield _shown(entry, timestamps)
                if progress:
                    continue
                if _replaced(self.path, current.fileno()):
                    current.close()
                    current = open(self.path, "rb")  # noqa: ASYNC230, SIM115
                elif self.ended.is_set():
                    return
                else:
                    await changed.wait()
        finally:
            current.close()

    def _kept(self, current: Iterator[bytes], since: datetime | None) -> Iterator[bytes]:
        start = since.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode() if since else b""
        if os.path.exists(f"{self.path}.old"):
            with open(f"{self.path}.old", "rb") as old:
                yield from (entry for entry in old if entry >= start)
        yield from (entry for entry in current if entry >= start)

    def tail(self, limit_bytes: int, limit_lines: int) -> str:
        """The end of the output, for a termination message."""
        with open(self.path, "rb") as file:
            lines = deque(file, maxlen=limit_lines)
        text = b"".join(_shown(entry, timestamps=False) for entry in lines)
        return text[-limit_bytes:].decode(errors="replace")

    def remove(self) -> None:
        for path in (self.path, f"{self.path}.old"):
            if os.path.exists(path):
                os.unlink(path)


def _shown(entry: bytes, timestamps: bool) -> bytes:
    moment, _, mark, text = entry.split(b" ", 3)
    if mark == b"P":
        text = text.rstrip(b"\n")
    return moment + b" " + text if timestamps else text


def _replaced(path: str, file: int) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(file).st_ino
    except FileNotFoundError:
        return False
