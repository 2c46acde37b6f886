"""What a deployment does next: (deployment, its replica sets, their pods, now) -> Plan. Pure.

One pass decides one step; each change of a replica set brings the next pass, until nothing is left to do. The rules are
those of Kubernetes' deployment controller: RollingUpdate never has more than replicas + maxSurge pods nor fewer than
replicas - maxUnavailable available ones; Recreate ends all old pods before the first new one; a paused deployment
changes its size but not its template. Source: Kubernetes documentation, "Deployments", and the apps/v1 API reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab.ctl import revisions
from lab.ctl.owners import Object, is_deleted
from lab.ctl.pods import is_finished


@dataclass(frozen=True, slots=True)
class Scale:
    """Set a replica set to a size."""

    replica_set: Object
    replicas: int


@dataclass(frozen=True, slots=True)
class Update:
    """Write a replica set anew: its size, annotations or minReadySeconds changed."""

    old: Object
    new: Object


@dataclass(frozen=True, slots=True)
class Plan:
    """One step, to be done in the order of the fields. A plan with none of the three is a finished rollout."""

    create: Object | None = None
    updates: tuple[Update, ...] = ()
    remove: tuple[Object, ...] = ()
    newest: Object | None = field(default=None)
    """The stored replica set of the present template, if there is one yet."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sizes between which a rolling update moves."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        """Most pods at a time."""
        return self.replicas + self.surge if self.replicas else 0

    @property
    def least_available(self) -> int:
        """Fewest available pods at a time."""
        return self.replicas - self.unavailable


def bounds(deployment: Object) -> Bounds:
    """maxSurge (rounded up) and maxUnavailable (rounded down) as counts; both zero becomes one unavailable."""
    spec = deployment["spec"]
    replicas = spec.get("replicas", 1)
    strategy = spec.get("strategy") or {}
    if strategy.get("type", "RollingUpdate") == "Recreate":
        return Bounds(replicas, 0, 0)
    rolling = strategy.get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", "25%"), replicas, round_up=True)
    unavailable = min(share(rolling.get("maxUnavailable", "25%"), replicas, round_up=False), replicas)
    return Bounds(replicas, surge, 1 if replicas and not surge and not unavailable else unavailable)


