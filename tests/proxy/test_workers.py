"""Several workers: one admin port, one set of numbers, one drain; real processes."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from proxyhouse import GET, OK, Controller, Script, free_port, read_all, read_until

from contract.report import Peer
from proxy import render
from proxy.merge import OWNER_DIED, Merged, Teller
from proxy.meter import Labels, Meter

LAUNCH = """
import sys
import proxy.app, proxy.workers
from proxy import __main__
from proxy.model import Address
destination = Address("127.0.0.1", int(sys.argv[1]))
proxy.app.App.__init__.__defaults__ = (lambda _sock: destination, lambda _own_ports: False)
proxy.workers.Parent.__init__.__defaults__ = (proxy.app.App, lambda _own_ports: False)
sys.exit(__main__.main())
"""


class Workers:
    """A sidecar of several workers, as its users see it."""

    def __init__(self, port: int, **more: str) -> None:
        ports = {f"TULLE_PROXY_{name}_PORT": str(free_port()) for name in ("OUTBOUND", "INBOUND", "ADMIN")}
        quick = {"TULLE_PROXY_DRAIN_QUIET_S": "0.2", "TULLE_PROXY_DRAIN_IDLE_S": "0.3", "TULLE_PROXY_WORKERS": "3"}
        environ = {**os.environ, **ports, **quick, "TULLE_PROXY_LOG_LEVEL": "info", "PYTHONWARNINGS": "error", **more}
        self.port = int(ports["TULLE_PROXY_OUTBOUND_PORT"])
        self.admin_port = int(ports["TULLE_PROXY_ADMIN_PORT"])
        command = [sys.executable, "-c", LAUNCH, str(port)]
        self.process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)

    async def admin(self, path: str) -> tuple[int, str]:
        async with await trio.open_tcp_stream("127.0.0.1", self.admin_port) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
        return int(head.split()[1]) if head else 0, body.decode()

    async def wait_ready(self) -> None:
        with trio.fail_after(10):
            while True:
                try:
                    if (await self.admin("/ready"))[0] == 200:
                        return
                except (OSError, ValueError):
                    pass
                await trio.sleep(0.02)

    async def metrics(self) -> dict[str, float]:
        """Sum of the samples of each name."""
        status, text = await self.admin("/metrics")
        assert status == 200
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def pids(self) -> list[int]:
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return [int(word) for word in file.read().split()]


@pytest.fixture
def launch() -> Iterator[Callable[..., Workers]]:
    started: list[Workers] = []

    def start(port: int, **more: str) -> Workers:
        started.append(Workers(port, **more))
        return started[-1]

    yield start
    for sidecar in started:
        sidecar.process.kill()
        sidecar.process.wait()
        if sidecar.process.stderr is not None:
            sidecar.process.stderr.close()


async def ask(port: int) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET)
        return await read_until(stream, b"\r\n\r\nok")


@pytest.mark.trio
async def test_all_workers_serve_and_one_admin_port_tells_of_all(launch: Any, serve: Any) -> None:
    server = await serve(Script([OK]).handle)
    sidecar = launch(server.port)
    await sidecar.wait_ready()
    for _ in range(60):
        assert (await ask(sidecar.port)).endswith(b"ok")
    metrics = await sidecar.metrics()
    cpu_s = {pid: _cpu_ticks(pid) for pid in sidecar.pids()}

    assert len(cpu_s) == 3
    assert metrics["request_total"] == metrics["response_total"] == metrics["response_latency_ms_count"] == 60
    assert metrics["workers_running"] == 3
    assert metrics["sessions_limit"] == 30000
    assert (await sidecar.admin("/live"))[0] == 200
    assert '"TULLE_PROXY_WORKERS": "3"' in (await sidecar.admin("/config"))[1]
    assert (await sidecar.admin("/nowhere"))[0] == 404


@pytest.mark.trio
async def test_descriptors_of_the_parent_count_too(launch: Any) -> None:
    sidecar = launch(1)
    await sidecar.wait_ready()
    open_fds = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (sidecar.process.pid, *sidecar.pids()))
    metrics = await sidecar.metrics()

    assert open_fds <= metrics["process_open_fds"] <= open_fds + 8, "each looks by one more, and one asks"


def _cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[11])


@pytest.mark.trio
async def test_a_worker_that_dies_is_replaced_and_what_it_counted_stays(launch: Any, serve: Any) -> None:
    server = await serve(Script([OK]).handle)
    sidecar = launch(server.port)
    await sidecar.wait_ready()
    counts = []
    for _ in range(2):
        for _ in range(20):
            await ask(sidecar.port)
        counts.append(await sidecar.metrics())
        for pid in sidecar.pids():
            os.kill(pid, signal.SIGKILL)
            await trio.sleep(0.01)
        with trio.fail_after(10):
            while len(sidecar.pids()) < 3:  # noqa: ASYNC110 - processes
                await trio.sleep(0.02)
        await sidecar.wait_ready()
        counts.append(await sidecar.metrics())
    await ask(sidecar.port)
    counts.append(await sidecar.metrics())

    assert [c["request_total"] for c in counts] == [20, 20, 40, 40, 41]
    assert [c.get("worker_exits_total", 0) for c in counts] == [0, 3, 3, 6, 6]
    assert all(a["process_cpu_seconds_total"] <= b["process_cpu_seconds_total"] for a, b in pairwise(counts))
    assert all(c["tcp_open_connections"] >= 0 for c in counts)


@pytest.mark.trio
async def test_connections_in_the_backlog_of_a_dead_worker_are_served_by_the_next(launch: Any, serve: Any) -> None:
    server = await serve(Script([OK]).handle)
    sidecar = launch(server.port)
    await sidecar.wait_ready()
    for pid in sidecar.pids():
        os.kill(pid, signal.SIGSTOP)
    answers: list[bytes] = []

    async def client() -> None:
        answers.append(await ask(sidecar.port))

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(client)
        await trio.sleep(0.2)
        for pid in sidecar.pids():
            os.kill(pid, signal.SIGKILL)

    assert [answer.endswith(b"ok") for answer in answers] == [True] * 12


@pytest.mark.trio
async def test_sigterm_under_load_loses_no_request_in_any_worker(launch: Any, serve: Any) -> None:
    server = await serve(Script([OK]).handle)
    sidecar = launch(server.port)
    await sidecar.wait_ready()
    lost: list[bytes] = []
    answered = 0
    is_over = False

    async def client(number: int) -> None:
        nonlocal answered
        while not is_over:
            async with await trio.open_tcp_stream("127.0.0.1", sidecar.port) as stream:
                answer = OK
                while answer == OK and not is_over:
                    await stream.send_all(GET)
                    answer = await read_until(stream, b"\r\n\r\nok")
                    answered += 1
                    await trio.sleep(0.001 * (number % 5))
                if not answer.endswith(b"\r\n\r\nok"):
                    lost.append(answer)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(client, number)
        await trio.sleep(0.3)
        sidecar.process.send_signal(signal.SIGTERM)
        await trio.sleep(0.3)
        assert (await sidecar.admin("/ready"))[0] == 503
        await trio.sleep(0.3)
        is_over = True
    started_s = time.monotonic()
    _out, log = await trio.to_thread.run_sync(sidecar.process.communicate)

    assert lost == []
    assert answered > 50
    assert sidecar.process.returncode == 0
    assert log.count('"drained"') == 3
    assert time.monotonic() - started_s < 3.0


@pytest.mark.trio
async def test_workers_go_when_their_parent_is_killed(launch: Any) -> None:
    sidecar = launch(1)
    await sidecar.wait_ready()
    pids = sidecar.pids()
    sidecar.process.kill()
    with trio.fail_after(5):
        while any(_is_alive(pid) for pid in pids):  # noqa: ASYNC110 - processes
            await trio.sleep(0.02)

    assert len(pids) == 3


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.trio
async def test_the_controller_hears_one_sidecar_and_every_request_once(
    launch: Any, serve: Callable[..., Awaitable[Any]], controller: Controller
) -> None:
    server = await serve(Script([OK]).handle)
    controller.service(server, server)
    sidecar = launch(
        server.port, TULLE_PROXY_CONTROLLER_URL=controller.url, TULLE_PROXY_REPORT_INTERVAL_S="0.1", TULLE_POD_NAME="w"
    )
    await sidecar.wait_ready()
    for _ in range(10):
        await ask(sidecar.port)
    os.kill(sidecar.pids()[0], signal.SIGTERM)
    await trio.sleep(0.5)
    await sidecar.wait_ready()
    for _ in range(20):
        await ask(sidecar.port)
    sidecar.process.send_signal(signal.SIGTERM)
    await trio.to_thread.run_sync(sidecar.process.communicate)

    assert len({report.instance for report in controller.reports}) == 1
    assert sum(series.success for report in controller.reports for series in report.http) == 30
    assert sidecar.process.returncode == 0


@pytest.mark.trio
async def test_a_taken_port_ends_the_parent_with_a_word(launch: Any) -> None:
    first = launch(1)
    await first.wait_ready()
    second = launch(1, TULLE_PROXY_ADMIN_PORT=str(first.admin_port))
    _out, log = await trio.to_thread.run_sync(second.process.communicate)

    assert second.process.returncode == 1
    assert re.search(r"cannot listen on .*Address already in use", log)


# merging, without processes


def labels(address: str) -> Labels:
    return (("direction", "outbound"), ("target_addr", address))


def totals(meter: Meter) -> tuple[int, ...]:
    http, tcp = meter.http.values(), meter.tcp.values()
    responses = [found for s in http for found in s.by_status.values()]
    return (
        sum(s.requests for s in http),
        sum(r.count for r in responses),
        sum(sum(r.buckets) for r in responses),
        sum(s.opened for s in tcp),
        sum(s.open_now for s in tcp),
        sum(s.read_bytes for s in tcp),
        sum(sum(s.closed.values()) for s in tcp),
        sum(meter.counters.values()),
    )


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(("request", "open", "close", "count", "tell", "die")), st.integers(0, 60)
    ),
    max_size=120,
)


@given(EVENTS)
def test_merged_sums_are_what_the_workers_told_and_never_go_backwards(events: list[tuple[int, str, int]]) -> None:
    merged = Merged(Meter(20))
    workers = {n: (Meter(16), n) for n in range(3)}
    tellers = {n: Teller(meter) for n, (meter, _) in workers.items()}
    dead_totals = (0,) * 8
    last = totals(merged.meter)
    for number, (slot, event, what) in enumerate(events):
        meter, identity = workers[slot]
        if event == "request":
            series = meter.take_http(labels(f"10.0.0.{what}:80"), Peer())
            series.requests += 1
            series.status(200 if what % 3 else 503, bool(what % 3)).record(float(what))
        elif event == "open":
            opened = meter.take_tcp(labels(f"10.0.0.{what}:80"), Peer())
            opened.opened += 1
            opened.open_now += 1
            opened.read_bytes += what
        elif event == "close":
            for connections in meter.tcp.values():
                if connections.open_now:
                    connections.close("" if what % 2 else "ECONNRESET")
                    break
        elif event == "count":
            meter.count("bugs_total")
        else:
            merged.apply(identity, tellers[slot].news(0))
            if event == "die":
                merged.lose(identity)
                gone = totals(meter)
                ended = (*gone[:4], 0, gone[5], gone[6] + gone[4], gone[7])  # what was open has ended
                dead_totals = tuple(a + b for a, b in zip(dead_totals, ended, strict=True))
                workers[slot] = (Meter(16), 100 + number)
                tellers[slot] = Teller(workers[slot][0])
        now = totals(merged.meter)
        assert all(a <= b for place, (a, b) in enumerate(zip(last, now, strict=True)) if place != 4)
        last = now
    for slot, (_meter, identity) in workers.items():
        merged.apply(identity, tellers[slot].news(0))
    alive = [totals(meter) for meter, _ in workers.values()]

    assert totals(merged.meter) == tuple(map(sum, zip(dead_totals, *alive, strict=True)))
    assert len(merged.meter.http) <= 20


def test_thousands_of_destinations_stay_bounded_in_workers_and_parent_and_no_request_is_lost() -> None:
    merged = Merged(Meter(200))
    workers = [(Meter(200), n) for n in range(4)]
    tellers = [Teller(meter) for meter, _ in workers]
    for n in range(20_000):
        meter, identity = workers[n % 4]
        series = meter.take_http(labels(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80"), Peer(service=f"s{n}"))
        series.requests += 1
        series.status(200, True).record(1.0)
        meter.give(series)
        if n % 997 == 0:
            meter.expire(n * 1.0, 600.0)
            merged.apply(identity, tellers[n % 4].news(0))
            merged.meter.expire(n * 1.0, 1e9)
    for _meter, identity in workers:
        merged.apply(identity, tellers[identity].news(0))

    assert totals(merged.meter)[:3] == (20_000, 20_000, 20_000)
    assert all(len(meter.http) <= 200 for meter, _ in workers)
    assert len(merged.meter.http) <= 200
    assert merged.meter.overflows_count > 0
    assert "".join(render.render(merged.meter)).count("\n") < 200 * 40


def test_connections_of_a_dead_worker_have_ended_with_it() -> None:
    meter = Meter(100)
    merged = Merged(Meter(100))
    series = meter.take_tcp(labels("a"), Peer())
    series.opened = series.open_now = 3
    merged.apply(1, Teller(meter).news(0))
    merged.lose(1)
    (found,) = merged.meter.tcp.values()

    assert (found.opened, found.open_now, found.closed) == (3, 0, {"": 0, OWNER_DIED: 3})


@pytest.mark.trio
async def test_silent_connections_to_the_shared_admin_port_keep_no_probe_out(launch: Any) -> None:
    sidecar = launch(9, TULLE_PROXY_WORKERS="2")
    await sidecar.wait_ready()
    async with AsyncExitStack() as stack:
        for _ in range(200):
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", sidecar.admin_port))

        with trio.fail_after(2):
            assert (await sidecar.admin("/live"))[0] == 200
            assert (await sidecar.admin("/ready"))[0] == 200
            assert (await sidecar.admin("/config"))[0] == 200


@pytest.mark.trio
async def test_a_sidecar_out_of_descriptors_rests_and_goes_on_when_there_are_some(launch: Any, serve: Any) -> None:
    server = await serve(Script([OK]).handle)
    sidecar = launch(server.port, TULLE_PROXY_WORKERS="1")
    await sidecar.wait_ready()
    used_count = len(os.listdir(f"/proc/{sidecar.process.pid}/fd"))
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (used_count + 20, used_count + 20))
    async with AsyncExitStack() as stack:
        for _ in range(60):
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", sidecar.port))
        await trio.sleep(0.3)

    with trio.fail_after(5):
        assert (await ask(sidecar.port)).endswith(b"ok")
    _, text = await sidecar.admin("/metrics")
    assert re.search(r'accept_pauses_total\{reason="EMFILE"\} [1-9]', text)
