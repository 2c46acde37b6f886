"""Whether a cluster can stand on this machine: asked of the kernel by doing, before anything is built. Edge."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.machine import ClusterError

TRIES: dict[str, tuple[str, str]] = {
    "namespaces": ("true", "run it on the machine itself, or in a container that may make them (--privileged)"),
    "a bridge": ("ip link add switch type bridge", "load the module `bridge`"),
    "pairs of virtual cables": ("ip link add cable type veth peer name other", "load the module `veth`"),
    "nftables": ("nft add table inet tulle && nft delete table inet tulle", "load the module `nf_tables`"),
    "the nat of nftables": (
        "nft 'add table ip t; add chain ip t c { type nat hook postrouting priority 100; }'",
        "load the module `nft_chain_nat`",
    ),
    "overlay mounts": (
        "cd DIR && mkdir a b c d && mount -t overlay o -o lowerdir=a,upperdir=b,workdir=c d",
        "load the module `overlay`, and have TULLE_CLUSTER_DIR on a file system that is none itself",
    ),
}
"""What is tried in namespaces that end with the try, and what helps where it fails."""


def check_user(platform: str, user: int) -> None:
    """Refuse whoever can never bring up a cluster here."""
    if platform != "linux":
        raise ClusterError("a cluster of namespaces needs Linux")
    if user != 0:
        raise ClusterError("a cluster of namespaces needs root: sudo make test-cluster")


def check_kernel(root: Path) -> None:
    """Refuse with everything that is missing at once. `root` is where the nodes will keep their containers."""
    lacks = list(_missing(root))
    if lacks:
        raise ClusterError("this kernel does not give what a cluster needs:\n" + "\n".join(lacks))


def _missing(root: Path) -> Iterator[str]:
    if not any(Path("/sys/fs/cgroup").glob("*/tasks")) and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        yield "  control groups: mount them below /sys/fs/cgroup"
    with tempfile.TemporaryDirectory(dir=root) as folder:
        for what, (script, fix) in TRIES.items():
            command = ("unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", script.replace("DIR", folder))
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            if done.returncode != 0:
                yield f"  {what}: {fix} ({(done.stderr or done.stdout).strip()[-200:]})"
