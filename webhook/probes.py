"""Probes of a container that capture would make blind, written anew so that they tell the truth. Pure.

A tcpSocket probe succeeds as soon as something accepts, and under capture the sidecar always does. It becomes an
httpGet probe of the sidecar's admin port, which dials the application (docs/adr/0022). Probes by httpGet and grpc see
what the application answers, or the sidecar's 502 and `unavailable` where it does not; those by exec do not pass the
network. A lifecycle hook by tcpSocket is one that Kubernetes knows no more. All these stay as they are.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from contract import ports, probes
from contract.lists import PortRange
from webhook import pods

Json = dict[str, Any]

KINDS = ("startupProbe", "readinessProbe", "livenessProbe")
FIELDS = ("initContainers", "containers")


class TcpProbe(NamedTuple):
    """A probe that the sidecar makes."""

    path: str
    """In the pod, as a JSON pointer to the probe."""
    number: int
    written: int | str
    """The port as the probe names it."""


def tcp_probes(pod: Json, skipped: tuple[PortRange, ...]) -> list[TcpProbe]:
    """The tcpSocket probes of captured ports of the pod itself, init containers' first."""
    found = []
    for field in FIELDS:
        for index, container in enumerate(pods.entries(pod, field)):
            for kind in KINDS:
                action = _tcp_socket(container.get(kind))
                number = None if action is None else _number(action.get("port"), container)
                if action is None or number is None or any(one.first <= number <= one.last for one in skipped):
                    continue
                found.append(TcpProbe(f"/spec/{field}/{index}/{kind}", number, action["port"]))
    return found


def operations(found: list[TcpProbe]) -> list[Json]:
    """Patch each probe in its place; what else it says (periods, thresholds) stays."""
    return list(_operations(found))


def _operations(found: list[TcpProbe]) -> Iterator[Json]:
    for probe in found:
        action = {"path": probes.tcp_path(probe.number, probe.written), "port": ports.ADMIN_PORT}
        yield {"op": "remove", "path": f"{probe.path}/tcpSocket"}
        yield {"op": "add", "path": f"{probe.path}/httpGet", "value": action}


def restore(container: Json) -> None:
    """Write the container's probes as they were before `operations`."""
    for kind in KINDS:
        probe = container.get(kind)
        action = probe.get("httpGet") if isinstance(probe, dict) else None
        if not isinstance(probe, dict) or not isinstance(action, dict) or action.get("port") != ports.ADMIN_PORT:
            continue
        written = probes.written_port(str(action.get("path", "")))
        if written is not None:
            del probe["httpGet"]
            probe["tcpSocket"] = {"port": written}


def _tcp_socket(probe: object) -> Json | None:
    """The action of a tcpSocket probe of the pod itself; one with a host asks elsewhere, past the capture."""
    action = probe.get("tcpSocket") if isinstance(probe, dict) else None
    return action if isinstance(action, dict) and not action.get("host") else None


def _number(port: object, container: Json) -> int | None:
    """A probe's port as a kubelet finds it: a number, or a name among the container's own ports."""
    if isinstance(port, str):
        named = (one.get("containerPort") for one in container.get("ports") or () if one.get("name") == port)
        port = next(named, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None)
    return port if isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535 else None
