"""A gRPC server for a service: its calls on one port, its probes by HTTP on another, a drain that loses nothing.

On SIGTERM it turns unready and answers on for DRAIN_S seconds while the cluster takes it out of its endpoints; then it
takes no further call, lets those in flight finish and ends with exit code 0. Streams look at `Draining` themselves.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable

import grpc

from samples.serving import DRAIN_S, LONGEST_FINISH_S, Server, nothing_here

CALLS_MAX_COUNT = 256
CALL_MAX_BYTES = 64 * 1024

Draining = asyncio.Event
Register = Callable[[grpc.aio.Server, Draining], None]
"""Adds the service to the server."""


def serve(register: Register) -> None:
    """Serve on the ports that the environment names until SIGTERM or SIGINT; returns once drained.

    PORT (8080) is for calls, PROBE_PORT (8081) for `/live` and `/ready`.
    """
    probes = Server(int(os.environ.get("PROBE_PORT", "8081")), nothing_here)
    threading.Thread(target=probes.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    asyncio.run(_serve(register, probes))


async def _serve(register: Register, probes: Server) -> None:
    draining = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, draining.set)
    bounds = [("grpc.max_receive_message_length", CALL_MAX_BYTES), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=bounds, maximum_concurrent_rpcs=CALLS_MAX_COUNT)
    register(server, draining)
    port = server.add_insecure_port(f"[::]:{os.environ.get('PORT', '8080')}")
    await server.start()
    print(f"listening on port {port}, probes on port {probes.server_port}", flush=True)
    await draining.wait()
    probes.draining = True
    await asyncio.sleep(DRAIN_S)
    await server.stop(LONGEST_FINISH_S)
