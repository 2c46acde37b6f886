"""Minutes of mixed traffic over a bad wire: nothing leaks, memory does not grow, every request is accounted for.

`make soak` runs it for five minutes; TULLE_SOAK_S says otherwise. Two sidecars stand as in two pods: clients, their
sidecar, a wire that loses packets and resets connections, the other sidecar, servers that misbehave. The sidecars are
one process each, interpreted. TULLE_SOAK_WORKERS=2 makes them several workers, TULLE_SOAK_CODE=.venv/compiled takes the
compiled build: the same accounts must hold.

How the outcomes that clients tell and the counters of the sidecars go together: see accounts.py.
"""

import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import CalledProcessError, Popen

import pytest
from accounts import Reading, check_connections, check_heard, check_inbound, check_leaving, check_relays, check_staying
from network import (
    CLIENT,
    CODE,
    HOUSE,
    SERVER,
    WORKERS_COUNT,
    inside,
    make_it_bad,
    make_it_good,
    memory_kb,
    network,
    process,
)
from prometheus_client.parser import text_string_to_metric_families

SOAK_S = float(os.environ.get("TULLE_SOAK_S", "20"))
WARM_S = 6.0 * WORKERS_COUNT
"""Until all kinds of traffic have been as many as they will be; each worker has a share of them alone."""
GROWTH_KB = 512
"""What may come and go between rounds in a process: pages that are in use for a part."""
REST_S = 40.0
"""Longest time until all is quiet: what is half open is found out by keep-alive probes."""

SETTINGS = {
    "TULLE_PROXY_POOL_IDLE_TIMEOUT_S": "0.5",
    "TULLE_PROXY_TRUNK_IDLE_TIMEOUT_S": "0.5",
    "TULLE_PROXY_CONNECT_TIMEOUT_S": "2.5",
    "TULLE_PROXY_KEEPALIVE_S": "1",
    "TULLE_PROXY_USER_TIMEOUT_S": "5",
    "TULLE_PROXY_STREAM_IDLE_TIMEOUT_S": "15",
    "TULLE_PROXY_HALF_CLOSED_TIMEOUT_S": "15",
    "TULLE_PROXY_DRAIN_TIMEOUT_S": "1",
    "TULLE_PROXY_LOG_LEVEL": "error",
    "TULLE_PROXY_OPAQUE_PORTS": "8084",
    "TULLE_PROXY_WORKERS": str(WORKERS_COUNT),
}

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(SOAK_S * 2 + 300),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("iptables-legacy"), reason="needs root and iptables-legacy"
    ),
]


def read(namespace: str) -> Reading:
    text = inside(namespace, "curl", "-sf", "-m", "10", "http://127.0.0.1:4191/metrics")
    return Reading([(s.name, s.labels, s.value) for f in text_string_to_metric_families(text) for s in f.samples])


def rest(namespace: str) -> Reading:
    """Wait until a sidecar has nothing to do; read it then."""
    gauges = ("sessions_open", "pool_idle_connections", "trunks_open", "dials_in_progress")
    deadline_s = time.monotonic() + REST_S
    while True:
        reading = read(namespace)
        busy = {name: reading.sum(name) for name in gauges}
        if not any(busy.values()):
            return reading
        sockets = inside(namespace, "ss", "-tnpo") if time.monotonic() > deadline_s else ""
        assert not sockets, f"{namespace} is not quiet: {busy}\n{sockets}"
        time.sleep(0.5)


def traffic(seconds: float, seed: int, who: str) -> Counter[str]:
    with process(CLIENT, sys.executable, str(HOUSE / "clients.py"), str(seconds), str(seed), who) as clients:
        out, _ = clients.communicate(timeout=seconds + 90)
    return Counter(json.loads(out))


def wait_ready(namespace: str, sidecar: "Popen[str]") -> None:
    deadline_s = time.monotonic() + 15
    while time.monotonic() < deadline_s:
        try:
            inside(namespace, "curl", "-sf", "http://127.0.0.1:4191/ready")
            return
        except CalledProcessError:
            assert sidecar.poll() is None
            time.sleep(0.1)
    raise AssertionError(f"the sidecar in {namespace} is not ready")


def heard() -> Counter[str]:
    return Counter(json.loads(inside(SERVER, "curl", "-sf", "http://127.0.0.1:8090/")))


