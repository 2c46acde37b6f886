"""The controller's process against an embedded API server and its controllers: objects as Kubernetes writes them."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import uvicorn

from cli import install
from contract import names
from lab import ctl
from lab.api.app import make_app
from lab.api.registry import Registry, bootstrap
from tests.controller.running import HTTP, Subscription, subscribe
from tests.controller.scripted_api import kubeconfig

Json = dict[str, Any]


class Lab:
    """The API server in a thread; `run` works on its registry there."""

    def __init__(self) -> None:
        self.registry = Registry(completion=ctl.complete)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = make_app(self.registry, None, None)
        config = uvicorn.Config(app, ws="wsproto", lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
        self._server, self._loop = uvicorn.Server(config), asyncio.new_event_loop()
        started = threading.Event()

        async def serve() -> None:
            await bootstrap(self.registry)
            controllers = asyncio.create_task(ctl.run(self.registry, root_ca=""))
            started.set()
            await self._server.serve([listener])
            controllers.cancel()
            await asyncio.gather(controllers, return_exceptions=True)

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(serve()), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def create(self, resource: str, item: Json, namespace: str | None = None) -> None:
        self.run(self.registry.create(resource, item, namespace=namespace))

    def make_ready(self, number: int) -> None:
        """What the node does: give the pending pod an address and make it ready."""

        async def work() -> None:
            pods = [pod for pod in self.registry.list("pods", "shop") if not pod.get("status", {}).get("podIP")]
            address = f"10.244.0.{number}"
            status = {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            await self.registry.update("pods", {**pods[0], "status": status}, subresource="status")

        self.run(work())

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    found = Lab()
    yield found
    found.close()


@contextmanager
def controller(file: Path) -> Iterator[str]:
    """A controller's process and its URL."""
    env = {**os.environ, "KUBECONFIG": str(file), "TULLE_CONTROLLER_PORT": "0"}
    with subprocess.Popen([sys.executable, "-m", "controller"], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        wait_until(lambda: HTTP.get(f"{found}/readyz").status_code == 200)
        yield found
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def kubeconfig_file(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("kube") / "kubeconfig"
    file.write_text(kubeconfig(lab.url))
    return file


@pytest.fixture(scope="module")
def url(lab: Lab, kubeconfig_file: Path) -> Iterator[str]:
    lab.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tulle"}})
    labels = {names.INJECT: names.ENABLED}
    lab.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}})
    with controller(kubeconfig_file) as found:
        yield found


def wait_until(is_so: Any) -> None:
    deadline_s = monotonic() + 10
    while not is_so():
        assert monotonic() < deadline_s
        sleep(0.02)


def deployment(replicas: int) -> Json:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "none"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def endpoints(stream: Subscription) -> list[Json]:
    (destination,) = stream.next()["destinations"]
    found: list[Json] = destination.get("endpoints", [])
    return found


def test_deployment_becomes_endpoints_and_rows(lab: Lab, url: str):
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080, "appProtocol": "http"}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}
    lab.create("services", service)
    address = lab.registry.get("services", "shop", "web")["spec"]["clusterIP"]
    wait_until(lambda: HTTP.get(f"{url}/api/v1/namespaces/shop/svc/web/stat").status_code == 200)
    with subscribe(url, {f"{address}:80": ""}) as stream:
        assert endpoints(stream) == []
        lab.create("deployments", deployment(replicas=1))
        wait_until(lambda: lab.registry.list("pods", "shop"))
        lab.make_ready(1)
        (one,) = endpoints(stream)
        assert (one["ip"], one["port"]) == ("10.244.0.1", 8080)
        assert (one["owner_kind"], one["owner"], one["namespace"]) == ("deployment", "web", "shop")
    (row,) = HTTP.get(f"{url}/api/v1/namespaces/shop/deploy/stat").json()["rows"]
    assert (row["name"], row["pods"], row["meshed"], row["rps"]) == ("web", 1, 0, None)


def test_trust_bundle_is_published(lab: Lab, url: str):
    wait_until(
        lambda: names.TRUST_BUNDLE in {item["metadata"]["name"] for item in lab.registry.list("configmaps", "shop")}
    )
    assert lab.registry.get("secrets", "tulle", names.IDENTITY_ISSUER)["type"] == "kubernetes.io/tls"


def test_kinds_that_the_server_lacks_are_empty_tables(url: str):
    assert HTTP.get(f"{url}/api/v1/statefulsets/stat").json()["rows"] == []


