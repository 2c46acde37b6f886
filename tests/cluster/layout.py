"""Who stands where: the cluster's machines, their addresses, and the folders of everything. Pure.

Four machines, each a set of namespaces of this one: `control` carries the switch that joins them all, the registry and
the control plane; the others are nodes. All addresses are private to those namespaces.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

CONTROL = "control"
VERSION = "1.35.4"
"""Of Kubernetes; programs/kubernetes/go.mod pins the same."""
REGISTRY_PORT = 5000
API_PORT = 6443

PODS = ("10.91.0.0/16", "fd00:91::/56")
SERVICES = ("10.92.0.0/16", "fd00:92::/112")
API_SERVICES = ("10.92.0.1", "fd00:92::1")
"""Addresses of the service `kubernetes`: the first of each range."""
DNS_SERVICE = "10.92.0.10"


@dataclass(frozen=True)
class Machine:
    """One machine of the cluster."""

    name: str
    number: int
    """0 for the control plane, from 1 for nodes."""

    @property
    def addresses(self) -> tuple[str, str]:
        return f"10.90.0.{10 + self.number}", f"fd00:90::{10 + self.number}"

    @property
    def pods(self) -> tuple[str, str]:
        """The networks of its pods."""
        return f"10.91.{self.number}.0/24", f"fd00:91:0:{self.number}::/64"


CONTROL_MACHINE = Machine(CONTROL, 0)
CONTROL_ADDRESS = CONTROL_MACHINE.addresses[0]
REGISTRY = f"{CONTROL_ADDRESS}:{REGISTRY_PORT}"


def nodes(count: int) -> list[Machine]:
    return [Machine(f"node{number}", number) for number in range(1, count + 1)]


@dataclass(frozen=True)
class Folder:
    """Where everything lies: what is kept from run to run, and below `run` what ends with the cluster."""

    root: Path

    @property
    def group(self) -> str:
        """The control group of all its machines: a cluster in another folder has another."""
        return f"tulle-cluster-{hashlib.sha256(bytes(self.root)).hexdigest()[:8]}"

    @property
    def programs(self) -> Path:
        return self.root / "bin"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def keys(self) -> Path:
        return self.run / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.keys / "admin.kubeconfig"

    def of(self, machine: Machine) -> Path:
        return self.run / machine.name
