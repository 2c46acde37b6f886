"""Probes of a container that capture would make blind, written anew so that they tell the truth. Pure.

A tcpSocket probe succeeds as soon as something accepts, and under capture the sidecar always does. It becomes an
httpGet probe of the sidecar's admin port, which dials the application (docs/adr/0022). Probes by httpGet and grpc see
what the application answers, or the sidecar's 502 and `unavailable` where it does not; those by exec do not pass the
network. A lifecycle hook by tcpSocket is one that Kubernetes knows no more. All these stay as they are.

What httpGet and grpc probes ask is told to the sidecar, which knows the kubelet's requests by it (proxy.policy.probe).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from contract import ports, probes
from contract.environment import GRPC_PROBE
from contract.lists import PortRange
from webhook import pods

Json = dict[str, Any]

KINDS = ("startupProbe", "readinessProbe", "livenessProbe")
FIELDS = ("initContainers", "containers")


MAX_TARGET_LENGTH = 1024
"""Characters of a probe's path and query; a longer one counts as traffic, because an environment has its bounds."""
MAX_COUNT = 256
"""Probes told to a sidecar, as many as it takes."""

_AS_WRITTEN = "/!$&'()*+,;=:@%~-._?"
"""What a kubelet leaves in a path and its query as it is written."""


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


def asked(pod: Json) -> str:
    """What the pod's httpGet and grpc probes ask of the pod itself, for the sidecar: `8080:/healthz 9090:grpc`."""
    found: dict[str, None] = {}
    for field in FIELDS:
        for container in pods.entries(pod, field):
            for kind in KINDS:
                word = _asked(container.get(kind), container)
                if word:
                    found[word] = None
    return " ".join(list(found)[:MAX_COUNT])


def _asked(probe: object, container: Json) -> str:
    http = probe.get("httpGet") if isinstance(probe, dict) else None
    grpc = probe.get("grpc") if isinstance(probe, dict) else None
    if isinstance(http, dict) and not http.get("host") and str(http.get("scheme") or "HTTP").upper() == "HTTP":
        number, target = _number(http.get("port"), container), _target(str(http.get("path") or "/"))
        return f"{number}:{target}" if number is not None and len(target) <= MAX_TARGET_LENGTH else ""
    number = _number(grpc.get("port"), container) if isinstance(grpc, dict) else None
    return f"{number}:{GRPC_PROBE}" if number is not None else ""


def _target(path: str) -> str:
    """A path as a kubelet's request has it: from the root, escaped, without a fragment."""
    target = quote(path.partition("#")[0], safe=_AS_WRITTEN)
    return target if target.startswith("/") else f"/{target}"


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
