"""Minutes of mixed traffic over a bad wire: nothing leaks, memory does not grow, every request is accounted for.

`make soak` runs it for five minutes; TULLE_SOAK_S says otherwise. Two sidecars stand as in two pods: clients, their
sidecar, a wire that loses packets and resets connections, the other sidecar, servers that misbehave.

How a client's outcomes and its sidecar's counters go together, for clients that wait for their answers:
- every request whose head was sent whole is in `request_total`, and has a response of the same status in
  `response_total`: the server's own, or the sidecar's 502, 503, 504 in its stead;
- each of the latter is in `outbound_http_errors_total` under the reason that the answer names;
- a response that broke off counts by its status, and in `outbound_http_errors_total{error="response-cut"}`; the reset
  that tells the client may overtake the response's head, which the client then never sees.
A client that goes away is in `request_total` if its request was sent on, which it cannot know, and in
`response_total` if its response had begun; of the difference each is in `...{error="client-closed"}`.
"""

import json
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError, Popen

import pytest
from network import CLIENT, HOUSE, SERVER, inside, make_it_bad, make_it_good, network, process
from prometheus_client.parser import text_string_to_metric_families

SOAK_S = float(os.environ.get("TULLE_SOAK_S", "20"))
WARM_S = 3.0
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
}

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(SOAK_S * 2 + 300),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("iptables-legacy"), reason="needs root and iptables-legacy"
    ),
]


@dataclass
class Reading:
    """A sidecar's metrics at one moment."""

    samples: list[tuple[str, dict[str, str], float]]

    def sum(self, name: str, **labels: object) -> int:
        wanted = {(key, str(value)) for key, value in labels.items()}
        return int(sum(value for found, pairs, value in self.samples if found == name and wanted <= set(pairs.items())))

    def by(self, name: str, label: str, **labels: object) -> dict[str, int]:
        wanted = {(key, str(value)) for key, value in labels.items()}
        found: Counter[str] = Counter()
        for sample, pairs, value in self.samples:
            if sample == name and wanted <= set(pairs.items()):
                found[pairs.get(label, "")] += int(value)
        return {key: value for key, value in found.items() if value}


def read(namespace: str) -> Reading:
    text = inside(namespace, "curl", "-sf", "-m", "10", "http://127.0.0.1:4191/metrics")
    return Reading([(s.name, s.labels, s.value) for f in text_string_to_metric_families(text) for s in f.samples])


def rest(namespace: str) -> Reading:
    """Wait until a sidecar has nothing to do; read it then."""
    deadline_s = time.monotonic() + REST_S
    while True:
        reading = read(namespace)
        busy = {name: reading.sum(name) for name in ("sessions_open", "pool_idle_connections", "dials_in_progress")}
        if not any(busy.values()):
            return reading
        sockets = inside(namespace, "ss", "-tnpo") if time.monotonic() > deadline_s else ""
        assert not sockets, f"{namespace} is not quiet: {busy}\n{sockets}"
        time.sleep(0.5)


def traffic(seconds: float, seed: int) -> Counter[str]:
    with process(CLIENT, sys.executable, str(HOUSE / "clients.py"), str(seconds), str(seed)) as clients:
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


