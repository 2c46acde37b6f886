"""The registry as controllers and node call it, on one loop, with a clock and chance of the test's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.api import store
from lab.api.errors import ApiError
from lab.api.options import Options
from lab.api.registry import MERGE, Registry, bootstrap

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


def run(work: Callable[[Registry], Coroutine[Any, Any, Any]], **parts: Any) -> Any:
    async def main() -> Any:
        registry = Registry(now=lambda: NOON, entropy=random.Random(1), **parts)
        await bootstrap(registry)
        return await work(registry)

    return asyncio.run(main())


def test_names_are_generated_and_unique() -> None:
    async def work(registry: Registry) -> None:
        made = [
            await registry.create("configmaps", {"metadata": {"generateName": "a-"}}, namespace="default")
            for _ in range(3)
        ]
        names = {item["metadata"]["name"] for item in made}
        assert len(names) == 3
        assert all(name.startswith("a-") and len(name) == 7 for name in names)

    run(work)


def test_a_write_without_change_keeps_the_version() -> None:
    async def work(registry: Registry) -> None:
        made = await registry.create("configmaps", config_map("same", a="1"))
        again = await registry.update("configmaps", made)
        assert again is made

    run(work)


def test_a_stored_object_is_never_changed_in_place() -> None:
    async def work(registry: Registry) -> None:
        body = config_map("kept", a="1")
        first = await registry.create("configmaps", body)
        body["data"]["a"] = "mine"
        await registry.patch("configmaps", "default", "kept", {"data": {"a": "2"}}, MERGE)
        assert first["data"] == {"a": "1"}

    run(work)


def test_an_object_needs_its_namespace() -> None:
    async def work(registry: Registry) -> None:
        with pytest.raises(ApiError, match='namespaces "gone" not found'):
            await registry.create("configmaps", {"metadata": {"name": "x", "namespace": "gone"}})

    run(work)


def test_a_watch_without_a_version_begins_with_what_is_there() -> None:
    async def work(registry: Registry) -> None:
        watch = registry.watch("namespaces")
        first = [(await anext(watch)).type for _ in range(4)]
        assert first == ["ADDED"] * 4
        assert await watch.next(0) is None

    run(work)


def test_a_slow_watcher_is_cut_off_with_410(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PENDING_MAX_COUNT", 2)

    async def work(registry: Registry) -> None:
        watch = registry.watch("configmaps")
        for number in range(3):
            await registry.create("configmaps", config_map(f"c{number}"))
        assert [(await anext(watch)).type for _ in range(2)] == ["ADDED", "ADDED"]
        with pytest.raises(ApiError) as caught:
            await anext(watch)
        assert caught.value.code == 410

    run(work)


def test_a_version_older_than_the_ring_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RING_COUNT", 2)

    async def work(registry: Registry) -> None:
        start = registry.store.revision
        for number in range(4):
            await registry.create("configmaps", config_map(f"c{number}"))
        assert len([1 for _ in range(2) if registry.watch("configmaps", since=registry.store.revision - 2).pop()]) == 2
        with pytest.raises(ApiError) as caught:
            registry.watch("configmaps", since=start)
        assert caught.value.reason == "Expired"

    run(work)


def test_a_pod_without_a_node_goes_at_once_and_one_with_a_node_waits() -> None:
    async def work(registry: Registry) -> None:
        spec = {"containers": [{"name": "a", "image": "b"}]}
        for name, node in (("free", {}), ("bound", {"nodeName": "n"})):
            await registry.create("pods", {"metadata": {"name": name}, "spec": {**spec, **node}}, namespace="default")
            await registry.delete("pods", "default", name, grace_s=9)
        (left,) = registry.list("pods")
        assert left["metadata"]["deletionTimestamp"] == "2026-01-01T12:00:09Z"
        await registry.delete("pods", "default", "bound", grace_s=0)
        assert registry.list("pods") == []

    run(work)


def test_foreground_and_orphan_deletions_leave_their_finalizer() -> None:
    async def work(registry: Registry) -> None:
        for propagation, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
            await registry.create("configmaps", config_map("owner"))
            await registry.delete("configmaps", "default", "owner", propagation=propagation)
            dying = registry.get("configmaps", "default", "owner")
            assert dying["metadata"]["finalizers"] == [finalizer]
            await registry.patch("configmaps", "default", "owner", {"metadata": {"finalizers": None}}, MERGE)
            assert registry.list("configmaps") == []

    run(work)


def test_a_wrong_uid_deletes_nothing() -> None:
    async def work(registry: Registry) -> None:
        await registry.create("configmaps", config_map("safe"))
        with pytest.raises(ApiError, match="UID in precondition"):
            await registry.delete("configmaps", "default", "safe", uid="other")

    run(work)


@dataclass
class Interferer:
    """An admission that changes the object behind the write's back, once."""

    registry: Registry | None = None
    warnings: list[str] = field(default_factory=list)
    object: Any = None

    async def admit(self, operation: str, row: Any, sub: str, old: Any, new: Any, **_rest: Any) -> Any:
        if self.registry is not None and operation == "UPDATE" and row.key == "configmaps":
            registry, self.registry = self.registry, None
            await registry.patch("configmaps", "default", "raced", {"data": {"theirs": "1"}}, MERGE)
        self.object = new
        return self


