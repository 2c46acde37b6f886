"""Which sidecars the controller does not hear: the answer of its REST API. Pure.

A plain dataclass, because FastAPI documents it in OpenAPI and msgspec decodes it in the command line.
"""

from dataclasses import dataclass
from typing import Final

SILENT_PATH: Final = "/api/v1/sidecars/silent"

SILENT_AFTER_S: Final = 30.0
"""Three times the longest pause between two tries of a sidecar: longer silence is more than a start or a restart."""

ROWS_LIMIT_COUNT: Final = 1000
"""Rows of one answer; `count` has the whole number."""


@dataclass(frozen=True, slots=True)
class SilentSidecar:
    """A running pod with a sidecar that holds no discovery stream."""

    namespace: str
    pod: str
    silent_s: float
    """Seconds since its stream ended or the pod began to run, whichever the controller saw last."""


@dataclass(frozen=True, slots=True)
class SilentAnswer:
    """The sidecars that have been silent for longer than `after_s`, the longest first."""

    after_s: float
    count: int
    sidecars: list[SilentSidecar]
