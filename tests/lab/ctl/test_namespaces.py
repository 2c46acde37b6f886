"""Namespaces: what each has, and how one goes."""

import asyncio

import pytest

from lab.api.errors import ApiError
from lab.ctl.namespaces import namespaced


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def names(cluster, resource):
    return [item["metadata"]["name"] for item in cluster.registry.list(resource)]


def test_a_new_cluster_has_its_namespaces_each_furnished(play):
    async def scenario(cluster):
        expected = ["default", "kube-node-lease", "kube-public", "kube-system"]
        assert expected == names(cluster, "namespaces")
        await cluster.until(lambda: len(names(cluster, "configmaps")) == 4)
        assert ["default"] * 4 == names(cluster, "serviceaccounts")
        assert {"ca.crt": "PEM"} == cluster.get("configmaps", "kube-root-ca.crt", "kube-public")["data"]

    play(scenario)


def test_what_is_taken_away_or_changed_comes_back(play):
    async def scenario(cluster):
        await cluster.registry.delete("serviceaccounts", "default", "default")
        await cluster.merge("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "forged"}})
        await cluster.until(lambda: cluster.get("serviceaccounts", "default"), 1)
        await cluster.until(lambda: cluster.get("configmaps", "kube-root-ca.crt")["data"] == {"ca.crt": "PEM"}, 1)

    play(scenario)


def test_a_deleted_namespace_is_emptied_after_two_seconds_and_goes_when_its_pods_are_gone(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("namespaces", namespace("shop"))
        inside = {**objects.deployment()}
        inside["metadata"] = {"name": "web", "namespace": "shop"}
        cluster.node.ends_after_s = 4
        await cluster.registry.create("deployments", inside)
        await cluster.until(lambda: cluster.get("deployments", "web", "shop")["status"]["availableReplicas"] == 3)
        await cluster.registry.delete("namespaces", "", "shop")
        assert "Terminating" == cluster.get("namespaces", "shop", "")["status"]["phase"]
        await asyncio.sleep(1)
        assert cluster.get("deployments", "web", "shop"), "further deletes of the same file still find it"
        took_s = await cluster.until(lambda: "shop" not in names(cluster, "namespaces"), 12)
        assert 5 <= took_s <= 8
        everywhere = [item for kind in namespaced(cluster.registry) for item in cluster.registry.list(kind, "shop")]
        assert [] == everywhere

    play(scenario)


def test_nothing_new_comes_into_a_namespace_that_goes(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("namespaces", namespace("shop"))
        await cluster.registry.delete("namespaces", "", "shop")
        late = objects.service()
        late["metadata"]["namespace"] = "shop"
        with pytest.raises(ApiError, match="being terminated"):
            await cluster.registry.create("services", late)
        await cluster.until(lambda: "shop" not in names(cluster, "namespaces"), 5)
        await cluster.registry.create("namespaces", namespace("shop"))
        await cluster.until(lambda: cluster.get("serviceaccounts", "default", "shop"), 1)

    play(scenario)


def test_an_object_that_holds_on_by_a_finalizer_holds_its_namespace(play):
    async def scenario(cluster):
        await cluster.registry.create("namespaces", namespace("shop"))
        held = {"metadata": {"name": "held", "namespace": "shop", "finalizers": ["example.org/hold"]}}
        await cluster.registry.create("configmaps", held)
        await cluster.registry.delete("namespaces", "", "shop")
        await asyncio.sleep(20)
        stored = cluster.get("configmaps", "held", "shop")
        await cluster.registry.update("configmaps", {**stored, "metadata": {**stored["metadata"], "finalizers": []}})
        await cluster.until(lambda: "shop" not in names(cluster, "namespaces"), 5)

    play(scenario)
