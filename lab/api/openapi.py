"""OpenAPI v3 documents: what kubectl reads for apply, validation and explain. Pure.

One document for each group and version: for each kind a path whose operations name the kind and the parameters that the
server honours, and under components all schemas that the kinds are made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from lab.api import errors
from lab.api import schema as schemas
from lab.api.resources import Catalog, Resource

Object = dict[str, Any]

PREFIX = "#/components/schemas/"
_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")


def _path(row: Resource) -> str:
    root = f"apis/{row.group}/{row.version}" if row.group else f"api/{row.version}"
    middle = "/namespaces/{namespace}" if row.namespaced else ""
    return f"/{root}{middle}/{row.plural}"


def _documents(catalog: Catalog) -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    for row in catalog:
        found.setdefault(f"apis/{row.group}/{row.version}" if row.group else f"api/{row.version}", []).append(row)
    return found


def index(catalog: Catalog) -> Object:
    """The answer of /openapi/v3: the address of each document, with a hash so that clients may keep it."""
    paths = {
        name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={_hash(rows)}"}
        for name, rows in _documents(catalog).items()
    }
    return {"paths": paths}


def _hash(rows: list[Resource]) -> str:
    content = msgspec.json.encode([(row.kind, row.plural, row.schema) for row in rows])
    return hashlib.sha256(content + str(schemas.DATA.stat().st_size).encode()).hexdigest()[:32].upper()


def document(catalog: Catalog, name: str) -> Object:
    """The document called `name` ("api/v1", "apis/apps/v1"). Raises ApiError NotFound."""
    rows = _documents(catalog).get(name)
    if not rows:
        raise errors.no_such_resource()
    paths: Object = {}
    kept: dict[str, Any] = {}
    for row in rows:
        _add_paths(row, paths)
        _add_schemas(row, kept)
    info = {"title": "Kubernetes", "version": "v1.32.0"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": kept}}


def _add_paths(row: Resource, paths: Object) -> None:
    kind = {"group": row.group, "version": row.version, "kind": row.kind}
    shared = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _PARAMETERS]
    body = {"content": {"application/json": {"schema": {"$ref": PREFIX + schema_name(row)}}}}
    answer = {"200": {"description": "OK", **body}}

    def operation(action: str) -> Object:
        wanted: Object = {"x-kubernetes-group-version-kind": kind, "x-kubernetes-action": action, "responses": answer}
        return wanted | ({} if action in ("get", "list") else {"parameters": shared, "requestBody": body})

    paths[_path(row)] = {"post": operation("post"), "get": operation("list")}
    if "patch" in row.verbs:
        paths[_path(row) + "/{name}"] = {action: operation(action) for action in ("get", "put", "patch")}


def schema_name(row: Resource) -> str:
    """The component of a kind: the published definition, or the reversed group of a custom kind."""
    name = schemas.definition_name(row.api_version, row.kind)
    return name or ".".join([*reversed(row.group.split(".")), row.version, row.kind])


def _add_schemas(row: Resource, kept: dict[str, Any]) -> None:
    name = schemas.definition_name(row.api_version, row.kind)
    if name:
        _collect(name, kept)
        return
    kept[schema_name(row)] = custom_schema(row)
    _collect(schemas.named(schemas.OBJECT_META), kept)


def custom_schema(row: Resource) -> Object:
    """A custom kind's schema with its name on it."""
    own = dict(row.schema or {})
    own["x-kubernetes-group-version-kind"] = [{"group": row.group, "version": row.version, "kind": row.kind}]
    return own


def _collect(name: str, kept: dict[str, Any]) -> None:
    if name in kept:
        return
    kept[name] = schemas.definitions()[name]
    _collect_references(kept[name], kept)


def _collect_references(schema: Any, kept: dict[str, Any]) -> None:
    if isinstance(schema, Mapping):
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith(PREFIX):
            _collect(reference.removeprefix(PREFIX), kept)
        for item in schema.values():
            _collect_references(item, kept)
    elif isinstance(schema, list):
        for item in schema:
            _collect_references(item, kept)
