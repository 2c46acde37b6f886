"""Two network namespaces with a wire between them: load in one, a server in the other. Edge; needs root.

Every system under test stands where a sidecar stands: in the client's namespace, with the outbound connections of
everybody but uid 2102 redirected to it by the rules that `tulle-init` writes. So each pays the same for netfilter.
"""

import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from contract.ports import PROXY_UID

CLIENT = f"tulle-bench-client-{os.getpid()}"
SERVER = f"tulle-bench-server-{os.getpid()}"
CLIENT_IP = "10.254.7.1"
"""What the system under test dials from."""
SERVER_IP = "10.254.7.2"
LOAD_IPS = ("10.254.7.3", "10.254.7.4", "10.254.7.5", "10.254.7.6")
"""What load comes from, by turns: see `load_from_another_address`."""
BIN = Path(sys.executable).parent

_CPUS = sorted(os.sched_getaffinity(0))

# A checkout below a private home would hide the virtual environment from uid 2102; reading past that is all
# that this capability allows.
AS_SIDECAR = (
    *("setpriv", f"--reuid={PROXY_UID}", f"--regid={PROXY_UID}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


START_TIMEOUT_S = 20.0

# Many connections in a row need many ports, and what became of them must be forgotten soon.
_TUNING = (
    ("net/ipv4/ip_local_port_range", "16000 65500"),
    ("net/core/somaxconn", "4096"),
    ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
)
FILES_COUNT = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""Open files that each process may have: many connections have two ends in a proxy. A container may allow fewer."""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextmanager
def arena() -> Iterator[None]:
    """Make both namespaces and the wire; remove them, and with them every rule, at the end."""
    names = (CLIENT, SERVER)
    try:
        for name in names:
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
            for path, value in _TUNING:
                write = f"[ ! -e /proc/sys/{path} ] || echo {value} > /proc/sys/{path}"
                _run("ip", "netns", "exec", name, "sh", "-c", write)
        _run("ip", "link", "add", "bench0", "netns", CLIENT, "type", "veth", "peer", "name", "bench0", "netns", SERVER)
        for name, ip in zip(names, (CLIENT_IP, SERVER_IP), strict=True):
            _run("ip", "-n", name, "address", "add", f"{ip}/29", "dev", "bench0")
            _run("ip", "-n", name, "link", "set", "bench0", "up")
        _own_addresses()
        _make_room_for_guard()
        yield
    finally:
        os.sched_setaffinity(0, _CPUS)
        for name in names:
            subprocess.run(("ip", "netns", "del", name), capture_output=True, check=False)


def share_processors(system: int | None, is_alone: bool) -> None:
    """Give the last processor to the system (a pid), and the others to servers and load; or all of them to all.

    Alone, a system's CPU is its own doing: else the scheduler moves the three about, which costs a system the more the
    less it is at work. Where latency or throughput is what is measured, load maker and server must not share one.
    """
    others = _CPUS[:-1] or _CPUS
    os.sched_setaffinity(0, others if is_alone else _CPUS)
    listed = subprocess.run(("ip", "netns", "pids", SERVER), check=True, capture_output=True, text=True).stdout
    for pid in listed.split():
        _set_processors(int(pid), others if is_alone else _CPUS)
    if system is not None:
        _set_processors(system, _CPUS[-1:] if is_alone else _CPUS)


def _set_processors(pid: int, cpus: Sequence[int]) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


_addresses = itertools.cycle(LOAD_IPS)


def _own_addresses() -> None:
    ip = ("ip", "-n", CLIENT)
    for address in LOAD_IPS:
        _run(*ip, "address", "add", f"{address}/29", "dev", "bench0")
    _run(*ip, "route", "add", "10.254.7.0/29", "dev", "bench0", "src", CLIENT_IP, "table", "100")
    _run(*ip, "rule", "add", "uidrange", f"{PROXY_UID}-{PROXY_UID}", "lookup", "100")


def load_from_another_address() -> None:
    """Let load come from another address than what the systems dial from, and than the last system's load.

    netfilter remembers an aborted connection for a second, its redirection or the lack of one included: a new one that
    gets its port from the same address would pass unredirected where the proxy itself had had that port.
    """
    source = next(_addresses)
    _run("ip", "-n", CLIENT, "route", "replace", "10.254.7.0/29", "dev", "bench0", "src", source)


def capture(outbound_port: int) -> None:
    """Redirect what the client's namespace sends to `outbound_port`; what uid 2102 sends goes straight out."""
    command = (str(BIN / "tulle-init"), "--outbound-proxy-port", str(outbound_port), "--proxy-uid", str(PROXY_UID))
    _run("ip", "netns", "exec", CLIENT, *command)
    _guard("add")


def _make_room_for_guard() -> None:
    """Let the server's namespace ask other rules before the one that takes what is sent to it, and tell who is refused.

    Only who forwards tells (net/ipv4/route.c, `ip_error`).
    """
    _run("ip", "netns", "exec", SERVER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    _run("ip", "-n", SERVER, "rule", "add", "pref", "100", "lookup", "local")
    _run("ip", "-n", SERVER, "rule", "del", "pref", "0")


def _guard(how: str) -> None:
    """Refuse connections that slip past the system under test: counted as its own they would make a wonder of it.

    By a route where they arrive, not by a rule where they leave: netfilter would show that to every packet.
    """
    for source in LOAD_IPS:
        _run("ip", "-n", SERVER, "rule", how, "pref", "10", "from", source, "prohibit")


def release() -> None:
    """Remove the rules of `capture`."""
    _guard("del")
    _run("ip", "netns", "exec", CLIENT, str(BIN / "tulle-init"), "--cleanup")


@contextmanager
def process(
    namespace: str, command: Sequence[str], log: Path, *, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a namespace for as long as the block lasts; its output goes to `log`.

    `ip netns exec`, `prlimit` and `setpriv` exec in place, so the pid is the program's own.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            ("ip", "netns", "exec", namespace, "prlimit", f"--nofile={FILES_COUNT}", *command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_listening(namespace: str, port: int) -> None:
    """Return when something listens there; raise RuntimeError when nothing does in time."""
    deadline = time.monotonic() + START_TIMEOUT_S
    question = ("ip", "netns", "exec", namespace, "ss", "-Htln", f"sport = :{port}")
    while time.monotonic() < deadline:
        if subprocess.run(question, capture_output=True, check=True).stdout:
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port} after {START_TIMEOUT_S:g} s")