def test_nothing_leaks_and_every_request_is_accounted_for() -> None:
    rounds = 3 if SOAK_S < 60 else 6
    workers = os.environ.get("TULLE_SOAK_WORKERS", "1")
    python = sys.executable
    with (
        network(),
        process(SERVER, python, str(HOUSE / "servers.py")),
        process(SERVER, python, "-m", "proxy", as_sidecar=True, **SETTINGS) as inbound,
        process(CLIENT, python, "-m", "proxy", as_sidecar=True, TULLE_PROXY_WORKERS=workers, **SETTINGS) as outbound,
    ):
        wait_ready(SERVER, inbound)
        wait_ready(CLIENT, outbound)
        make_it_bad()
        told = traffic(WARM_S, 0)
        make_it_good()
        baseline = {name: rest(name) for name in (CLIENT, SERVER)}
        resident: dict[str, list[int]] = {CLIENT: [], SERVER: []}
        for seed in range(1, rounds + 1):
            make_it_bad()
            told += traffic(SOAK_S / rounds, seed)
            make_it_good()
            now = {name: rest(name) for name in (CLIENT, SERVER)}
            for name, reading in now.items():
                resident[name].append(reading.sum("process_resident_memory_bytes") // 1024)
        for name, reading in now.items():
            errors = {d: reading.by(f"{d}_http_errors_total", "error") for d in ("inbound", "outbound")}
            ends = {p: reading.by("tcp_close_total", "errno", target_port=p) for p in (8081, 8082, 8083, 8084, 8085)}
            print(name, errors, ends, reading.by("outbound_retry_total", "reason"))
        print(json.dumps(told, indent=1, sort_keys=True), resident)
        if "TULLE_SOAK_DUMP" in os.environ:
            Path(os.environ["TULLE_SOAK_DUMP"]).write_text(
                json.dumps((told, resident, [r.samples for r in now.values()]))
            )
        for name in (CLIENT, SERVER):
            check_nothing_leaked(baseline[name], now[name], resident[name])
        assert told["hung:0"] == 0
        check_http(told, now[CLIENT])
        check_http2(told, now[CLIENT])
        check_relays(told, now[CLIENT])
        check_other_side(now[SERVER])


def check_nothing_leaked(before: Reading, after: Reading, resident_kb: list[int]) -> None:
    for name in ("process_open_fds", "tasks_running", "tcp_open_connections", "bugs_total"):
        assert after.sum(name) == before.sum(name), name
    assert after.sum("bugs_total") == 0
    assert after.by("tcp_open_total", "target_addr") == after.by("tcp_close_total", "target_addr")
    # What allocators keep between the pieces settles within two rounds; from then on it must not grow.
    assert resident_kb[-1] <= resident_kb[1] * 1.03 + 1024, resident_kb


def check_http(told: Counter[str], counted: Reading) -> None:
    sent = told["sent:8081"]
    heads = {key.split(":")[1]: n for key, n in told.items() if key.startswith("heads:") and key.endswith(":8081")}
    cuts = counted.sum("outbound_http_errors_total", error="response-cut")
    left, closed = told["left:8082"], counted.sum("outbound_http_errors_total", error="client-closed")
    responses = counted.by("response_total", "status_code", target_port=8081)
    unanswered = {status: n - heads.get(status, 0) for status, n in responses.items() if n != heads.get(status, 0)}

    assert sent == sum(heads.values()) + told["unanswered:8081"]
    assert sent == counted.sum("request_total", target_port=8081) == sum(responses.values())
    assert sum(unanswered.values()) == told["unanswered:8081"]
    assert set(unanswered) <= {"200"}  # the paths that break off
    assert sent == counted.sum("response_latency_ms_count", target_port=8081)
    # One counter for all destinations: those who left early add between none and all of theirs.
    broken_off = told["cut:8081"] + told["unanswered:8081"] + told["cut:8085"]
    left += told["unanswered:8085"]
    assert broken_off <= cuts <= broken_off + left
    for reason, number in counted.by("outbound_http_errors_total", "error").items():
        if reason not in ("response-cut", "client-closed"):
            by_http2 = told["sent:8085"] if reason in ("server-closed", "server-reset", "connect-timeout") else 0
            assert told[f"errors:{reason}:8081"] <= number <= told[f"errors:{reason}:8081"] + left + by_http2, reason
    begun, answered = (counted.sum(name, target_port=8082) for name in ("request_total", "response_total"))
    assert told["seen:8082"] <= answered <= begun <= told["sent:8082"]
    assert begun - answered <= closed


def check_http2(told: Counter[str], counted: Reading) -> None:
    """As for HTTP/1; a stream that is reset before its response counts as the 502 or 504 that it stands for."""
    sent, unanswered = told["sent:8085"], told["unanswered:8085"]
    heads = {key.split(":")[1]: n for key, n in told.items() if key.startswith("heads:") and key.endswith(":8085")}
    responses = counted.by("response_total", "status_code", target_port=8085)

    assert sent == sum(heads.values()) + unanswered
    assert sent == counted.sum("request_total", target_port=8085) == sum(responses.values())
    assert all(number <= responses.get(status, 0) for status, number in heads.items())
    assert told["goaway:8085"] == 0


def check_relays(told: Counter[str], counted: Reading) -> None:
    for port in (8083, 8084):
        assert told[f"connected:{port}"] == counted.sum("tcp_open_total", target_port=port, peer="src")
    assert told["short:8083"] == 0
    assert told["bytes-sent:8083"] == counted.sum("tcp_read_bytes_total", target_port=8083, peer="src")
    assert told["bytes-received:8083"] == counted.sum("tcp_write_bytes_total", target_port=8083, peer="src")
    assert told["bytes-sent:8083"] == counted.sum("tcp_write_bytes_total", target_port=8083, peer="dst")
    assert told["bytes-received:8083"] == counted.sum("tcp_read_bytes_total", target_port=8083, peer="dst")
    assert told["bytes-received:8084"] <= counted.sum("tcp_write_bytes_total", target_port=8084, peer="src")


def check_other_side(counted: Reading) -> None:
    """The inbound sidecar's clients are reset by the wire; its own numbers must still agree with one another."""
    requests, responses = counted.sum("request_total"), counted.sum("response_total")
    closed = counted.sum("inbound_http_errors_total", error="client-closed")

    assert responses <= requests <= responses + closed
