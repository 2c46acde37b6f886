"""The webhook as a process: reviews over TLS, readiness, Events, metrics, and its end."""

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.stub_api import REGISTRATION, StubApi
from bench.webhook import free_port
from contract import names
from tests.webhook.test_inject import annotated, pod
from webhook.__main__ import listen

Json = dict[str, Any]
LIMIT_S = 15.0


class Webhook:
    """A running webhook, asked as an API server asks."""

    def __init__(self, api: StubApi, kubeconfig: Path, drain_delay_s: float = 0.0, **settings: str) -> None:
        self.api = api
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "webhook"],
            env=os.environ
            | {
                "TULLE_WEBHOOK_LISTEN_HOST": "127.0.0.1",
                "TULLE_WEBHOOK_LISTEN_PORT": str(self.port),
                "TULLE_WEBHOOK_KUBECONFIG": str(kubeconfig),
                "TULLE_WEBHOOK_SERVING_NAMES": "127.0.0.1",
                "TULLE_WEBHOOK_DRAIN_DELAY_S": str(drain_delay_s),
            }
            | {f"TULLE_WEBHOOK_{name}": value for name, value in settings.items()},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: self.get("/readyz", trusting=False)[0] == 200, "the webhook to be ready")
        except BaseException:
            self.stop()
            raise

    def connection(self, trusting: bool = True) -> http.client.HTTPSConnection:
        context = ssl._create_unverified_context()
        if trusting:
            context = ssl.create_default_context(cadata=base64.b64decode(self.api.bundles()[0]).decode())
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)

    def get(self, path: str, trusting: bool = True) -> tuple[int, str]:
        return self._ask("GET", path, None, trusting)

    def post(self, body: bytes) -> tuple[int, Json]:
        status, text = self._ask("POST", "/inject", body, True)
        return status, json.loads(text)

    def review(self, source: Json, namespace: str = "demo", **fields: Any) -> Json:
        status, answer = self.post(review(source, namespace, **fields))
        assert (200, "u1") == (status, answer["response"]["uid"])
        return dict(answer["response"])

    def _ask(self, method: str, path: str, body: bytes | None, trusting: bool) -> tuple[int, str]:
        try:
            connection = self.connection(trusting)
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode()
            connection.close()
            return response.status, text
        except OSError:
            return 0, ""

    def stop(self) -> list[Json]:
        """End it; return the lines of its log."""
        self.process.terminate()
        output, _ = self.process.communicate(timeout=LIMIT_S)
        return [json.loads(line) for line in output.splitlines()]


def review(source: Json, namespace: str = "demo", **fields: Any) -> bytes:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": "u1", "kind": kind, "operation": "CREATE", "namespace": namespace, "object": source, **fields}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def wait_until(holds: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end_s, f"waited for {what} in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    from bench.stub_api import write_kubeconfig

    api = StubApi()
    api.namespace("demo", {names.INJECT: "enabled"})
    api.namespace("plain")
    for name in ("web-6f7c", "wet", "dry"):
        api.replicaset("demo", name, "u1")
    with api.serve() as url:
        kubeconfig = tmp_path_factory.mktemp("webhook") / "kubeconfig"
        write_kubeconfig(kubeconfig, url)
        made = Webhook(api, kubeconfig)
        yield made
        made.stop()


def test_a_pod_is_patched_into_the_mesh(webhook: Webhook) -> None:
    response = webhook.review(pod())

    patched = jsonpatch.apply_patch(pod(), json.loads(base64.b64decode(response["patch"])))
    assert (True, "JSONPatch") == (response["allowed"], response["patchType"])
    assert ["tulle-init", "tulle-proxy"] == [one["name"] for one in patched["spec"]["initContainers"]]


def test_a_skipped_pod_is_annotated_and_its_owner_told_once(webhook: Webhook) -> None:
    webhook.api.events.clear()
    for _ in range(3):
        response = webhook.review(pod(hostNetwork=True))

    patched = jsonpatch.apply_patch(pod(hostNetwork=True), json.loads(base64.b64decode(response["patch"])))
    assert "HostNetwork" == patched["metadata"]["annotations"][names.SKIP_REASON]
    wait_until(lambda: webhook.api.events, "an event")
    assert [("HostNetwork", "ReplicaSet", "web-6f7c", "Warning")] == [
        (event["reason"], event["involvedObject"]["kind"], event["involvedObject"]["name"], event["type"])
        for event in webhook.api.events
    ]


def test_a_dry_run_tells_nobody(webhook: Webhook) -> None:
    source = pod(hostNetwork=True)
    source["metadata"]["ownerReferences"][0]["name"] = "dry"

    webhook.review(source, dryRun=True)
    source["metadata"]["ownerReferences"][0]["name"] = "wet"
    webhook.review(source)

    wait_until(lambda: any(one["involvedObject"]["name"] == "wet" for one in webhook.api.events), "the other event")
    assert "dry" not in {one["involvedObject"]["name"] for one in webhook.api.events}


