"""The benchmark's own programs count what happened: against each other, and against grpcio's client and server."""

import json
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from bench.build import program

HOST = "127.0.0.1"
MESSAGE = b"x" * 100


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def load(*arguments: object) -> dict[str, Any]:
    command = [program("load"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def serving(*mode: object) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    port = free_port()
    command = [program("serve"), str(port), *map(str, mode)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            while True:
                try:
                    socket.create_connection((HOST, port), 5).close()
                    break
                except ConnectionRefusedError:
                    continue
            yield port, child
        finally:
            child.terminate()


def served(child: "subprocess.Popen[str]") -> int:
    child.terminate()
    assert child.stdout is not None
    return int(child.stdout.read())


def test_an_open_loop_sends_exactly_what_falls_due() -> None:
    with serving("http", 0) as (port, child):
        said = load("open-http1", HOST, port, 4, 200, 0.5)

        assert (100, 0) == (said["requests"], said["errors"])
        assert 100 + 4 == served(child)  # each connection asks once before the clock starts


def test_latency_counts_from_when_a_request_was_due_and_not_from_when_it_was_sent() -> None:
    """One connection and answers after 50 ms: 40 requests due within half a second wait for one another."""
    with serving("http", 50_000) as (port, _):
        said = load("open-http1", HOST, port, 1, 80, 0.5)

    assert (40, 0) == (said["requests"], said["errors"])
    assert said["max_ms"] > 1000  # 40 x 50 ms, less the half second; no request took longer than 50 ms once sent


def test_a_server_that_ends_is_an_error_and_not_a_good_figure() -> None:
    with serving("http", 100_000) as (port, child):
        command = [program("load"), "open-http1", HOST, str(port), "2", "50", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as loading:
            with pytest.raises(subprocess.TimeoutExpired):
                loading.wait(0.6)
            child.kill()
            said, _ = loading.communicate(timeout=20)

    assert loading.returncode or json.loads(said)["errors"] > 0


def test_every_message_of_a_stream_comes_back() -> None:
    with serving("grpc") as (port, child):
        said = load("stream", HOST, port, 2, 5, len(MESSAGE), 0.3)

        assert said["errors"] == 0
        assert said["requests"] == served(child) > 10


def test_connections_are_counted_by_both_ends() -> None:
    with serving("echo") as (port, child):
        said = load("connect", HOST, port, 4, 0.3)

        assert said["errors"] == 0
        assert said["requests"] == served(child) - 1  # one asked whether it listens


def test_bytes_flow_until_the_time_is_up() -> None:
    with serving("source") as (port, _):
        said = load("flow", HOST, port, 2, 0.3)

    assert said["errors"] == 0
    assert said["bytes"] > 10**6


def test_held_connections_stay_open_until_told() -> None:
    with serving("http", 0) as (port, _):
        command = [program("load"), "hold", HOST, str(port), "200"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holding:
            assert holding.stdout is not None
            assert holding.stdout.readline() == "ready\n"
            said, _ = holding.communicate(timeout=10)

    assert json.loads(said)["errors"] == 0


def test_grpcio_clients_get_their_messages_back_from_the_server() -> None:
    grpc = pytest.importorskip("grpc")
    with serving("grpc") as (port, _), grpc.insecure_channel(f"{HOST}:{port}") as channel:
        unary = channel.unary_unary("/bench.Bench/Unary")
        stream = channel.stream_stream("/bench.Bench/Stream")

        assert unary(MESSAGE, timeout=10) == MESSAGE
        assert list(stream(iter([MESSAGE] * 20), timeout=10)) == [MESSAGE] * 20


def test_the_stream_load_is_understood_by_a_grpcio_server() -> None:
    grpc = pytest.importorskip("grpc")
    handler = grpc.stream_stream_rpc_method_handler(lambda messages, _: messages)
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bench", {"Stream": handler}),))
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    try:
        said = load("stream", HOST, port, 2, 3, len(MESSAGE), 0.3)
    finally:
        server.stop(0).wait()

    assert said["errors"] == 0
    assert said["requests"] > 10
