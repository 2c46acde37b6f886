"""The endpoint slice loop: from a pod's status to the slice, at once."""

import asyncio


def ready_addresses(cluster, name="web", family="IPv4"):
    return sorted(
        address
        for one in cluster.registry.list("endpointslices", "default", labels=f"kubernetes.io/service-name={name}")
        for endpoint in one["endpoints"]
        for address in endpoint["addresses"]
        if one["addressType"] == family and endpoint["conditions"]["ready"]
    )


def test_ready_pods_of_both_families_are_in_the_slices(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.registry.create("services", objects.service(ipFamilyPolicy="RequireDualStack"))
        await cluster.rolled_out("web")
        assert 3 == len(ready_addresses(cluster))
        assert 3 == len(ready_addresses(cluster, family="IPv6"))

    play(scenario)


def test_readiness_reaches_the_slice_in_a_few_turns_of_the_loop(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(replicas=1))
        await cluster.registry.create("services", objects.service())
        await cluster.rolled_out("web")
        pod = cluster.pods()[0]
        for is_ready in (False, True):
            await cluster.node.status(pod, {"conditions": [cluster.node.ready(is_ready)]})
            turns = 0
            while len(ready_addresses(cluster)) != is_ready:
                turns += 1
                assert turns < 10
                await asyncio.sleep(0)

    play(scenario)


def test_a_rolling_restart_always_has_as_many_ready_endpoints_as_asked(play, objects):
    async def scenario(cluster):
        wanted = objects.deployment(replicas=3, strategy=objects.rolling(1, 0))
        await cluster.registry.create("deployments", wanted)
        await cluster.registry.create("services", objects.service())
        await cluster.rolled_out("web")
        restarted = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}
        async with cluster.sampling("endpointslices", lambda: len(ready_addresses(cluster))) as counts:
            await cluster.merge("deployments", "web", {"spec": {"template": restarted}})
            await cluster.rolled_out("web")
        assert 3 <= min(counts)
        assert 3 == len(ready_addresses(cluster))

    play(scenario)


def test_the_slices_follow_selector_labels_and_deletion(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(replicas=1))
        await cluster.registry.create("services", objects.service())
        await cluster.rolled_out("web")
        await cluster.merge("services", "web", {"spec": {"selector": {"app": "other"}}})
        await cluster.until(lambda: not ready_addresses(cluster))
        await cluster.merge("services", "web", {"spec": {"selector": {"app": "web"}}})
        await cluster.until(lambda: ready_addresses(cluster))
        name = cluster.registry.list("endpointslices", "default", labels="kubernetes.io/service-name=web")[0][
            "metadata"
        ]["name"]
        await cluster.registry.delete("endpointslices", "default", name)
        await cluster.until(lambda: ready_addresses(cluster), 1)
        await cluster.registry.delete("services", "default", "web")
        await cluster.until(lambda: not ready_addresses(cluster), 1)

    play(scenario)


def test_a_service_without_selector_keeps_the_slices_that_others_made(play, objects):
    async def scenario(cluster):
        wanted = objects.service("db")
        del wanted["spec"]["selector"]
        await cluster.registry.create("services", wanted)
        await cluster.registry.create(
            "endpointslices",
            {
                "metadata": {"name": "db-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
                "ports": [{"name": "http", "port": 5432, "protocol": "TCP"}],
            },
        )
        await asyncio.sleep(5)
        assert ["192.0.2.1"] == ready_addresses(cluster, "db")

    play(scenario)


def test_services_get_addresses_by_families_and_no_two_the_same(play, objects):
    async def scenario(cluster):
        await asyncio.gather(
            *(
                cluster.registry.create("services", objects.service(f"s{n}", ipFamilyPolicy="PreferDualStack"))
                for n in range(20)
            )
        )
        given = [text for one in cluster.registry.list("services") for text in one["spec"]["clusterIPs"]]
        assert 41 == len(set(given)) == len(given)
        assert "10.96.0.1" == cluster.get("services", "kubernetes")["spec"]["clusterIP"]
        assert "10.96.0.1" == cluster.get("endpointslices", "kubernetes")["endpoints"][0]["addresses"][0]

    play(scenario)
