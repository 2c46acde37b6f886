"""Writes the status of policies. Waits.

A status is written when it differs from what the object says, against the resourceVersion that was judged. So of
several replicas that see the same, one writes, the others' writes are refused (409), and then there is nothing to
write. Should two replicas see different things for long, each write of the same generation waits twice as long as the
one before.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from contract import kinds
from controller.kube import FAILURES, Api, ApiFault
from controller.objects import Condition, Key, Policy
from controller.standing import conditions
from controller.truth import Truth

COALESCE_S: Final = 0.02
"""From the first change to the look: what belongs together is judged together."""
CHECK_S: Final = 30.0
"""Between two looks when nothing changes: for statuses that could not be written."""
RETRY_S: Final = 2.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 60.0
GONE: Final = (404, 409)
"""The object went, or changed: the watch tells, or has told."""


@dataclass(slots=True)
class _Quiet:
    """When a policy may be written again."""

    generation: int
    due_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S


@dataclass(slots=True, eq=False)
class StatusWriter:
    """The writer; `run` is a task of the wiring."""

    api: Api
    truth: Truth
    _quiet: dict[tuple[str, Key], _Quiet] = field(default_factory=dict)

    async def run(self) -> None:
        """Keep all statuses true; ends with its task."""
        pause_s = CHECK_S
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await self.truth.policies_changed.wait()
                await asyncio.sleep(COALESCE_S)
            except TimeoutError:
                pass
            self.truth.policies_changed.clear()
            if self.truth.is_synced:
                pause_s = await self._round()

    async def _round(self) -> float:
        """Write what is due; returns the time until the next look."""
        loop = asyncio.get_running_loop()
        next_s = loop.time() + CHECK_S
        judged: dict[tuple[str, str], int] = {}
        for policy in self._all():
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            wanted = conditions(self.truth.cluster, policy, now)
            count = judged.get((policy.kind, wanted[0].reason), 0)
            judged[policy.kind, wanted[0].reason] = count + 1
            if set(wanted) == set(policy.conditions):
                continue
            quiet = self._quiet_of(policy)
            if loop.time() >= quiet.due_s:
                least_s = 0.0 if await self._write(policy, wanted) else RETRY_S
                quiet.due_s = loop.time() + max(quiet.pause_s, least_s)
                quiet.pause_s = min(quiet.pause_s * 2, LONGEST_PAUSE_S)
            next_s = min(next_s, quiet.due_s)
        self._count(judged)
        return max(next_s - loop.time(), COALESCE_S)

    def _all(self) -> list[Policy]:
        found = [policy for table in self.truth.cluster.policies.tables.values() for policy in table.values()]
        alive = {(policy.kind, policy.key) for policy in found}
        self._quiet = {name: quiet for name, quiet in self._quiet.items() if name in alive}
        return found

    def _quiet_of(self, policy: Policy) -> _Quiet:
        name = (policy.kind, policy.key)
        quiet = self._quiet.get(name)
        is_calm = quiet is not None and asyncio.get_running_loop().time() > quiet.due_s + LONGEST_PAUSE_S
        if quiet is None or quiet.generation != policy.generation or is_calm:
            quiet = self._quiet[name] = _Quiet(policy.generation)
        return quiet

    async def _write(self, policy: Policy, wanted: tuple[Condition, ...]) -> bool:
        """Write one status; False when that failed."""
        namespace, name = policy.key
        path = f"/apis/{kinds.API_VERSION}/namespaces/{namespace}/{policy.kind}/{name}/status"
        try:
            await asyncio.to_thread(self.api.request, "PATCH", path, None, _patch(policy, wanted))
        except (*FAILURES, ApiFault) as fault:
            if isinstance(fault, ApiFault) and fault.status in GONE:
                return True
            self.truth.meters.status_failures.inc()
            structlog.get_logger().warning(
                "status not written", kind=policy.kind, namespace=namespace, name=name, fault=str(fault)
            )
            return False
        self.truth.meters.status_writes.inc()
        structlog.get_logger().info(
            "status written", kind=policy.kind, namespace=namespace, name=name, accepted=wanted[0].reason
        )
        return True

    def _count(self, judged: dict[tuple[str, str], int]) -> None:
        self.truth.meters.policies.clear()
        for labels, count in judged.items():
            self.truth.meters.policies.labels(*labels).set(count)


def _patch(policy: Policy, wanted: tuple[Condition, ...]) -> dict[str, object]:
    listed = [
        {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": condition.generation,
            "lastTransitionTime": condition.since,
        }
        for condition in wanted
    ]
    return {
        "metadata": {"resourceVersion": policy.version},
        "status": {"controllerName": kinds.CONTROLLER_NAME, "conditions": listed},
    }