def test_an_invalid_annotation_keeps_the_pod_out_and_says_why(webhook: Webhook) -> None:
    response = webhook.review(annotated({names.SKIP_INBOUND_PORTS: "99999"}))

    assert (False, 422) == (response["allowed"], response["status"]["code"])
    assert response["status"]["message"].startswith("pod annotation tulle.mesh/skip-inbound-ports: '99999' is out")


def test_an_already_injected_pod_passes_as_it_is(webhook: Webhook) -> None:
    first = webhook.review(pod())
    patched = jsonpatch.apply_patch(pod(), json.loads(base64.b64decode(first["patch"])))

    response = webhook.review(patched)

    assert response["allowed"]
    assert "patch" not in response


def test_a_warning_reaches_whoever_applied_the_pod(webhook: Webhook) -> None:
    response = webhook.review(pod(securityContext={"runAsUser": 2102}))

    assert response["warnings"][0].startswith("tulle: container web runs as user 2102")


def test_a_label_that_the_watch_has_not_told_yet_is_looked_up(webhook: Webhook) -> None:
    """The stub keeps the change from the watch, as a slow one would."""
    metadata = {"name": "plain", "labels": {names.INJECT: "enabled"}, "resourceVersion": "1"}
    webhook.api.objects["/api/v1/namespaces/plain"] = {"metadata": metadata}

    assert "Injected" == webhook.review(pod(), "plain")["auditAnnotations"]["decision"]


def test_a_change_of_a_namespaces_settings_holds_for_its_next_pods(webhook: Webhook) -> None:
    webhook.api.namespace("demo", {names.INJECT: "enabled"}, {names.PROXY_LOG_LEVEL: "debug"})

    def is_debug() -> bool:
        patch = base64.b64decode(webhook.review(pod())["patch"]).decode()
        return '"TULLE_PROXY_LOG_LEVEL","value":"debug"' in patch

    wait_until(is_debug, "the annotation to hold")
    webhook.api.namespace("demo", {names.INJECT: "enabled"})


def test_a_namespace_that_cannot_be_read_is_no_answer(webhook: Webhook) -> None:
    status, answer = webhook.post(review(pod(), "unheard-of"))

    assert (503, "Failure") == (status, answer["status"])
    assert "the pod's namespace unheard-of cannot be read" in answer["message"]


def test_what_is_no_pods_creation_passes_untouched(webhook: Webhook) -> None:
    for fields in ({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}, {"operation": "UPDATE"}):
        response = webhook.review(pod(), **fields)

        assert response["allowed"]
        assert "patch" not in response


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is no AdmissionReview: Input data was truncated"),
        (b"{", "the body is no AdmissionReview: Input data was truncated"),
        (b"\xff\xfe", "the body is no AdmissionReview"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"kind": 3}', "Expected `str`, got `int` - at `$.kind`"),
        (b'{"apiVersion": "v1", "kind": "Pod"}', "Object missing required field `request`"),
        (b'{"apiVersion":"v1","kind":"Pod","request":{"uid":"u","kind":{"kind":"Pod"}}}', "the body is v1 Pod; send"),
        (review(pod(), uid=""), "request.uid is empty"),
        (review(pod(), uid=7), "Expected `str`, got `int` - at `$.request.uid`"),
        (review([1]), "Expected `object | null`, got `array` - at `$.request.object`"),  # type: ignore[arg-type]
        (b"[" * 100_000, "the body is no AdmissionReview"),
    ],
)
def test_a_malformed_review_is_refused_by_field(webhook: Webhook, body: bytes, message: str) -> None:
    status, answer = webhook.post(body)

    assert (400, "Status", "BadRequest") == (status, answer["kind"], answer["reason"])
    assert message in answer["message"]


def test_a_pod_without_content_is_refused(webhook: Webhook) -> None:
    response = webhook.review(None)  # type: ignore[arg-type]

    assert (False, "spec.containers is empty; a pod needs a container") == (
        response["allowed"],
        response["status"]["message"],
    )


def test_a_body_without_end_is_refused_as_soon_as_it_is_too_long(webhook: Webhook) -> None:
    connection = webhook.connection()
    connection.request("POST", "/inject", b" " * (9 * 1024 * 1024))

    response = connection.getresponse()

    assert (413, "RequestEntityTooLarge") == (response.status, json.loads(response.read())["reason"])
    connection.close()


def test_unknown_paths_and_methods_are_refused(webhook: Webhook) -> None:
    assert (404, 405) == (webhook.get("/else")[0], webhook.get("/inject")[0])


