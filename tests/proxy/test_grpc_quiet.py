"""Quiet gRPC streams and slow calls live, with real servers as they come: nobody asks them anything.

A gRPC server allows its clients one PING in five minutes while nothing is said, and ends the connection of one that
asks more often (GOAWAY, "too many pings"). Intervals of the sidecar are short here: what it would do in ten minutes, it
does in a second.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpchouse import Behaviour, GrpcServer, call, slow, speaking
from reachhouse import Through

pytestmark = pytest.mark.trio

QUICK = {"http2_ping_interval_s": 0.05, "http2_ping_timeout_s": 2.0}


@pytest.fixture
def serve_grpc() -> Iterator[Any]:
    servers: list[GrpcServer] = []

    def start(behaviours: dict[str, Behaviour], *options: tuple[str, int]) -> GrpcServer:
        servers.append(GrpcServer(behaviours, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


async def test_a_grpc_stream_that_is_quiet_for_long_lives(through: Through, serve_grpc: Any) -> None:
    """The server has the library's defaults: of 20 PINGs the third would be one too many."""
    server = serve_grpc({"stream": speaking(0.0, 1.2)})
    way = await through(server.address, **QUICK)

    seen = await call(way.entry.port, "stream")

    assert seen.messages == [b"at 0 s", b"at 1.2 s"]
    assert seen.code is grpc.StatusCode.OK


async def test_a_slow_grpc_call_is_waited_for(through: Through, serve_grpc: Any) -> None:
    server = serve_grpc({"unary": slow(1.0)})
    way = await through(server.address, **QUICK)

    seen = await call(way.entry.port, "unary")

    assert (seen.messages, seen.code) == ([b"hello"], grpc.StatusCode.OK)


@pytest.mark.soak
@pytest.mark.parametrize(("method", "expected"), [("stream", [b"at 0 s", b"at 75 s"]), ("unary", [b"hello"])])
async def test_in_real_time_a_stream_is_quiet_for_75_s_and_a_call_takes_60_s(
    through: Through, serve_grpc: Any, method: str, expected: list[bytes]
) -> None:
    if through.kind != "two":
        pytest.skip("one set-up is enough for what takes minutes")
    server = serve_grpc({"stream": speaking(0.0, 75.0), "unary": slow(60.0)})
    way = await through(server.address)

    seen = await call(way.entry.port, method, timeout_s=100.0)

    assert (seen.messages, seen.code) == (expected, grpc.StatusCode.OK)
