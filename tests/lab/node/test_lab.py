"""The whole lab by its command: up, the real kubectl, a crash, down; and nothing is left."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import state

pytestmark = pytest.mark.netns

NAME = f"test-{os.getpid()}"
BIN = Path(sys.executable).parent
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: c, image: any, command: [sh, -c, "echo hello; exec sleep 1000"]}
"""


def tulle(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "tulle"), "lab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def kubectl(*arguments: str, text: str | None = None) -> str:
    environment = {**os.environ, "KUBECONFIG": state.Paths(NAME).kubeconfig}
    command = [str(BIN / "kubectl"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def traces() -> list[str]:
    """What there is of the lab on this machine."""
    paths = state.Paths(NAME)
    mounts = Path("/proc/self/mountinfo").read_text()
    processes = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"-m lab {NAME} " in line:
                processes.append(line)
    found = [path for path in (paths.folder, f"/run/netns/{paths.namespace}") if os.path.exists(path)]
    return found + processes + [str(pid) for pid in state.leftovers(paths)] + [NAME] * (NAME in mounts)


@pytest.fixture
def _cleared() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield
    tulle("down", "--name", NAME)


@pytest.mark.usefixtures("_cleared")
def test_a_lab_comes_up_survives_its_own_crash_and_leaves_nothing() -> None:
    first = tulle("up", "--name", NAME)
    assert first.returncode == 0, first.stderr
    assert f"export KUBECONFIG=/run/tulle-lab/{NAME}/kubeconfig" in first.stdout
    assert "was up already" in tulle("up", "--name", NAME).stdout
    assert tulle("kubeconfig", "--name", NAME).stdout.strip() == state.Paths(NAME).kubeconfig
    assert Path(state.Paths(NAME).kubeconfig).stat().st_mode & 0o777 == 0o600
    kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=5s")
    kubectl("apply", "-f", "-", text=POD)
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    assert kubectl("logs", "p") == "hello\n"
    assert kubectl("exec", "p", "--", "hostname") == "p\n"
    rows = {row["name"]: row for row in json.loads(tulle("status", "-o", "json").stdout)}
    daemon = rows[NAME]["pid"]
    os.kill(daemon, signal.SIGKILL)
    while state.start_ticks(daemon) is not None:
        os.sched_yield()
    rows = {row["name"]: row for row in json.loads(tulle("status", "-o", "json").stdout)}
    assert rows[NAME]["state"] == "crashed"
    again = tulle("up", "--name", NAME)
    assert again.returncode == 0, again.stderr
    assert kubectl("get", "pods", "-o", "name") == ""
    assert tulle("down", "--name", NAME).stdout == f"Lab {NAME} is gone.\n"
    assert traces() == []
    assert tulle("down", "--name", NAME).stdout == f"There is no lab {NAME}.\n"


@pytest.mark.usefixtures("_cleared")
def test_a_port_that_is_taken_is_named_and_nothing_is_begun() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = tulle("up", "--name", NAME, "--api-port", str(port))
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken: choose another one with --api-port" in refused.stderr
    assert traces() == []


@pytest.mark.usefixtures("_cleared")
def test_without_root_it_says_what_it_needs() -> None:
    code = f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\nfrom lab import launcher\n" + (
        "os.geteuid = lambda: 65534\n"
        "try: launcher.up('x', api_port=None, tell=print)\n"
        "except launcher.LabError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20).stdout
    assert "needs root: run it again with sudo" in said
