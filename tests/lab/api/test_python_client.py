"""The official Python client against the real server."""

from __future__ import annotations

import threading
import time
from typing import Any

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException


def config_map(name: str, **data: str) -> Any:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture(scope="module")
def core(server: Any) -> Any:
    with server.client() as client:
        yield kubernetes.client.CoreV1Api(client)


def test_an_object_is_created_read_replaced_and_deleted(core: Any) -> None:
    core.create_namespaced_config_map("default", config_map("one", a="1"))
    found = core.read_namespaced_config_map("one", "default")
    assert found.data == {"a": "1"}
    found.data = {"a": "2"}
    assert core.replace_namespaced_config_map("one", "default", found).data == {"a": "2"}
    assert core.delete_namespaced_config_map("one", "default")["status"] == "Success"
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_config_map("one", "default")
    assert caught.value.status == 404


def test_a_stale_version_is_a_conflict(core: Any) -> None:
    first = core.create_namespaced_config_map("default", config_map("stale", a="1"))
    core.patch_namespaced_config_map("stale", "default", {"data": {"a": "2"}})
    first.data = {"a": "3"}
    with pytest.raises(ApiException) as caught:
        core.replace_namespaced_config_map("stale", "default", first)
    assert caught.value.status == 409


def test_a_lease_is_replaced_only_by_who_read_it_last(server: Any) -> None:
    with server.client() as client:
        leases = kubernetes.client.CoordinationV1Api(client)
        spec = {"holderIdentity": "a", "leaseDurationSeconds": 15}
        made = leases.create_namespaced_lease("default", {"metadata": {"name": "l"}, "spec": spec})
        made.spec.holder_identity = "b"
        leases.replace_namespaced_lease("l", "default", made)
        with pytest.raises(ApiException) as caught:
            leases.replace_namespaced_lease("l", "default", made)
        assert caught.value.status == 409


def test_a_watch_tells_what_happens_from_a_version_on(core: Any) -> None:
    version = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("seen", a="1"))
    core.patch_namespaced_config_map("seen", "default", {"data": {"a": "2"}})
    core.delete_namespaced_config_map("seen", "default")
    events = kubernetes.watch.Watch().stream(
        core.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=1
    )
    assert ["ADDED", "MODIFIED", "DELETED"] == [event["type"] for event in events]


def test_a_watch_by_label_sees_objects_enter_and_leave(core: Any) -> None:
    version = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("moving"))
    for value in ("in", "out"):
        core.patch_namespaced_config_map("moving", "default", {"metadata": {"labels": {"place": value}}})
    core.delete_namespaced_config_map("moving", "default")
    events = kubernetes.watch.Watch().stream(
        core.list_namespaced_config_map,
        "default",
        label_selector="place=in",
        resource_version=version,
        timeout_seconds=1,
    )
    assert ["ADDED", "DELETED"] == [event["type"] for event in events]


@pytest.mark.parametrize("version", ["1", "9999999999999999"])
def test_a_version_that_is_not_known_is_gone(core: Any, version: str) -> None:
    stream = kubernetes.watch.Watch().stream(
        core.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=2
    )
    with pytest.raises(ApiException) as caught:
        list(stream)
    assert caught.value.status == 410


def test_a_list_comes_in_pages(core: Any) -> None:
    for number in range(5):
        core.create_namespaced_secret("default", {"metadata": {"name": f"page-{number}", "labels": {"in": "page"}}})
    names, token = [], None
    while True:
        page = core.list_namespaced_secret("default", label_selector="in=page", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert [f"page-{number}" for number in range(5)] == names


def test_a_watch_delivers_live(core: Any) -> None:
    seen: list[str] = []

    def follow() -> None:
        watch = kubernetes.watch.Watch()
        for event in watch.stream(core.list_namespaced_config_map, "kube-public", timeout_seconds=10):
            seen.append(event["object"].metadata.name)
            watch.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.2)
    core.create_namespaced_config_map("kube-public", config_map("live"))
    thread.join(5)
    assert seen == ["live"]


def test_a_pod_on_a_node_is_deleted_gracefully(server: Any, core: Any) -> None:
    spec = {"nodeName": "n", "containers": [{"name": "a", "image": "b"}], "terminationGracePeriodSeconds": 7}
    core.create_namespaced_pod("default", {"metadata": {"name": "slow"}, "spec": spec})
    core.delete_namespaced_pod("slow", "default")
    dying = core.read_namespaced_pod("slow", "default")
    assert dying.metadata.deletion_grace_period_seconds == 7
    assert dying.metadata.deletion_timestamp is not None
    core.delete_namespaced_pod("slow", "default", grace_period_seconds=0)
    with pytest.raises(ApiException):
        core.read_namespaced_pod("slow", "default")


def test_the_dynamic_client_finds_kinds_by_legacy_discovery(server: Any) -> None:
    from kubernetes.dynamic import DynamicClient

    with server.client() as client:
        deployments = DynamicClient(client).resources.get(api_version="apps/v1", kind="Deployment")
        assert deployments.get(namespace="default").items == []


def test_an_informer_follows_a_kind(server: Any, core: Any) -> None:
    from kubernetes.informer import SharedInformer

    added = threading.Event()
    with server.client() as client:
        listing = kubernetes.client.CoreV1Api(client).list_namespaced_config_map
        informer = SharedInformer(listing, namespace="kube-system")
        informer.add_event_handler("ADDED", lambda _found: added.set())
        informer.start()
        try:
            core.create_namespaced_config_map("kube-system", config_map("informed"))
            assert added.wait(5)
        finally:
            core.create_namespaced_config_map("kube-system", config_map("last-word"))
            informer.stop()
