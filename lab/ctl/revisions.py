"""Which replica set belongs to which state of a deployment's template: hash, revision numbers, history. Pure.

A template is known by its content: the newest replica set is the one whose template equals the deployment's but for the
hash label. The hash only makes names and labels unique; a clash of names is settled by `status.collisionCount`.
Source: Kubernetes documentation, "Deployments" (pod-template-hash label, revision and history annotations).
"""

import hashlib
import json
from collections.abc import Sequence

from lab.ctl.owners import Object, controller_reference, uid
from lab.ctl.times import to_seconds

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"

# Annotations of a deployment that say nothing about its replica sets.
OWN_ANNOTATIONS = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAXIMUM},
)
# Letters of names: no vowels and nothing that looks like another, so that no word appears by accident.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
HASH_LETTERS_COUNT = 10


def template_hash(template: Object, collision_count: int = 0) -> str:
    """Ten letters that name a pod template; another collision count gives another name."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + (
        f"#{collision_count}" if collision_count else ""
    )
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(HASH_LETTERS_COUNT):
        number, index = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[index])
    return "".join(letters)


def bare_template(owner: Object) -> Object:
    """The pod template of a deployment or replica set without its hash label, for comparing."""
    template: Object = owner["spec"]["template"]
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if key != "creationTimestamp"}
    labels = {key: value for key, value in (metadata.pop("labels", None) or {}).items() if key != HASH_LABEL}
    metadata = {key: value for key, value in metadata.items() if value}
    return {**template, "metadata": {**metadata, "labels": labels} if labels else metadata}


def age_order(replica_set: Object) -> tuple[float, str]:
    """Sort key: oldest first."""
    metadata = replica_set["metadata"]
    return (to_seconds(metadata.get("creationTimestamp")) or 0.0, metadata["name"])


def newest(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The replica set that has the deployment's present template; the oldest of them, should there be several."""
    wanted = bare_template(deployment)
    return next((one for one in sorted(replica_sets, key=age_order) if bare_template(one) == wanted), None)


def revision(obj: Object) -> int:
    """The revision that an object is annotated with; 0 for none or for what is no number."""
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def next_revision(others: Sequence[Object]) -> int:
    """One more than the highest revision of the other replica sets."""
    return max((revision(one) for one in others), default=0) + 1


def new_replica_set(deployment: Object, others: Sequence[Object], replicas: int, maximum: int) -> Object:
    """The replica set for the deployment's template, not stored yet.

    Args: others: the replica sets of other templates; replicas: its first size; maximum: replicas + surge.
    """
    metadata, spec = deployment["metadata"], deployment["spec"]
    letters = template_hash(bare_template(deployment), deployment.get("status", {}).get("collisionCount", 0))
    template = spec["template"]
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: letters}
    selector = spec["selector"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{letters}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations(deployment, None, next_revision(others), maximum),
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": spec.get("minReadySeconds", 0),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: letters}},
            "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
        },
    }


def annotations(deployment: Object, replica_set: Object | None, number: int, maximum: int) -> dict[str, str]:
    """What the newest replica set is annotated with: the deployment's own words, its revision, its sizes.

    A set that comes back by a rollback gets a new revision and keeps the old ones in its history.
    """
    own = deployment["metadata"].get("annotations") or {}
    given = {key: value for key, value in own.items() if key not in OWN_ANNOTATIONS}
    had = (replica_set or {"metadata": {}})["metadata"].get("annotations") or {}
    kept = {**had, **given, **sizes(deployment, maximum)}
    before = int(had.get(REVISION, "0")) if had.get(REVISION, "0").isdecimal() else 0
    if before and before < number:
        kept[REVISION_HISTORY] = ",".join(filter(None, [had.get(REVISION_HISTORY, ""), str(before)]))
    return {**kept, REVISION: str(max(before, number))}


def sizes(deployment: Object, maximum: int) -> dict[str, str]:
    """The annotations by which a later change of size is told from a rollout."""
    return {DESIRED: str(deployment["spec"].get("replicas", 1)), MAXIMUM: str(maximum)}


def is_resized(deployment: Object, replica_sets: Sequence[Object]) -> bool:
    """Whether spec.replicas changed since the running replica sets were last sized."""
    wanted = str(deployment["spec"].get("replicas", 1))
    running = [one for one in replica_sets if one["spec"].get("replicas", 1)]
    return any((one["metadata"].get("annotations") or {}).get(DESIRED, wanted) != wanted for one in running)


def outdated(deployment: Object, old: Sequence[Object]) -> list[Object]:
    """The old, empty replica sets beyond revisionHistoryLimit, lowest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    empty = [one for one in old if _is_empty(one)]
    surplus = len(empty) - limit
    return sorted(empty, key=lambda one: (revision(one), uid(one)))[:surplus] if surplus > 0 else []


def _is_empty(replica_set: Object) -> bool:
    metadata, status = replica_set["metadata"], replica_set.get("status", {})
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    return (
        seen
        and not replica_set["spec"].get("replicas", 1)
        and not status.get("replicas", 0)
        and not metadata.get("deletionTimestamp")
    )