def test_nothing_leaks_and_every_request_is_accounted_for() -> None:
    rounds = 4 if SOAK_S < 60 else 6
    python = sys.executable
    assert (CODE / "proxy/__main__.py").exists(), f"no sidecar in {CODE}"
    with (
        network(),
        process(SERVER, python, str(HOUSE / "servers.py")),
        process(SERVER, python, "-m", "proxy", as_sidecar=True, **SETTINGS) as inbound,
        process(CLIENT, python, "-m", "proxy", as_sidecar=True, **SETTINGS) as outbound,
    ):
        wait_ready(SERVER, inbound)
        wait_ready(CLIENT, outbound)
        soak = Soak({CLIENT: outbound.pid, SERVER: inbound.pid})
        soak.round(WARM_S, 0)
        for seed in range(1, rounds + 1):
            soak.round(SOAK_S / rounds, seed)
        print(soak.memory_kb)
        for of_processes in soak.memory_kb.values():
            for of_one in zip(*of_processes, strict=True):
                assert max(of_one[2:]) <= of_one[1] + GROWTH_KB, of_one


class Soak:
    """Traffic in rounds: each begins and ends with all at rest, and is accounted for on its own."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.pids = pids
        self.now = {name: Reading([]) for name in (CLIENT, SERVER)}
        self.baseline = self.now
        self.memory_kb: dict[str, list[list[int]]] = {CLIENT: [], SERVER: []}
        """Of each sidecar, after each round: of each of its processes."""
        self._heard: Counter[str] = Counter()

    def round(self, seconds: float, seed: int) -> None:
        who = "all" if seed % 2 else "stayers"
        make_it_bad()
        told = traffic(seconds, seed, who)
        make_it_good()
        before, self.now = self.now, {name: rest(name) for name in (CLIENT, SERVER)}
        if seed == 0:
            self.baseline = self.now
        else:
            check_all_closed(self.baseline, self.now)
        before_heard, self._heard = self._heard, heard()
        counted = {name: self.now[name].since(before[name]) for name in self.now}
        self._show(seed, who, told, counted)

        assert told["hung:0"] == 0
        check_connections(told, counted[CLIENT])
        if who == "stayers":
            check_staying(told, counted[CLIENT])
        else:
            check_leaving(told, counted[CLIENT])
        check_relays(told, counted[CLIENT])
        check_inbound(counted[SERVER])
        check_heard(self._heard - before_heard, told, counted[CLIENT], counted[SERVER])
        self._trim()

    def _trim(self) -> None:
        """Let the sidecars give back what allocators keep, as they do after a burst; what is left must not grow."""
        before = {name: reading.sum("memory_trims_total") for name, reading in self.now.items()}
        burst = (sys.executable, str(HOUSE / "clients.py"), "1", "0", "burst")
        inside(CLIENT, *burst)
        deadline_s = time.monotonic() + REST_S
        while any(read(name).sum("memory_trims_total") < before[name] + WORKERS_COUNT for name in before):
            assert time.monotonic() < deadline_s, "memory is not given back"
            time.sleep(0.5)
        self.now = {name: rest(name) for name in before}
        for name, pid in self.pids.items():
            self.memory_kb[name].append(memory_kb(pid))

    def _show(self, seed: int, who: str, told: Counter[str], counted: dict[str, Reading]) -> None:
        print(f"\nround {seed}, {who}:", json.dumps(told, sort_keys=True), f"heard: {dict(self._heard)}")
        for name, reading in counted.items():
            errors = {d: reading.by(f"{d}_http_errors_total", "error") for d in ("inbound", "outbound")}
            print(name, errors, reading.by("outbound_retry_total", "reason"), self.memory_kb[name], "KiB")
        if "TULLE_SOAK_DUMP" in os.environ:
            with Path(os.environ["TULLE_SOAK_DUMP"]).open("a") as dump:
                dump.write(json.dumps((seed, who, told, [r.samples for r in counted.values()])) + "\n")


def check_all_closed(before: dict[str, Reading], after: dict[str, Reading]) -> None:
    for side, reading in after.items():
        for name in ("process_open_fds", "tasks_running", "tcp_open_connections"):
            assert reading.sum(name) == before[side].sum(name), (side, name)
        assert reading.sum("bugs_total") == reading.sum("worker_exits_total") == 0
        assert reading.by("tcp_open_total", "target_addr") == reading.by("tcp_close_total", "target_addr")
