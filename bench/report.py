"""docs/performance.md and its pictures, from the rows of a full run. Edge."""

import json
import textwrap
from pathlib import Path
from string import Template
from typing import Any

from bench.rows import Row
from bench.tables import SPECS, markdown, rows_of

DOCS = Path(__file__).parent.parent / "docs"
TEMPLATE = Path(__file__).parent / "performance.tmpl.md"
_COLUMNS = 120
_NOTHING = "(not in this run)"


def write(results: Path) -> None:
    """Rewrite the documentation; raise FileNotFoundError where no full run has been made."""
    rows = [Row(**row) for row in json.loads(results.read_text())]
    about = json.loads(results.with_suffix(".about.json").read_text())
    from bench import plots  # here: only who measures needs what draws

    pictures = plots.draw(rows, DOCS / "performance")
    tables = {
        "table_" + spec.name.replace("-", "_"): markdown(spec, rows) if rows_of(spec, rows) else _NOTHING
        for spec in SPECS
    }
    text = Template(TEMPLATE.read_text()).substitute(**tables, **_about(about))
    (DOCS / "performance.md").write_text(text)
    print(f"Wrote docs/performance.md and {len(pictures)} pictures")


def _about(about: dict[str, Any]) -> dict[str, str]:
    named = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return {
        "machine": textwrap.fill(f"Machine: {about['cores']} cores of {about['cpu']}. Versions: {named}.", _COLUMNS),
        "rounds": str(about["rounds"]),
        "seconds": str(about["seconds"]),
        "open_seconds": str(2 * about["seconds"]),
        "table_singles": _singles(about["singles"]),
    }


def _singles(singles: dict[str, list[dict[str, Any]]]) -> str:
    """What has no rival, each beside the most it may be."""
    if not singles:
        return _NOTHING
    sidecar = {row["case"]: row for row in singles["sidecar"]}
    webhook = {row["case"].partition(",")[0]: row for row in singles["webhook"]}
    init = next(row for row in singles["init"] if row["case"] == "auto")
    lines = (
        ("sidecar, exec to ready", "700 ms", f"{sidecar['ready']['p50']:.0f} ms"),
        ("sidecar, resident when idle", "45 MB", f"{sidecar['idle']['p50']:.0f} MB"),
        ("init container, exec to exit, both families", "400 ms", f"{init['p50_ms']:.0f} ms"),
        ("webhook, 100 admissions a second, p99", "20 ms", f"{webhook['open loop']['p99_ms']:.1f} ms"),
        ("webhook, admissions a second of one core", "500", f"{webhook['closed loop']['admissions_per_cpu_s']:.0f}"),
    )
    head = ["| what | limit | measured |", "|---|---:|---:|"]
    return "\n".join(head + [f"| {what} | {limit} | {value} |" for what, limit, value in lines])
