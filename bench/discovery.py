"""A controller that knows one service, for benchmarks: `python -m bench.discovery FILE`, FILE an update. Waits."""

import sys
from pathlib import Path

import msgspec
import trio

from bench.arena import SERVER_IP
from bench.setups import Setup
from contract.discovery import DISCOVERY_PATH, HEARTBEAT_S, Destination, Endpoint, Protocol, Update
from contract.policy import (
    Balancing,
    Budget,
    CircuitBreaker,
    Concurrency,
    Retries,
    ServicePolicy,
    Timeouts,
)
from contract.ports import CONTROLLER_PORT

# The same promises as `_FEATURES` of bench/rivals.py makes in Envoy's words.
FEATURES = ServicePolicy(
    timeouts=Timeouts(request_s=10, per_try_s=2, response_s=10, idle_s=60),
    retries=Retries(limit_count=2, statuses=((502, 504),), on_reset=True),
    budget=Budget(ratio=0.2, min_per_s=10),
    circuit_breaker=CircuitBreaker(consecutive_failures_count=5, success_ratio=0.5, ejection_max_s=30),
    service_concurrency=Concurrency(limit_count=50000, queue_count=10000, queue_timeout_s=1),
    endpoint_concurrency=Concurrency(limit_count=50000, queue_count=10000, queue_timeout_s=1),
    name="bench/all-features",
)


def policy(setup: Setup) -> ServicePolicy | None:
    """What a TrafficPolicy would have the controller say of this set-up."""
    chosen = FEATURES if setup.features else None
    if setup.balancing:
        chosen = msgspec.structs.replace(chosen or ServicePolicy(), balancing=Balancing(setup.balancing))
    return chosen


def update(setup: Setup) -> Update:
    """The one update: the address is a service, and behind it stand the set-up's servers."""
    endpoints = tuple(
        Endpoint(ip=SERVER_IP, port=port, pod=f"web-{port}", namespace="bench", owner_kind="deployment", owner="web")
        for port in setup.ports
    )
    port = setup.ports[0]
    protocol: Protocol = "opaque" if setup.protocol == "tcp" else "detect"
    target = f"{SERVER_IP}:{port}"
    return Update(
        (
            Destination(
                target, "1", "service", "bench", "web", port, protocol, endpoints=endpoints, policy=policy(setup)
            ),
        )
    )


async def serve(stream: trio.SocketStream, line: bytes) -> None:
    """Answer one request: discovery with a stream of heartbeats, anything else (reports) with 204."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some()
        if not data:
            return
        head += data
    if DISCOVERY_PATH.encode() not in head.split(b"\r\n", 1)[0]:
        await stream.send_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        return
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n")
    while True:
        await stream.send_all(line + b"\n")
        line = msgspec.json.encode(Update())
        await trio.sleep(HEARTBEAT_S)


async def main(line: bytes) -> None:
    """Serve on loopback until ended."""

    async def handler(stream: trio.SocketStream) -> None:
        try:
            await serve(stream, line)
        except trio.BrokenResourceError:
            pass

    await trio.serve_tcp(handler, CONTROLLER_PORT, host="127.0.0.1")


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]).read_bytes())
