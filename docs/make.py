"""Fill the tables of docs/*.md from the code that they describe: `python docs/make.py` (a test says when it is due).

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; the rest of a page is written by hand.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import typer.main
from typer.core import TyperCommand, TyperGroup, TyperOption

from cli.__main__ import app
from controller.settings import PREFIX, Settings
from proxy.config import SETTINGS
from proxy.errors import REASONS
from proxy.render import COUNTERS

DOCS = Path(__file__).parent
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _rows(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ("---",) * len(header), *rows)]
    return "\n".join(lines) + "\n"


def sidecar_settings() -> str:
    """Environment of the sidecar."""
    rows = [(f"`{s.name}`", f"`{s.default}`" if s.default else "", s.unit, s.meaning) for s in SETTINGS]
    return _rows(("variable", "default", "unit", "meaning"), rows)


def controller_settings() -> str:
    """Environment of the controller; the meaning is the field's docstring in controller/settings.py."""
    source = (DOCS.parent / "controller" / "settings.py").read_text()
    meanings = dict(re.findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', source, re.DOTALL | re.MULTILINE))
    rows = [
        (f"`{PREFIX}{f.name.upper()}`", f"`{f.default}`" if f.default != "" else "", meanings.get(f.name, ""))
        for f in fields(Settings)
    ]
    return _rows(("variable", "default", "meaning"), rows)


def reasons() -> str:
    """Every way in which the sidecar fails."""
    rows = [(f"`{r.word}`", str(r.status or "-"), r.meaning) for r in REASONS.values()]
    return _rows(("reason", "status", "meaning"), rows)


def counters() -> str:
    """Counters of rare events in the sidecar."""
    rows = [
        (
            f"`{name}`",
            ", ".join(f"`{label}`" for label in labels.split(", ") if label),
            f"{meaning[0].lower()}{meaning[1:]}",
        )
        for name, (labels, meaning) in COUNTERS.items()
    ]
    return _rows(("counter", "labels", "meaning"), rows)


def commands() -> str:
    """Every command of `tulle` with its options."""

    def walk(command: Any, path: str) -> Iterable[tuple[str, TyperCommand]]:
        if isinstance(command, TyperGroup):
            for name, child in command.commands.items():
                yield from walk(child, f"{path} {name}")
        else:
            yield path, command

    rows = []
    for path, command in walk(typer.main.get_command(app), "tulle"):
        options = [
            "/".join(p.opts + p.secondary_opts) for p in command.params if isinstance(p, TyperOption) and not p.hidden
        ]
        rows.append((f"`{path}`", (command.help or "").strip().split("\n")[0], " ".join(f"`{o}`" for o in options)))
    return _rows(("command", "what it does", "options"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "sidecar-settings": sidecar_settings,
    "controller-settings": controller_settings,
    "reasons": reasons,
    "sidecar-counters": counters,
    "commands": commands,
}


def filled(text: str) -> str:
    """The page with its tables made anew."""
    return _TABLE.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)


def main() -> None:
    """Rewrite the pages that are not current."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        if filled(text) != text:
            page.write_text(filled(text))
            print(f"rewrote {page.name}")


if __name__ == "__main__":
    main()
