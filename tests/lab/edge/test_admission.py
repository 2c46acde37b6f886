"""Admission against real webhooks: TLS servers on loopback, found by url and by service."""

import asyncio
import base64
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.api import pki
from lab.api.admission import Admission
from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.registry import Registry, bootstrap
from lab.api.webhook_call import MAX_CLIENTS_COUNT

USER = User("alice", ("devs",))


class Webhooks:
    """A webhook server: every path has a function from request to response; all calls are kept."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.peers: set[int] = set()
        self.hosts: list[str] = []
        self.app = Starlette(routes=[Route("/{path}", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        review = await request.json()
        self.calls.append((path, review["request"]))
        self.peers.add(request.client.port)
        self.hosts.append(request.headers["host"])
        if path == "slow":
            await asyncio.sleep(30)
        if path == "broken":
            return Response("oops", 500)
        response = {"uid": review["request"]["uid"], **self.answers[path](review["request"])}
        return JSONResponse({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


def adding(path: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    operation = [{"op": "add", "path": path, "value": value}]
    encoded = base64.b64encode(json.dumps(operation).encode()).decode()
    return lambda _request: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def allowing(_request: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


class Bench:
    """One registry with its admission, and the webhook server that it calls."""

    def __init__(self, loop, authority: pki.CertificateAuthority, port: int, webhooks: Webhooks) -> None:
        self.loop, self.authority, self.port, self.webhooks = loop, authority, port, webhooks
        self.registry = Registry()
        self.admission = Admission(self.registry)
        self.registry.admission = self.admission
        webhooks.answers, webhooks.calls, webhooks.hosts, webhooks.peers = {}, [], [], set()
        loop.run(self._populate())

    async def _populate(self) -> None:
        await bootstrap(self.registry)
        await self.registry.create("serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}})

    def hook(self, name: str, path: str, *, kind: str = "Mutating", **entry: Any) -> dict[str, Any]:
        rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods", "configmaps"]}
        bundle = base64.b64encode(self.authority.certificate).decode()
        webhook = {
            "name": f"{name}.tulle.mesh",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "clientConfig": {"url": f"https://localhost:{self.port}/{path}", "caBundle": bundle},
            "rules": [rule],
            **entry,
        }
        item = {"metadata": {"name": name}, "webhooks": [webhook]}
        resource = f"{kind.lower()}webhookconfigurations"
        made: dict[str, Any] = self.loop.run(self.registry.create(resource, item))
        return made

    def create(self, name: str = "c", *, resource: str = "configmaps", dry_run: bool = False, **fields: Any) -> Any:
        item = {"metadata": {"name": name, "namespace": "default"}, **fields}
        return self.loop.run(self.registry.create(resource, item, user=USER, dry_run=dry_run))

    def refused(self, **arguments: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            self.create(**arguments)
        return caught.value


@pytest.fixture(scope="module")
def webhooks(loop, serve, authority_of_tests, tmp_path_factory):
    served = Webhooks()
    leaf = authority_of_tests.issue("hook", now=_now(), names=("localhost", "hook.default.svc"))
    with serve(loop, served.app, leaf, tmp_path_factory.mktemp("hook")) as port:
        yield served, port


@pytest.fixture
def bench(loop, authority_of_tests, webhooks):
    made = Bench(loop, authority_of_tests, webhooks[1], webhooks[0])
    yield made
    loop.run(made.admission.close())


def _now() -> datetime:
    return datetime.now(UTC)


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "image": "none"}], **spec}}


# changing and refusing


def test_a_mutating_webhook_changes_what_is_kept(bench):
    bench.webhooks.answers["x"] = adding("/data", {"k": "v"})
    bench.hook("one", "x")

    assert bench.create()["data"] == {"k": "v"}
    path, request = bench.webhooks.calls[0]
    assert (path, request["operation"], request["userInfo"]["username"]) == ("x", "CREATE", "alice")


def test_webhooks_run_in_order_of_their_configurations_and_each_sees_the_last_ones_work(bench):
    for name in ("zz", "aa"):
        bench.webhooks.answers[name] = adding("/data", {"by": name})
        bench.hook(name, name)

    assert bench.create()["data"] == {"by": "zz"}
    assert [path for path, _request in bench.webhooks.calls] == ["aa", "zz"]
    assert bench.webhooks.calls[1][1]["object"]["data"] == {"by": "aa"}


def test_an_update_and_a_deletion_bring_the_old_object(bench):
    bench.webhooks.answers["x"] = allowing
    bench.hook("one", "x")
    made = bench.create(data={"a": "1"})
    bench.loop.run(bench.registry.update("configmaps", {**made, "data": {"a": "2"}}))
    bench.loop.run(bench.registry.delete("configmaps", "default", "c"))

    update, deletion = (request for _path, request in bench.webhooks.calls[1:3])
    assert (update["oldObject"]["data"], update["object"]["data"]) == ({"a": "1"}, {"a": "2"})
    assert (deletion["operation"], deletion["object"], deletion["oldObject"]["data"]) == ("DELETE", None, {"a": "2"})


def test_a_denial_keeps_nothing_and_says_why(bench):
    bench.webhooks.answers["no"] = lambda _request: {"allowed": False, "status": {"code": 418, "message": "teapot"}}
    bench.hook("one", "no", kind="Validating")

    error = bench.refused()

    assert (error.code, error.message) == (418, 'admission webhook "one.tulle.mesh" denied the request: teapot')
    assert bench.registry.list("configmaps", "default") == []


def test_validating_webhooks_see_the_mutated_object(bench):
    bench.webhooks.answers |= {"x": adding("/data", {"k": "v"}), "y": allowing}
    bench.hook("one", "y", kind="Validating")
    bench.hook("two", "x")
    bench.create()

    assert bench.webhooks.calls[1][0] == "y"
    assert bench.webhooks.calls[1][1]["object"]["data"] == {"k": "v"}


def test_warnings_reach_the_caller(bench):
    bench.webhooks.answers["w"] = lambda _request: {"allowed": True, "warnings": ["careful"]}
    bench.hook("one", "w")
    row = bench.registry.catalog.keyed("configmaps")
    item = {"metadata": {"name": "c", "namespace": "default"}, "kind": "ConfigMap", "apiVersion": "v1"}

    result = bench.loop.run(
        bench.admission.admit("CREATE", row, "", None, item, namespace_object=None, user=USER, dry_run=False)
    )

    assert result.warnings == ["careful"]


def test_an_injected_container_gets_its_token_mount_too(bench):
    bench.webhooks.answers["inject"] = adding("/spec/containers/-", {"name": "sidecar", "image": "none"})
    bench.hook("one", "inject")

    containers = bench.create(resource="pods", **pod())["spec"]["containers"]

    assert [item["name"] for item in containers] == ["a", "sidecar"]
    assert [item["volumeMounts"][0]["mountPath"] for item in containers] == [
        "/var/run/secrets/kubernetes.io/serviceaccount"
    ] * 2


# reinvocation


def test_a_webhook_that_asks_for_it_is_called_once_more_when_a_later_one_changed_the_object(bench):
    bench.webhooks.answers |= {"first": allowing, "second": adding("/data", {"k": "v"})}
    bench.hook("a", "first", reinvocationPolicy="IfNeeded")
    bench.hook("b", "second")
    bench.create()

    assert [path for path, _request in bench.webhooks.calls] == ["first", "second", "first"]
    assert bench.webhooks.calls[2][1]["object"]["data"] == {"k": "v"}


@pytest.mark.parametrize("policy", ["Never", "IfNeeded"])
def test_a_webhook_is_not_called_again_without_need(bench, policy):
    second = adding("/data", {"k": "v"}) if policy == "Never" else allowing
    bench.webhooks.answers |= {"first": adding("/data", {}), "second": second}
    bench.hook("a", "first", reinvocationPolicy=policy)
    bench.hook("b", "second")
    bench.create()

    assert [path for path, _request in bench.webhooks.calls] == ["first", "second"]


# failures


@pytest.mark.parametrize(
    ("path", "entry", "why"),
    [
        ("slow", {"timeoutSeconds": 1}, "context deadline exceeded"),
        ("broken", {}, "HTTP 500: oops"),
    ],
)
def test_a_webhook_that_fails_closed_stops_the_write(bench, path, entry, why):
    bench.hook("one", path, **entry)

    error = bench.refused()

    assert (error.code, error.reason) == (500, "InternalError")
    assert f'failed calling webhook "one.tulle.mesh": failed to call webhook: Post "https://localhost:{bench.port}' in (
        error.message
    )
    assert why in error.message


def test_a_webhook_that_fails_open_lets_the_write_pass(bench):
    bench.hook("one", "broken", failurePolicy="Ignore")

    assert bench.create()["metadata"]["name"] == "c"


def test_a_webhook_that_does_not_listen_is_a_failure(bench):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    bench.hook("one", "x", clientConfig={"url": f"https://127.0.0.1:{free}/x"})

    assert "All connection attempts failed" in bench.refused().message


def test_a_certificate_of_another_authority_is_refused(bench):
    other = base64.b64encode(pki.CertificateAuthority("other", now=_now()).certificate).decode()
    bench.hook("one", "x", clientConfig={"url": f"https://localhost:{bench.port}/x", "caBundle": other})

    assert "certificate verify failed" in bench.refused().message
    assert bench.webhooks.calls == []


def test_a_certificate_for_another_name_is_refused(bench):
    bundle = base64.b64encode(bench.authority.certificate).decode()
    bench.hook("one", "x", clientConfig={"url": f"https://127.0.0.1:{bench.port}/x", "caBundle": bundle})

    assert "IP address mismatch" in bench.refused().message


def test_a_bundle_that_is_put_right_is_used_at_once(bench):
    bench.webhooks.answers["x"] = allowing
    other = base64.b64encode(pki.CertificateAuthority("other", now=_now()).certificate).decode()
    url = f"https://localhost:{bench.port}/x"
    stored = bench.hook("one", "x", clientConfig={"url": url, "caBundle": other})
    bench.refused()
    right = base64.b64encode(bench.authority.certificate).decode()
    entry = {**stored["webhooks"][0], "clientConfig": {"url": url, "caBundle": right}}
    bench.loop.run(bench.registry.update("mutatingwebhookconfigurations", {**stored, "webhooks": [entry]}))

    assert bench.create()["metadata"]["name"] == "c"


# services


def by_service(bench, *, name: str = "hook", port: int | None = None, bundle: bytes | None = None) -> dict[str, Any]:
    service = {"namespace": "default", "name": name, "path": "/x", **({"port": port} if port else {})}
    pem = bench.authority.certificate if bundle is None else bundle
    return {"service": service, "caBundle": base64.b64encode(pem).decode()}


def serve_by_slice(bench, addresses: list[str], *, name: str = "hook", ready: bool = True) -> None:
    ports = [{"name": "https", "port": 443, "targetPort": bench.port}]
    service = {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": ports}}
    item = {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": bench.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
    }
    bench.loop.run(bench.registry.create("services", service))
    bench.loop.run(bench.registry.create("endpointslices", item))


def test_a_webhook_behind_a_service_is_found_through_its_endpoints_and_known_by_its_service_name(bench):
    bench.webhooks.answers["x"] = adding("/data", {"k": "v"})
    serve_by_slice(bench, ["127.0.0.1"])
    bench.hook("one", "x", clientConfig=by_service(bench))

    assert bench.create()["data"] == {"k": "v"}
    assert bench.webhooks.hosts == ["hook.default.svc:443"]


def test_the_next_pod_is_asked_when_one_does_not_answer(bench):
    bench.webhooks.answers["x"] = allowing
    serve_by_slice(bench, ["127.0.0.77", "127.0.0.1"])  # uvicorn listens on the second only
    bench.hook("one", "x", clientConfig=by_service(bench))

    assert bench.create()["metadata"]["name"] == "c"


@pytest.mark.parametrize(
    ("name", "ready", "port", "why"),
    [
        ("hook", False, None, 'no endpoints available for service "hook"'),
        ("hook", True, 8443, 'service "hook" has no port "8443"'),
        ("nope", True, None, 'services "nope" not found'),
    ],
)
def test_a_service_that_cannot_be_reached_is_a_failure_that_says_why(bench, name, ready, port, why):
    serve_by_slice(bench, ["127.0.0.1"], ready=ready)
    bench.hook("one", "x", clientConfig=by_service(bench, name=name, port=port))

    message = bench.refused().message

    assert why in message
    assert f"https://{name}.default.svc:{port or 443}/x?timeout=5s" in message


def test_the_certificate_must_bear_the_services_name(bench):
    serve_by_slice(bench, ["127.0.0.1"], name="other")
    bench.hook("one", "x", clientConfig=by_service(bench, name="other"))

    assert "other.default.svc" in bench.refused().message


# dry run, configuration, economy


def test_a_dry_run_is_told_to_the_webhook_and_keeps_nothing(bench):
    bench.webhooks.answers["x"] = allowing
    bench.hook("one", "x")
    bench.create(dry_run=True)

    assert bench.webhooks.calls[0][1]["dryRun"] is True
    assert bench.registry.list("configmaps", "default") == []


def test_a_configuration_with_conditions_is_refused_when_it_is_written(bench):
    with pytest.raises(ApiError) as caught:
        bench.hook("one", "x", matchConditions=[{"name": "c", "expression": "true"}])

    assert caught.value.code == 422
    assert "webhooks[0].matchConditions" in caught.value.message


def test_connections_to_a_webhook_are_kept_alive(bench):
    bench.webhooks.answers["x"] = allowing
    bench.hook("one", "x")
    for index in range(5):
        bench.create(f"c{index}")

    assert len(bench.webhooks.calls) == 5
    assert len(bench.webhooks.peers) == 1


def test_the_number_of_kept_clients_is_bounded(bench):
    bench.webhooks.answers["x"] = allowing
    for index in range(MAX_CLIENTS_COUNT + 3):
        bench.hook(f"h{index}", "x")
    bench.create()

    assert len(bench.webhooks.calls) == MAX_CLIENTS_COUNT + 3
    assert len(bench.admission._caller._clients) == MAX_CLIENTS_COUNT


# service accounts


def test_a_pod_of_an_unknown_account_is_refused(bench):
    error = bench.refused(resource="pods", **pod(serviceAccountName="ghost"))

    assert error.code == 403
    assert 'error looking up service account default/ghost: serviceaccount "ghost" not found' in error.message


def test_a_pod_waits_a_moment_for_its_namespaces_default_account(loop):
    registry = Registry()
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            await registry.create("serviceaccounts", {"metadata": {"name": "default", "namespace": "new"}})

    async def scenario() -> dict[str, Any]:
        await bootstrap(registry)
        await registry.create("namespaces", {"metadata": {"name": "new"}})
        registry.admission = Admission(registry, sleep=nap)
        return await registry.create("pods", {"metadata": {"name": "p", "namespace": "new"}, **pod()})

    assert loop.run(scenario())["spec"]["serviceAccountName"] == "default"
    assert len(naps) == 3


@pytest.mark.parametrize(
    "webhooks",
    [
        "x",
        [1],
        [{"name": 7, "sideEffects": "None"}],
        [{"name": "a.b.c", "timeoutSeconds": "soon"}],
        [{"name": "a.b.c", "clientConfig": "x"}],
        [{"name": "a.b.c", "clientConfig": {"url": 5}}],
        [{"name": "a.b.c", "clientConfig": {"url": "https://[", "caBundle": "é"}}],
        [{"name": "a.b.c", "clientConfig": {"service": "x"}}],
        [{"name": "a.b.c", "rules": {"a": 1}}],
        [{"name": "a.b.c", "rules": [{"operations": "CREATE"}]}],
    ],
)
def test_a_configuration_of_wrong_types_is_refused_as_the_callers_fault(server, webhooks, tmp_path):
    item = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    path = tmp_path / "item.json"
    path.write_text(json.dumps({**item, "metadata": {"name": "wrong"}, "webhooks": webhooks}))

    done = server.kubectl("create", "--validate=false", "-f", str(path))

    assert done.returncode == 1
    assert b"InternalError" not in done.stderr
    assert b"webhooks" in done.stderr
