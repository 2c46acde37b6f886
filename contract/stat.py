"""The answer of the controller's `stat` resources. Pure.

Plain dataclasses, because FastAPI documents them in OpenAPI and msgspec decodes them in the command line.
"""

from dataclasses import dataclass, field

RESOURCES = ("deployments", "pods", "services", "statefulsets", "daemonsets", "jobs", "namespaces")
"""Resources that can be asked for, in plural as Kubernetes names them."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of the time to the response's first byte, in milliseconds; None where nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class StatRow:
    """One resource's traffic over the window. Fields are None where there was no traffic to tell it from."""

    namespace: str
    kind: str
    """Lower-case singular: deployment, pod, service, ..."""
    name: str
    meshed: int
    """Running pods that carry a sidecar."""
    pods: int
    """Running pods."""
    success_rate: float | None = None
    """0.0 to 1.0."""
    rps: float | None = None
    """Requests per second."""
    latency_ms: Latency = field(default_factory=Latency)
    tcp_open_connections: int | None = None
    read_bytes_per_s: float | None = None
    write_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class StatAnswer:
    """The body of every `.../stat` answer."""

    window_s: float
    rows: list[StatRow]
