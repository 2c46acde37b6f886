"""One slow replica of three: how many requests each way of balancing sends there, and who waits for it. Edge."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import load, setups
from bench.rows import Row
from bench.servers import REPLICA_PORTS, replicas
from bench.setups import Balancing
from bench.systems import running

CASE = "slow-replica"
VARIANTS: tuple[tuple[str, Balancing], ...] = (
    ("haproxy", "round-robin"),
    ("haproxy", "least-request"),
    ("envoy", "round-robin"),
    ("envoy", "least-request"),
    ("tulle", "round-robin"),
    ("tulle", "peak-ewma"),
)
CONNECTIONS = 64
RATE_PER_S = 300


def measure(folder: Path, system: str, balancing: Balancing, seconds: int) -> Row:
    """Ask at a constant rate; the share counts every request, those by which a balancer learns included."""
    setup = replace(setups.REPLICAS, balancing=balancing)
    with replicas(folder) as counts, running(system, folder, setup):
        counted = load.native("open-http1", REPLICA_PORTS[0], CONNECTIONS, RATE_PER_S, seconds)
    return Row(
        CASE,
        system,
        CONNECTIONS,
        balancing=balancing,
        rate_per_s=RATE_PER_S,
        slow_ratio=counts[-1] / sum(counts),
        p50_ms=counted.p50_ms,
        p99_ms=counted.p99_ms,
        p999_ms=counted.p999_ms,
        max_ms=counted.max_ms,
    )


def variants(systems: Sequence[str]) -> list[tuple[str, Balancing]]:
    """The variants of the systems asked for."""
    return [variant for variant in VARIANTS if variant[0] in systems]
