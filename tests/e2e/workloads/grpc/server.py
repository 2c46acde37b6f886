"""A gRPC server whose messages are bytes: echoes, streams, statuses, calls that never end."""

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

READY = Path("/tmp/ready")
"""A probe by TCP would reach the sidecar, which listens before this program does."""
POD = os.environ.get("HOSTNAME", "")
seen = Counter()


def echo(request, context):
    """The request; what came with it goes back as metadata, and how long the deadline left us."""
    sent = [(key, value) for key, value in context.invocation_metadata() if key.startswith("sent-")]
    context.send_initial_metadata([("pod", POD), *sent])
    remaining_s = context.time_remaining()
    context.set_trailing_metadata([("remaining-s", f"{remaining_s:.3f}" if remaining_s else "none"), *sent])
    return request


def many(request, context):
    """As many messages of as many bytes as the request says, each beginning with its number."""
    count, size_bytes = map(int, request.split())
    gone = threading.Event()
    context.add_callback(gone.set)
    for number in range(count):
        if gone.is_set():
            break
        yield b"%d " % number + bytes(size_bytes)


def total(requests, context):
    """How many messages came, and how many bytes."""
    sizes = [len(request) for request in requests]
    return b"%d %d" % (len(sizes), sum(sizes))


def talk(requests, context):
    """Each message back as soon as it came."""
    yield from requests


def fail(request, context):
    """The status that the request names by its number, with a message that has to be escaped on the wire."""
    code = next(code for code in grpc.StatusCode if code.value[0] == int(request))
    context.set_trailing_metadata([("why", "on purpose")])
    context.abort(code, "as told: 100 % naïve\n")


def hang(request, context):
    """One message, then nothing until the caller is gone; `seen` tells that it went, in the pod of this `address`."""
    context.send_initial_metadata([("address", f"{os.environ['POD_IP']}:9000")])
    gone = threading.Event()

    def leave():  # not after the yield: grpcio does not go on with a call that has been left
        seen[request] += 1
        gone.set()

    context.add_callback(leave)
    yield b"begun"
    gone.wait(30)


def stuck(requests, context):
    """Never reads its requests, nor answers."""
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(30)
    yield b""


def gone(request, context):
    """How many calls of that name were left by their callers."""
    return b"%d" % seen[request]


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Many": grpc.unary_stream_rpc_method_handler(many),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "Stuck": grpc.stream_stream_rpc_method_handler(stuck),
    "Gone": grpc.unary_unary_rpc_method_handler(gone),
}
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 65536),
    ("grpc.absolute_max_metadata_size", 131072),
    ("grpc.so_reuseport", 0),
]


def main():
    server = grpc.server(ThreadPoolExecutor(32), options=OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Calls", METHODS)])
    server.add_insecure_port("[::]:9000")
    server.start()
    READY.touch()
    signal.sigwait({signal.SIGTERM})
    time.sleep(1)  # the cluster takes it out of its endpoints meanwhile
    server.stop(5).wait()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
