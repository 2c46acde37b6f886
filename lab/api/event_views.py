"""Events in their two versions: the same objects as core/v1 and as events.k8s.io/v1, by renaming fields. Pure."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

# core/v1 name: events.k8s.io/v1 name.
_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {new: old for old, new in _NAMES.items()}


def to_view(event: Object) -> Object:
    """A core/v1 Event as events.k8s.io/v1."""
    renamed = {_NAMES.get(key, key): item for key, item in event.items()}
    return {**renamed, "apiVersion": "events.k8s.io/v1"}


def from_view(event: Object) -> Object:
    """An events.k8s.io/v1 Event as core/v1."""
    renamed = {_BACK.get(key, key): item for key, item in event.items()}
    return {**renamed, "apiVersion": "v1"} if "apiVersion" in event else renamed
