"""Clients that fill the memory of a real process: it stays within its limit, and others lose nothing."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from attackhouse import (
    UNREAD,
    Attacker,
    Honest,
    closed_window_gets,
    half_head,
    head_bombs,
    memory_of,
    serve,
    uploads,
)
from proxyhouse import read_all
from test_process import LAUNCH, settings, wait_ready

pytestmark = pytest.mark.trio

LIMIT_BYTES = 100 * 2**20


async def counters(environ: dict[str, str]) -> str:
    async with await trio.open_tcp_stream("127.0.0.1", int(environ["TULLE_PROXY_ADMIN_PORT"])) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        return (await read_all(stream)).decode()


ATTACKS: dict[str, tuple[int, Any]] = {
    "answers into closed windows": (30, lambda: closed_window_gets(250)),
    "heads unpacked from references": (30, lambda: head_bombs(250)),
    "uploads that nobody reads": (30, lambda: uploads(64)),
    "half heads": (2000, lambda: half_head(60_000)),
    "answers that nobody reads": (700, lambda: UNREAD),
}


@pytest.fixture
def launch() -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def start(port: int, environ: dict[str, str]) -> subprocess.Popen[str]:
        processes.append(subprocess.Popen([sys.executable, "-c", LAUNCH, str(port)], env=environ, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(3)


@pytest.fixture
def attackers() -> Iterator[list[Attacker]]:
    made: list[Attacker] = []
    yield made
    for attacker in made:
        attacker.close()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("workers", [1, 2])
async def test_memory_stays_within_its_limit_and_honest_clients_lose_nothing(
    launch: Any, serve_raw: int, attackers: list[Attacker], attack: str, workers: int
) -> None:
    connections_count, make = ATTACKS[attack]
    environ = settings(
        TULLE_PROXY_MEMORY_BYTES=str(LIMIT_BYTES),
        TULLE_PROXY_WORKERS=str(workers),
        TULLE_PROXY_LOG_LEVEL="error",
        TULLE_PROXY_DRAIN_TIMEOUT_S="0",
    )
    process = launch(serve_raw, environ)
    await wait_ready(environ)
    port = int(environ["TULLE_PROXY_INBOUND_PORT"])
    honest = Honest(port)
    attacker = Attacker(port)
    attackers.append(attacker)
    data = make()
    before = await counters(environ)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(honest.run)
        await trio.sleep(0.2)
        limiter = trio.CapacityLimiter(20)

        async def one() -> None:
            async with limiter:
                await attacker.open(data)

        async with trio.open_nursery() as crowd:
            for _ in range(connections_count):
                crowd.start_soon(one)
        await trio.sleep(0.6)
        honest.is_over = True

    after = await counters(environ)
    pids = [process.pid, *children_of(process.pid)]
    print(
        attack, workers, [memory_of(pid) >> 20 for pid in pids], honest.answers_count, sorted(honest.latencies_s)[-5:]
    )
    print(
        [
            line
            for line in after.splitlines()
            if re.match(r"memory|accept|inbound_crowd|inbound_http_errors|inbound_tcp_err", line)
        ]
    )
    assert honest.faults == []
    assert honest.answers_count > 5
    for pid in pids:
        assert memory_of(pid) < LIMIT_BYTES
    assert process.poll() is None
    assert before


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


@pytest.fixture
async def serve_raw(nursery: trio.Nursery) -> int:
    async def guarded(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await serve(stream)
            except (trio.BrokenResourceError, OSError):
                pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, guarded, listeners)
    port: int = listeners[0].socket.getsockname()[1]
    return port
