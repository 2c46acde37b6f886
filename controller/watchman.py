"""Looks every few seconds for sidecars that are silent, and tells of them: a gauge, and an Event on each pod. Waits."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from controller.kube import FAILURES, Api, ApiFault
from controller.objects import Key, Pod
from controller.silence import event, expected
from controller.truth import Truth

LOOK_S: Final = 5.0
"""Between two looks."""
AGAIN_S: Final = 1800.0
"""An Event is told again after this long: Kubernetes forgets it after an hour."""
EVENTS_COUNT: Final = 20
"""Events written after one look: where a whole network is cut off, the rest follows."""


@dataclass(slots=True, eq=False)
class Watchman:
    """The teller; `run` is a task of the wiring."""

    api: Api
    truth: Truth
    _told_s: dict[Key, float] = field(default_factory=dict)
    """When a pod's Event was written."""

    async def run(self) -> None:
        """One look, and a pause."""
        if self.truth.is_synced:
            await self.look(self.truth.clock())
        await asyncio.sleep(LOOK_S)

    async def look(self, now_s: float) -> None:
        """Tell of those that have become silent."""
        truth = self.truth
        truth.silence.look(expected(truth.cluster.pods), truth.hub.heard(), now_s)
        silent = truth.silence.silent(now_s)
        truth.meters.silent.set(len(silent))
        keys = {key for _, key in silent}
        self._told_s = {key: told_s for key, told_s in self._told_s.items() if key in keys}
        due = [key for _, key in silent if now_s - self._told_s.get(key, -AGAIN_S) >= AGAIN_S]
        for key in due[:EVENTS_COUNT]:
            pod = truth.cluster.pods.get(key)
            if pod is not None:
                self._told_s[key] = now_s
                await self._tell(pod)

    async def _tell(self, pod: Pod) -> None:
        namespace, name = pod.key
        structlog.get_logger().warning("sidecar silent", namespace=namespace, pod=name)
        path = f"/api/v1/namespaces/{namespace}/events"
        try:
            await asyncio.to_thread(self.api.request, "POST", path, None, event(pod, datetime.now(UTC)))
        except (*FAILURES, ApiFault) as fault:
            structlog.get_logger().warning("event not written", namespace=namespace, pod=name, fault=str(fault))
