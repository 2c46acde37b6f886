"""A coverage-guided fuzzer of one parser: `python tests/fuzz TARGET [options of libFuzzer]` (`make fuzz` runs all).

It begins with the corpus of its target. An input that breaks a promise of tests/fuzz/parsers.py is written to
`.fuzz/TARGET-crash-...`; once mended, it belongs into the corpus. Coverage is that of our own Python: the libraries in
C beneath it are tried by their results alone.
"""

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]


def main() -> None:
    with atheris.instrument_imports(include=["proxy"]):
        from parsers import TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python tests/fuzz {{{','.join(TARGETS)}}} [options of libFuzzer]")
    name = sys.argv.pop(1)
    found = HERE.parent.parent / ".fuzz" / name  # what it learns stays there from run to run
    found.mkdir(parents=True, exist_ok=True)
    atheris.Setup([*sys.argv, f"-artifact_prefix={found}-", str(found), str(HERE / "corpus" / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
