"""Two network namespaces with a bad wire between them, and what runs in them. Edge; needs root."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENT = f"tulle-soak-client-{os.getpid()}"
SERVER = f"tulle-soak-server-{os.getpid()}"
CLIENT_IP, SERVER_IP = "10.254.9.1", "10.254.9.2"
WIRE = "soak0"
HOUSE = Path(__file__).parent
ROOT = Path(__file__).parents[2]
CODE = ROOT / os.environ.get("TULLE_SOAK_CODE", "")
"""Where the sidecar is imported from: the checkout, or its compiled build."""
WORKERS_COUNT = int(os.environ.get("TULLE_SOAK_WORKERS", "1"))
"""Of each sidecar."""

LOSSY_PORTS = "8081,8082,8085,8086,8087,8088"
RESET_PORTS = f"8084,{LOSSY_PORTS}"

# Loss: packets in both directions; whole connection attempts only where a client can be told. Resets: either end hears
# of one, the other does not, as when a firewall or a load balancer forgets a connection. The clients' way to their
# sidecar is good, else one that resets its connection may think it made and the sidecar never hear of it: what is
# captured still has the wire as its way out here, but not the server as its destination.
_RULES = (
    f"-A OUTPUT -o {WIRE} -d {SERVER_IP} -p tcp --tcp-flags SYN NONE -m statistic --mode random --probability 0.002"
    " -j DROP",
    f"-A INPUT -i {WIRE} -p tcp --tcp-flags SYN NONE -m statistic --mode random --probability 0.002 -j DROP",
    f"-A OUTPUT -o {WIRE} -p tcp --syn -m multiport --dports {LOSSY_PORTS} -m statistic --mode random"
    " --probability 0.1 -j DROP",
    f"-A OUTPUT -o {WIRE} -p tcp --tcp-flags SYN NONE -m multiport --dports {RESET_PORTS} -m statistic --mode random"
    " --probability 0.0015 -j REJECT --reject-with tcp-reset",
    f"-A INPUT -i {WIRE} -p tcp --tcp-flags SYN NONE -m multiport --sports {RESET_PORTS} -m statistic --mode random"
    " --probability 0.0015 -j REJECT --reject-with tcp-reset",
)


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout


def inside(namespace: str, *command: str) -> str:
    return run("ip", "netns", "exec", namespace, *command)


@contextmanager
def network() -> Iterator[None]:
    """Make both namespaces, the wire and the capture rules; the namespaces take all with them at the end."""
    try:
        for name in (CLIENT, SERVER):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "link", "add", WIRE, "netns", CLIENT, "type", "veth", "peer", "name", WIRE, "netns", SERVER)
        for name, ip in ((CLIENT, CLIENT_IP), (SERVER, SERVER_IP)):
            run("ip", "-n", name, "address", "add", f"{ip}/30", "dev", WIRE)
            run("ip", "-n", name, "link", "set", WIRE, "up")
            _delay(name)
            inside(name, str(Path(sys.executable).parent / "tulle-init"))
        run("ip", "-n", CLIENT, "address", "add", "10.254.10.1/32", "dev", "lo")  # of the clients
        yield
    finally:
        for name in (CLIENT, SERVER):
            run("ip", "netns", "del", name, check=False)


def _delay(name: str) -> None:
    """Delay and jitter where the kernel has netem; else a narrow wire, whose queue delays in bursts."""
    tc = ("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", WIRE, "root")
    if subprocess.run((*tc, "netem", "delay", "2ms", "1ms"), capture_output=True, check=False).returncode:
        run(*tc, "tbf", "rate", "300mbit", "burst", "64kb", "latency", "400ms")


def make_it_bad() -> None:
    """From now on packets are lost and connections reset."""
    for rule in _RULES:
        inside(CLIENT, "iptables-legacy", *rule.split())


def make_it_good() -> None:
    """End what `make_it_bad` began, so that what is half open is found out."""
    inside(CLIENT, "iptables-legacy", "-F", "INPUT")
    inside(CLIENT, "iptables-legacy", "-F", "OUTPUT")


def memory_kb(pid: int) -> list[int]:
    """Measure the anonymous memory of a process and of each of its children; what they share is divided among them.

    The rest is files' pages: how many of them count here depends on who else on this machine has them in use.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    rollups = (Path(f"/proc/{one}/smaps_rollup").read_text().partition("\nPss_Anon:")[2] for one in (pid, *children))
    return [int(rollup.split()[0]) for rollup in rollups]


@contextmanager
def process(namespace: str, *command: str, as_sidecar: bool = False, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a namespace for as long as the block lasts."""
    who = ("--reuid=2102", "--regid=2102", "--clear-groups")
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # a checkout below a private home
    child = subprocess.Popen(
        ("ip", "netns", "exec", namespace, *(("setpriv", *who, *reads) if as_sidecar else ()), *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CODE,
        env={**os.environ, "PYTHONPATH": str(CODE), **environ},
    )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()
