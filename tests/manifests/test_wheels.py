"""Every image's wheel, built and installed as its Dockerfile does it: in an environment that has nothing yet.

A checkout's own environment hides what a build forgets to ask for, because everything is there already. The compiled
wheel of the sidecar is built in an empty environment too, by `make .venv/.compiled`; here it is built interpreted.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SHARED = ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "contract")
"""What the Dockerfile copies for every image."""
EXTRAS: dict[str, tuple[str, ...]] = {
    "proxy": ("proxy",),
    "init": ("init",),
    "webhook": ("webhook",),
    "controller": ("controller",),
    "samples": ("samples",),
    "cli": ("cli", "webhook", "init", "manifests"),
    "lab": ("lab",),
}
"""The images' extras and the two that a user installs, and the folders that each needs beside the contract."""
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def copied(folders: tuple[str, ...], to: Path) -> Path:
    for name in (*SHARED, *folders):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, to / name)
    return to


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_wheel_builds_and_imports_in_an_empty_environment(extra: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    copied(EXTRAS[extra], source)
    run(sys.executable, "-m", "venv", tmp_path / "empty", cwd=tmp_path)
    pip = (tmp_path / "empty" / "bin" / "pip", "--disable-pip-version-check")

    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "wheels", ".", cwd=source)
    (wheel,) = (tmp_path / "wheels").glob("tulle-*.whl")
    run(*pip, "install", "--quiet", f"{wheel}[{extra}]", cwd=tmp_path)

    run(tmp_path / "empty" / "bin" / "python", "-I", "-c", IMPORT_ALL, "contract", extra, cwd=tmp_path)


@pytest.mark.parametrize("image", ["init", "samples"])
def test_an_image_is_installed_from_its_lock_alone_and_lists_what_is_in_it(image: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "manifests").mkdir(parents=True)
    copied((image,), source)
    shutil.copytree(ROOT / "manifests" / "locks", source / "manifests" / "locks")
    for name in ("build", "tulle"):
        run(sys.executable, "-m", "venv", tmp_path / name, cwd=tmp_path)
    locked = ("install", "--quiet", "--no-deps", "--require-hashes", "-r", "manifests/locks/build.txt")
    run(tmp_path / "build" / "bin" / "pip", *locked, cwd=source)

    run("env", f"TULLE_ROOT={tmp_path}", ROOT / "manifests" / "install.sh", image, cwd=source)

    listed = json.loads((tmp_path / "tulle" / "sbom.cdx.json").read_text())["components"]
    lock = (ROOT / "manifests" / "locks" / f"{image}.txt").read_text()
    pinned = {tuple(line.split(" ")[0].split("==")) for line in lock.splitlines() if "==" in line}
    found = {(canonicalize_name(one["name"]), one["version"]) for one in listed}
    assert pinned == {one for one in found if one[0] not in ("pip", "setuptools", "tulle")}
    assert str(tmp_path) not in str(listed), "nothing of the machine that built it"
    scripts = sorted(path.name for path in (tmp_path / "tulle" / "bin").glob("tulle*"))
    assert scripts == ([] if image == "samples" else [f"tulle-{image}"])
