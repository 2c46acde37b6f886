"""The writer of statuses: what it writes, and how it bears refusals and other writers."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.cluster import Replace
from controller.kinds import KINDS
from controller.kube import Api, connect
from controller.objects import Policy
from controller.settings import Settings
from controller.status import StatusWriter
from controller.truth import Truth
from tests.controller.builders import kind_of, policy, service
from tests.controller.scripted_api import ScriptedApi, kubeconfig

PATH = "/apis/policy.tulle.mesh/v1alpha1/namespaces/shop/trafficpolicies/p/status"


@pytest.fixture
def server() -> Iterator[ScriptedApi]:
    found = ScriptedApi()
    yield found
    found.close()


@pytest.fixture
def api(server: ScriptedApi, tmp_path: Path) -> Api:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(server.url))
    return connect(str(file))


def truth_of(*policies: Policy) -> Truth:
    truth = Truth(Settings())
    records = (service(), *policies)
    for kind in KINDS:
        truth.on_changes([(Replace(kind.name, tuple(one for one in records if kind_of(one) == kind.name)), 0.0)])
    return truth


async def write(api: Api, truth: Truth, is_done: Callable[[], bool], least_s: float = 0.05) -> None:
    """Let the writer work until `is_done`, and `least_s` at least; that something changed is told all the while."""
    task = asyncio.create_task(StatusWriter(api, truth).run())
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while loop.time() < began_s + least_s or not is_done():
        assert loop.time() < began_s + 10
        truth.policies_changed.set()
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def value(truth: Truth, name: str) -> float:
    samples = {sample.name: sample.value for family in truth.meters.registry.collect() for sample in family.samples}
    return samples[f"tulle_controller_policy_status_{name}_total"]


def test_status_is_written_against_the_version_that_was_judged(server: ScriptedApi, api: Api) -> None:
    asyncio.run(write(api, truth_of(policy("p")), lambda: bool(server.patches)))

    assert ("PATCH", PATH) in server.requests
    body = server.patches[0]
    assert {"resourceVersion": "7"} == body["metadata"]
    assert "policy.tulle.mesh/controller" == body["status"]["controllerName"]
    assert [("Accepted", "True", "Accepted", 1), ("ResolvedRefs", "True", "ResolvedRefs", 1)] == [
        (one["type"], one["status"], one["reason"], one["observedGeneration"]) for one in body["status"]["conditions"]
    ]


def test_writer_whose_writes_do_not_last_writes_ever_less_often(server: ScriptedApi, api: Api) -> None:
    # The scripted server forgets each write, as if another controller undid it.
    asyncio.run(write(api, truth_of(policy("p")), lambda: len(server.patches) > 1, least_s=1.0))

    assert len(server.patches) <= 5  # at about 0, 0.1, 0.3, 0.7 seconds


@pytest.mark.parametrize(("status", "failures"), [(403, 1), (500, 1), (409, 0), (404, 0)])
def test_refusal_is_counted_unless_the_object_changed_or_went(
    server: ScriptedApi, api: Api, status: int, failures: int
) -> None:
    server.refused[PATH] = status
    truth = truth_of(policy("p"))
    asyncio.run(write(api, truth, lambda: bool(server.patches) and value(truth, "failures") >= failures))

    assert failures == value(truth, "failures")
    assert 0 == value(truth, "writes") or not failures


def test_policies_are_counted_by_kind_and_reason(server: ScriptedApi, api: Api) -> None:
    truth = truth_of(policy("p"), policy("q", retries={"limit": 99}), policy("r", of="nowhere"))

    def counts() -> dict[tuple[str, str], float]:
        family = next(one for one in truth.meters.registry.collect() if one.name == "tulle_controller_policies")
        return {(sample.labels["kind"], sample.labels["reason"]): sample.value for sample in family.samples}

    asyncio.run(write(api, truth, lambda: bool(counts())))

    reasons = ("Accepted", "Invalid", "TargetNotFound")
    assert {("trafficpolicies", reason): 1 for reason in reasons} == counts()
