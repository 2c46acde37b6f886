"""The controller's process against an embedded API server and its controllers: objects as Kubernetes writes them."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import uvicorn

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


@pytest.fixture(scope="module")
def url(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("kube") / "kubeconfig"
    Path(file).write_text(kubeconfig(lab.url))
    lab.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tulle"}})
    labels = {names.INJECT: names.ENABLED}
    lab.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}})
    env = {**os.environ, "KUBECONFIG": str(file), "TULLE_CONTROLLER_PORT": "0"}
    with subprocess.Popen([sys.executable, "-m", "controller"], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        wait_until(lambda: HTTP.get(f"{found}/readyz").status_code == 200)
        yield found
        process.terminate()
        assert process.wait(10) == 0


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
