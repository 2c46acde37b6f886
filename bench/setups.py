"""What a system under test is set up for. Pure."""

from dataclasses import dataclass
from typing import Literal

from bench.servers import ECHO_PORT, GRPC_PORT, HTTP1_PORT, HTTP2_PORT, PIECES_PORT, REPLICA_PORTS, SOURCE_PORT

Balancing = Literal["", "peak-ewma", "least-request", "round-robin"]
"""Empty: the system's own default."""


@dataclass(frozen=True)
class Setup:
    """One configuration, said once for all systems."""

    protocol: Literal["http1", "http2", "tcp"]
    ports: tuple[int, ...]
    """Of the servers behind it; clients dial the first."""
    features: bool = False
    """Timeouts, retries with a budget, circuit breakers, limits, and figures for each endpoint."""
    balancing: Balancing = ""


HTTP1 = Setup("http1", (HTTP1_PORT,))
PIECES = Setup("http1", (PIECES_PORT,))
HTTP2 = Setup("http2", (HTTP2_PORT,))
GRPC = Setup("http2", (GRPC_PORT,))
ECHO = Setup("tcp", (ECHO_PORT,))
SOURCE = Setup("tcp", (SOURCE_PORT,))
HTTP1_FEATURES = Setup("http1", (HTTP1_PORT,), features=True)
HTTP2_FEATURES = Setup("http2", (HTTP2_PORT,), features=True)
REPLICAS = Setup("http1", REPLICA_PORTS)
