"""A real Kubernetes on this machine, for tests: several nodes, each in namespaces of its own. Edge.

    python -m tests.cluster test [PYTEST ARGUMENT ...]   up, the tests on it, down
    python -m tests.cluster up                           build what is missing, and leave it running
    python -m tests.cluster run COMMAND ...              in the control plane's network, with the admin's kubeconfig
    python -m tests.cluster images [TARGET ...]          build the checkout's images again, and push them
    python -m tests.cluster down                         end it, or what a killed run left

TULLE_CLUSTER_DIR (default /var/cache/tulle-cluster) keeps what is built; TULLE_CLUSTER_NODES (default 3) counts nodes.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from contract import VERSION
from tests.cluster import certificates, checks, configs, layout, machine, programs
from tests.cluster.images import PREFIX, PREVIOUS, TARGETS, Images
from tests.cluster.layout import CONTROL_MACHINE, Folder
from tests.cluster.machine import ClusterError, inside, run, wait_until

FOLDER = Folder(Path(os.environ.get("TULLE_CLUSTER_DIR", "/var/cache/tulle-cluster")))
NODES = layout.nodes(int(os.environ.get("TULLE_CLUSTER_NODES", "3")))
BIN = Path(sys.executable).parent
MARKS = "e2e or cluster or helm"
ALL = ("tests/e2e", "tests/manifests")
SYSTEM = Path(__file__).with_name("system.yaml")


def main(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    # Whoever ends this process politely wants the cluster gone too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if verb == "test":
            return _test(rest)
        if verb == "up":
            _prepare()
            _up(tied=False)
            print("up: python -m tests.cluster run kubectl get nodes")
        elif verb == "run" and rest:
            os.execvpe("nsenter", inside(machine.control_of(FOLDER), *rest), _environment())
        elif verb == "images":
            images = Images(FOLDER)
            images.build(tuple(rest) or TARGETS)
            images.push(machine.control_of(FOLDER), tuple(rest) or TARGETS)
        elif verb == "down":
            machine.stop(FOLDER)
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (ClusterError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _prepare() -> None:
    """All that takes long and is kept; what can be refused is refused before that."""
    checks.check_user(sys.platform, os.geteuid())
    programs.check_go()
    programs.install()
    FOLDER.root.mkdir(parents=True, exist_ok=True)
    checks.check_kernel(FOLDER.root)
    programs.build(FOLDER)
    Images(FOLDER).build()


def _test(arguments: list[str]) -> int:
    begun_s = time.monotonic()
    _prepare()
    built_s = time.monotonic()
    with _lock():
        try:
            control = _up(tied=True)
            up_s = time.monotonic()
            command = inside(control, BIN / "pytest", "-p", "no:cacheprovider", "-m", MARKS, *(arguments or ALL))
            status = machine.run_tied(command, _environment())
        finally:
            machine.stop(FOLDER)
    took = (built_s - begun_s, up_s - built_s, time.monotonic() - up_s)
    print("built in {:.0f} s, up in {:.0f} s, tested in {:.0f} s".format(*took))
    return status


@contextmanager
def _lock() -> Iterator[None]:
    """One cluster a folder."""
    with (FOLDER.root / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(f"another run uses {FOLDER.root}; wait for it, or set TULLE_CLUSTER_DIR") from None
        yield


def _up(tied: bool) -> int:
    """Bring up what was not: the machines, the system's pods, and the images in the registry. The control's pid."""
    machine.stop(FOLDER)
    machine.keep_settings(FOLDER)
    certificates.write_all(FOLDER.keys, NODES)
    files = configs.files_of_control(FOLDER, CONTROL_MACHINE)
    control = machine.start(FOLDER, CONTROL_MACHINE, configs.of_control(FOLDER, CONTROL_MACHINE), files, tied)
    nodes = []
    for node in NODES:
        files = configs.files_of_node(FOLDER, node)
        nodes.append((machine.start(FOLDER, node, configs.of_node(FOLDER, node), files, tied), node))
    machine.join(control, CONTROL_MACHINE, nodes)
    for one in (CONTROL_MACHINE, *NODES):
        machine.go(FOLDER, one)
    with ThreadPoolExecutor(1) as threads:
        pushed = threads.submit(_push, control)
        _wait_for_nodes(control)
        pushed.result()
    system = SYSTEM.read_text().replace("COREDNS", configs.COREDNS).replace("DNS_SERVICE", layout.DNS_SERVICE)
    _kubectl(control, "apply", "-f", "-", stdin=system)
    _kubectl(control, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
    return control


def _push(control: int) -> None:
    images = Images(FOLDER)
    for attempt in range(50):
        try:
            images.push_system(control)
            break
        except ClusterError:
            # The registry is just starting.
            if attempt == 49:
                raise
            time.sleep(0.5)
    images.push(control)


def _wait_for_nodes(control: int) -> None:
    def ready() -> bool:
        try:
            told = _kubectl(control, "get", "nodes", "--no-headers")
        except ClusterError:
            return False
        return len([line for line in told.splitlines() if line.split()[1] == "Ready"]) == len(NODES)

    wait_until(ready, f"{len(NODES)} ready nodes (logs: {FOLDER.run}/*/logs)", 180)


def _kubectl(control: int, *arguments: str, stdin: str | None = None) -> str:
    kubectl = shutil.which("kubectl", path=str(BIN)) or "kubectl"
    return run(*inside(control, kubectl, f"--kubeconfig={FOLDER.kubeconfig}", *arguments), stdin=stdin, timeout_s=150)


def _environment() -> dict[str, str]:
    """What tests and users of the cluster need."""
    return {
        **os.environ,
        "KUBECONFIG": str(FOLDER.kubeconfig),
        "PATH": f"{BIN}:{FOLDER.programs}:{os.environ['PATH']}",
        "TULLE_E2E_KUBECONFIG": str(FOLDER.kubeconfig),
        "TULLE_E2E_IMAGES": PREFIX,
        "TULLE_E2E_TAG": VERSION,
        "TULLE_E2E_PREVIOUS_TAG": PREVIOUS,
        "TULLE_HELM": str(FOLDER.programs / "helm"),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
