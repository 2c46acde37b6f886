"""CustomResourceDefinitions: from a definition to the rows that it serves, and to its status. Pure.

What the lab does not do it says: conversion webhooks are refused; CEL rules are kept but not evaluated, with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lab.api import schema
from lab.api.errors import cause
from lab.api.resources import Catalog, Resource
from lab.api.selectors import at

Object = dict[str, Any]

# The definition waits for its objects to go, as on every cluster.
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STAGES = {"": 3, "beta": 2, "alpha": 1}


def priority(version: str) -> tuple[int, int, int]:
    """Sort key of versions, the preferred one greatest: v2 > v1 > v1beta1 > v1alpha1 > anything else."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return (0, 0, 0)
    major, stage, minor = match.groups()
    return (_STAGES[stage or ""], int(major), int(minor or 0))


def rows_of(definition: Object) -> list[Resource]:
    """The rows of a definition's versions that are served or stored, the preferred one first."""
    spec = definition["spec"]
    alive = [version for version in spec["versions"] if version.get("served") or version.get("storage")]
    alive.sort(key=lambda version: priority(version["name"]), reverse=True)
    return [_row(spec, version) for version in alive]


def _row(spec: Object, version: Object) -> Resource:
    names = spec["names"]
    extras = version.get("subresources") or {}
    scale = extras.get("scale") or {}
    paths = (
        scale.get(name, "").removeprefix(".")
        for name in ("specReplicasPath", "statusReplicasPath", "labelSelectorPath")
    )
    wanted, present, selector = paths
    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=("scale",) if scale else (),
        has_status="status" in extras,
        has_generation=True,
        is_custom=True,
        list_kind=names.get("listKind") or f"{names['kind']}List",
        schema=whole_schema(at(version, "schema.openAPIV3Schema")),
        columns=tuple(version.get("additionalPrinterColumns") or ()),
        scale_paths=(wanted, present, selector),
        is_storage=bool(version.get("storage")),
        is_served=bool(version.get("served")),
    )


def whole_schema(own: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A version's schema with what every object has beside: apiVersion, kind, metadata."""
    text = {"type": "string"}
    found = dict(own or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    found["properties"] = {
        **(found.get("properties") or {}),
        "apiVersion": text,
        "kind": text,
        "metadata": schema.OBJECT_META,
    }
    return found


def problems(definition: Object) -> Iterator[dict[str, str]]:
    """What is wrong with a definition beyond its schema."""
    spec, name = definition["spec"], definition["metadata"]["name"]
    expected = f"{at(spec, 'names.plural')}.{spec['group']}"
    if name != expected:
        yield cause("metadata.name", f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group')
    if sum(1 for version in spec["versions"] if version.get("storage")) != 1:
        yield cause("spec.versions", "Invalid value: must have exactly one version marked as storage version")
    if at(spec, "conversion.strategy") not in (None, "None"):
        text = "Unsupported value: the lab does not implement conversion webhooks; use None"
        yield cause("spec.conversion.strategy", text, "FieldValueNotSupported")
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        supported = 'supported values: "Cluster", "Namespaced"'
        yield cause("spec.scope", f'Unsupported value: "{spec.get("scope")}": {supported}', "FieldValueNotSupported")
    for index, version in enumerate(spec["versions"]):
        if not at(version, "schema.openAPIV3Schema"):
            place = f"spec.versions[{index}].schema.openAPIV3Schema"
            yield cause(place, "Required value: schemas are required", "FieldValueRequired")


def has_rules(value: Any) -> bool:
    """Whether CEL rules stand anywhere in a schema."""
    if isinstance(value, Mapping):
        return bool(value.get("x-kubernetes-validations")) or any(map(has_rules, value.values()))
    return isinstance(value, list) and any(map(has_rules, value))


def establish(definition: Object, catalog: Catalog, moment: str) -> None:
    """Write the status that the real server's controllers would: names accepted, established (or the clash)."""
    spec = definition["spec"]
    clash = _clash(definition, catalog)
    accepted = ("False", "NameConflict", clash) if clash else ("True", "NoConflicts", "no conflicts found")
    status = definition.get("status") or {}
    conditions = [
        _condition("NamesAccepted", *accepted, moment, status),
        _condition("Established", "False", "NotAccepted", "not all names are accepted", moment, status)
        if clash
        else _condition("Established", "True", "InitialNamesAccepted", "the names are accepted", moment, status),
    ]
    storage = [version["name"] for version in spec["versions"] if version.get("storage")]
    stored = list(dict.fromkeys([*(status.get("storedVersions") or []), *storage]))
    definition["status"] = {"conditions": conditions, "acceptedNames": dict(spec["names"]), "storedVersions": stored}


def _clash(definition: Object, catalog: Catalog) -> str:
    spec, name = definition["spec"], definition["metadata"]["name"]
    for row in catalog:
        is_own = row.is_custom and row.key == name
        if row.group == spec["group"] and not is_own and spec["names"]["kind"] == row.kind:
            return f'"{row.kind}" is already in use'
    return ""


def _condition(kind: str, value: str, reason: str, message: str, moment: str, status: Object) -> Object:
    before = [item for item in status.get("conditions") or [] if item["type"] == kind and item["status"] == value]
    since = before[0]["lastTransitionTime"] if before else moment
    return {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": since}
