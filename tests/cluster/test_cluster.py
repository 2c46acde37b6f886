"""What can be judged of the cluster without bringing it up; tests/e2e/cluster runs on it."""

import os
import re
import subprocess
import sys
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path

import pytest

from tests.cluster import checks, configs, images, layout, machine, programs
from tests.cluster.layout import Folder, Machine
from tests.cluster.machine import ROOT, ClusterError

MODULES = programs.MODULES


def pinned(module: str, package: str) -> str:
    found = re.search(
        rf"^\s*(?:require )?{re.escape(package)} (v\S+)", (MODULES / module / "go.mod").read_text(), re.MULTILINE
    )
    assert found is not None, package
    return found[1]


def test_the_versions_that_are_named_are_the_ones_that_are_built() -> None:
    assert f"v{layout.VERSION}" == pinned("kubernetes", "k8s.io/kubernetes")
    assert configs.COREDNS.endswith(f":{pinned('coredns', 'github.com/coredns/coredns')}")


def test_every_image_is_a_target_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM \S+ AS ([\w-]+)$", images.DOCKERFILE.read_text(), re.MULTILINE))

    assert set(images.TARGETS) == {name for name in targets if not name.startswith("build")} - {"runtime"}


def test_no_two_networks_overlap() -> None:
    nodes = layout.nodes(9)
    places = ["10.90.0.0/24", "fd00:90::/64", *layout.SERVICES, *(network for node in nodes for network in node.pods)]

    for one, other in combinations(map(ip_network, places), 2):
        assert one.version != other.version or not one.overlaps(other), (one, other)
    for node in nodes:
        for whole, part in zip(layout.PODS, node.pods, strict=True):
            assert ip_network(part).subnet_of(ip_network(whole))  # type: ignore[arg-type]


def test_a_nodes_files_stay_in_its_own_folder() -> None:
    folder = Folder(Path("/somewhere"))
    one, other = (configs.files_of_node(folder, node) for node in layout.nodes(2))

    assert one.keys() == other.keys()
    assert not any("run/node2" in text for text in one.values())
    assert not any("run/node1" in text for text in other.values())


@pytest.mark.parametrize(
    ("platform", "user", "fix"), [("linux", 1000, "needs root: sudo make"), ("darwin", 0, "Linux")]
)
def test_whoever_can_have_no_cluster_is_told_why(platform: str, user: int, fix: str) -> None:
    with pytest.raises(ClusterError, match=fix):
        checks.check_user(platform, user)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: what is missing without it is said first")
def test_a_machine_without_go_is_told_which_it_needs(tmp_path: Path) -> None:
    told = _cluster(tmp_path, PATH="/nowhere")

    assert "error: building Kubernetes needs Go 1.25 or newer on PATH" in told


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces")
def test_a_kernel_that_lacks_something_is_told_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks.TRIES, "wings", ("false", "load the module `wings`"))

    with pytest.raises(ClusterError, match=r"(?s)does not give.*wings: load the module `wings`"):
        checks.check_kernel(tmp_path)


def test_without_a_cluster_a_command_in_it_says_how_to_get_one(tmp_path: Path) -> None:
    told = _cluster(tmp_path, verb=("run", "true"))

    assert "error: the cluster is not up: python -m tests.cluster up" in told


def test_ending_what_is_not_there_is_no_fault(tmp_path: Path) -> None:
    assert "error" not in _cluster(tmp_path, verb=("down",))


MACHINE = Machine("node1", 1)
START = """
import sys, time
from pathlib import Path
from tests.cluster import machine
from tests.cluster.configs import Program
from tests.cluster.layout import Folder, Machine

folder, one = Folder(Path(sys.argv[1])), Machine("node1", 1)
print(machine.start(folder, one, [Program("sleeper", ("sleep", "1000"))], {}, tied=sys.argv[2] == "tied"), flush=True)
machine.go(folder, one)
time.sleep(100)
"""


def killed_run(folder: Path, how: str) -> None:
    """A machine of a run that ends by a kill, after the machine's program has started."""
    run = subprocess.Popen((sys.executable, "-c", START, str(folder), how), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert int(run.stdout.readline()) == machine.pid_of(Folder(folder), MACHINE)
    log = folder / "run" / "node1" / "first.log"
    machine.wait_until(lambda: "sleeper started" in log.read_text(), "its program", 20)
    run.kill()
    run.communicate(timeout=10)


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces")
def test_a_machine_ends_with_the_run_that_began_it(tmp_path: Path) -> None:
    killed_run(tmp_path, "tied")

    machine.wait_until(lambda: machine.pid_of(Folder(tmp_path), MACHINE) is None, "the machine's end", 10)
    machine.stop(Folder(tmp_path))


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces")
def test_what_a_killed_run_left_is_found_and_removed(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    killed_run(tmp_path, "left")
    folder = Folder(tmp_path)
    assert machine.pid_of(folder, MACHINE) is not None

    machine.stop(folder)

    assert machine.pid_of(folder, MACHINE) is None
    assert not folder.run.exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*{folder.group}")) + list(
        Path("/sys/fs/cgroup").glob(f"*/{folder.group}")
    )
    assert mounts == Path("/proc/self/mounts").read_text()


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces")
def test_a_program_that_ends_is_started_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    machine.start(folder, MACHINE, [configs.Program("short", ("true",))], {}, tied=True)
    machine.go(folder, MACHINE)

    log = folder.of(MACHINE) / "first.log"
    machine.wait_until(lambda: log.read_text().count("short ended: 0") > 1, "its second end", 20)
    machine.stop(folder)


def _cluster(folder: Path, verb: tuple[str, ...] = ("up",), **environment: str) -> str:
    """What the command prints, with a folder of the test's own."""
    done = subprocess.run(
        (sys.executable, "-m", "tests.cluster", *verb),
        cwd=ROOT,
        env={**os.environ, "TULLE_CLUSTER_DIR": str(folder / "cluster"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr
