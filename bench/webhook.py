"""How long an admission takes, and how many a second one core answers.

    python -m bench.webhook [--rate 100] [--seconds 10] [--connections 16] [--output FILE]

Starts the real webhook, over TLS, against a stub of the API server, and sends it admissions of a Deployment's pod from
this process, over kept connections as an API server does. Two runs: an open loop at a fixed rate (a slow answer delays
no later question, and its whole lateness is counted), then a closed loop as fast as it goes. CPU is the webhook's own,
user and system, from /proc. It measures and never judges: the exit code says only whether it ran.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.stub_api import StubApi, write_kubeconfig

WARM_UP_COUNT = 300
START_LIMIT_S = 20.0
RATE_LIMIT_PER_S = 2000
SECONDS_LIMIT = 60
CONNECTIONS_LIMIT = 128
ANSWER_LIMIT_S = 10.0
CONNECT_S = 0.5
"""Between opening the connections and the first question: handshakes are no admissions."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """One line of the result. Latencies in milliseconds, CPU in microseconds of the webhook for one admission."""

    case: str
    admissions: int
    admissions_per_s: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    cpu_us_per_admission: float
    admissions_per_cpu_s: float
    rss_mb: float


@dataclass(frozen=True)
class Target:
    """A running webhook."""

    process_id: int
    port: int
    context: ssl.SSLContext


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.webhook", description="Measure the admission webhook on loopback.")
    parser.add_argument(
        "--rate", type=_bounded(RATE_LIMIT_PER_S), default=100, help="admissions a second (%(default)s)"
    )
    parser.add_argument("--seconds", type=_bounded(SECONDS_LIMIT), default=10, help="of each run (%(default)s)")
    parser.add_argument("--connections", type=_bounded(CONNECTIONS_LIMIT), default=16, help="kept open (%(default)s)")
    parser.add_argument("--output", type=Path, help="write the rows as JSON to this file too")
    options = parser.parse_args()
    with running_webhook() as target:
        rows = asyncio.run(_measure(target, options.rate, options.seconds, options.connections))
    _print(rows)
    if options.output:
        options.output.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


@contextmanager
def running_webhook() -> Iterator[Target]:
    """Start the webhook beside a stub of the API server; end both."""
    api = StubApi()
    api.namespace("demo", {"tulle.mesh/inject": "enabled"}, {"tulle.mesh/opaque-ports": "+9000"})
    with tempfile.TemporaryDirectory() as directory, api.serve() as url, open(os.devnull, "w") as nowhere:
        kubeconfig = Path(directory, "kubeconfig")
        write_kubeconfig(kubeconfig, url)
        port = free_port()
        environment = os.environ | {
            "TULLE_WEBHOOK_LISTEN_HOST": "127.0.0.1",
            "TULLE_WEBHOOK_LISTEN_PORT": str(port),
            "TULLE_WEBHOOK_KUBECONFIG": str(kubeconfig),
            "TULLE_WEBHOOK_SERVING_NAMES": "127.0.0.1",
            "TULLE_WEBHOOK_DRAIN_DELAY_S": "0",
        }
        command = [sys.executable, "-m", "webhook"]
        process = subprocess.Popen(command, env=environment, stdout=nowhere, stderr=subprocess.PIPE)
        try:
            yield Target(process.pid, port, _wait_until_published(api, process))
        finally:
            process.terminate()
            process.wait(10)


def _wait_until_published(api: StubApi, process: "subprocess.Popen[bytes]") -> ssl.SSLContext:
    end_s = time.monotonic() + START_LIMIT_S
    while not api.bundles()[0]:
        if process.poll() is not None or time.monotonic() > end_s:
            raise SystemExit("the webhook did not start; run `python -m webhook` to see why")
        time.sleep(0.05)
    time.sleep(0.5)  # published is a moment before loaded
    return ssl.create_default_context(cadata=base64.b64decode(api.bundles()[0]).decode())


async def _measure(target: Target, rate: int, seconds: int, connections: int) -> list[Row]:
    body = review_body()
    await _closed_loop(target, body, 4, count=WARM_UP_COUNT)
    rows = []
    for case, run in (
        (f"open loop, {rate} a second", _open_loop(target, body, connections, rate, seconds)),
        (f"closed loop, {connections} connections", _closed_loop(target, body, connections, seconds=seconds)),
    ):
        cpu_before_s = _cpu_s(target.process_id)
        latencies_s, elapsed_s = await run
        rows.append(_row(case, latencies_s, elapsed_s, _cpu_s(target.process_id) - cpu_before_s, target.process_id))
    return rows


async def _open_loop(
    target: Target, body: bytes, connections: int, rate: int, seconds: int
) -> tuple[list[float], float]:
    """Ask at fixed moments; each latency counts from the moment at which the question was due.

    Returns them and the time from the first question to the last answer, seconds.
    """
    waiting: asyncio.Queue[float] = asyncio.Queue()
    latencies_s: list[float] = []
    count = rate * seconds
    workers = [asyncio.create_task(_answer_due(target, body, waiting, latencies_s)) for _ in range(connections)]
    began_s = time.perf_counter() + CONNECT_S
    for number in range(count):
        due_s = began_s + number / rate
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        waiting.put_nowait(due_s)
    async with asyncio.timeout(ANSWER_LIMIT_S):
        await waiting.join()
    elapsed_s = time.perf_counter() - began_s
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return latencies_s, elapsed_s


async def _answer_due(target: Target, body: bytes, waiting: "asyncio.Queue[float]", latencies_s: list[float]) -> None:
    async with _Connection(target, body) as connection:
        while True:
            due_s = await waiting.get()
            await connection.ask()
            latencies_s.append(time.perf_counter() - due_s)
            waiting.task_done()


async def _closed_loop(
    target: Target, body: bytes, connections: int, seconds: float = ANSWER_LIMIT_S, count: int | None = None
) -> tuple[list[float], float]:
    """Ask again as soon as an answer is there; returns as `_open_loop` does."""
    latencies_s: list[float] = []
    first_s = time.perf_counter()
    end_s = first_s + seconds

    async def work() -> None:
        async with _Connection(target, body) as connection:
            while time.perf_counter() < end_s and (count is None or len(latencies_s) < count):
                began_s = time.perf_counter()
                await connection.ask()
                latencies_s.append(time.perf_counter() - began_s)

    await asyncio.gather(*(work() for _ in range(connections)))
    return latencies_s, time.perf_counter() - first_s


class _Connection:
    """One kept TLS connection; HTTP by hand, so that the client's cost stays small beside the server's."""

    def __init__(self, target: Target, body: bytes) -> None:
        self._target = target
        head = (
            f"POST /inject HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        self._request = f"{head}\r\n\r\n".encode() + body

    async def __aenter__(self) -> "_Connection":
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._target.port, ssl=self._target.context, server_hostname="127.0.0.1"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def ask(self) -> None:
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer = await self._reader.readexactly(int(length.split(b":")[1]))
        if not head.startswith(b"HTTP/1.1 200") or b'"patch":' not in answer:
            raise SystemExit(f"the webhook did not inject: {answer[:300]!r}")


def review_body() -> bytes:
    """An AdmissionReview of the size that a Deployment's pod has, defaults and managed fields included."""
    return json.dumps(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": "demo",
                "operation": "CREATE",
                "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["a"]},
                "object": _pod(),
                "oldObject": None,
                "dryRun": False,
                "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            },
        }
    ).encode()


