"""Tables: what `kubectl get` prints. Pure but for reading the column file once.

Columns of built-in kinds are data (lab/data/columns.txt); those of custom kinds are their additionalPrinterColumns.
Source: meta.k8s.io/v1 Table and PartialObjectMetadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from lab.api import age, cells, pod_cells
from lab.api.resources import Resource
from lab.api.selectors import at

Object = dict[str, Any]
Cell = Callable[[Object, datetime], cells.Cell]

DATA = Path(__file__).parent.parent / "data" / "columns.txt"
_STEP = re.compile(
    r"\.((?:\\.|[^.\[\\])+)|\[(?:'([^']*)'|\"([^\"]*)\"|(\d+|\*)|\?\(@\.([\w]+)==[\"']([^\"']*)[\"']\))\]"
)


@dataclass(frozen=True, slots=True)
class Column:
    """A header and where its cell comes from; `priority` 1 shows only in -o wide."""

    name: str
    type: str
    priority: int
    cell: Cell
    description: str = ""

    def definition(self) -> Object:
        form = "name" if self.name == "Name" else ""
        return {
            "name": self.name,
            "type": self.type,
            "format": form,
            "description": self.description,
            "priority": self.priority,
        }


@cache
def _built_in() -> dict[str, tuple[Column, ...]]:
    lines = [line for line in DATA.read_text().splitlines() if line and not line.startswith("#")]
    return {kind: tuple(map(_column, text.split("|"))) for kind, _, text in (line.partition(":") for line in lines)}


def _column(text: str) -> Column:
    name, source = text.strip().rsplit(" ", 1)
    cell: Cell = _field(source) if source.startswith(".") else _function(source)
    integer = source.endswith("_count")
    return Column(name.removeprefix("+"), "integer" if integer else "string", int(name.startswith("+")), cell)


def _function(name: str) -> Cell:
    found: Cell = getattr(pod_cells if hasattr(pod_cells, name) else cells, name)
    return found


def _field(path: str) -> Cell:
    steps = path.removeprefix(".")

    def cell(item: Object, _now: datetime) -> cells.Cell:
        found = at(item, steps)
        return cells.NONE if found in (None, "") else found

    return cell


@cache
def _default_columns() -> tuple[Column, ...]:
    return (Column("Name", "string", 0, _field(".metadata.name")), Column("Age", "string", 0, cells.age))


def columns(row: Resource) -> tuple[Column, ...]:
    """The columns of a kind; a kind that says nothing has Name and Age."""
    if row.is_custom and row.columns:
        return (_default_columns()[0], *(_printer_column(item) for item in row.columns))
    return _built_in().get(row.key, _default_columns())


def _printer_column(item: Any) -> Column:
    steps = json_path(str(item.get("jsonPath", "")))
    kind = str(item.get("type", "string"))

    def cell(whole: Object, now: datetime) -> cells.Cell:
        found = list(_follow(whole, steps))
        if not found or found[0] is None:
            return None
        if kind == "date":
            return age.since(str(found[0]), now)
        if isinstance(found[0], (str, int, float, bool)):
            return found[0] if len(found) == 1 else ",".join(map(str, found))
        return str(found[0])

    return Column(item["name"], kind, int(item.get("priority") or 0), cell, str(item.get("description") or ""))


Step = tuple[str, str]


def json_path(text: str) -> list[Step]:
    """The simple JSONPaths of printer columns as steps: ("key", k), ("index", i or *), ("where", "field=value")."""
    steps: list[Step] = []
    for match in _STEP.finditer(text if text.startswith(("[", ".")) else f".{text}"):
        dotted, single, double, index, field, value = match.groups()
        key = single if single is not None else double
        if dotted is not None:
            steps.append(("key", dotted.replace("\\", "")))
        elif key is not None:
            steps.append(("key", key))
        else:
            steps.append(("index", index) if index is not None else ("where", f"{field}={value}"))
    return steps


def _follow(value: Any, steps: list[Step]) -> Iterable[Any]:
    if not steps:
        yield value
        return
    (kind, wanted), rest = steps[0], steps[1:]
    if kind == "key":
        if isinstance(value, dict) and wanted in value:
            yield from _follow(value[wanted], rest)
    elif isinstance(value, list):
        if kind == "where":
            field, _, text = wanted.partition("=")
            chosen = [item for item in value if isinstance(item, dict) and str(item.get(field)) == text]
        else:
            chosen = value if wanted == "*" else value[int(wanted) : int(wanted) + 1]
        for item in chosen:
            yield from _follow(item, rest)


def render(row: Resource, items: list[Object], metadata: Object, now: datetime, include: str) -> Object:
    """A Table of `items`. `include` is None, Metadata or Object: how much of each object its row carries."""
    shown = columns(row)
    rows = []
    for item in items:
        made: Object = {"cells": [column.cell(item, now) for column in shown]}
        if include != "None":
            made["object"] = item if include == "Object" else partial(item)
        rows.append(made)
    definitions = [column.definition() for column in shown]
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return {**head, "columnDefinitions": definitions, "rows": rows}


def partial(item: Object) -> Object:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def bookmark(item: Object) -> Object:
    """A bookmark in a watch of tables: no columns, one row without cells that carries the metadata."""
    metadata = {"resourceVersion": item["metadata"]["resourceVersion"]}
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": None}
    return {**head, "rows": [{"cells": [], "object": partial(item)}]}
