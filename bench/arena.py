"""Two network namespaces with a wire between them: load in one, a server in the other. Edge; needs root.

Every system under test stands where a sidecar stands: in the client's namespace, with the outbound connections of
everybody but uid 2102 redirected to it by the rules that `tulle-init` writes. So each pays the same for netfilter.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from contract.ports import PROXY_UID

CLIENT = f"tulle-bench-client-{os.getpid()}"
SERVER = f"tulle-bench-server-{os.getpid()}"
CLIENT_IP = "10.254.7.1"
SERVER_IP = "10.254.7.2"
BIN = Path(sys.executable).parent

# A checkout below a private home would hide the virtual environment from uid 2102; reading past that is all
# that this capability allows.
AS_SIDECAR = (
    *("setpriv", f"--reuid={PROXY_UID}", f"--regid={PROXY_UID}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


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
        _run("ip", "link", "add", "bench0", "netns", CLIENT, "type", "veth", "peer", "name", "bench0", "netns", SERVER)
        for name, ip in zip(names, (CLIENT_IP, SERVER_IP), strict=True):
            _run("ip", "-n", name, "address", "add", f"{ip}/30", "dev", "bench0")
            _run("ip", "-n", name, "link", "set", "bench0", "up")
        yield
    finally:
        for name in names:
            subprocess.run(("ip", "netns", "del", name), capture_output=True, check=False)


def capture(outbound_port: int) -> None:
    """Redirect what the client's namespace sends to `outbound_port`; what uid 2102 sends goes straight out."""
    command = (str(BIN / "tulle-init"), "--outbound-proxy-port", str(outbound_port), "--proxy-uid", str(PROXY_UID))
    _run("ip", "netns", "exec", CLIENT, *command)


def release() -> None:
    """Remove the rules of `capture`."""
    _run("ip", "netns", "exec", CLIENT, str(BIN / "tulle-init"), "--cleanup")


@contextmanager
def process(
    namespace: str, command: Sequence[str], log: Path, *, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a namespace for as long as the block lasts; its output goes to `log`.

    `ip netns exec` and `setpriv` exec in place, so the pid is the program's own.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            ("ip", "netns", "exec", namespace, *command),
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
