"""The webhook and the command line decide the same, once or twice applied; what is left alone says why."""

import json
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import SAMPLES, Cluster, wait_until

pytestmark = pytest.mark.e2e


def _deployment(cluster: Cluster, name: str, marks: dict[str, str] | None = None, **spec: object) -> str:
    sleeper = {"name": "sleep", "image": cluster.image("e2e"), "command": ["sleep", "infinity"]}
    template = {
        "metadata": {"labels": {"app": name}, "annotations": marks or {}},
        "spec": {"containers": [sleeper], "terminationGracePeriodSeconds": 1, **spec},
    }
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        }
    )


def test_webhook_and_command_line_add_the_same(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_deployment(cluster, "by-webhook"))
    cluster.rollout(namespace, "by-webhook")
    by_hand = yaml.safe_load(cluster.run("tulle", "inject", "-", stdin=_deployment(cluster, "by-webhook")))

    pod = cluster.get("-n", namespace, "pods", "-l", "app=by-webhook")["items"][0]

    def essence(containers: list[dict]) -> list[tuple]:  # type: ignore[type-arg]
        return [(c["name"], c.get("command"), c.get("args"), c.get("restartPolicy"), _env(c)) for c in containers]

    assert essence(by_hand["spec"]["template"]["spec"]["initContainers"]) == essence(pod["spec"]["initContainers"])


def _env(container: dict) -> list[tuple[str, str | None]]:  # type: ignore[type-arg]
    return [(one["name"], one.get("value")) for one in container.get("env", [])]


def test_injecting_twice_is_injecting_once(cluster: Cluster) -> None:
    once = cluster.run("tulle", "inject", str(SAMPLES / "vote.yaml"))

    assert once == cluster.run("tulle", "inject", "-", stdin=once)


def test_an_already_injected_workload_is_admitted_as_it_is(cluster: Cluster, namespace: str) -> None:
    injected = cluster.run("tulle", "inject", "-", stdin=_deployment(cluster, "by-hand"))

    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=injected)
    cluster.rollout(namespace, "by-hand")

    pod = cluster.get("-n", namespace, "pods", "-l", "app=by-hand")["items"][0]
    names = [container["name"] for container in pod["spec"]["initContainers"]]
    assert ["tulle-init", "tulle-proxy"] == names


@pytest.mark.parametrize(
    ("name", "spec", "marks"),
    [
        ("on-the-host", {"hostNetwork": True}, {}),
        (
            "others",
            {"initContainers": [{"name": "istio-proxy", "command": ["true"]}]},
            {"sidecar.istio.io/status": "{}"},
        ),
    ],
)
def test_what_is_left_alone_says_why_on_the_pod_and_in_an_event(
    cluster: Cluster, namespace: str, name: str, spec: dict[str, Any], marks: dict[str, str]
) -> None:
    for container in spec.get("initContainers", ()):
        container["image"] = cluster.image("e2e")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_deployment(cluster, name, marks, **spec))
    wait_until(lambda: cluster.pods(namespace, f"app={name}"), f"a pod of {name}")

    pod = cluster.get("-n", namespace, "pods", "-l", f"app={name}")["items"][0]

    annotations = pod["metadata"]["annotations"]
    assert "skipped" == annotations["tulle.mesh/status"]
    reason = annotations["tulle.mesh/skip-reason"]
    owner = pod["metadata"]["ownerReferences"][0]["name"]
    wait_until(
        lambda: any(
            reason in (event["reason"], event["message"]) or reason in event["message"]
            for event in cluster.get("-n", namespace, "events", f"--field-selector=involvedObject.name={owner}")[
                "items"
            ]
        ),
        f"an event on {owner} that gives {reason}",
    )


def test_a_namespace_without_the_label_is_left_alone(cluster: Cluster, namespace: str) -> None:
    plain = f"{namespace}-plain"
    cluster.kubectl("create", "namespace", plain)
    cluster.kubectl("-n", plain, "apply", "-f", "-", stdin=_deployment(cluster, "plain"))
    cluster.rollout(plain, "plain")

    pod = cluster.get("-n", plain, "pods", "-l", "app=plain")["items"][0]

    assert "initContainers" not in pod["spec"]
    cluster.kubectl("delete", "namespace", plain, "--wait=false")


def test_a_job_completes_with_its_sidecar(cluster: Cluster, namespace: str) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once"},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {"name": "once", "image": cluster.image("e2e"), "command": ["sh", "-c", "echo done"]}
                    ],
                }
            }
        },
    }
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(job))

    cluster.kubectl("-n", namespace, "wait", "job/once", "--for=condition=Complete", "--timeout=60s")

    assert "done" in cluster.kubectl("-n", namespace, "logs", "job/once")
