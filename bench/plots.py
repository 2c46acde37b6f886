"""Pictures of rows, drawn by matplotlib. Edge."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from bench.rows import Row, main_figure

mpl.use("Agg")

COLOURS = {"direct": "#999999", "haproxy": "#e69f00", "envoy": "#0072b2", "tulle": "#d55e00"}
"""Told apart by colour-blind readers too (Okabe and Ito's palette)."""
_INCHES = (12.0, 3.8)
_DOTS_PER_INCH = 110


_TITLES = {"http1": "HTTP/1.1", "http2": "HTTP/2", "grpc-unary": "gRPC, unary"}


def _lines(axes: Axes, rows: Sequence[Row], x: str, y: str) -> None:
    """One line a system over evenly spaced places, one for each value of x that was measured; shade the spread."""
    places = {value: place for place, value in enumerate(sorted({getattr(row, x) for row in rows}))}
    for system, colour in COLOURS.items():
        mine = sorted((row for row in rows if row.system == system and getattr(row, y) is not None), key=_shape_of(x))
        if not mine:
            continue
        at = [places[getattr(row, x)] for row in mine]
        label = f"{system} ({mine[0].note})" if mine[0].note else system
        width = 2.2 if system == "tulle" else 1.3
        axes.plot(at, [getattr(row, y) for row in mine], marker="o", label=label, color=colour, linewidth=width)
        if y == main_figure(mine[0]):
            low, high = [row.low or 0.0 for row in mine], [row.high or 0.0 for row in mine]
            axes.fill_between(at, low, high, color=colour, alpha=0.15)
    axes.set_xticks(list(places.values()), [f"{value:,g}" for value in places])


def _shape_of(x: str) -> Callable[[Row], float]:
    return lambda row: float(getattr(row, x))


def _cpu(rows: Sequence[Row], panels: Sequence[Axes]) -> None:
    for axes, (case, title) in zip(panels, _TITLES.items(), strict=True):
        mine = [row for row in rows if row.case == case and row.features is None]
        _lines(axes, mine, "connections", "cpu_us_per_request")
        axes.set(title=title, xlabel="connections", ylabel="CPU, µs a request", ylim=(0, None))


def _latency(rows: Sequence[Row], panels: Sequence[Axes]) -> None:
    mine = [row for row in rows if row.case == "open-http1"]
    measures = (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9"))
    for axes, (measure, title) in zip(panels, measures, strict=True):
        _lines(axes, mine, "rate_per_s", measure)
        axes.set(title=f"HTTP/1.1, open loop, {title}", xlabel="requests a second", ylabel="ms", yscale="log")
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _memory(rows: Sequence[Row], panels: Sequence[Axes]) -> None:
    _lines(panels[0], [row for row in rows if row.case == "memory"], "connections", "rss_mb")
    panels[0].set(title="Memory", xlabel="open connections", ylabel="RSS, MB", ylim=(0, None))


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
            axes.legend(fontsize="small")
        figure.tight_layout()
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=_DOTS_PER_INCH)
        pyplot.close(figure)
    return paths
