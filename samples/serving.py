"""A small HTTP/1.1 server for a service whose answers are one function: keep-alive, probes, a drain that loses nothing.

On SIGTERM it answers on for DRAIN_S seconds, closing each connection with its answer, while the cluster takes it out of
its endpoints; then it lets the requests in flight finish and ends with exit code 0.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DRAIN_S = 2.0
LONGEST_FINISH_S = 20.0
"""Least of what the default terminationGracePeriodSeconds (30 s) leaves after the drain, for requests in flight."""
IDLE_S = 75.0
BODY_MAX_BYTES = 64 * 1024
CONNECTIONS_MAX_COUNT = 256


@dataclass(frozen=True)
class Request:
    """`path` holds the parts between slashes, without empty ones; `query` what follows the question mark."""

    method: str
    path: list[str]
    query: str = ""
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What goes back; a `stream` goes out piece by piece instead of the body, and is closed when its reader is gone."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    stream: Generator[bytes] | None = None


Answer = Callable[[Request], Reply]


def as_json(status: int, value: Any) -> Reply:
    return Reply(status, json.dumps(value).encode() + b"\n")


def nothing_here(request: Request) -> Reply:
    return as_json(404, {"error": f"nothing here answers {request.method} /{'/'.join(request.path)}"})


class Server(ThreadingHTTPServer):
    """One thread a connection, no more than CONNECTIONS_MAX_COUNT; further ones wait in the kernel's queue."""

    daemon_threads = True
    request_queue_size = 128
    address_family = socket.AF_INET6

    def __init__(self, port: int, answer: Answer) -> None:
        self.answer = answer
        self.draining = False
        self.in_flight_count = 0
        self.counting = threading.Lock()
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX_COUNT)
        super().__init__(("::", port), Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._places.acquire(timeout=0.2):
            if self.draining:
                self.shutdown_request(request)
                return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet
    timeout = IDLE_S

    def handle_one(self) -> None:
        with self.server.counting:
            self.server.in_flight_count += 1
        try:
            self._send(self._reply())
        finally:
            with self.server.counting:
                self.server.in_flight_count -= 1

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def _reply(self) -> Reply:
        path, _, query = self.path.partition("?")
        parts = [part for part in path.split("/") if part]
        if parts == ["live"]:
            return as_json(200, "live")
        if parts == ["ready"]:
            return as_json(503, "draining") if self.server.draining else as_json(200, "ready")
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > BODY_MAX_BYTES:
            self.close_connection = True
            return as_json(413, {"error": f"send a Content-Length of at most {BODY_MAX_BYTES}"})
        body = self.rfile.read(int(length))
        return self.server.answer(Request(self.command, parts, query, body))

    def _send(self, reply: Reply) -> None:
        self.close_connection |= self.server.draining
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.stream is None:
            self.send_header("Content-Length", str(len(reply.body)))
        elif self._is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if reply.stream is not None:
            self._stream(reply.stream)
        elif self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    @property
    def _is_chunked(self) -> bool:
        """Whether the end of a stream can be told without closing the connection."""
        return self.request_version != "HTTP/1.0"

    def _stream(self, pieces: Generator[bytes]) -> None:
        try:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
                self.wfile.flush()
        finally:
            pieces.close()
        if self._is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing for each request."""


def serve(answer: Answer) -> None:
    """Answer on the port that the environment names (PORT, 8080) until SIGTERM or SIGINT; returns once drained."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # in all threads, so that the wait below gets it whatever they do
    server = Server(int(os.environ.get("PORT", "8080")), answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    print(f"listening on port {server.server_port}", flush=True)
    signal.sigwait(ends)
    server.draining = True
    time.sleep(DRAIN_S)
    server.shutdown()
    deadline = time.monotonic() + LONGEST_FINISH_S
    while server.in_flight_count and time.monotonic() < deadline:
        time.sleep(0.01)
