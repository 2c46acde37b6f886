"""The verbs: get, list, watch, create, update, patch, delete, deletecollection, and where subresources go. Waits."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from lab.api import errors, event_views, negotiation, request, selectors, subresources, table, watching
from lab.api.call import Answer, Call, Orders, address, body_of, options_of, served, shown
from lab.api.negotiation import encode
from lab.api.registry import APPLY, Registry
from lab.api.request import Asked
from lab.api.resources import Resource

Object = dict[str, Any]


class Handlers:
    """What each verb does, over one registry."""

    def __init__(self, registry: Registry, authority: Any | None, chance: random.Random) -> None:
        self._registry = registry
        self._authority = authority
        self._chance = chance

    async def handle(self, call: Call) -> Answer:
        """Answer a call. Raises ApiError."""
        asked = call.asked
        row = self._registry.catalog.at(asked.group, asked.version, asked.plural)
        self._check_place(row, asked)
        if asked.subresource:
            return await subresources.handle(self._registry, self._authority, row, call)
        if asked.verb not in row.verbs:
            raise errors.method_not_allowed()
        if row.verbs == ("create",):
            return await subresources.review(self._registry, self._authority, row, call)
        if asked.verb in ("get", "list"):
            return self._get(row, call) if asked.verb == "get" else self._list(row, call)
        if asked.verb == "watch":
            return self._watch(row, call)
        if row.is_refused:
            raise errors.not_implemented(f"{row.kind} objects")
        writer = {"create": self._create, "update": self._update, "patch": self._patch, "delete": self._delete}
        return await writer.get(asked.verb, self._delete_all)(row, call)

    def _check_place(self, row: Resource, asked: Asked) -> None:
        if asked.namespace and not row.namespaced and row.key != "namespaces":
            raise errors.no_such_resource()
        if row.namespaced and not asked.namespace and (asked.name or asked.verb in ("create", "deletecollection")):
            raise errors.no_such_resource()

    # Reading.

    def _get(self, row: Resource, call: Call) -> Answer:
        item = self._registry.get(row.key, call.asked.namespace, call.asked.name)
        return Answer(shown(row, item, call, self._registry.now()))

    def _list(self, row: Resource, call: Call) -> Answer:
        query = call.query
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        found = self._registry.list(row.key, call.asked.namespace or None, labels, fields)
        version = str(self._registry.store.revision)
        self._check_version(query)
        page, metadata = _page(found, query)
        metadata = {"resourceVersion": version, **metadata}
        items = [served(row, item) for item in page]
        form = negotiation.form(call.headers.get("accept", ""))
        if form == "Table":
            return Answer(self._table(row, items, call, metadata))
        if form.startswith("PartialObjectMetadata"):
            partial = [table.partial(item) for item in items]
            listed = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return Answer({**listed, "metadata": metadata, "items": partial})
        listed = {"kind": row.list_kind, "apiVersion": row.api_version}
        return Answer({**listed, "metadata": metadata, "items": items})

    def _table(self, row: Resource, items: list[Object], call: Call, metadata: Object) -> Object:
        return table.render(row, items, metadata, self._registry.now(), call.query.get("includeObject", "Metadata"))

    def _check_version(self, query: Mapping[str, str]) -> None:
        asked = request.whole_number(query, "resourceVersion")
        if asked is not None and asked > self._registry.store.revision:
            raise errors.expired(f"Too large resource version: {asked}, current: {self._registry.store.revision}")

    def _watch(self, row: Resource, call: Call) -> Answer:
        query, registry = call.query, self._registry
        asked = watching.terms(query, self._chance)
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        selectors.matcher(row.key, labels, fields)
        form = negotiation.form(call.headers.get("accept", ""))
        is_first = True

        def render(item: Object) -> Object:
            nonlocal is_first
            item = served(row, item)
            if form == "Table":
                made = self._table(row, [item], call, {"resourceVersion": item["metadata"]["resourceVersion"]})
                if not is_first:
                    made["columnDefinitions"] = None
                is_first = False
                return made
            return table.partial(item) if form else item

        def bookmark(item: Object) -> Object:
            item = {"kind": row.kind, "apiVersion": row.api_version, **item}
            if form == "Table":
                return table.bookmark(item)
            return table.partial(item) if form else item

        def open_watch(since: int | None) -> Any:
            return registry.watch(row.key, call.asked.namespace or None, since=since, labels=labels, fields=fields)

        return Answer(lines=watching.lines(open_watch, registry.store, asked, render, bookmark))

    # Writing.

    async def _create(self, row: Resource, call: Call) -> Answer:
        body, options = body_of(row, call), options_of(call)
        place = call.asked.namespace
        made = await self._registry.create(row.key, body, user=call.user, namespace=place or None, options=options)
        return Answer(shown(row, made, call, self._registry.now()), 201, options.warnings)

    async def _update(self, row: Resource, call: Call) -> Answer:
        body, options = body_of(row, call), options_of(call)
        address(row, body, call.asked)
        if row.is_custom and not body["metadata"].get("resourceVersion"):
            why = errors.cause("metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update")
            raise errors.invalid(row.kind, row.group, call.asked.name, [why])
        made = await self._registry.update(row.key, body, user=call.user, options=options)
        return Answer(shown(row, made, call, self._registry.now()), 200, options.warnings)

    async def _patch(self, row: Resource, call: Call) -> Answer:
        options, asked = options_of(call), call.asked
        media = negotiation.media_type(call.headers.get("content-type", ""))
        body = negotiation.decode(call.body, media)
        if row.is_view and isinstance(body, dict):
            body = event_views.from_view(body)
        if media == APPLY and not call.query.get("fieldManager"):
            why = errors.cause("fieldManager", "Required value: is required for apply patch", "FieldValueRequired")
            raise errors.invalid("PatchOptions", "meta.k8s.io", "", [why])
        before = self._registry.store.get(row.key, asked.namespace, asked.name)
        made = await self._registry.patch(
            row.key, asked.namespace, asked.name, body, media, user=call.user, options=options
        )
        return Answer(shown(row, made, call, self._registry.now()), 200 if before else 201, options.warnings)

    async def _delete(self, row: Resource, call: Call) -> Answer:
        asked, orders = call.asked, Orders.of(call)
        made = await self._delete_one(row, asked.namespace, asked.name, orders, call)
        return Answer(made, 200, orders.options.warnings)

    async def _delete_one(self, row: Resource, namespace: str, name: str, orders: Orders, call: Call) -> Object:
        return await self._registry.delete(
            row.key,
            namespace,
            name,
            grace_s=orders.grace_s,
            propagation=orders.propagation,
            uid=orders.uid,
            resource_version=orders.resource_version,
            user=call.user,
            options=orders.options,
        )

    async def _delete_all(self, row: Resource, call: Call) -> Answer:
        query, orders = call.query, Orders.of(call)
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        for item in self._registry.list(row.key, call.asked.namespace or None, labels, fields):
            metadata = item["metadata"]
            try:
                await self._delete_one(row, metadata.get("namespace", ""), metadata["name"], orders, call)
            except errors.ApiError as error:
                if error.code != 404:
                    raise
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200}
        return Answer(done, 200, orders.options.warnings)


def _page(found: list[Object], query: Mapping[str, str]) -> tuple[list[Object], Object]:
    """`limit` and `continue`: the token is the place of the last item given, so a page never repeats or skips one."""
    limit = request.whole_number(query, "limit") or 0
    if token := query.get("continue"):
        try:
            last = tuple(msgspec.json.decode(base64.urlsafe_b64decode(token), type=list[str]))
        except (ValueError, msgspec.DecodeError):
            raise errors.bad_request("continue key is not valid: list again without it") from None
        found = [item for item in found if _place(item) > last]
    if not limit or len(found) <= limit:
        return found, {}
    page = found[:limit]
    token = base64.urlsafe_b64encode(encode(_place(page[-1]))).decode()
    return page, {"continue": token, "remainingItemCount": len(found) - limit}


def _place(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
