"""Tulle's images by its own Dockerfile, and the few that a cluster itself needs, pushed to its registry. Edge.

Built by buildah in a store of their own, layer by layer, so that what did not change is not built again. Where the
Dockerfile's base image can be pulled, it is; elsewhere one like it is made from Debian's packages.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contract import VERSION
from tests.cluster.configs import COREDNS, PAUSE
from tests.cluster.layout import REGISTRY, Folder
from tests.cluster.machine import ROOT, ClusterError, inside, run

DOCKERFILE = ROOT / "manifests" / "Dockerfile"
TARGETS = ("init", "proxy", "webhook", "controller", "samples", "e2e", "browser")
PREFIX = "ghcr.io/tulle-mesh"
PREVIOUS = "previous"
PULL_S = 90
"""Longest time for the base image to come from its registry; seconds."""
BUILD_S = 1800
MADE = "localhost/tulle-cluster-base:latest"
BASE_PACKAGES = ("ca-certificates", "python-is-python3", "python3-dev", "python3-pip", "python3-venv")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_SETTINGS = (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf")


class Images:
    """The images of one checkout, in the store below a cluster's folder."""

    def __init__(self, folder: Folder) -> None:
        store = folder.root / "images"
        self._folder = folder
        self._buildah = ("buildah", "--root", str(store), "--runroot", str(store / "run"))

    def build(self, targets: tuple[str, ...] = TARGETS) -> None:
        base = self._base()
        for target in targets:
            print(f"Building the image {target} ...", file=sys.stderr, flush=True)
            log = self._folder.root / f"image-{target}.log"
            ignored = f"--ignorefile={DOCKERFILE}.dockerignore"
            command = (*self._buildah, "bud", "--isolation", "chroot", "--layers", "--pull-never", ignored, *_volumes())
            named = ("--build-arg", f"BASE={base}", "--target", target, "--tag", _name(target))
            with log.open("w") as file:
                done = subprocess.run(
                    ("nice", "-n", "10", *command, *named, "--file", DOCKERFILE, ROOT),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    timeout=BUILD_S,
                    check=False,
                )
            if done.returncode != 0:
                raise ClusterError(f"{log.read_text()[-3000:]}\nthe image {target} could not be built ({log})")

    def push(self, control: int, targets: tuple[str, ...] = TARGETS) -> None:
        """To the registry of a cluster that is up; a second time under the tag that an upgrade begins with."""
        for target in targets:
            for tag in (VERSION, PREVIOUS):
                self._push(control, _name(target), f"tulle-mesh/{target}:{tag}")

    def push_system(self, control: int) -> None:
        """The sandbox's first process and CoreDNS: each an image of one file."""
        for image in (PAUSE, COREDNS):
            where = image.partition("/")[2]
            program = where.rpartition("/")[2].partition(":")[0]
            name = f"localhost/tulle-cluster-{program}"
            self._one_file(self._folder.programs / program, name)
            self._push(control, name, where)

    def _one_file(self, program: Path, name: str) -> None:
        container = run(*self._buildah, "from", "scratch").strip()
        run(*self._buildah, "add", container, program, f"/{program.name}")
        run(*self._buildah, "config", "--entrypoint", f'["/{program.name}"]', container)
        run(*self._buildah, "commit", "--quiet", "--rm", container, name)

    def _push(self, control: int, name: str, where: str) -> None:
        push = (
            *self._buildah,
            "push",
            "--quiet",
            "--disable-compression",
            "--tls-verify=false",
            name,
            f"docker://{REGISTRY}/{where}",
        )
        run(*inside(control, *push), timeout_s=300)

    def _base(self) -> str:
        """The name of the image that all of Tulle's are built on."""
        found = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
        assert found is not None
        official = found[1]
        for name in (official, MADE):
            if self._has(name):
                return name
        try:
            run(*self._buildah, "pull", "--quiet", official, timeout_s=PULL_S)
            return official
        except (ClusterError, subprocess.TimeoutExpired):
            print(
                f"{official} cannot be pulled; making one like it from Debian's packages ...",
                file=sys.stderr,
                flush=True,
            )
            self._make_base()
            return MADE

    def _has(self, name: str) -> bool:
        asked = subprocess.run((*self._buildah, "inspect", "--type", "image", name), capture_output=True, check=False)
        return asked.returncode == 0

    def _make_base(self) -> None:
        codename = _codename()
        sources = _apt_sources(codename)
        with tempfile.TemporaryDirectory(dir=self._folder.root, prefix="base-") as made:
            root = Path(made, "root")
            include = f"--include={','.join(BASE_PACKAGES)}"
            mirror = sources[0].split()[1]
            run("nice", "-n", "10", "debootstrap", "--variant=minbase", include, codename, root, mirror, timeout_s=900)
            (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
            (root / "etc/apt/apt.conf.d/90builder").write_text(_apt_proxies())
            # An image is one environment: what pip puts beside Debian's packages is asked for.
            for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
                mark.unlink()
            for name in ("var/cache/apt/archives", "var/lib/apt/lists"):
                shutil.rmtree(root / name)
            container = run(*self._buildah, "from", "scratch").strip()
            run(*self._buildah, "add", container, root, "/", timeout_s=300)
            run(*self._buildah, "config", "--env", "LANG=C.UTF-8", "--cmd", "python", container)
            run(*self._buildah, "commit", "--quiet", "--rm", container, MADE, timeout_s=300)


def _name(target: str) -> str:
    return f"{PREFIX}/{target}:{VERSION}"


def _volumes() -> Iterator[str]:
    """What tells the builds of this machine where packages come from: its authorities, and its settings of pip."""
    if AUTHORITIES.exists():
        yield from ("--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro")
    settings = next((path for path in PIP_SETTINGS if path.exists()), None)
    if settings is not None:
        yield from ("--volume", f"{settings}:/etc/pip.conf:ro")


def _codename() -> str:
    found = re.search(r"^VERSION_CODENAME=(\S+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError(
            "/etc/os-release names no VERSION_CODENAME, so no base image can be made: pull one, or use Debian"
        )
    return found[1]


def _apt_sources(codename: str) -> list[str]:
    """This machine's own sources of its distribution, as lines of a sources.list."""
    told = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages")
    lines = [line.split() for line in dict.fromkeys(told.splitlines())]
    ours = [f"deb {uri} {suite} {part}" for uri, suite, part in lines if suite.split("-")[0] == codename]
    if not ours:
        raise ClusterError(f"apt has no source of {codename}: apt-get update")
    return sorted(ours, key=lambda line: line.split()[2] != codename)


def _apt_proxies() -> str:
    return "".join(
        f"{line}\n" for line in run("apt-config", "dump").splitlines() if re.match(r'Acquire::\w+::Proxy "', line)
    )
