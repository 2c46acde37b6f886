"""Kubernetes Events that tell a workload's owner why its pod was left alone. Pure."""

from datetime import datetime
from typing import Any

from contract import names
from webhook.inject import Skip
from webhook.review import Request

Json = dict[str, Any]

EXPECTED = frozenset({"Disabled", "NotEnabled"})
"""Reasons that somebody wished for; the others are worth a warning."""

MESSAGE_LIMIT_CHARS = 1024
"""Kubernetes' limit on an Event's note."""


def skip_event(request: Request, skip: Skip, now: datetime) -> Json | None:
    """Write the v1.Event for a skipped pod, on its controlling owner, else on the pod.

    Returns None for a pod that nobody could look up: it has neither an owner nor a name yet.
    """
    involved = _owner(request.object or {}) or _pod_itself(request)
    if involved is None:
        return None
    # Events have microseconds in their own field, seconds here.
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{involved['name']}.", "namespace": request.namespace},
        "involvedObject": involved | {"namespace": request.namespace},
        "reason": skip.reason,
        "message": f"Left outside of the mesh: {skip.message}"[:MESSAGE_LIMIT_CHARS],
        "type": "Normal" if skip.reason in EXPECTED else "Warning",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": names.WEBHOOK},
        "reportingComponent": names.WEBHOOK,
        "reportingInstance": names.WEBHOOK,
    }


def owner_name(pod: Json) -> str:
    """`KIND/NAME` of whoever made the pod, for logs; empty for a pod of its own."""
    owner = _owner(pod)
    return f"{owner['kind']}/{owner['name']}" if owner else ""


def _owner(pod: Json) -> Json | None:
    references = (pod.get("metadata") or {}).get("ownerReferences") or []
    chosen = next((one for one in references if one.get("controller")), references[0] if references else None)
    if chosen is None or not {"apiVersion", "kind", "name", "uid"} <= chosen.keys():
        return None
    return {field: chosen[field] for field in ("apiVersion", "kind", "name", "uid")}


def _pod_itself(request: Request) -> Json | None:
    name = request.name or str(((request.object or {}).get("metadata") or {}).get("name") or "")
    return {"apiVersion": "v1", "kind": "Pod", "name": name} if name else None
