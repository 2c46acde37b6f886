"""TrafficPolicy and FaultInjection by kubectl: judged, shown, explained, and told to sidecars within a second."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import BIN, Cluster, wait_until

pytestmark = pytest.mark.e2e

DISCOVERY = "http://tulle-controller.tulle.svc.cluster.local:8085/proxy/v1/discovery"


def manifest(name: str, kind: str = "TrafficPolicy", service: str = "web", **spec: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "policy.tulle.mesh/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": {"targetRef": {"name": service}, **spec},
        }
    )


RETRIES = {
    "timeouts": {"request": "2s", "perTry": "500ms"},
    "retries": {"limit": 2, "retryOn": {"statusCodes": ["5xx"]}},
}


@pytest.fixture
def apply(cluster: Cluster, namespace: str) -> Iterator[Callable[[str], str]]:
    """Apply a manifest; what was applied is deleted after the test."""
    applied: list[str] = []

    def run(text: str) -> str:
        applied.append(text)
        return cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=text)

    yield run
    for text in dict.fromkeys(applied):
        cluster.kubectl("-n", namespace, "delete", "--ignore-not-found", "-f", "-", stdin=text)


@pytest.fixture(scope="module")
def web(cluster: Cluster, namespace: str, client: str) -> str:
    """Cluster IP and port of a service with two pods."""
    cluster.apply(namespace, "web")
    cluster.rollout(namespace, "web")
    spec = cluster.get("-n", namespace, "service", "web")["spec"]
    return f"{spec['clusterIP']}:{spec['ports'][0]['port']}"


class TestPolicyKinds:
    """One cluster for all of it."""

    def test_good_policy_is_accepted_and_shown(self, cluster: Cluster, namespace: str, web: str, apply: Any) -> None:
        apply(manifest("web", **RETRIES))
        apply(manifest("chaos", "FaultInjection", faults=[{"percent": 0.5, "delay": "100ms"}]))

        for name in ("trafficpolicy/web", "fi/chaos"):
            cluster.kubectl("-n", namespace, "wait", name, "--for=condition=Accepted", "--timeout=10s")
        head, row = (line.split() for line in cluster.kubectl("-n", namespace, "get", "tp").splitlines())
        assert ["NAME", "TARGET", "PORT", "ACCEPTED", "REASON", "AGE"] == head
        assert ["web", "web", "True", "Accepted"] == row[:-1]
        both = cluster.kubectl("-n", namespace, "get", "tulle", "-o", "name").split()
        assert {"trafficpolicy.policy.tulle.mesh/web", "faultinjection.policy.tulle.mesh/chaos"} == set(both)

    def test_applying_twice_changes_nothing(self, cluster: Cluster, namespace: str, web: str, apply: Any) -> None:
        texts = (
            manifest("web", **RETRIES),
            manifest("chaos", "FaultInjection", faults=[{"percent": 1, "reset": True}]),
        )
        for text in texts:
            apply(text)
        cluster.kubectl("-n", namespace, "wait", "tp/web", "--for=condition=Accepted", "--timeout=10s")

        assert all("unchanged" in apply(text) for text in texts)

    @pytest.mark.parametrize(
        ("spec", "field", "fix"),
        [
            ({"retries": {"limit": 12}}, "spec.retries.limit", "10"),
            ({"timeouts": {"request": "5 s"}}, "spec.timeouts.request", ""),
            (
                {"timeouts": {"request": "1s", "perTry": "2s"}},
                "spec.timeouts",
                "",
            ),
            (
                {"retries": {"backoff": {"min": "1s", "max": "10ms"}}},
                "spec.retries.backoff.max",
                "write 1s or more",
            ),
            ({"retries": {"limt": 1}}, "limt", ""),
        ],
    )
    def test_bad_policy_is_refused_with_the_field_and_the_fix(
        self, cluster: Cluster, namespace: str, spec: Any, field: str, fix: str
    ) -> None:
        told = cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest("bad", **spec), check=False)

        assert field in told
        assert fix in told
        assert "created" not in told

    def test_all_faults_are_told_at_once(self, cluster: Cluster, namespace: str) -> None:
        spec = {
            "retries": {"backoff": {"min": "1s", "max": "10ms"}},
            "hedging": {"delay": "99999h"},
            "timeouts": {"idle": "25h"},
        }
        told = cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest("bad", **spec), check=False)

        assert "the TrafficPolicy has 3 faults:" in told
        for field in ("spec.retries.backoff.max: ", "spec.hedging.delay: ", "spec.timeouts.idle: "):
            assert field in told

    def test_fields_are_explained(self, cluster: Cluster) -> None:
        told = cluster.kubectl("explain", "trafficpolicy.spec.retries")

        assert "backoff" in told
        assert "Most tries after the first." in told
        assert "FaultInjection" in cluster.kubectl("explain", "fi.spec.faults")

    def test_of_two_for_one_service_the_older_holds(
        self, cluster: Cluster, namespace: str, web: str, apply: Any
    ) -> None:
        apply(manifest("older", **RETRIES))
        time.sleep(1.1)  # creationTimestamp has whole seconds, and its name would lose
        apply(manifest("a-younger", **RETRIES))
        cluster.kubectl("-n", namespace, "wait", "tp/a-younger", "--for=condition=Accepted=false", "--timeout=10s")

        table = cluster.kubectl("-n", namespace, "get", "tp", "-o", "wide")

        assert "Conflicted" in table
        assert "TrafficPolicy older" in table
        cluster.kubectl("-n", namespace, "delete", "tp", "older")
        cluster.kubectl("-n", namespace, "wait", "tp/a-younger", "--for=condition=Accepted", "--timeout=10s")

    def test_policy_for_nothing_says_so(self, cluster: Cluster, namespace: str, apply: Any) -> None:
        apply(manifest("lost", service="nowhere", mirror={"backendRef": {"name": "nobody", "port": 80}}))
        cluster.kubectl("-n", namespace, "wait", "tp/lost", "--for=condition=Accepted=false", "--timeout=10s")

        conditions = cluster.get("-n", namespace, "tp", "lost")["status"]["conditions"]

        assert {"TargetNotFound", "BackendNotFound"} == {one["reason"] for one in conditions}
        assert "lost (TargetNotFound" in cluster.run("tulle", "check", "--wait", "0", check=False)

    def test_sidecars_are_told_within_a_second(
        self, cluster: Cluster, namespace: str, client: str, web: str, apply: Any
    ) -> None:
        with Stream(cluster, namespace, client, web) as stream:
            assert "policy" not in stream.next()
            began_s = time.monotonic()
            apply(manifest("web", **RETRIES))
            policy = stream.next()["policy"]
            elapsed_s = time.monotonic() - began_s  # with the time that kubectl itself takes
            apply(manifest("chaos", "FaultInjection", faults=[{"abort": {"grpcStatus": "unavailable"}}]))
            faults = stream.next()["policy"]["faults"]

        assert (f"{namespace}/web", 2.0) == (policy["name"], policy["timeouts"]["request_s"])
        assert [[500, 599]] == policy["retries"]["statuses"]
        assert [{"abort_grpc_status": 14, "name": f"{namespace}/chaos"}] == faults
        assert elapsed_s < 1.5

    def test_weight_of_a_running_pod_is_told(self, cluster: Cluster, namespace: str, client: str, web: str) -> None:
        pod = cluster.pods(namespace, "app=web")[0]
        with Stream(cluster, namespace, client, web) as stream:
            stream.next()
            cluster.kubectl("-n", namespace, "annotate", "pod", pod, "config.tulle.mesh/weight=20")
            endpoints = stream.next()["endpoints"]
            cluster.kubectl("-n", namespace, "annotate", "--overwrite", "pod", pod, "config.tulle.mesh/weight=heavy")
            after = stream.next()["endpoints"]

        assert {pod: 20} == {one["pod"]: one["weight"] for one in endpoints if "weight" in one}
        assert all("weight" not in one for one in after)
        wait_until(
            lambda: "weight ignored" in cluster.kubectl("-n", "tulle", "logs", "deployment/tulle-controller"),
            "the controller to tell the wrong weight",
        )


class Stream:
    """A discovery stream as a sidecar opens it, by curl from a pod."""

    def __init__(self, cluster: Cluster, namespace: str, client: str, target: str) -> None:
        (pod,) = cluster.pods(namespace, "app=client")  # the controller takes its word from its own address only
        body = json.dumps({"namespace": namespace, "pod": pod, "targets": {target: ""}})
        command = ("curl", "-sN", "--max-time", "60", "-d", body, DISCOVERY)
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}"}
        self._process = subprocess.Popen(
            ("kubectl", "-n", namespace, "exec", client, "--", *command),
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)

    def next(self) -> dict[str, Any]:
        """The next destination that is told; heartbeats are passed over."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for destination in json.loads(line).get("destinations", ()):
                return dict(destination)
        pytest.fail("the stream ended")
