"""The job loop against the real Registry and a node whose pods end by themselves."""

from lab.ctl.pods import is_active


def ended(cluster, name="sum"):
    held = cluster.get("jobs", name)["status"]["conditions"]
    return [one["type"] for one in held if one["type"] in ("Complete", "Failed")]


def test_a_job_runs_to_its_end_and_counts(play, objects):
    async def scenario(cluster):
        cluster.node.outcomes = {"good": "Succeeded"}
        await cluster.registry.create("jobs", objects.job(completions=5, parallelism=2))
        async with cluster.sampling("pods", lambda: len([pod for pod in cluster.pods() if is_active(pod)])) as most:
            await cluster.until(lambda: ended(cluster) == ["Complete"])
        status = cluster.get("jobs", "sum")["status"]
        assert (5, 0, 2) == (status["succeeded"], status.get("active", 0), max(most))
        assert status["completionTime"]
        assert 5 == len(cluster.pods("job-name=sum")), "the pods stay to be read"
        assert ["Job completed"] == cluster.events("Completed")

    play(scenario)


def test_a_job_that_fails_gives_up_after_its_limit(play, objects):
    async def scenario(cluster):
        cluster.node.outcomes = {"bad": "Failed"}
        await cluster.registry.create("jobs", objects.job(image="bad", backoffLimit=2))
        took_s = await cluster.until(lambda: ended(cluster) == ["Failed"], 120)
        assert 3 == cluster.get("jobs", "sum")["status"]["failed"]
        assert took_s >= 30, "10 s, then 20 s between the tries"

    play(scenario)


def test_a_deleted_pod_is_replaced_and_a_success_that_is_deleted_still_counts(play, objects):
    async def scenario(cluster):
        cluster.node.outcomes = {"good": "Succeeded"}
        cluster.node.ready_after_s = 2
        await cluster.registry.create("jobs", objects.job(completions=2, parallelism=1))
        await cluster.until(lambda: cluster.get("jobs", "sum")["status"].get("succeeded") == 1)
        done = next(pod for pod in cluster.pods() if pod["status"]["phase"] == "Succeeded")
        await cluster.registry.delete("pods", "default", done["metadata"]["name"])
        running = next(pod for pod in cluster.pods() if pod["status"]["phase"] != "Succeeded")
        await cluster.registry.delete("pods", "default", running["metadata"]["name"])
        await cluster.until(lambda: ended(cluster) == ["Complete"])
        assert 2 == cluster.get("jobs", "sum")["status"]["succeeded"]

    play(scenario)


def test_a_finished_job_goes_with_its_pods_when_its_time_is_up(play, objects):
    async def scenario(cluster):
        cluster.node.outcomes = {"good": "Succeeded"}
        await cluster.registry.create("jobs", objects.job(ttlSecondsAfterFinished=30))
        await cluster.until(lambda: ended(cluster) == ["Complete"])
        took_s = await cluster.until(lambda: not cluster.registry.list("jobs") and not cluster.pods())
        assert 28 <= took_s <= 32

    play(scenario)


def test_a_deadline_ends_the_pods(play, objects):
    async def scenario(cluster):
        await cluster.registry.create("jobs", objects.job(activeDeadlineSeconds=10))
        await cluster.until(lambda: ended(cluster) == ["Failed"])
        await cluster.until(lambda: not cluster.pods())
        assert [] == cluster.events("FailedCreate")

    play(scenario)
