"""What the running controller knows, in one place: the wiring's values that routes ask. Turn."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import structlog

from controller.cluster import Change, Cluster, Replace
from controller.hub import Hub
from controller.kinds import FAULT_INJECTIONS, KINDS, REFERENCE_GRANTS, SERVICES, TRAFFIC_POLICIES, Kind
from controller.meters import Meters
from controller.objects import Key, Pod
from controller.problems import unavailable
from controller.senders import Door
from controller.settings import Settings
from controller.silence import Silence
from controller.traffic import Traffic

JUDGED_BY: Final = frozenset(kind.name for kind in (TRAFFIC_POLICIES, FAULT_INJECTIONS, SERVICES, REFERENCE_GRANTS))
"""Kinds whose changes may change the status of a policy."""

FOREIGN_TOLD_S: Final = 60.0
"""Between two lines in the log about senders that speak for others' pods; the metric counts all."""

Delivery = tuple[Change | Replace, float]
"""A change, and when it was read off its connection."""


@dataclass(slots=True, eq=False)
class Truth:
    """Cluster, streams and traffic; changes come in by `on_changes` on the event loop alone."""

    settings: Settings
    cluster: Cluster = field(default_factory=Cluster)
    meters: Meters = field(default_factory=Meters)
    clock: Callable[[], float] = monotonic
    unsynced: dict[str, str] = field(default_factory=lambda: {kind.name: "not read yet" for kind in KINDS})
    """Kind -> why it was not read whole yet."""
    silence: Silence = field(default_factory=Silence)
    policies_changed: asyncio.Event = field(default_factory=asyncio.Event)
    door: Door = field(default_factory=Door)
    foreign_told_s: float = float("-inf")
    hub: Hub = field(init=False)
    traffic: Traffic = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.hub = Hub(self.cluster, settings.default_opaque, settings.max_streams_count, settings.max_targets_count)
        self.traffic = Traffic(
            settings.max_sources_count,
            settings.max_series_count,
            settings.max_series_bytes,
            settings.max_source_bytes,
            self._is_live,
        )

    @property
    def is_synced(self) -> bool:
        return not self.unsynced

    def check_synced(self) -> None:
        """Raises: Refusal: 503, until every kind was read once."""
        if self.unsynced:
            kinds = "; ".join(f"{kind}: {why}" for kind, why in sorted(self.unsynced.items()))
            raise unavailable("not-ready", "Not ready", f"The cluster has not been read whole yet: {kinds}")

    def on_changes(self, batch: Sequence[Delivery]) -> None:
        """Apply changes in order and wake the streams that they concern."""
        for change, _ in batch:
            self._tell_bad_weight(change)
            self.cluster.apply(change)
            if change.kind in JUDGED_BY:
                self.policies_changed.set()
            if isinstance(change, Replace):
                self.meters.watch_lists.labels(change.kind).inc()
                self._note_synced(change.kind)
            else:
                self.meters.watch_events.labels(change.kind).inc()
        self.hub.publish(self.cluster.take_dirty())
        now_s = monotonic()
        for _, read_s in batch:
            self.meters.watch_lag_s.observe(now_s - read_s)

    def on_failure(self, kind: Kind, why: str) -> None:
        """A list or watch failed; called on the event loop."""
        self.meters.watch_failures.labels(kind.name).inc()
        if kind.name in self.unsynced:
            self.unsynced[kind.name] = why
        structlog.get_logger().warning("watch failed", kind=kind.name, fault=why)

    def tell_foreign(self, why: str) -> None:
        """A sender spoke for a pod that it is not."""
        now_s = self.clock()
        if now_s - self.foreign_told_s >= FOREIGN_TOLD_S:
            self.foreign_told_s = now_s
            structlog.get_logger().warning("sender refused", fault=why)

    def _is_live(self, pod: Key) -> bool:
        return pod in self.cluster.pods or "pods" in self.unsynced

    def _tell_bad_weight(self, change: Change | Replace) -> None:
        records = change.records if isinstance(change, Replace) else (change.record,)
        for pod in records:
            if isinstance(pod, Pod) and pod.bad_weight and pod != self.cluster.pods.get(pod.key):
                structlog.get_logger().warning(
                    "weight ignored", namespace=pod.key.namespace, pod=pod.key.name, fault=pod.bad_weight
                )

    def _note_synced(self, kind: str) -> None:
        self.meters.watch_synced.labels(kind).set(1)
        if self.unsynced.pop(kind, None) is not None and not self.unsynced:
            self.policies_changed.set()  # whatever was read last: nothing could be judged before
            structlog.get_logger().info(
                "cluster read",
                pods=len(self.cluster.pods),
                services=len(self.cluster.services),
                endpointslices=len(self.cluster.slices),
                namespaces=len(self.cluster.namespaces),
            )
