"""The cluster's programs: Debian's by name, the rest built by Go from modules that pin them. Edge.

Built once, and again when a module's files or the Go toolchain change.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.layout import VERSION, Folder
from tests.cluster.machine import ROOT, ClusterError, run

MODULES = Path(__file__).parent / "programs"
LEAST_GO = (1, 25)
DEBIAN = ROOT / ".ci" / "debian"
BUILD_S = 3600
"""Longest time for a module, seconds; Kubernetes takes twenty minutes of one processor."""


@dataclass(frozen=True)
class Module:
    """A folder with a go.mod of its own, and the packages whose programs are built from it."""

    folder: str
    packages: tuple[str, ...]
    variables: tuple[str, ...] = ()
    """What the linker sets, as NAME=VALUE."""


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
_MAJOR, _MINOR, _ = VERSION.split(".")
_VERSION_VARIABLES = tuple(
    f"{package}.{name}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for name, value in (("gitVersion", f"v{VERSION}"), ("gitMajor", _MAJOR), ("gitMinor", _MINOR))
)
BUILT = (
    Module("kubernetes", tuple(f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES), _VERSION_VARIABLES),
    Module("coredns", ("tulle.mesh/tests/cluster/coredns",)),
    Module("helm", ("helm.sh/helm/v3/cmd/helm",)),
)


def install() -> None:
    """Debian's packages; as anybody but root it says which are missing."""
    done = subprocess.run((str(DEBIAN), "cluster"), check=False)
    if done.returncode != 0:
        raise ClusterError("the packages above are missing")


def go_version() -> str | None:
    """What `go version` says of the toolchain, or None where Go is missing or too old to build Kubernetes."""
    go = shutil.which("go")
    if go is None:
        return None
    told = run(go, "env", "GOVERSION").strip()
    numbers = told.removeprefix("go").split(".")
    return told if tuple(int("".join(filter(str.isdigit, one)) or 0) for one in numbers[:2]) >= LEAST_GO else None


def check_go() -> str:
    """What the toolchain calls itself; refuse where there is none that builds Kubernetes."""
    version = go_version()
    if version is None:
        raise ClusterError(
            f"building Kubernetes needs Go {LEAST_GO[0]}.{LEAST_GO[1]} or newer on PATH (https://go.dev/dl)"
        )
    return version


def build(folder: Folder) -> None:
    """Build what is missing or out of date."""
    version = check_go()
    folder.programs.mkdir(parents=True, exist_ok=True)
    for module in BUILT:
        mark = folder.programs / f".{module.folder}"
        wanted = _digest(MODULES / module.folder, version)
        if not mark.exists() or mark.read_text() != wanted:
            print(f"Building {module.folder} ...", file=sys.stderr, flush=True)
            _go_build(module, folder.programs)
            mark.write_text(wanted)
    source, pause = MODULES / "pause.c", folder.programs / "pause"
    if not pause.exists() or pause.stat().st_mtime < source.stat().st_mtime:
        run("gcc", "-static", "-Os", "-o", pause, source)


def _go_build(module: Module, to: Path) -> None:
    flags = " ".join(("-s", "-w", *(f"-X {one}" for one in module.variables)))
    command = ("nice", "-n", "10", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", f"{to}/")
    done = subprocess.run(
        (*command, *module.packages),
        cwd=MODULES / module.folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(f"Go could not build {module.folder}; it said why above")


def _digest(source: Path, version: str) -> str:
    digest = hashlib.sha256(version.encode())
    for file in sorted(path for path in source.iterdir() if path.is_file()):
        digest.update(file.read_bytes())
    return digest.hexdigest()
