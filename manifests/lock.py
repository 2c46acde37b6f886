"""Pin all that is installed, each file by its hash: `make locks` writes manifests/locks/ from setup.cfg. Edge.

One file an image and one for each environment of the Makefile. The widest is made first, the others obey its versions,
so that what is tested is what is shipped. Hashes are of every file of a version, so one lock serves every platform. No
address of a package index stands in a lock: where packages come from is said by the machine, what they are is not.

    python manifests/lock.py PIP-COMPILE [--upgrade]
"""

import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "manifests" / "locks"
WIDEST = "dev"
NARROW = ("proxy", "init", "webhook", "controller", "samples", "e2e", "all", "build", "bench")
"""Extras of setup.cfg: those of the images, those of the Makefile's environments, and what builds wheels."""
HEADER = """\
# Written by `make locks` from the extra `{extra}` of setup.cfg; do not edit. Install it with
# pip install --require-hashes --no-deps -r THIS
"""


def requirements(extra: str, setup: ConfigParser) -> list[str]:
    """What an extra asks for, extras that it names resolved, the package's own needs first."""
    found = _lines(setup["options"]["install_requires"])
    for line in _lines(setup["options.extras_require"][extra]):
        if line.startswith("tulle["):
            for other in line.removeprefix("tulle[").rstrip("]").split(","):
                found += requirements(other, setup)
        else:
            found.append(line)
    return list(dict.fromkeys(found))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def lock(extra: str, wanted: list[str], constraint: Path | None, command: list[str]) -> None:
    """Write one lock, keeping the versions that it has where they still fit."""
    target = LOCKS / f"{extra}.txt"
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "requirements.in", Path(folder) / "made.txt"
        source.write_text("\n".join(wanted) + "\n")
        if target.exists():
            made.write_text(target.read_text())
        options = ["--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-annotate", "--no-header", "--quiet"]
        options += ["--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options"]
        if constraint is not None:
            options += ["--constraint", str(constraint)]
        subprocess.run([*command, *options, "--output-file", str(made), str(source)], check=True)
        target.write_text(HEADER.format(extra=extra) + made.read_text())


def main() -> None:
    """Write all locks."""
    command = sys.argv[1:]
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    LOCKS.mkdir(exist_ok=True)
    wide = (WIDEST, *NARROW)
    everything = list(dict.fromkeys(line for extra in wide for line in requirements(extra, setup)))
    widest = LOCKS / f"{WIDEST}.txt"
    lock(WIDEST, everything, None, command)
    for extra in NARROW:
        lock(extra, requirements(extra, setup), widest, command)
        print(f"{extra}: {sum('==' in line for line in (LOCKS / f'{extra}.txt').read_text().splitlines())} packages")


if __name__ == "__main__":
    main()
