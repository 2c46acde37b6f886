"""The deployment and replica set loops against the real Registry and a pretended node."""

import asyncio

from lab.api.errors import ApiError
from lab.ctl import revisions
from lab.ctl.pods import is_active, is_ready


class Refusing:
    """An admission that refuses pods while it is told to, as a webhook that is down with failurePolicy Fail."""

    def __init__(self):
        self.refuses = True

    async def admit(self, operation, resource, subresource, old, new, **_rest):
        await asyncio.sleep(0)
        if self.refuses and resource.key == "pods" and operation == "CREATE":
            raise ApiError(500, "InternalError", 'failed calling webhook "inject.example": connection refused')
        return Result(new)


class Result:
    def __init__(self, item):
        self.object = item
        self.warnings = ()


def conditions(item):
    return {one["type"]: (one["status"], one["reason"]) for one in item["status"]["conditions"]}


def new_template(objects, image):
    return {"spec": {"template": objects.template({"app": "web"}, image)}}


def test_a_deployment_makes_its_pods_and_says_when_it_is_through(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        stored = cluster.get("deployments", "web")
        assert 3 == len([pod for pod in cluster.pods() if is_ready(pod)])
        assert "1" == stored["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        expected = {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        }
        assert expected == conditions(stored)
        assert 1 == len(cluster.events("ScalingReplicaSet"))
        assert 3 == len(cluster.events("SuccessfulCreate"))

    play(scenario)


def test_a_new_template_rolls_within_its_bounds_and_keeps_the_old_set_for_undo(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(replicas=4, strategy=objects.rolling(1, 1)))
        await cluster.rolled_out("web")

        def count():
            active = [pod for pod in cluster.pods() if is_active(pod)]
            return len(active), sum(map(is_ready, active))

        async with cluster.sampling("pods", count) as seen:
            await cluster.merge("deployments", "web", new_template(objects, "web:2"))
            await cluster.rolled_out("web")
        assert 5 >= max(total for total, _ready in seen)
        assert 3 <= min(ready for _total, ready in seen)
        sizes = sorted(one["spec"]["replicas"] for one in cluster.registry.list("replicasets", "default"))
        assert [0, 4] == sizes
        assert {"web:2"} == {pod["spec"]["containers"][0]["image"] for pod in cluster.pods() if is_active(pod)}

    play(scenario)


def test_undo_brings_the_old_set_back_under_a_new_revision(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        first = cluster.registry.list("replicasets", "default")[0]["metadata"]["name"]
        await cluster.merge("deployments", "web", new_template(objects, "web:2"))
        await cluster.rolled_out("web")
        await cluster.merge("deployments", "web", new_template(objects, "web:1"))
        await cluster.rolled_out("web")
        back = cluster.get("replicasets", first)
        assert 3 == back["status"]["availableReplicas"]
        assert "3" == back["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        assert 2 == len(cluster.registry.list("replicasets", "default"))

    play(scenario)


def test_scaling_up_and_down_changes_no_set_and_keeps_the_ready_pods(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(replicas=2))
        await cluster.rolled_out("web")
        kept = {pod["metadata"]["name"] for pod in cluster.pods()}
        await cluster.merge("deployments", "web", {"spec": {"replicas": 5}})
        await cluster.until(lambda: len(cluster.pods()) == 5)
        await cluster.merge("deployments", "web", {"spec": {"replicas": 2}})
        await cluster.until(lambda: len(cluster.pods()) == 2)
        assert kept == {pod["metadata"]["name"] for pod in cluster.pods()}, "those not ready yet go first"
        await cluster.rolled_out("web")

    play(scenario)


def test_a_broken_image_stops_the_rollout_and_the_deadline_strikes(play, objects):
    async def scenario(cluster):
        cluster.node.broken.add("web:bad")
        await cluster.registry.create("deployments", objects.deployment(progressDeadlineSeconds=30))
        await cluster.rolled_out("web")
        await cluster.merge("deployments", "web", new_template(objects, "web:bad"))
        await cluster.until(
            lambda: (
                conditions(cluster.get("deployments", "web"))["Progressing"] == ("False", "ProgressDeadlineExceeded")
            )
        )
        assert 30 <= cluster.loop.time() <= 40
        assert 3 == sum(is_ready(pod) for pod in cluster.pods()), "the old pods still serve"
        await cluster.merge("deployments", "web", new_template(objects, "web:3"))
        await cluster.rolled_out("web")
        assert ("True", "NewReplicaSetAvailable") == conditions(cluster.get("deployments", "web"))["Progressing"]

    play(scenario)


def test_a_failing_admission_shows_and_recovers(play, objects):
    async def scenario(cluster):
        cluster.registry.admission = refusing = Refusing()
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.until(lambda: "ReplicaFailure" in conditions(cluster.get("deployments", "web")))
        stored = cluster.get("deployments", "web")
        assert ("True", "FailedCreate") == conditions(stored)["ReplicaFailure"]
        assert ["Error creating: failed calling webhook" in line for line in cluster.events("FailedCreate")] == [True]
        await asyncio.sleep(10)
        event = next(one for one in cluster.registry.list("events") if one["reason"] == "FailedCreate")
        assert 4 <= event["count"] <= 8, "tried again every two seconds, told as one Event"
        refusing.refuses = False
        await cluster.rolled_out("web", within_s=5)
        assert "ReplicaFailure" not in conditions(cluster.get("deployments", "web"))

    play(scenario)


def test_recreate_never_lets_old_and_new_pods_stand_side_by_side(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(strategy={"type": "Recreate"}))
        await cluster.rolled_out("web")

        def mixture():
            return len({pod["spec"]["containers"][0]["image"] for pod in cluster.pods()}) > 1

        async with cluster.sampling("pods", mixture) as mixed:
            await cluster.merge("deployments", "web", new_template(objects, "web:2"))
            await cluster.rolled_out("web")
        assert not any(mixed)

    play(scenario)


def test_a_paused_deployment_waits_until_it_is_resumed(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        await cluster.merge("deployments", "web", {"spec": {"paused": True}})
        await cluster.merge("deployments", "web", new_template(objects, "web:2"))
        await asyncio.sleep(5)
        assert ("Unknown", "DeploymentPaused") == conditions(cluster.get("deployments", "web"))["Progressing"]
        assert 1 == len(cluster.registry.list("replicasets", "default"))
        await cluster.merge("deployments", "web", {"spec": {"paused": None}})
        await cluster.rolled_out("web")
        assert 2 == len(cluster.registry.list("replicasets", "default"))

    play(scenario)


def test_min_ready_time_delays_availability(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(minReadySeconds=20))
        await cluster.until(lambda: cluster.get("deployments", "web")["status"].get("readyReplicas") == 3)
        assert "availableReplicas" not in cluster.get("deployments", "web")["status"]
        before = cluster.loop.time()
        await cluster.rolled_out("web")
        assert 18 <= cluster.loop.time() - before <= 21

    play(scenario)


def test_a_deleted_or_failed_pod_is_replaced(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        first, second, _third = cluster.pods()
        await cluster.registry.delete("pods", "default", first["metadata"]["name"])
        await cluster.node.status(second, {"phase": "Failed"})
        await cluster.until(lambda: 3 == sum(is_ready(pod) for pod in cluster.pods() if is_active(pod)))
        assert second["metadata"]["name"] in {pod["metadata"]["name"] for pod in cluster.pods()}

    play(scenario)


def test_a_pod_that_loses_its_label_is_let_go_and_replaced_and_comes_back_to_be_too_many(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(replicas=2))
        await cluster.rolled_out("web")
        name = cluster.pods()[0]["metadata"]["name"]
        await cluster.merge("pods", name, {"metadata": {"labels": {"app": "debug"}}})
        await cluster.until(lambda: len(cluster.pods("app=web")) == 2)
        assert "ownerReferences" not in cluster.get("pods", name)["metadata"]
        await cluster.merge("pods", name, {"metadata": {"labels": {"app": "web"}}})
        await cluster.until(lambda: len(cluster.pods()) == 2 and all(map(is_active, cluster.pods())))

    play(scenario)


def test_a_name_that_is_taken_by_a_stranger_is_gone_round(play, objects):
    async def scenario(cluster):
        wanted = await cluster.registry.create("deployments", objects.deployment(paused=True))
        letters = revisions.template_hash(revisions.bare_template(wanted))
        stranger = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": f"web-{letters}", "namespace": "default"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "other"}},
                "template": objects.template({"app": "other"}),
            },
        }
        await cluster.registry.create("replicasets", stranger)
        await cluster.merge("deployments", "web", {"spec": {"paused": None}})
        await cluster.rolled_out("web")
        assert 1 == cluster.get("deployments", "web")["status"]["collisionCount"]

    play(scenario)


def test_deleting_a_deployment_takes_its_sets_and_pods(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        await cluster.registry.delete("deployments", "default", "web")
        await cluster.until(lambda: not cluster.pods() and not cluster.registry.list("replicasets"))

    play(scenario)


def test_an_idle_cluster_writes_nothing(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.registry.create("services", objects.service())
        await cluster.rolled_out("web")
        await asyncio.sleep(5)
        before = cluster.registry.store.revision
        await asyncio.sleep(1200)
        assert before == cluster.registry.store.revision

    play(scenario)
