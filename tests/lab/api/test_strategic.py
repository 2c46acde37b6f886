"""Strategic merge patches by the published merge keys."""

from __future__ import annotations

from typing import Any

import pytest

from lab.api import strategic
from lab.api.errors import ApiError


def pod(*containers: Any, **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def patched(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = strategic.apply(target, patch, "v1", "Pod")["spec"]
    return spec


A = {"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}
B = {"name": "b", "image": "y"}


def test_list_items_merge_by_their_key() -> None:
    spec = patched(pod(A, B), pod({"name": "a", "image": "z"}))
    assert spec["containers"] == [{**A, "image": "z"}, B]


def test_an_item_with_a_new_key_is_appended() -> None:
    assert patched(pod(A), pod(B))["containers"] == [A, B]


def test_an_item_is_deleted_by_directive() -> None:
    assert patched(pod(A, B), pod({"name": "a", "$patch": "delete"}))["containers"] == [B]


def test_a_list_is_replaced_by_directive() -> None:
    assert patched(pod(A), pod({"$patch": "replace"}, B))["containers"] == [B]


def test_the_order_is_set_and_others_stay_in_their_places() -> None:
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b"}]}}
    assert patched(pod(A, B), patch)["containers"] == [B, A]


def test_null_deletes_a_member() -> None:
    assert patched(pod(A, nodeName="n"), {"spec": {"nodeName": None}}) == {"containers": [A]}


def test_a_list_without_merge_key_is_replaced() -> None:
    target = pod(A, tolerations=[{"key": "x"}])
    assert patched(target, {"spec": {"tolerations": [{"key": "y"}]}})["tolerations"] == [{"key": "y"}]


def test_a_set_grows_and_shrinks_by_directive() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic.apply(target, patch, "v1", "Pod")["metadata"]["finalizers"] == ["b", "c"]


def test_retained_keys_drop_the_others() -> None:
    target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.apply(target, patch, "apps/v1", "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_a_map_is_deleted_by_directive() -> None:
    patch = {"spec": {"nodeSelector": {"$patch": "delete"}}}
    assert "nodeSelector" not in patched(pod(A, nodeSelector={"a": "b"}), patch)


@pytest.mark.parametrize(
    "patch",
    [{"spec": {"containers": [{"image": "z"}]}}, {"$patch": "explode"}, {"spec": {"$what": 1}}, []],
)
def test_a_bad_patch_is_refused(patch: Any) -> None:
    with pytest.raises(ApiError) as caught:
        strategic.apply(pod(A), patch, "v1", "Pod")
    assert caught.value.code == 400


def test_arguments_stay_as_they_were() -> None:
    target = pod(A, B)
    patched(target, pod({"name": "a", "image": "z", "env": [{"name": "K", "value": "2"}]}))
    assert target == pod({"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}, B)
