"""The deployment and replica set loops against the real Registry and a pretended node."""

from lab.ctl.owners import is_deleted
from lab.ctl.pods import is_active, is_ready


def test_a_deployment_makes_its_pods_and_says_when_it_is_through(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment())
        await cluster.rolled_out("web")
        stored = cluster.get("deployments", "web")
        assert 3 == len([pod for pod in cluster.pods() if is_ready(pod)])
        assert "1" == stored["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        told = {one["type"]: (one["status"], one["reason"]) for one in stored["status"]["conditions"]}
        assert {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        } == told
        assert ["Scaled up replica set " in line for line in cluster.events("ScalingReplicaSet")] == [True]

    play(scenario)


def test_a_new_template_rolls_within_its_bounds_and_keeps_the_old_set_for_undo(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("deployments", objects.deployment(replicas=4, strategy=objects.rolling(1, 1)))
        await cluster.rolled_out("web")
        seen = []
        template = objects.template({"app": "web"}, "web:2")
        await cluster.merge("deployments", "web", {"spec": {"template": template}})

        def through():
            active = [pod for pod in cluster.pods() if is_active(pod)]
            seen.append((len(active), sum(map(is_ready, active))))
            stored = cluster.get("deployments", "web")
            return (
                stored["status"].get("observedGeneration") == 2
                and stored["status"].get("availableReplicas") == 4 == (stored["status"].get("updatedReplicas"))
                and stored["status"].get("replicas") == 4
            )

        await cluster.until(through)
        assert 5 >= max(total for total, _ready in seen)
        assert 3 <= min(ready for _total, ready in seen)
        sizes = sorted(one["spec"]["replicas"] for one in cluster.registry.list("replicasets", "default"))
        assert [0, 4] == sizes

    play(scenario)
