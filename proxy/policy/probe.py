"""Which requests are what a probe of the pod's spec asks. Pure.

The webhook writes what the pod's probes ask into the sidecar's environment: `8080:/healthz 9090:grpc`, each with its
port and the target of its request, as a kubelet writes it. Only a request that is exactly that can be a probe (whose
it is, proxy.peers knows). What a client calls itself says nothing.

Sources: Kubernetes, "Configure Liveness, Readiness and Startup Probes"; pkg/probe/http and pkg/probe/grpc for what a
kubelet sends; gRPC health checking (grpc/health/v1/health.proto).
"""

from typing import Final

from contract.environment import GRPC_PROBE

GRPC_TARGET: Final = b"/grpc.health.v1.Health/Check"

MAX_COUNT: Final = 256
"""Probes of one pod."""

Probes = tuple[tuple[int, bytes], ...]
"""(port, target that a probe asks for there)."""


def of_port(probes: Probes, port: int) -> tuple[bytes, ...]:
    """Give the targets that probes ask for on a port."""
    return tuple(target for number, target in probes if number == port)


def is_asked(targets: tuple[bytes, ...], method: bytes, target: bytes, has_body: bool) -> bool:
    """Tell whether a request is exactly what one of the port's probes asks."""
    if target not in targets:
        return False
    return method == b"POST" if target == GRPC_TARGET else method == b"GET" and not has_body


def parse(text: str) -> Probes:
    """Read the list of probes; raise ValueError."""
    words = text.split()
    if len(words) > MAX_COUNT:
        raise ValueError(f"more than {MAX_COUNT} probes")
    found: list[tuple[int, bytes]] = []
    for word in words:
        port, _, target = word.partition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536 or not (target.startswith("/") or target == GRPC_PROBE):
            raise ValueError(f"{word!r} is not a probe: write 8080:/healthz or 9090:{GRPC_PROBE}")
        probe = (int(port), GRPC_TARGET if target == GRPC_PROBE else target.encode())
        if probe not in found:
            found.append(probe)
    return tuple(found)


def render(probes: Probes) -> str:
    """Write the list as `parse` reads it."""
    targets = ((port, GRPC_PROBE if target == GRPC_TARGET else target.decode("latin-1")) for port, target in probes)
    return " ".join(f"{port}:{target}" for port, target in targets)