def _pod() -> dict[str, Any]:
    variables = [{"name": f"SETTING_{number}", "value": "value" * 4} for number in range(20)]
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/etc/app", "readOnly": True}]
    probe = {
        "httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
    }
    container = {
        "image": "registry.example/app:1.2.3",
        "env": variables,
        "volumeMounts": mounts,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "livenessProbe": probe,
        "readinessProbe": probe,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
    }
    fields = {f"f:{number}": {".": {}, "f:name": {}, "f:value": {}} for number in range(40)}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "web-6d4b75cb6d-",
            "labels": {"app": "web", "pod-template-hash": "6d4b75cb6d"},
            "annotations": {"checksum/config": "a" * 64},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "web-6d4b75cb6d",
                    "uid": "u",
                    "controller": True,
                }
            ],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": fields}],
        },
        "spec": {
            "initContainers": [{**container, "name": "migrate"}],
            "containers": [{**container, "name": "web"}, {**container, "name": "worker"}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "config", "configMap": {"name": "web"}}],
            "serviceAccountName": "web",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        },
    }


def _row(case: str, latencies_s: list[float], elapsed_s: float, cpu_s: float, process_id: int) -> Row:
    ordered = sorted(latencies_s)
    return Row(
        case=case,
        admissions=len(ordered),
        admissions_per_s=round(len(ordered) / elapsed_s, 1),
        p50_ms=round(statistics.median(ordered) * 1000, 2),
        p99_ms=round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
        worst_ms=round(ordered[-1] * 1000, 2),
        cpu_us_per_admission=round(cpu_s / len(ordered) * 1e6, 1),
        admissions_per_cpu_s=round(len(ordered) / cpu_s, 1) if cpu_s else 0.0,
        rss_mb=_rss_mb(process_id),
    )


def _print(rows: list[Row]) -> None:
    names = list(asdict(rows[0]))
    table = [names, *([str(value) for value in asdict(row).values()] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(names))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cpu_s(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _rss_mb(process_id: int) -> float:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _bounded(limit: int) -> Any:
    def number(text: str) -> int:
        if not text.isdigit() or not 1 <= int(text) <= limit:
            raise argparse.ArgumentTypeError(f"{text!r}: write a number from 1 to {limit}")
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main())
