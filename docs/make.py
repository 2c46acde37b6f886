"""Fill the tables of docs/*.md from the code that they describe: `python docs/make.py` (a test says when it is due).

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; the rest of a page is written by hand.
"""

import json
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
from contract.kinds.fields import FAULT_INJECTION, TRAFFIC_POLICY
from contract.kinds.forms import Duration, Integer, Number, Percent, Quantity, write_bytes, write_duration
from contract.kinds.sections import Many, Section
from controller.settings import PREFIX, Settings
from proxy.config import SETTINGS
from proxy.errors import REASONS
from proxy.render import COUNTERS
from proxy.wire.grpc import status_for

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
        (f"`{PREFIX}{f.name.upper()}`", f"`{_shown(f.default)}`" if f.default != "" else "", meanings.get(f.name, ""))
        for f in fields(Settings)
    ]
    return _rows(("variable", "default", "meaning"), rows)


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def reasons() -> str:
    """Every way in which the sidecar fails."""
    rows = [
        (f"`{r.word}`", str(r.status or "-"), str(status_for(r.word, r.status)) if r.status else "-", r.meaning)
        for r in REASONS.values()
    ]
    return _rows(("reason", "status", "gRPC", "meaning"), rows)


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


def _form(form: Any) -> str:
    """How a field is written: its bounds and unit."""
    match form:
        case Section():
            return "object"
        case Many():
            return f"list: {_form(form.item)}, at most {form.high}"
        case Integer() | Number():
            return f"{form.low} to {form.high}" + (f" ({form.unit})" if form.unit else "")
        case Percent():
            return f"{form.low} to 100 (percent)"
        case Duration():
            return f"duration, {write_duration(form.low_ms)} to {write_duration(form.high_ms)}"
        case Quantity():
            return f"{write_bytes(form.low)} to {write_bytes(form.high)} ({form.unit})"
        case _:
            return str(form.unit)


def _fields(section: Section, path: str) -> Iterable[tuple[str, ...]]:
    for field in section.fields:
        name = f"{path}.{field.name}" if path else field.name
        default = "required" if field.is_required else field.default_text.strip("-")
        if not default and field.default not in (None, {}):
            written = field.default if isinstance(field.default, str) else json.dumps(field.default)
            default = f"`{written}`" if written else '`""`'
        yield (f"`{name}`", _form(field.form), default, field.text)
        inner = field.form.item if isinstance(field.form, Many) else field.form
        if isinstance(inner, Section):
            yield from _fields(inner, f"{name}[]" if isinstance(field.form, Many) else name)


def _kind(section: Section) -> str:
    return _rows(("field of `spec`", "value", "default", "meaning"), _fields(section, ""))


TABLES: dict[str, Callable[[], str]] = {
    "sidecar-settings": sidecar_settings,
    "controller-settings": controller_settings,
    "reasons": reasons,
    "sidecar-counters": counters,
    "commands": commands,
    "traffic-policy": lambda: _kind(TRAFFIC_POLICY),
    "fault-injection": lambda: _kind(FAULT_INJECTION),
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
