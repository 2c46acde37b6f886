"""Discovery: which groups, versions and kinds are served; aggregated (v2) and legacy. Pure.

Sources: apidiscovery.k8s.io/v2 APIGroupDiscoveryList; meta/v1 APIVersions, APIGroupList, APIGroup, APIResourceList.
"""

from __future__ import annotations

from typing import Any

from lab.api import errors
from lab.api.resources import Catalog, Resource

Object = dict[str, Any]

AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_GET_PATCH_UPDATE = ("get", "patch", "update")
# Subresource: (group, version, kind, verbs); an empty kind is the parent's own.
SUBRESOURCE_KINDS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "status": ("", "", "", _GET_PATCH_UPDATE),
    "finalize": ("", "", "", ("update",)),
    "scale": ("autoscaling", "v1", "Scale", _GET_PATCH_UPDATE),
    "binding": ("", "v1", "Binding", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
    "log": ("", "", "", ("get",)),
    "exec": ("", "v1", "PodExecOptions", ("create", "get")),
    "attach": ("", "v1", "PodAttachOptions", ("create", "get")),
    "portforward": ("", "v1", "PodPortForwardOptions", ("create", "get")),
    "proxy": ("", "v1", "PodProxyOptions", ("create", "delete", "get", "patch", "update")),
}


def _grouped(catalog: Catalog) -> dict[str, dict[str, list[Resource]]]:
    groups: dict[str, dict[str, list[Resource]]] = {}
    for row in catalog:
        groups.setdefault(row.group, {}).setdefault(row.version, []).append(row)
    return groups


def aggregated(catalog: Catalog, *, core: bool) -> Object:
    """The answer of /api (`core`) or /apis to clients that ask for APIGroupDiscoveryList."""
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [
                {"version": version, "resources": [_aggregated(row) for row in rows], "freshness": "Current"}
                for version, rows in versions.items()
            ],
        }
        for group, versions in _grouped(catalog).items()
        if (group == "") is core
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated(row: Resource) -> Object:
    found: Object = {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if row.all_subresources:
        found["subresources"] = [_subresource(row, name) for name in row.all_subresources]
    return found


def _subresource(row: Resource, name: str) -> Object:
    group, version, kind, verbs = SUBRESOURCE_KINDS[name]
    response = (group, version, kind) if kind else (row.group, row.version, row.kind)
    return {
        "subresource": name,
        "responseKind": dict(zip(("group", "version", "kind"), response, strict=True)),
        "verbs": list(verbs),
    }


def versions(address: str) -> Object:
    """The legacy answer of /api."""
    servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers}


def groups(catalog: Catalog) -> Object:
    """The legacy answer of /apis."""
    found = [_group(name, served) for name, served in _grouped(catalog).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(catalog: Catalog, name: str) -> Object:
    """The legacy answer of /apis/GROUP. Raises ApiError NotFound."""
    served = _grouped(catalog).get(name)
    if not served or not name:
        raise errors.no_such_resource()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, served)}


def _group(name: str, served: dict[str, list[Resource]]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in served]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(catalog: Catalog, group_name: str, version: str) -> Object:
    """The legacy answer of /api/v1 and /apis/GROUP/VERSION. Raises ApiError NotFound."""
    rows = _grouped(catalog).get(group_name, {}).get(version)
    if not rows:
        raise errors.no_such_resource()
    listed = [item for row in rows for item in _legacy(row)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": _group_version(group_name, version),
        "resources": listed,
    }


def _group_version(group_name: str, version: str) -> str:
    return f"{group_name}/{version}" if group_name else version


def _legacy(row: Resource) -> list[Object]:
    main: Object = {
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        main["shortNames"] = list(row.short_names)
    if row.categories:
        main["categories"] = list(row.categories)
    found = [main]
    for name in row.all_subresources:
        group_name, version, kind, verbs = SUBRESOURCE_KINDS[name]
        item: Object = {"name": f"{row.plural}/{name}", "singularName": "", "namespaced": row.namespaced}
        item |= {"kind": kind or row.kind, "verbs": list(verbs)}
        if kind:
            item |= {"group": group_name, "version": version}
        found.append(item)
    return found
