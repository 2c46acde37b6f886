"""gRPC as the real library speaks it: all four kinds of call, by a server and by clients that run in threads.

What can be heard of a call: its status, which the server or a sidecar has told and marked as theirs; or it broke off,
and the status is the library's own guess, which does not count.
"""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import grpc

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
FAILURES = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
SIZES_BYTES = (0, 100, 5_000, 100_000)
ANSWERS_COUNT = 5
"""Messages that a single request is answered with, where the answer is a stream."""
THREADS_COUNT = 64
"""Of the server: more than there are calls at once, or they would wait for each other."""
MARK = "told-by"

Count = Callable[[str, int], None]
Note = Callable[[str, bytes], None]


def serve(port: int, note: Note) -> grpc.Server:
    """Answer by echo, and some calls by a failure: before all else, or after it. `note` is called in a thread."""

    def begin(context: grpc.ServicerContext) -> None:
        fields = dict(context.invocation_metadata())
        note("POST", str(fields["x-number"]).encode())
        context.set_trailing_metadata([(MARK, "server")])
        end(context)
        context.send_initial_metadata([(MARK, "server")])
        time.sleep(random.choice((0, 0, 0, random.uniform(0.01, 0.2))))

    def end(context: grpc.ServicerContext) -> None:
        if random.random() < 0.1:
            context.abort(random.choice(FAILURES), "on purpose")

    def unary_unary(request: bytes, context: grpc.ServicerContext) -> bytes:
        begin(context)
        end(context)
        return request

    def unary_stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        begin(context)
        yield from [request] * ANSWERS_COUNT
        end(context)

    def stream_unary(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        begin(context)
        answer = b"".join(requests)
        end(context)
        return answer

    def stream_stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        begin(context)
        yield from requests
        end(context)

    answers = (unary_unary, unary_stream, stream_unary, stream_stream)
    methods = {f.__name__: getattr(grpc, f"{f.__name__}_rpc_method_handler")(f) for f in answers}
    server = grpc.server(ThreadPoolExecutor(THREADS_COUNT), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("soak.Calls", methods)])
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    return server


class Caller:
    """A client of its own connection, at `address`."""

    def __init__(self, address: str, port: int, count: Count, timeout_s: float) -> None:
        # The library would repeat a call on its own, and share connections: what is asked must be what is sent.
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(address, options)
        self.port = port
        self.timeout_s = timeout_s
        self._count = count

    def ask(self, leaves: bool) -> None:
        """Make a handful of calls at once, and count what becomes of each; those that leave end some on their way."""
        calls = [self._begin(leaves) for _ in range(random.randint(1, 8))]
        for call, read, expected in calls:
            if leaves:
                time.sleep(random.choice((0, random.uniform(0, 0.1))))
                call.cancel()
            with suppress(grpc.RpcError, grpc.FutureCancelledError):
                if read() != expected:
                    self._count("spoiled", self.port)
            self._end(call, leaves)

    def _begin(self, leaves: bool) -> tuple[Any, Callable[[], bytes], bytes]:
        """Begin a call; give it, how to read its answer, and what that must be."""
        kind = random.choice(KINDS)
        asks_once, answers_once = (word == "unary" for word in kind.split("_"))
        messages = [random.randbytes(random.choice(SIZES_BYTES)) for _ in range(1 if asks_once else 5)]
        method = getattr(self.channel, kind)(f"/soak.Calls/{kind}")
        self._count("sent", self.port)
        if leaves:
            self._count("left-call", self.port)
        call = (method.future if answers_once else method)(
            messages[0] if asks_once else iter(messages),
            timeout=random.uniform(0, 0.2) if leaves and random.random() < 0.5 else self.timeout_s,
            metadata=[("x-number", f"{random.getrandbits(64):x}")],
            wait_for_ready=True,
        )
        expected = b"".join(messages) * (ANSWERS_COUNT if kind == "unary_stream" else 1)
        return call, call.result if answers_once else partial(b"".join, call), expected

    def _end(self, call: Any, leaves: bool) -> None:
        code, told = call.code(), dict(call.trailing_metadata() or ())
        if MARK in told or "x-tulle-error" in told:
            self._count("seen" if leaves else f"grpc:{code.value[0]}", self.port)
            if call.details().startswith("outbound") and not leaves:
                reason = "response-cut" if call.initial_metadata() else told["x-tulle-error"]
                self._count(f"errors:{reason}", self.port)
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED and not leaves:
            self._count("hung", 0)
        else:
            self._count("cut" if call.initial_metadata() else "unanswered", self.port)