def share(value: int | str, whole: int, *, round_up: bool) -> int:
    """A count as it stands, or a percentage of `whole` ("25%")."""
    if isinstance(value, int):
        return max(0, value)
    exact: int = int(value.removesuffix("%")) * whole
    return -(-exact // 100) if round_up else exact // 100


def plan(deployment: Object, replica_sets: Sequence[Object], pods: Sequence[Object]) -> Plan:
    """The next step of a deployment.

    Args:
        deployment: with defaults set, not being deleted.
        replica_sets: those it controls.
        pods: those that the replica sets control, being deleted or not (Recreate waits for the last of them).
    """
    held = [one for one in replica_sets if not is_deleted(one)]
    new = revisions.newest(deployment, held)
    old = sorted((one for one in held if one is not new), key=revisions.age_order)
    limits = bounds(deployment)
    if deployment["spec"].get("paused") or revisions.is_resized(deployment, held):
        return _resize(deployment, new, old, limits)
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return _recreate(deployment, new, old, limits, pods)
    return _roll(deployment, new, old, limits)


def _roll(deployment: Object, new: Object | None, old: list[Object], limits: Bounds) -> Plan:
    """Grow the new set as far as the surge lets it, and shrink the old ones as far as availability lets them."""
    if new is None:
        first = min(limits.replicas, max(0, limits.most - sum(map(size, old))))
        return Plan(create=revisions.new_replica_set(deployment, old, first, limits.most))
    wanted = _new_size(new, old, limits)
    scales = [Scale(new, wanted)] if wanted != size(new) else shrink(new, old, limits)
    return _settled(deployment, new, old, limits, scales)


def _recreate(
    deployment: Object, new: Object | None, old: list[Object], limits: Bounds, pods: Sequence[Object]
) -> Plan:
    """Empty the old sets, wait until the last of their pods is gone, then fill the new one."""
    ending = [Scale(one, 0) for one in old if size(one)]
    if ending:
        return Plan(updates=_updates(ending, {}), newest=new)
    uids = {one["metadata"]["uid"] for one in old}
    if any(_owner_uid(pod) in uids and not is_finished(pod) for pod in pods):
        return Plan(newest=new)
    if new is None:
        return Plan(create=revisions.new_replica_set(deployment, old, limits.replicas, limits.most))
    return _settled(deployment, new, old, limits, [Scale(new, limits.replicas)])


def _settled(deployment: Object, new: Object, old: list[Object], limits: Bounds, scales: list[Scale]) -> Plan:
    """The scales, with the newest set's annotations and minReadySeconds brought up to date and the history cut."""
    noted = _with_annotations(new, revisions.annotations(deployment, new, revisions.next_revision(old), limits.most))
    ready_s = deployment["spec"].get("minReadySeconds", 0)
    noted = {**noted, "spec": {**noted["spec"], "minReadySeconds": ready_s}} if _min_ready_s(new) != ready_s else noted
    # Old sets go only when the rollout is through, so that a failing one can be undone.
    through = size(new) == limits.replicas == _available(new) and not any(map(size, old))
    remove = tuple(revisions.outdated(deployment, old)) if through else ()
    return Plan(updates=_updates(scales, {id(new): (new, noted)}), remove=remove, newest=new)


def _resize(deployment: Object, new: Object | None, old: list[Object], limits: Bounds) -> Plan:
    """Spread a change of size over the running sets in proportion, so that a rollout under way keeps its progress."""
    running = [one for one in [*([new] if new else []), *old] if size(one)]
    if new is not None and not running:
        running = [new]
    note = revisions.sizes(deployment, limits.most)
    noted = {id(one): (one, _with_annotations(one, {**_annotations(one), **note})) for one in running}
    scales = [Scale(one, count) for one, count in _targets(running, new, limits)]
    return Plan(updates=_updates(scales, noted), newest=new)


def _updates(scales: Sequence[Scale], noted: Mapping[int, tuple[Object, Object]]) -> tuple[Update, ...]:
    """One write for each replica set that changes, whatever changes in it."""
    written = dict(noted)
    for scale in scales:
        old, new = written.get(id(scale.replica_set), (scale.replica_set, scale.replica_set))
        if size(new) != scale.replicas:
            new = {**new, "spec": {**new["spec"], "replicas": scale.replicas}}
        written[id(old)] = (old, new)
    return tuple(Update(old, new) for old, new in written.values() if new is not old)


def _with_annotations(replica_set: Object, wanted: dict[str, str]) -> Object:
    if wanted == _annotations(replica_set):
        return replica_set
    return {**replica_set, "metadata": {**replica_set["metadata"], "annotations": wanted}}


def _annotations(replica_set: Object) -> dict[str, str]:
    return replica_set["metadata"].get("annotations") or {}


def _min_ready_s(replica_set: Object) -> int:
    value: int = replica_set["spec"].get("minReadySeconds", 0)
    return value


def _targets(running: list[Object], new: Object | None, limits: Bounds) -> list[tuple[Object, int]]:
    if len(running) == 1:
        return [(running[0], limits.replicas)]
    full = new is not None and size(new) == limits.replicas and _available(new) == limits.replicas
    if full:
        return [(one, limits.replicas if one is new else 0) for one in running]
    total = sum(map(size, running))
    allowed = limits.most if limits.replicas else 0
    change = allowed - total
    left = change
    targets = []
    for one in sorted(running, key=lambda one: (-size(one), one is not new)):
        part = _proportion(size(one), total, change, left)
        left -= part
        targets.append((one, size(one) + part))
    if left and targets:
        first, count = targets[0]
        targets[0] = (first, max(0, count + left))
    return targets


def _proportion(count: int, total: int, change: int, left: int) -> int:
    """This set's part of a change of size, to the nearest pod, never past what is left of it."""
    if not total or not left:
        return 0
    part = round(count * (total + change) / total) - count
    return max(0, min(part, left)) if change > 0 else min(0, max(part, left, -count))


def _new_size(new: Object, old: list[Object], limits: Bounds) -> int:
    have = size(new)
    if have >= limits.replicas:
        return limits.replicas
    room = limits.most - have - sum(map(size, old))
    return have + max(0, min(room, limits.replicas - have))


def shrink(new: Object, old: Sequence[Object], limits: Bounds) -> list[Scale]:
    """Take pods from old sets, oldest set first: those that serve nobody, then as many as availability lets go."""
    new_missing = size(new) - _available(new)
    spare = size(new) + sum(map(size, old)) - limits.least_available - new_missing
    if spare <= 0:
        return []
    left = {id(one): size(one) for one in old}
    dead = spare
    for one in old:
        down = min(dead, max(0, left[id(one)] - _available(one)))
        dead -= down
        left[id(one)] -= down
    surplus = sum(min(left[id(one)], _available(one)) for one in old) + _available(new) - limits.least_available
    for one in old:
        down = max(0, min(surplus, left[id(one)]))
        surplus -= down
        left[id(one)] -= down
    return [Scale(one, left[id(one)]) for one in old if left[id(one)] != size(one)]


def size(replica_set: Object) -> int:
    """The size that a replica set is asked to have."""
    value: int = replica_set["spec"].get("replicas", 1)
    return value


def _available(replica_set: Object) -> int:
    """Available pods that will stay: a status that lags behind a shrunk spec must not count pods on their way out."""
    available: int = replica_set.get("status", {}).get("availableReplicas", 0)
    return min(size(replica_set), available)


def _owner_uid(pod: Object) -> str:
    references = pod["metadata"].get("ownerReferences") or []
    return next((one["uid"] for one in references if one.get("controller")), "")