def test_a_patch_is_computed_again_when_another_write_came_between() -> None:
    interferer = Interferer()

    async def work(registry: Registry) -> None:
        await registry.create("configmaps", config_map("raced"))
        interferer.registry = registry
        made = await registry.patch("configmaps", "default", "raced", {"data": {"mine": "1"}}, MERGE)
        assert made["data"] == {"mine": "1", "theirs": "1"}

    run(work, admission=interferer)


def test_an_update_with_a_version_conflicts_when_another_write_came_between() -> None:
    interferer = Interferer()

    async def work(registry: Registry) -> None:
        made = await registry.create("configmaps", config_map("raced"))
        interferer.registry = registry
        with pytest.raises(ApiError) as caught:
            await registry.update("configmaps", {**made, "data": {"mine": "1"}})
        assert caught.value.reason == "Conflict"

    run(work, admission=interferer)


@dataclass
class Injector:
    """An admission that adds a container with nothing but a name and an image."""

    warnings: list[str] = field(default_factory=list)
    object: Any = None

    async def admit(self, operation: str, row: Any, sub: str, old: Any, new: Any, **_rest: Any) -> Any:
        self.object = new
        if row.key == "pods" and operation == "CREATE":
            containers = [*new["spec"]["containers"], {"name": "side", "image": "s:1", "ports": [{"containerPort": 1}]}]
            self.object = {**new, "spec": {**new["spec"], "containers": containers}}
        return self


def test_what_admission_adds_gets_its_defaults() -> None:
    async def work(registry: Registry) -> None:
        spec = {"containers": [{"name": "a", "image": "b"}]}
        made = await registry.create("pods", {"metadata": {"name": "p"}, "spec": spec}, namespace="default")
        side = made["spec"]["containers"][1]
        assert (side["imagePullPolicy"], side["ports"][0]["protocol"]) == ("IfNotPresent", "TCP")

    run(work, admission=Injector())


def test_cel_rules_are_kept_with_a_warning() -> None:
    schema = {"type": "object", "x-kubernetes-validations": [{"rule": "true"}]}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": "e.com", "scope": "Cluster", "names": {"kind": "K", "plural": "ks"}, "versions": [version]}

    async def work(registry: Registry) -> list[str]:
        options = Options()
        await registry.create(
            "customresourcedefinitions", {"metadata": {"name": "ks.e.com"}, "spec": spec}, options=options
        )
        await registry.create("ks.e.com", {"metadata": {"name": "one"}})
        return options.warnings

    assert ["does not evaluate CEL rules" in warning for warning in run(work)] == [True]
