"""Health watches of grpc-go, client and server as they come, through one sidecar and two. Needs Go.

Built once in each run; the first build of a machine downloads and compiles grpc-go, which takes a minute or two.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from reachhouse import Through

from proxy.model import Address

pytestmark = [
    pytest.mark.trio,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("go") is None, reason="needs Go, to build a server and a client of grpc-go"),
]

SOURCE = Path(__file__).parent / "grpcgo"


@pytest.fixture(scope="session")
def grpcgo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program."""
    download = subprocess.run(["go", "mod", "download"], cwd=SOURCE, capture_output=True, text=True, timeout=500)
    if download.returncode:
        pytest.skip(f"no module proxy for Go here: {download.stderr[-300:]}")
    program = tmp_path_factory.mktemp("grpcgo") / "grpcgo"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=SOURCE, check=True, timeout=500)
    return program


@pytest.fixture
def start(grpcgo: Path) -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [str(grpcgo), *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


async def watched(start: Any, port: int, seconds: float) -> list[str]:
    """Watch so long; give what was seen."""
    client = start("watch", port, seconds)
    out, _ = await trio.to_thread.run_sync(client.communicate)
    return str(out).splitlines()


async def test_a_health_watch_lives_through_silence(through: Through, start: Any) -> None:
    """It speaks once and is silent; grpc-go's server allows one PING in five minutes, and these would be 40."""
    server = start("server", 0, 0)
    way = await through(
        Address("127.0.0.1", int(server.stdout.readline())), http2_ping_interval_s=0.05, http2_ping_timeout_s=2.0
    )
    seen: list[str] = []

    async def watch() -> None:
        seen.extend(await watched(start, way.entry.port, 2.5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.sleep(2.0)
        server.stdin.write("NOT_SERVING\n")
        server.stdin.flush()

    assert seen[:2] == ["SERVING", "NOT_SERVING"]
    assert {line.split()[0] for line in seen[2:]} == {"DeadlineExceeded"}


async def test_a_health_watch_that_max_connection_age_cuts_is_told_so_and_watches_again(
    through: Through, start: Any
) -> None:
    """grpc-go closes the connection after the grace; as a reset that would be Internal, and the watcher would stop."""
    server = start("server", 0.4, 0.2)
    way = await through(Address("127.0.0.1", int(server.stdout.readline())))

    seen = await watched(start, way.entry.port, 3.0)

    assert seen[0] == "SERVING"
    assert seen.count("SERVING") >= 2
    codes = {line.split()[0] for line in seen} - {"SERVING", "DeadlineExceeded"}
    assert codes == {"Unavailable"}
