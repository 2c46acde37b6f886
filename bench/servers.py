"""The servers behind the proxies, each one thread, all in the server's namespace. Edge.

HTTP/1.1 is nginx, HTTP/2 is nghttpd (five times as fast as nginx's HTTP/2 on the same core, so that it is not what is
measured), gRPC and plain TCP are bench/native/serve.c, which a test tries with grpcio's own client. Responses in two
pieces are those of Python's http.server.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.arena import SERVER, process, wait_listening
from bench.build import program

HTTP1_PORT = 8000
HTTP2_PORT = 8001
GRPC_PORT = 8002
ECHO_PORT = 8003
SOURCE_PORT = 8004
PIECES_PORT = 8005
REPLICA_PORTS = (8010, 8011, 8012)
REPLICA_DELAYS_MS = (1, 1, 100)

MAX_STREAMS_COUNT = 100
"""At once on one connection, as both HTTP/2 servers announce: most servers do."""

BODIES = {"0": 0, "1k": 1024, "64k": 65536, "10m": 10 * 2**20}
"""Files to ask for, and their sizes in bytes."""

_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 16000; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  sendfile on; tcp_nopush on; open_file_cache max=16 inactive=600s;
  server {{
    listen {port} reuseport backlog=4096;
    root {folder}/www;
    location /body/ {{ default_type application/octet-stream; }}
    location / {{
      default_type text/plain; add_header x-request-id abc123; add_header cache-control no-store;
      add_header x-frame-options DENY; add_header vary accept; return 200 "hello world\\n";
    }}
  }}
}}
"""


def write_files(folder: Path) -> None:
    """Write what the HTTP servers serve."""
    bodies = folder / "www" / "body"
    bodies.mkdir(parents=True)
    (folder / "www" / "hello").write_text("hello world\n")
    for name, size in BODIES.items():
        (bodies / name).write_bytes(b"x" * size)


@contextmanager
def servers(folder: Path) -> Iterator[None]:
    """All servers but the replicas."""
    write_files(folder)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=HTTP1_PORT))
    serve = program("serve")
    commands = {
        HTTP1_PORT: ("nginx", "-c", str(config)),
        HTTP2_PORT: (
            "nghttpd",
            "--no-tls",
            str(HTTP2_PORT),
            "-d",
            str(folder / "www"),
            "-n1",
            f"-m{MAX_STREAMS_COUNT}",
        ),
        GRPC_PORT: (serve, str(GRPC_PORT), "grpc"),
        ECHO_PORT: (serve, str(ECHO_PORT), "echo"),
        SOURCE_PORT: (serve, str(SOURCE_PORT), "source"),
        PIECES_PORT: (sys.executable, "-m", "bench.pieces", str(PIECES_PORT)),
    }
    with ExitStack() as stack:
        for port, command in commands.items():
            stack.enter_context(process(SERVER, command, folder / f"server-{port}.log"))
        for port in commands:
            wait_listening(SERVER, port)
        yield


@contextmanager
def replicas(folder: Path) -> Iterator[list[int]]:
    """Three servers of HTTP/1.1, the last slow; at the end the yielded list holds how many requests each got."""
    counts: list[int] = []
    logs = [folder / f"replica-{port}.log" for port in REPLICA_PORTS]
    with ExitStack() as stack:
        for port, delay_ms, log in zip(REPLICA_PORTS, REPLICA_DELAYS_MS, logs, strict=True):
            command = (program("serve"), str(port), "http", str(delay_ms * 1000))
            stack.enter_context(process(SERVER, command, log))
        for port in REPLICA_PORTS:
            wait_listening(SERVER, port)
        yield counts
    counts += [int(log.read_text()) for log in logs]
