"""Subresources and reviews: status, scale, finalize, binding, eviction, token. Waits."""

from __future__ import annotations

from typing import Any

from lab.api import errors, negotiation
from lab.api.call import Answer, Call, address, body_of, options_of, served, shown
from lab.api.options import Options
from lab.api.patch import clone, json_patch, merge
from lab.api.registry import JSON, Registry
from lab.api.resources import Resource
from lab.api.selectors import at

Object = dict[str, Any]

WRITABLE = ("status", "finalize")


async def handle(registry: Registry, authority: Any | None, row: Resource, call: Call) -> Answer:
    """Answer a call to a subresource. Raises ApiError."""
    name = call.asked.subresource
    if name not in row.all_subresources:
        raise errors.not_implemented(f"{row.plural}/{name}") if not row.is_custom else errors.no_such_resource()
    if name in WRITABLE:
        return await _write(registry, row, call)
    if name == "scale":
        return await _scale(registry, row, call)
    if name == "token" and call.asked.verb == "create":
        return await _token(registry, authority, row, call)
    if name in ("binding", "eviction") and call.asked.verb == "create":
        return await (_bind if name == "binding" else _evict)(registry, call)
    if name in ("token", "binding", "eviction"):
        raise errors.method_not_allowed()
    raise errors.not_implemented(f"{row.plural}/{name} without a node")


async def _write(registry: Registry, row: Resource, call: Call) -> Answer:
    asked, options = call.asked, options_of(call)
    if asked.verb == "get":
        made = registry.get(row.key, asked.namespace, asked.name)
    elif asked.verb == "patch":
        media = negotiation.media_type(call.headers.get("content-type", ""))
        made = await registry.patch(
            row.key,
            asked.namespace,
            asked.name,
            negotiation.decode(call.body, media),
            media,
            subresource=asked.subresource,
            user=call.user,
            options=options,
        )
    elif asked.verb == "update":
        body = body_of(row, call)
        address(row, body, asked)
        made = await registry.update(row.key, body, subresource=asked.subresource, user=call.user, options=options)
    else:
        raise errors.method_not_allowed()
    return Answer(shown(row, made, call, registry.now()), 200, options.warnings)


# Scale: a view of three fields of its parent.


async def _scale(registry: Registry, row: Resource, call: Call) -> Answer:
    asked, options = call.asked, options_of(call)
    item = registry.get(row.key, asked.namespace, asked.name)
    if asked.verb == "get":
        return Answer(scale_of(row, item))
    if asked.verb not in ("update", "patch"):
        raise errors.method_not_allowed()
    body = negotiation.decode(call.body, call.headers.get("content-type", ""))
    media = negotiation.media_type(call.headers.get("content-type", ""))
    if asked.verb == "patch":
        body = (json_patch if media == JSON else merge)(scale_of(row, item), body)
    made = await _rescale(registry, row, call, body, options)
    return Answer(scale_of(row, made), 200, options.warnings)


async def _rescale(registry: Registry, row: Resource, call: Call, wanted: Any, options: Options) -> Object:
    replicas = at(wanted, "spec.replicas")
    replicas = 0 if replicas is None else replicas
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        why = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise errors.invalid("Scale", "autoscaling", call.asked.name, [errors.cause("spec.replicas", why)])
    new = clone(registry.get(row.key, call.asked.namespace, call.asked.name))
    version = at(wanted, "metadata.resourceVersion")
    if version:
        new["metadata"]["resourceVersion"] = version
    _set(new, row.scale_paths[0], replicas)
    return await registry.update(row.key, new, user=call.user, options=options)


def _set(item: Object, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for step in parents:
        item = item.setdefault(step, {})
    item[last] = value


def scale_of(row: Resource, item: Object) -> Object:
    """The Scale (autoscaling/v1) of a scalable object."""
    wanted_path, present_path, selector_path = row.scale_paths
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    metadata = {name: item["metadata"][name] for name in names if name in item["metadata"]}
    status: Object = {"replicas": at(item, present_path) or 0}
    selector = at(item, selector_path) if selector_path else _selector_text(at(item, "spec.selector"))
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": at(item, wanted_path) or 0},
        "status": status,
    }


def _selector_text(selector: Any) -> str:
    labels = selector.get("matchLabels") or {} if isinstance(selector, dict) else {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


# Orders about pods.


async def _bind(registry: Registry, call: Call) -> Answer:
    body = negotiation.decode(call.body, call.headers.get("content-type", ""))
    node = at(body, "target.name")
    if not node:
        why = errors.cause("target.name", "Required value", "FieldValueRequired")
        raise errors.invalid("Binding", "", call.asked.name, [why])
    pod = clone(registry.get("pods", call.asked.namespace, call.asked.name))
    if pod["spec"].get("nodeName"):
        raise errors.conflict("pods", "", call.asked.name, f"pod is already assigned to node {pod['spec']['nodeName']}")
    pod["spec"]["nodeName"] = node
    await registry.update("pods", pod, user=call.user, options=options_of(call))
    return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


async def _evict(registry: Registry, call: Call) -> Answer:
    body = negotiation.decode(call.body, call.headers.get("content-type", ""))
    grace_s = at(body, "deleteOptions.gracePeriodSeconds")
    options = options_of(call)
    await registry.delete(
        "pods", call.asked.namespace, call.asked.name, grace_s=grace_s, user=call.user, options=options
    )
    return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


# What is asked and not kept.


async def _token(registry: Registry, authority: Any | None, row: Resource, call: Call) -> Answer:
    registry.get(row.key, call.asked.namespace, call.asked.name)
    body = negotiation.decode(call.body, call.headers.get("content-type", ""))
    if not isinstance(body, dict):
        raise errors.bad_request("the body must be a TokenRequest")
    body = {"apiVersion": "authentication.k8s.io/v1", **body}
    body["metadata"] = {**(body.get("metadata") or {}), "name": call.asked.name, "namespace": call.asked.namespace}
    return await _asked(registry, authority, "TokenRequest", body, call)


async def review(registry: Registry, authority: Any | None, row: Resource, call: Call) -> Answer:
    """Answer a review: an object that is posted, judged and forgotten. Raises ApiError."""
    body = body_of(row, call)
    if row.namespaced:
        body["metadata"].setdefault("namespace", call.asked.namespace)
    return await _asked(registry, authority, row.kind, served(row, body), call)


async def _asked(registry: Registry, authority: Any | None, kind: str, body: Object, call: Call) -> Answer:
    if authority is None:
        raise errors.not_implemented(f"{kind} without an authority")
    from lab.api.reviews import review as judge

    return Answer(await judge(kind, body, call.user, authority, registry), 201)
