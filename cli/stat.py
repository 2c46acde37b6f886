"""The table of `tulle stat`: what is asked, and how the answer is shown. Pure."""

import re
from dataclasses import dataclass
from typing import Any

from cli.errors import CliError
from contract.stat import RESOURCES, StatAnswer, StatRow

_SHORT = {"deploy": "deployments", "po": "pods", "svc": "services", "sts": "statefulsets", "ds": "daemonsets"}
_SHORT |= {"ns": "namespaces"}
_WINDOW = re.compile(r"(?=.)(\d+h)?(\d+m)?(\d+s)?", re.ASCII)
_COLUMNS = ("NAME", "MESHED", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN")
_WIDE_COLUMNS = ("READ_BYTES/SEC", "WRITE_BYTES/SEC")
EMPTY = "-"


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind in plural, and one object's name or "" for all of them."""

    kind: str
    name: str = ""


def parse_resource(words: list[str]) -> Resource:
    """Read `deploy`, `deployment/web`, `pods web-1`: singular, plural or short, as kubectl does.

    Raises:
        CliError: a kind that has no statistics, or too many words.
    """
    parts = words[0].split("/") if len(words) == 1 else words
    kinds = {**{kind: kind for kind in RESOURCES}, **{kind[:-1]: kind for kind in RESOURCES}, **_SHORT}
    kind = kinds.get(parts[0].lower())
    if kind is None:
        raise CliError(f"resource {parts[0]} has no statistics; use one of {', '.join(RESOURCES)}", 2)
    if len(parts) > 2 or not all(parts):
        raise CliError(f"resource {' '.join(words)}: write it as KIND, KIND/NAME or KIND NAME", 2)
    return Resource(kind, parts[1] if len(parts) == 2 else "")


def parse_window(text: str) -> str:
    """Check a window's form (`30s`, `1m30s`, `1h`); the controller judges its length."""
    if not _WINDOW.fullmatch(text):
        raise CliError(f"--time-window {text}: write for example 30s, 1m or 1h", 2)
    return text


def path(resource: Resource, namespace: str | None) -> str:
    """The controller's path for a resource in one namespace, or in all of them when `namespace` is None."""
    scope = f"/namespaces/{namespace}" if namespace is not None and resource.kind != "namespaces" else ""
    name = f"/{resource.name}" if resource.name else ""
    return f"/api/v1{scope}/{resource.kind}{name}/stat"


def table(answer: StatAnswer, *, namespaces: bool, wide: bool) -> list[list[str]]:
    """Header and rows as text, sorted by namespace and name; "-" where nothing was measured."""
    header = [*(["NAMESPACE"] if namespaces else []), *_COLUMNS, *(_WIDE_COLUMNS if wide else [])]
    rows = sorted(answer.rows, key=lambda row: (row.namespace, row.kind, row.name))
    return [header, *([*([row.namespace or EMPTY] if namespaces else []), *_cells(row, wide)] for row in rows)]


def has_traffic(answer: StatAnswer) -> bool:
    """Whether any row saw a request, a connection or a byte."""
    return any(
        row.rps or row.tcp_open_connections or row.read_bytes_per_s or row.write_bytes_per_s for row in answer.rows
    )


def _cells(row: StatRow, wide: bool) -> list[str]:
    latency = row.latency_ms
    cells = [
        row.name,
        f"{row.meshed}/{row.pods}",
        _format("{:.2f}%", None if row.success_rate is None else row.success_rate * 100),
        _format("{:.1f}rps", row.rps),
        *(_format("{:.0f}ms", quantile) for quantile in (latency.p50, latency.p95, latency.p99)),
        _format("{:d}", row.tcp_open_connections),
    ]
    if wide:
        cells += [_format("{:.1f}B/s", row.read_bytes_per_s), _format("{:.1f}B/s", row.write_bytes_per_s)]
    return cells


def _format(template: str, value: Any) -> str:
    return EMPTY if value is None else template.format(value)


def parse_peer(option: str, text: str | None) -> str | None:
    """Read `--to`/`--from`: RESOURCE/NAME, given on to the controller in its own words."""
    if text is None:
        return None
    resource = parse_resource([text])
    if not resource.name:
        raise CliError(f"{option} {text}: write it as KIND/NAME, for example deployments/web", 2)
    return f"{resource.kind}/{resource.name}"
