"""A gRPC server and channels of the real library (grpcio), for tests that run them beside sidecars of this process.

grpcio has threads of its own: a client's blocking call runs in a thread of trio's, so that the sidecar turns meanwhile.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import trio

from proxy.model import Address

Behaviour = Callable[[bytes, grpc.ServicerContext], Any]

SERVICE = "test.Quiet"


class GrpcServer:
    """Serves behaviours by name; those that yield are server streams."""

    def __init__(self, behaviours: dict[str, Behaviour], *options: tuple[str, int]) -> None:
        handlers = {
            name: (
                grpc.unary_stream_rpc_method_handler
                if name.startswith("stream")
                else grpc.unary_unary_rpc_method_handler
            )(behaviour)
            for name, behaviour in behaviours.items()
        }
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = Address("127.0.0.1", self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()

    def stop(self, grace_s: float | None = 0) -> None:
        self._server.stop(grace_s).wait(5)


def speaking(*at_s: float) -> Behaviour:
    """A stream that speaks at these times."""

    def behave(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        begun_s = time.monotonic()
        for when_s in at_s:
            while time.monotonic() - begun_s < when_s and context.is_active():
                time.sleep(0.02)
            yield b"at %g s" % when_s

    return behave


def slow(after_s: float) -> Behaviour:
    """A call that is answered after a while."""

    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        ends_s = time.monotonic() + after_s
        while time.monotonic() < ends_s and context.is_active():
            time.sleep(0.02)
        return request

    return behave


class Seen:
    """What a client has seen of one call."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailers: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<Seen {self.messages} {self.code} {self.details!r}>"


def _call(port: int, method: str, seen: Seen, timeout_s: float | None) -> None:
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        if method.startswith("stream"):
            call = channel.unary_stream(f"/{SERVICE}/{method}")(b"", timeout=timeout_s)
            try:
                seen.messages.extend(call)
            except grpc.RpcError:
                pass
        else:
            call = channel.unary_unary(f"/{SERVICE}/{method}").future(b"hello", timeout=timeout_s)
            if call.exception() is None:
                seen.messages.append(call.result())
        seen.code = call.code()
        seen.details = call.details() or ""
        seen.trailers = dict(call.trailing_metadata() or ())


async def call(port: int, method: str, timeout_s: float | None = 20.0, seen: Seen | None = None) -> Seen:
    """Make one call through a sidecar's port, on a channel of its own; give what came of it."""
    seen = seen or Seen()
    await trio.to_thread.run_sync(_call, port, method, seen, timeout_s)
    return seen
