"""The Dockerfile, as far as it can be judged without building it."""

import configparser
import re
import sys
from pathlib import Path

import pytest

from contract import ports

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "manifests" / "Dockerfile").read_text()
PROGRAMS = ("proxy", "init", "webhook", "controller")
IMAGES = (*PROGRAMS, "samples")
WORKLOADS = sorted((ROOT / "tests").glob("*/workloads/*.yaml"))
"""What the end-to-end tests apply, in a lab and on any cluster."""


def instructions(stage: str) -> list[tuple[str, str]]:
    """Keyword and arguments of one stage's instructions, continuation lines joined."""
    lines = re.sub(r"\\\n\s*", "", TEXT).splitlines()
    start = next(index for index, line in enumerate(lines) if re.fullmatch(rf"FROM \S+ AS {stage}", line))
    found = []
    for line in lines[start + 1 :]:
        if line.startswith("FROM "):
            break
        if line.strip() and not line.startswith("#"):
            keyword, _, arguments = line.partition(" ")
            found.append((keyword, arguments))
    return found


def copies(stage: str) -> list[str]:
    """Sources of the COPY instructions that read the checkout."""
    sources = [arguments.split()[:-1] for keyword, arguments in instructions(stage) if keyword == "COPY"]
    return [source for words in sources if not words[0].startswith("--from") for source in words]


@pytest.mark.parametrize("image", IMAGES)
def test_every_image_is_a_target_on_the_shared_base(image: str) -> None:
    assert re.search(rf"^FROM runtime AS {image}$", TEXT, re.MULTILINE)
    assert TEXT.index("ARG BASE=") < TEXT.index("FROM ${BASE} AS build") < TEXT.index("FROM ${BASE} AS runtime")


@pytest.mark.parametrize("stage", ["build", *(f"build-{image}" for image in IMAGES)])
def test_what_is_copied_exists_and_is_not_ignored(stage: str) -> None:
    ignored = (ROOT / "manifests" / "Dockerfile.dockerignore").read_text().splitlines()
    for source in copies(stage):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, f"{source} is not sent to the build"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_its_own_program_and_extra_and_no_other(image: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (install,) = [arguments for keyword, arguments in instructions(f"build-{image}") if keyword == "RUN"]
    assert copies(f"build-{image}") == [image]
    assert install == f"manifests/install.sh {image}"
    assert (ROOT / "manifests" / "locks" / f"{image}.txt").exists()
    assert image in setup["options.extras_require"]
    if image != "samples":
        assert f"tulle-{image} = {image}.__main__:main" in setup["options.entry_points"]["console_scripts"]
        assert ("ENTRYPOINT", f'["tulle-{image}"]') in instructions(image)


@pytest.mark.parametrize(
    ("image", "user"),
    [
        ("proxy", ports.PROXY_UID),
        ("webhook", ports.CONTROL_PLANE_UID),
        ("controller", ports.CONTROL_PLANE_UID),
        ("init", 0),
    ],
)
def test_an_image_runs_as_the_user_that_the_pods_expect(image: str, user: int) -> None:
    """Numbers, because Kubernetes cannot tell of a name that it is not root. The init container needs root."""
    assert ("USER", f"{user}:{user}") in instructions(image)


def test_the_init_image_has_both_backends() -> None:
    (install,) = [arguments for keyword, arguments in instructions("init") if keyword == "RUN"]
    assert {"iptables", "nftables"} <= set(install.split())


def test_the_tests_workloads_run_images_that_are_built_here() -> None:
    """By a word that the tests replace by registry, name and tag: a cluster pulls what a lab takes for a name only."""
    for path in WORKLOADS:
        for image in re.findall(r"image: *([^,\s}]+)", path.read_text()):
            word, _, name = image.partition("/")
            assert word == "IMAGES", path
            assert re.search(rf"^FROM \S+ AS {name}$", TEXT, re.MULTILINE), path


def test_no_end_to_end_test_runs_an_image_that_only_a_lab_takes() -> None:
    for path in (ROOT / "tests" / "e2e").rglob("*.py"):
        assert '"image": "' not in path.read_text(), f"{path}: write cluster.image(...)"


def test_the_tests_servers_find_in_their_image_what_they_import() -> None:
    """A lab has all of it, because its containers see this environment."""
    assert any("/tmp/e2e.txt" in arguments for keyword, arguments in instructions("e2e") if keyword == "RUN")
    text = (ROOT / "manifests" / "locks" / "e2e.txt").read_text()
    installed = {{"grpcio": "grpc"}.get(name, name) for name in re.findall(r"^([\w-]+)==", text, re.MULTILINE)}
    assert "wsproto" in installed, "which uvicorn needs for WebSockets, and nobody imports"
    for path in (ROOT / "tests").glob("*/workloads/**/*.py"):
        imports = re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
        assert set(imports) <= installed | sys.stdlib_module_names, path


@pytest.mark.parametrize("path", WORKLOADS, ids=lambda path: path.stem)
def test_a_workload_knows_no_clusters_network(path: Path) -> None:
    addresses = re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", path.read_text())
    assert set() == {one for one in addresses if one not in ("0.0.0.0", "127.0.0.1", "192.0.2.1")}


@pytest.mark.parametrize(
    "stage", ["build", "runtime", "e2e", "browser", *IMAGES, *(f"build-{image}" for image in IMAGES)]
)
def test_instructions_are_sane(stage: str) -> None:
    for keyword, arguments in instructions(stage):
        assert keyword in ("ARG", "RUN", "COPY", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD", "LABEL"), keyword
        if "apt-get install" in arguments:
            assert "--no-install-recommends" in arguments
            assert "apt-get update &&" in arguments
            assert arguments.endswith("rm -rf /var/lib/apt/lists/*")
        if keyword == "WORKDIR":
            assert arguments.startswith("/")
        if keyword == "ENTRYPOINT":
            assert arguments.startswith("["), "the exec form: signals must reach the program"
    assert "PYTHONDONTWRITEBYTECODE=1" in dict(instructions("runtime"))["ENV"], "the root file system is read-only"
