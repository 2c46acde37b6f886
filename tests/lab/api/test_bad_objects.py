"""Whatever a client sends, the answer is an object or an ApiError: never a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.api.errors import ApiError
from lab.api.patch import clone
from lab.api.registry import APPLY, JSON, MERGE, STRATEGIC, Options, Registry, bootstrap
from lab.ctl.completion import complete

POD_SPEC = {
    "containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": 1}}}],
    "volumes": [{"name": "v"}],
}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": POD_SPEC}
GOOD: dict[str, dict[str, Any]] = {
    "pods": {"spec": POD_SPEC},
    "deployments": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE, "strategy": {}}},
    "jobs": {"spec": {"template": {"spec": {**POD_SPEC, "restartPolicy": "Never"}}}},
    "services": {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "x"}], "type": "NodePort"}},
    "configmaps": {"data": {"a": "b"}, "binaryData": {"c": "AA=="}},
    "secrets": {"stringData": {"a": "b"}},
    "rolebindings": {"subjects": [{"kind": "User", "name": "u"}], "roleRef": {"kind": "Role", "name": "r"}},
    "leases": {"spec": {"leaseDurationSeconds": 5}},
    "customresourcedefinitions": {
        "spec": {
            "group": "e.com",
            "scope": "Cluster",
            "names": {"kind": "K", "plural": "ks"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        }
    },
}
_values = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 99999), st.text(max_size=3), st.just([]), st.just({}), st.just([None]),
    st.just([[]]), st.just({"a": None}), st.just(1.5), st.just([{}]), st.just({"": ""}),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from places(item, (*path, key))


def spoilt(value: Any, path: tuple[Any, ...], bad: Any) -> Any:
    new = clone(value)
    holder = new
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = bad
    return new


def whole(kind: str) -> dict[str, Any]:
    name = "ks.e.com" if kind == "customresourcedefinitions" else "x"
    return {"metadata": {"name": name, "labels": {"a": "b"}, "annotations": {"c": "d"}}, **GOOD[kind]}


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_spoilt_object_is_refused_or_kept_on_every_path(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(GOOD)))
    good = whole(kind)
    path = data.draw(st.sampled_from(list(places(good))))
    bad = spoilt(good, path, data.draw(_values))
    how = data.draw(st.sampled_from(["create", "update", MERGE, STRATEGIC, APPLY]))
    asyncio.run(_try(kind, good, bad, how))


async def _try(kind: str, good: dict[str, Any], bad: dict[str, Any], how: str) -> None:
    registry = Registry(entropy=random.Random(1), completion=complete)
    await bootstrap(registry)
    row = registry.catalog.keyed(kind)
    namespace = "default" if row.namespaced else ""
    if how != "create":
        await registry.create(kind, good, namespace=namespace)
    with contextlib.suppress(ApiError):
        if how == "create":
            await registry.create(kind, bad, namespace=namespace, options=Options(validation="Strict"))
        elif how == "update":
            live = registry.get(kind, namespace, good["metadata"]["name"])
            await registry.update(kind, {**live, **bad, "metadata": live["metadata"]})
        else:
            body = {"apiVersion": row.api_version, "kind": row.kind, **bad}
            await registry.patch(kind, namespace, good["metadata"]["name"], body, how, options=Options(manager="m"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"op": st.sampled_from(["add", "replace", "remove", "test", "move", "?"]),
                                       "path": st.sampled_from(["", "/spec", "/metadata", "/metadata/name", "x"])},
                                      optional={"value": _values, "from": st.just("/spec")}), max_size=3))  # fmt: skip
def test_a_bad_json_patch_is_refused(operations: list[dict[str, Any]]) -> None:
    async def work() -> None:
        registry = Registry(entropy=random.Random(1))
        await bootstrap(registry)
        await registry.create("pods", whole("pods"), namespace="default")
        with contextlib.suppress(ApiError):
            await registry.patch("pods", "default", "x", operations, JSON)

    asyncio.run(work())
