"""Load makers, one thread each, in the client's namespace, and what they counted. Edge.

wrk for HTTP/1.1 and h2load for HTTP/2 and gRPC ask again as soon as they are answered (closed loops): good for cost per
request, not for latency, because a stalled server is asked less. Open loops, streams, plain TCP and connections that
are only held are bench/native/load.c: h2load's --rps and k6 count latency from the moment at which a request was sent,
not from when it was due, and k6 needs most of a core for 2,000 requests a second.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.arena import CLIENT, FILES_COUNT, SERVER_IP
from bench.build import program
from bench.servers import GRPC_PORT, HTTP1_PORT, HTTP2_PORT

# Eight request headers beside Host: what a browser behind a gateway sends, in size and in number.
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Accept: text/html,application/json",
    "Accept-Language: en-US,en;q=0.9",
    "Accept-Encoding: gzip, deflate",
    "X-Request-Id: 6b1c2f9e-5a0b-4f58-9b7e-1c2d3e4f5a6b",
    "Authorization: Bearer abcdefghijklmnopqrstuvwxyz",
    "Cookie: session=0123456789abcdef",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
GRPC_HEADERS = (
    "content-type: application/grpc",
    "te: trailers",
    "user-agent: grpc-bench/1",
    "grpc-accept-encoding: gzip",
)
GRPC_PATH = "/bench.Bench/Unary"

MESSAGE_BYTES = 100
"""Of a gRPC message, without its prefix of five bytes."""

_MS_PER_UNIT = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_GRACE_S = 60.0


@dataclass(frozen=True)
class Counted:
    """What a load maker says of one run."""

    requests: int
    seconds: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float | None = None
    max_ms: float | None = None
    bytes_count: int = 0


class Refused(RuntimeError):
    """Requests failed: a benchmark of errors says nothing."""


class Stalled(Refused):
    """No request failed, and none was answered in time: worth a second look after a warm-up."""


def _here(*command: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", CLIENT, "prlimit", f"--nofile={FILES_COUNT}", *command)


def _output(command: Sequence[str], seconds: float) -> str:
    done = subprocess.run(_here(*command), capture_output=True, text=True, check=False, timeout=seconds + _GRACE_S)
    if done.returncode:
        raise Refused(f"{command[0]} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


def _number(output: str, pattern: str) -> float:
    match = re.search(pattern, output)
    if match is None:
        raise RuntimeError(f"the load maker said something new:\n{output}")
    return float(match[1]) * (_MS_PER_UNIT[match[2]] if match.re.groups == 2 else 1)


def wrk(path: str, connections: int, seconds: int, port: int = HTTP1_PORT, is_fresh: bool = False) -> Counted:
    """HTTP/1.1, closed loop, one request at a time on each connection; `is_fresh`: no more than one."""
    command = ["wrk", "--latency", "--timeout", "10s", "-t1", f"-c{connections}", f"-d{seconds}s"]
    for header in (*HEADERS, "Connection: close") if is_fresh else HEADERS:
        command += ["-H", header]
    output = _output((*command, f"http://{SERVER_IP}:{port}{path}"), seconds)
    if "Non-2xx" in output or "Socket errors" in output:
        raise Refused(output)
    return Counted(
        requests=int(_number(output, r"(\d+) requests in")),
        seconds=_number(output, r"requests in ([\d.]+)(us|ms|s|m)") / 1000,
        p50_ms=_number(output, r"50%\s+([\d.]+)(us|ms|s|m)"),
        p99_ms=_number(output, r"99%\s+([\d.]+)(us|ms|s|m)"),
    )


def h2load(folder: Path, path: str, connections: int, streams: int, seconds: int) -> Counted:
    """HTTP/2 by prior knowledge, closed loop, `streams` requests at once on each connection; gRPC by its path."""
    is_grpc = path == GRPC_PATH
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}"]
    for header in GRPC_HEADERS if is_grpc else HEADERS:
        command += ["-H", header]
    if is_grpc:
        message = folder / "message"
        message.write_bytes(b"\0" + MESSAGE_BYTES.to_bytes(4) + b"x" * MESSAGE_BYTES)
        command += ["-d", str(message)]
    port = GRPC_PORT if is_grpc else HTTP2_PORT
    output = _output((*command, f"http://{SERVER_IP}:{port}{path}"), seconds)
    done, succeeded, failed = (int(_number(output, rf"(\d+) {word}")) for word in ("done", "succeeded", "failed"))
    if failed or succeeded != done:
        raise Refused(output)
    if not done:
        raise Stalled(f"no answer within {seconds} s")
    # A gRPC failure is an HTTP success without a message.
    if is_grpc and _number(output, r"\((\d+)\) data") < done * (MESSAGE_BYTES + 5):
        raise Refused(f"calls without a message: {output}")
    times_us = _h2load_times_us(log)
    p50_ms, p99_ms, p999_ms = (times_us[int(share * (len(times_us) - 1))] / 1000 for share in (0.5, 0.99, 0.999))
    return Counted(done, seconds, p50_ms, p99_ms, p999_ms)


def _h2load_times_us(log: Path) -> list[int]:
    """Latencies of the log that h2load wrote, ascending; raise Refused where one is no success."""
    times = []
    with log.open("rb") as lines:
        for line in lines:
            _, status, time_us = line.split(b"\t")
            if not status.startswith(b"2"):
                raise Refused(f"h2load logged status {status.decode()}")
            times.append(int(time_us))
    return sorted(times)


def native(shape: str, port: int, connections: int, *numbers: float) -> Counted:
    """Run bench/native/load.c; `numbers` are the rest of its arguments, seconds last."""
    command = (program("load"), shape, SERVER_IP, str(port), str(connections), *(f"{number:g}" for number in numbers))
    said = json.loads(_output(command, numbers[-1]))
    if said["errors"] or not said["requests"]:
        raise Refused(f"{shape}: {said}")
    return Counted(
        requests=said["requests"],
        seconds=said["seconds"],
        p50_ms=said["p50_ms"],
        p99_ms=said["p99_ms"],
        p999_ms=said["p999_ms"],
        max_ms=said["max_ms"],
        bytes_count=said["bytes"],
    )


@contextmanager
def held(port: int, connections: int) -> Iterator[None]:
    """Keep so many kept-alive HTTP/1.1 connections open, each with one request answered."""
    command = _here(program("load"), "hold", SERVER_IP, str(port), str(connections))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise Refused(f"{connections} connections did not open")
        yield
        child.stdin.close()
        if json.loads(child.stdout.read())["errors"]:
            raise Refused("held connections were closed")
