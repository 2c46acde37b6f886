"""Sidecars that the controller does not hear: they run, look well, and know of no policy. Pure; time is an argument.

Every meshed pod that runs should hold a discovery stream. One that does not (its DNS does not know the controller, a
NetworkPolicy keeps it away, its sidecar is broken) passes traffic on untouched. That is told three ways: by a Warning
Event on the pod and a gauge (controller/watchman.py), and by the REST API, which `tulle check` asks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from contract import names, ports
from contract.silence import ROWS_LIMIT_COUNT, SILENT_AFTER_S, SilentAnswer, SilentSidecar
from controller.objects import Key, Pod

REASON: Final = "SidecarSilent"
_MESSAGE: Final = (
    f"the sidecar has held no discovery stream for {SILENT_AFTER_S:g} s: it knows of no policy, and what it sends "
    f"passes untouched. See its log; the pod must resolve {names.CONTROLLER}'s name (dnsPolicy) and reach its TCP port "
    f"{ports.CONTROLLER_PORT} (NetworkPolicy)"
)


@dataclass(slots=True, eq=False)
class Silence:
    """Since when each running sidecar has not been heard."""

    _since_s: dict[Key, float] = field(default_factory=dict)

    def look(self, running: Iterable[Key], heard: frozenset[Key], now_s: float) -> None:
        """Take in who runs and who holds a stream."""
        self._since_s = {key: self._since_s.get(key, now_s) for key in running if key not in heard}

    def silent(self, now_s: float) -> list[tuple[float, Key]]:
        """(seconds, pod) of those silent for too long, the longest first."""
        found = [(now_s - since_s, key) for key, since_s in self._since_s.items() if now_s - since_s >= SILENT_AFTER_S]
        return sorted(found, key=lambda one: (-one[0], one[1]))

    def answer(self, now_s: float) -> SilentAnswer:
        """What the REST API says."""
        found = self.silent(now_s)
        rows = [SilentSidecar(key.namespace, key.name, round(age_s, 1)) for age_s, key in found[:ROWS_LIMIT_COUNT]]
        return SilentAnswer(SILENT_AFTER_S, len(found), rows)


def expected(pods: Mapping[Key, Pod]) -> list[Key]:
    """The pods that should hold a stream."""
    return [key for key, pod in pods.items() if pod.meshed and pod.phase == "Running" and pod.ips and not pod.leaving]


def event(pod: Pod, now: datetime) -> dict[str, object]:
    """The v1.Event that tells of a silent sidecar."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    involved = {"apiVersion": "v1", "kind": "Pod", "name": pod.key.name, "namespace": pod.key.namespace}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{pod.key.name}.", "namespace": pod.key.namespace},
        "involvedObject": involved | ({"uid": pod.uid} if pod.uid else {}),
        "reason": REASON,
        "message": _MESSAGE,
        "type": "Warning",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": names.CONTROLLER},
        "reportingComponent": names.CONTROLLER,
        "reportingInstance": names.CONTROLLER,
    }