POLICIES = "/apis/policy.tulle.mesh/v1alpha1/namespaces/shop/trafficpolicies"


@pytest.fixture(scope="module")
def policies(lab: Lab, url: str) -> str:
    """The kinds come to a cluster whose controller is running already; the URL of the collection."""
    for manifest in install.manifests("tulle", [], [], ha=False):
        if manifest.object["kind"] == "CustomResourceDefinition":
            lab.create("customresourcedefinitions", manifest.object)
    spec = {"selector": {"app": "paid"}, "ports": [{"name": "http", "port": 80}]}
    lab.create("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "paid"}, "spec": spec}, "shop")
    collection = f"{lab.url}{POLICIES}"
    HTTP.post(collection, json=policy("first")).raise_for_status()
    wait_until(lambda: accepted(collection, "first"))
    HTTP.delete(f"{collection}/first").raise_for_status()
    return collection


def policy(name: str, service: str = "paid", **spec: Any) -> Json:
    return {
        "apiVersion": "policy.tulle.mesh/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": name},
        "spec": {"targetRef": {"name": service}} | spec,
    }


def accepted(collection: str, name: str) -> Json:
    """The condition Accepted, {} before there is one."""
    status = HTTP.get(f"{collection}/{name}").json().get("status", {})
    return next((one for one in status.get("conditions", []) if one["type"] == "Accepted"), {})


def test_policy_is_in_force_and_says_so_within_a_second(lab: Lab, url: str, policies: str):
    address = lab.registry.get("services", "shop", "paid")["spec"]["clusterIP"]
    with subscribe(url, {f"{address}:80": ""}) as stream:
        assert "policy" not in stream.next()["destinations"][0]
        began_s = monotonic()
        HTTP.post(policies, json=policy("p", timeouts={"request": "1s"})).raise_for_status()
        (destination,) = stream.next()["destinations"]
        elapsed_s = monotonic() - began_s
        wait_until(lambda: accepted(policies, "p"))
        status_s = monotonic() - began_s
        changed = json.dumps({"spec": {"timeouts": {"request": "2s"}}})
        HTTP.patch(f"{policies}/p", content=changed, headers={"Content-Type": "application/merge-patch+json"})
        (after,) = stream.next()["destinations"]
        HTTP.delete(f"{policies}/p").raise_for_status()
        (gone,) = stream.next()["destinations"]

    assert destination["policy"] == {"timeouts": {"request_s": 1.0}, "name": "shop/p"}
    assert after["policy"]["timeouts"] == {"request_s": 2.0}
    assert "policy" not in gone
    assert len({destination["revision"], after["revision"], gone["revision"]}) == 3
    assert elapsed_s < 1
    assert status_s < 1


def test_status_follows_what_the_policy_concerns(lab: Lab, url: str, policies: str):
    HTTP.post(policies, json=policy("early", "late")).raise_for_status()
    wait_until(lambda: accepted(policies, "early").get("reason") == "TargetNotFound")
    spec = {"selector": {"app": "late"}, "ports": [{"name": "http", "port": 80}]}
    lab.create("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "late"}, "spec": spec}, "shop")
    wait_until(lambda: accepted(policies, "early").get("reason") == "Accepted")
    HTTP.post(policies, json=policy("second", "late")).raise_for_status()
    HTTP.delete(f"{policies}/early").raise_for_status()
    wait_until(lambda: accepted(policies, "second").get("reason") == "Accepted")
    HTTP.delete(f"{policies}/second").raise_for_status()


def test_two_controllers_write_a_status_once_and_leave_it(lab: Lab, url: str, policies: str, kubeconfig_file: Path):
    def writes(controller_url: str) -> float:
        name = "tulle_controller_policy_status_writes_total "
        text = HTTP.get(f"{controller_url}/metrics").text
        return next(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    with controller(kubeconfig_file) as other:
        before = writes(url) + writes(other)
        for number in range(5):
            HTTP.post(policies, json=policy(f"p{number}", "nowhere")).raise_for_status()
        wait_until(lambda: all(accepted(policies, f"p{number}") for number in range(5)))
        versions = [HTTP.get(f"{policies}/p{number}").json()["metadata"]["resourceVersion"] for number in range(5)]
        sleep(0.3)
        after = [HTTP.get(f"{policies}/p{number}").json()["metadata"]["resourceVersion"] for number in range(5)]
        assert versions == after
        assert writes(url) + writes(other) - before == 5