def test_silent_connections_keep_no_probe_out(webhook: Webhook) -> None:
    with ExitStack() as stack:
        for number in range(600):
            source = (f"127.0.1.{number % 3 + 1}", 0)
            stack.enter_context(socket.create_connection(("127.0.0.1", webhook.port), source_address=source))

        assert (200, "ok\n") == webhook.get("/healthz")
        assert webhook.review(pod())["allowed"]


def test_metrics_count_decisions_by_reason(webhook: Webhook) -> None:
    webhook.review(pod())
    webhook.review(pod(hostNetwork=True))

    families = {family.name: family for family in text_string_to_metric_families(webhook.get("/metrics")[1])}

    decisions = {(one.labels["decision"], one.labels["reason"]) for one in families["tulle_webhook_decisions"].samples}
    assert {("injected", ""), ("skipped", "HostNetwork")} <= decisions
    assert 1.0 == families["tulle_webhook_ready"].samples[0].value


def test_an_overwritten_ca_bundle_is_mended_before_long(webhook: Webhook) -> None:
    before = webhook.api.bundles()
    webhook.api.put(REGISTRATION, {"webhooks": [{"name": "a", "clientConfig": {"caBundle": "eA=="}}]})

    wait_until(lambda: webhook.api.bundles() == before[:1], "the bundle to be true again")


def test_it_learns_of_namespaces_after_the_server_forgot_its_place(webhook: Webhook) -> None:
    webhook.api.is_forgetful = True
    webhook.api.is_down = True
    webhook.api.namespace("late", {names.INJECT: "enabled"})
    webhook.api.is_down = False

    wait_until(lambda: webhook.post(review(pod(), "late"))[0] == 200, "the namespace to be known")


def test_at_sigterm_it_turns_unready_serves_on_and_ends_with_zero(api: StubApi, kubeconfig: Path) -> None:
    api.namespace("demo", {names.INJECT: "enabled"})
    running = Webhook(api, kubeconfig, drain_delay_s=1.0)
    lines: list[str] = []
    assert running.process.stdout
    reader = threading.Thread(target=lines.extend, args=(running.process.stdout,))
    reader.start()

    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: running.get("/readyz")[0] == 503, "the webhook to turn unready")
    answer = running.review(pod())

    assert answer["allowed"]
    assert 0 == running.process.wait(LIMIT_S)
    reader.join()
    running.process.stdout.close()
    decision = next(line for line in map(json.loads, lines) if line["event"] == "decision")
    assert ("injected", "demo", "web-6f7c-", "ReplicaSet/web-6f7c") == (
        decision["decision"],
        decision["namespace"],
        decision["pod"],
        decision["owner"],
    )


def test_a_wrong_environment_ends_it_with_every_fault_at_once() -> None:
    wrong = {"TULLE_WEBHOOK_PROXY_UID": "root", "TULLE_WEBHOOK_LISTEN_PORT": "0"}

    done = subprocess.run(
        [sys.executable, "-m", "webhook"], env=os.environ | wrong, capture_output=True, text=True, check=False
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert ["tulle-webhook: TULLE_WEBHOOK_PROXY_UID", "tulle-webhook: TULLE_WEBHOOK_LISTEN_PORT"] == [
        line.rpartition(": '")[0] for line in (part.split("' ")[0] for part in done.stderr.splitlines())
    ]


def test_without_a_cluster_it_says_so_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"TULLE_WEBHOOK_KUBECONFIG": str(tmp_path / "none")}

    done = subprocess.run(
        [sys.executable, "-m", "webhook"], env=environment, capture_output=True, text=True, check=False
    )

    assert 1 == done.returncode
    assert done.stderr.startswith("tulle-webhook: no usable kubeconfig")
    assert 1 == done.stderr.count("\n")


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_an_answer_does_not_wait_for_an_acknowledgement(host: str) -> None:
    with (
        listen(host, 0) as listener,
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def _judged(webhook: Webhook, limit: Any) -> Json:
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u2",
            "kind": {"group": "policy.tulle.mesh", "version": "v1alpha1", "kind": "TrafficPolicy"},
            "operation": "CREATE",
            "namespace": "demo",
            "object": {"spec": {"targetRef": {"name": "web"}, "retries": {"limit": limit}}},
        },
    }
    status, text = webhook._ask("POST", "/validate", json.dumps(body).encode(), True)
    assert 200 == status
    return dict(json.loads(text)["response"])


def test_a_policy_is_judged(webhook: Webhook) -> None:
    refused = _judged(webhook, 12)

    assert {"uid": "u2", "allowed": True} == _judged(webhook, 3)
    assert ("u2", False) == (refused["uid"], refused["allowed"])
    assert (422, "Invalid") == (refused["status"]["code"], refused["status"]["reason"])
    assert "spec.retries.limit: 12 is more than 10; write 0 to 10" == refused["status"]["message"]
    assert 400 == webhook._ask("POST", "/validate", b"{}", True)[0]
