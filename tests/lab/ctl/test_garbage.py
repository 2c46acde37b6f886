"""Garbage collection: background, foreground, orphan; by uid, over any kind."""

import asyncio


def config(name, *owners, **metadata):
    references = [
        {"apiVersion": "v1", "kind": one["kind"], "name": one["metadata"]["name"], "uid": one["metadata"]["uid"]}
        for one in owners
    ]
    return {"metadata": {"name": name, "namespace": "default", "ownerReferences": references, **metadata}}


def names(cluster):
    return {item["metadata"]["name"] for item in cluster.registry.list("configmaps", "default")} - {"kube-root-ca.crt"}


async def make(cluster, name, *owners, **metadata):
    return await cluster.registry.create("configmaps", config(name, *owners, **metadata))


def test_dependents_go_after_their_owner_and_theirs_after_them(play):
    async def scenario(cluster):
        first = await make(cluster, "first")
        second = await make(cluster, "second", first)
        await make(cluster, "third", second)
        await make(cluster, "other")
        await cluster.registry.delete("configmaps", "default", "first")
        await cluster.until(lambda: names(cluster) == {"other"}, 1)

    play(scenario)


def test_an_object_with_another_living_owner_stays_and_forgets_the_dead_one(play):
    async def scenario(cluster):
        one, two = await make(cluster, "one"), await make(cluster, "two")
        await make(cluster, "both", one, two)
        await cluster.registry.delete("configmaps", "default", "one")
        await asyncio.sleep(1)
        left = cluster.get("configmaps", "both")["metadata"]["ownerReferences"]
        assert ["two"] == [reference["name"] for reference in left]

    play(scenario)


def test_an_owner_is_known_by_its_uid(play):
    async def scenario(cluster):
        old = await make(cluster, "owner")
        await cluster.registry.delete("configmaps", "default", "owner")
        await make(cluster, "owner")
        await make(cluster, "late", old)
        await cluster.until(lambda: names(cluster) == {"owner"}, 1)

    play(scenario)


def test_an_owner_of_a_kind_nobody_serves_is_not_judged(play):
    async def scenario(cluster):
        await make(cluster, "child", {"kind": "Martian", "metadata": {"name": "m", "uid": "u"}})
        await asyncio.sleep(1)
        assert {"child"} == names(cluster)

    play(scenario)


def test_foreground_keeps_the_owner_until_what_blocks_it_is_gone(play, objects):
    async def scenario(cluster):
        cluster.node.ends_after_s = 3
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        await cluster.registry.delete("deployments", "default", "web", propagation="Foreground")
        await asyncio.sleep(1)
        assert cluster.get("deployments", "web")["metadata"]["deletionTimestamp"]
        assert 3 == len(cluster.pods())
        await cluster.until(lambda: not cluster.registry.list("deployments", "default"), 5)
        assert [] == cluster.pods()
        assert [] == cluster.registry.list("replicasets", "default")

    play(scenario)


def test_orphan_lets_the_dependents_live_and_a_new_owner_take_them_in(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        before = {pod["metadata"]["uid"] for pod in cluster.pods()}
        await cluster.registry.delete("deployments", "default", "web", propagation="Orphan")
        await cluster.until(lambda: not cluster.registry.list("deployments", "default"), 1)
        await asyncio.sleep(5)
        orphan = cluster.registry.list("replicasets", "default")[0]
        assert not orphan["metadata"].get("ownerReferences")
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        assert before == {pod["metadata"]["uid"] for pod in cluster.pods()}

    play(scenario)
