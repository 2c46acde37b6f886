"""What is installed is pinned by version and hash, wherever it comes from: images, the checkout, its tests."""

import configparser
import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from manifests import lock

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "manifests" / "locks"
EXTRAS = (lock.WIDEST, *lock.NARROW)
PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;\\]+)")


def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def pins(extra: str) -> dict[str, str]:
    """Version by canonical name."""
    text = (LOCKS / f"{extra}.txt").read_text()
    found = (PINNED.match(line) for line in text.splitlines())
    return {canonicalize_name(match[1]): match[2] for match in found if match}


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_line_of_a_lock_is_a_version_with_hashes_and_tells_no_address(extra: str) -> None:
    text = (LOCKS / f"{extra}.txt").read_text()
    entries = [one for one in text.replace("\\\n", "").splitlines() if one and not one.startswith("#")]

    assert entries
    for entry in entries:
        assert re.fullmatch(PINNED.pattern + r"( ?; [^\\]*?)?( +--hash=sha256:[0-9a-f]{64})+ *", entry), entry[:80]
    assert "://" not in text
    assert "index" not in re.sub(r"[\w.-]+==\S+", "", text)


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_lock_has_what_its_extra_asks_for(extra: str) -> None:
    pinned = pins(extra)
    for line in lock.requirements(extra, setup()):
        wanted = Requirement(line)
        version = pinned.get(canonicalize_name(wanted.name))
        assert version is not None, f"make locks: {line}"
        assert wanted.specifier.contains(version, prereleases=True), f"make locks: {line}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_lock_has_what_its_packages_ask_for_and_no_other_version_than_the_tests_have(extra: str) -> None:
    pinned, widest = pins(extra), pins(lock.WIDEST)
    assert pinned.items() <= widest.items()
    for name in pinned:
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue  # of another environment than the one that runs this
        for line in needs:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in pinned, f"{extra}: {name} needs {line}"


@pytest.mark.parametrize("place", ["Makefile", "manifests/Dockerfile", "manifests/install.sh"])
def test_nothing_is_installed_from_an_index_without_a_hash(place: str) -> None:
    """But pip-tools, which writes the locks and is in nothing that is built."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / place).read_text())
    commands = [
        command
        for line in text.splitlines()
        if not line.lstrip().startswith("#")
        for command in re.split(r"&&|;", line)
        if re.search(r"pip\"? (install|wheel) ", command)
    ]

    assert commands
    for command in commands:
        by_hash = "--require-hashes" in command
        from_here = re.search(r"--no-index|--editable \.|tulle-\*\.whl|--wheel-dir \S+ \.$|^pip=", command.strip())
        assert by_hash or from_here or "pip-tools" in command, command
