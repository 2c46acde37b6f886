"""The doorkeeper before a small server on real sockets: places, times and bytes are bounded."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from contract.doorkeeper import Doorkeeper, Limits


class Line(asyncio.Protocol):
    """A server whose head is a line, whose body is as long as it says, and whose answer is its own word."""

    def __init__(self) -> None:
        self.is_idle = True
        self.left_bytes = 0
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.is_idle:
            self.left_bytes -= len(data)
        else:
            self._held += data
            line, end, rest = self._held.partition(b"\n")
            if not end:
                return
            self._held = b""
            self.is_idle = False
            self.left_bytes = int(line) - len(rest)
        if self.left_bytes <= 0:
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        self._transport.write(b"ok\n")
        self.is_idle = True


@asynccontextmanager
async def kept(
    limits: Limits, context: Callable[[], ssl.SSLContext] | None = None
) -> AsyncIterator[tuple[Callable[[str], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]], list[str]]]:
    """Run a doorkeeper; give how to connect from an address, and the reasons of what it ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ended: list[str] = []
    writers: list[asyncio.StreamWriter] = []
    keeper = Doorkeeper(limits, Line, lambda line: line.is_idle, lambda line: line.left_bytes > 0, ended.append)
    serving = asyncio.create_task(keeper.serve(listener, context))

    async def connect(source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writers.append(writer)
        return reader, writer

    async with asyncio.timeout(10):
        yield connect, ended
    for writer in writers:
        writer.transport.abort()
    while len(keeper.seats):  # noqa: ASYNC110 - seats tell nobody
        await asyncio.sleep(0.01)
    serving.cancel()
    listener.close()


async def ask(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes = b"0\n") -> bytes:
    stream[1].write(body)
    return await read(stream)


async def read(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    try:
        return await stream[0].read(100)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("sources_count", [1, 4])
def test_a_newcomer_is_served_beside_more_silent_connections_than_there_are_places(sources_count: int) -> None:
    async def main() -> None:
        async with kept(Limits(10)) as (connect, ended):
            honest = await connect("127.0.1.99")
            assert await ask(honest) == b"ok\n"
            for number in range(50):
                await connect(f"127.0.1.{number % sources_count + 1}")

            assert await ask(await connect("127.0.1.98")) == b"ok\n"
            assert await ask(honest) == b"ok\n"
            assert set(ended) == {"full"}

    asyncio.run(main())


def test_who_is_silent_or_sends_a_head_drop_by_drop_is_ended() -> None:
    async def main() -> None:
        async with kept(Limits(10, head_s=0.3)) as (connect, ended):
            silent, slow, later = [await connect("127.0.0.1") for _ in range(3)]
            assert await ask(later) == b"ok\n"
            slow[1].write(b"1")
            assert await read(silent) == b""
            assert await read(slow) == b""
            await asyncio.sleep(1.0)  # between requests the server behind keeps the time
            later[1].write(b"1")
            assert await read(later) == b""
            assert ended == ["head"] * 3

    asyncio.run(main())


def test_a_body_has_its_time_too() -> None:
    async def main() -> None:
        async with kept(Limits(10, body_s=0.3)) as (connect, ended):
            stream = await connect("127.0.0.1")

            assert await ask(stream, b"100\nx") == b""
            assert ended == ["body"]

    asyncio.run(main())


def test_a_head_without_end_is_ended_at_its_bound() -> None:
    async def main() -> None:
        async with kept(Limits(10, head_bytes=1000)) as (connect, ended):
            stream = await connect("127.0.0.1")

            assert await ask(stream, b"1" * 1001) == b""
            assert ended == ["head"]

    asyncio.run(main())


def test_a_large_body_is_no_large_head() -> None:
    async def main() -> None:
        async with kept(Limits(10, head_bytes=1000)) as (connect, _ended):
            stream = await connect("127.0.0.1")
            stream[1].write(b"5000\n")
            await asyncio.sleep(0.05)

            assert await ask(stream, b"x" * 5000) == b"ok\n"
            assert await ask(stream) == b"ok\n"

    asyncio.run(main())


def test_of_bodies_that_are_too_much_together_the_largest_is_ended() -> None:
    async def main() -> None:
        async with kept(Limits(10, bodies_bytes=10_000)) as (connect, ended):
            large, small, done = [await connect("127.0.0.1") for _ in range(3)]
            for _ in range(5):  # what was read whole weighs no more
                assert await ask(done, b"3000\n" + b"x" * 3000) == b"ok\n"
            large[1].write(b"9000\n" + b"x" * 7000)
            await asyncio.sleep(0.1)
            small[1].write(b"4000\n" + b"x" * 3900)

            assert await read(large) == b""
            assert await ask(small, b"x" * 100) == b"ok\n"
            assert ended == ["bodies"]

    asyncio.run(main())


def test_a_handshake_that_does_not_come_holds_a_place_for_little_time_and_for_no_newcomer() -> None:
    async def main() -> None:
        async with kept(Limits(3, handshake_s=0.3), lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as (
            connect,
            ended,
        ):
            streams = [await connect("127.0.0.1") for _ in range(5)]
            for stream in streams:
                assert await read(stream) == b""

            assert sorted(ended) == ["full"] * 2 + ["handshake"] * 3

    asyncio.run(main())
