"""One request on its way: what came in, what goes out, and how options and bodies are read. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lab.api import errors, event_views, negotiation, request, table
from lab.api.identity import User
from lab.api.options import Options
from lab.api.request import Asked
from lab.api.resources import Resource

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, authenticated and authorized."""

    asked: Asked
    user: User
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Answer:
    """`lines` instead of `value` for a watch; `warnings` become Warning headers."""

    value: Any = None
    code: int = 200
    warnings: list[str] = field(default_factory=list)
    lines: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """How to delete: DeleteOptions of the body, with the query's words taking their place where given."""

    grace_s: int | None
    propagation: str
    uid: str | None
    resource_version: str | None
    options: Options

    @staticmethod
    def of(call: Call) -> Orders:
        """Read body and query. Raises ApiError BadRequest, Invalid."""
        body = negotiation.decode(call.body, call.headers.get("content-type", "")) if call.body.strip() else {}
        if not isinstance(body, dict):
            raise errors.bad_request("the body of a deletion must be DeleteOptions")
        grace_s = request.whole_number(call.query, "gracePeriodSeconds")
        propagation = call.query.get("propagationPolicy") or body.get("propagationPolicy") or "Background"
        if propagation not in ("Background", "Foreground", "Orphan"):
            why = f'Unsupported value: "{propagation}": supported values: "Background", "Foreground", "Orphan"'
            raise errors.invalid("DeleteOptions", "", "", [errors.cause("propagationPolicy", why)])
        conditions = body.get("preconditions") or {}
        options = options_of(call)
        if body.get("dryRun"):
            options = replace(options, dry_run=True)
        own = body.get("gracePeriodSeconds")
        return Orders(
            grace_s if grace_s is not None else own,
            propagation,
            conditions.get("uid"),
            conditions.get("resourceVersion"),
            options,
        )


def options_of(call: Call) -> Options:
    """The options that a query names. Raises ApiError BadRequest."""
    query = call.query
    if query.get("dryRun", "All") not in ("All", ""):
        raise errors.bad_request(f'dryRun: Unsupported value: "{query["dryRun"]}": supported values: "All"')
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        supported = '"Ignore", "Strict", "Warn"'
        raise errors.bad_request(f'fieldValidation: Unsupported value: "{validation}": supported values: {supported}')
    manager = query.get("fieldManager") or call.headers.get("user-agent", "").split("/", 1)[0] or "unknown"
    return Options(query.get("dryRun") == "All", manager, validation, request.is_true(query, "force"))


def body_of(row: Resource, call: Call) -> Object:
    """The object in a body, of this kind. Raises ApiError BadRequest."""
    body = negotiation.decode(call.body, call.headers.get("content-type", ""))
    if not isinstance(body, dict):
        raise errors.bad_request("the body must be one object")
    check_kind(row, body)
    return event_views.from_view(body) if row.is_view else body


def check_kind(row: Resource, body: Object) -> None:
    """Raise ApiError BadRequest when the body says that it is something else."""
    kind, version = body.setdefault("kind", row.kind), body.setdefault("apiVersion", row.api_version)
    if (version, kind) != (row.api_version, row.kind):
        expected = f"{row.api_version}, Kind={row.kind}"
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {row.kind}): "
            f"{version}, Kind={kind} is not {expected}"
        )
    if not isinstance(body.setdefault("metadata", {}), dict):
        raise errors.bad_request("metadata: must be an object")


def address(row: Resource, body: Object, asked: Asked) -> None:
    """Give the body the path's name and namespace. Raises ApiError BadRequest when it has others."""
    metadata = body["metadata"]
    if metadata.setdefault("name", asked.name) != asked.name:
        raise errors.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({asked.name})"
        )
    if row.namespaced and (metadata.get("namespace") or asked.namespace) != asked.namespace:
        raise errors.bad_request(
            f"the namespace of the object ({metadata['namespace']}) does not match that of the URL ({asked.namespace})"
        )
    if row.namespaced:
        metadata["namespace"] = asked.namespace


def served(row: Resource, item: Object) -> Object:
    """A stored object as this row serves it: another version of a custom kind has another apiVersion."""
    if item.get("apiVersion") == row.api_version:
        return item
    if row.is_view:
        return event_views.to_view(item)
    return {**item, "apiVersion": row.api_version}


def shown(row: Resource, item: Object, call: Call, now: datetime) -> Object:
    """One object in the form that the client accepts. Raises ApiError NotAcceptable."""
    item = served(row, item)
    form = negotiation.form(call.headers.get("accept", ""))
    if form == "Table":
        metadata = {"resourceVersion": item["metadata"].get("resourceVersion", "")}
        return table.render(row, [item], metadata, now, call.query.get("includeObject", "Metadata"))
    return table.partial(item) if form == "PartialObjectMetadata" else item
