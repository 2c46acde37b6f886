"""Pictures of rows, drawn by matplotlib. Edge."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.rows import Row

mpl.use("Agg")

COLOURS = {"direct": "#999999", "haproxy": "#e69f00", "envoy": "#0072b2", "tulle": "#d55e00"}
"""Told apart by colour-blind readers too (Okabe and Ito's palette)."""
_INCHES = (12.0, 3.8)
_DOTS_PER_INCH = 110


def _line(axes: Axes, rows: Sequence[Row], system: str, x: str, y: str) -> None:
    points: list[tuple[float, float, float, float]] = sorted(
        (getattr(row, x), getattr(row, y), row.low or 0, row.high or 0)
        for row in rows
        if row.system == system and getattr(row, y) is not None
    )
    if not points:
        return
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    axes.plot(xs, ys, marker="o", label=system, color=COLOURS[system], linewidth=2 if system == "tulle" else 1.3)
    if y == "cpu_us_per_request":
        axes.fill_between(xs, [p[2] for p in points], [p[3] for p in points], color=COLOURS[system], alpha=0.15)


def _cpu(rows: Sequence[Row], panels: Sequence[Axes]) -> None:
    for axes, case in zip(panels, ("http1", "http2", "grpc-unary"), strict=True):
        mine = [row for row in rows if row.case == case and row.features is None]
        for system in COLOURS:
            _line(axes, mine, system, "connections", "cpu_us_per_request")
        axes.set(title=case, xlabel="connections", ylabel="CPU µs per request", xscale="log", ylim=(0, None))


def _latency(rows: Sequence[Row], panels: Sequence[Axes]) -> None:
    mine = [row for row in rows if row.case == "open-http1"]
    measures = (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9"))
    for axes, (measure, title) in zip(panels, measures, strict=True):
        for system in COLOURS:
            _line(axes, mine, system, "rate_per_s", measure)
        axes.set(
            title=f"HTTP/1.1, open loop, {title}", xlabel="requests a second", ylabel="ms", xscale="log", yscale="log"
        )


def _memory(rows: Sequence[Row], panels: Sequence[Axes]) -> None:
    mine = [row for row in rows if row.case == "memory"]
    for system in COLOURS:
        _line(panels[0], mine, system, "connections", "rss_mb")
    panels[0].set(title="Memory", xlabel="open connections", ylabel="RSS, MB", ylim=(0, None))
    panels[0].set_xscale("symlog", linthresh=500)


_PICTURES: dict[str, tuple[int, Callable[[Sequence[Row], Sequence[Axes]], None]]] = {
    "cpu": (3, _cpu),
    "latency": (3, _latency),
    "memory": (1, _memory),
}


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw every picture into the folder; returns the files."""
    folder.mkdir(exist_ok=True)
    paths = []
    for name, (count, fill) in _PICTURES.items():
        width = _INCHES[0] * count / 3 + (2 if count == 1 else 0)
        figure, panels = pyplot.subplots(1, count, figsize=(width, _INCHES[1]), squeeze=False)
        fill(rows, list(panels[0]))
        for axes in panels[0]:
            axes.grid(visible=True, alpha=0.3)
            axes.legend()
        figure.tight_layout()
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=_DOTS_PER_INCH)
        pyplot.close(figure)
    return paths
