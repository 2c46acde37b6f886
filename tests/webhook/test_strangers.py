"""Whoever reaches the webhook's port, and is no API server, gets nothing done and costs little."""

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.stub_api import StubApi, write_kubeconfig
from contract import kinds, names
from tests.webhook.test_inject import ENABLED, NATIVE, annotated, pod
from tests.webhook.test_policies import review as policy_review
from tests.webhook.test_service import LIMIT_S, Webhook, review, wait_until
from webhook import telling
from webhook.annotations import Refused
from webhook.certificates import first_material
from webhook.inject import inject
from webhook.intake import DRAIN_BYTES, OBJECT_BYTES
from webhook.kube import Kube
from webhook.policies import judge
from webhook.review import SPEC_BYTES, BadReview, answer_untouched, parse_review
from webhook.telling import QUEUE_LIMIT, Telling

Json = dict[str, Any]
HOST_NETWORK = pod(hostNetwork=True)


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    api = StubApi()
    api.namespace("demo", {names.INJECT: "enabled"})
    api.replicaset("demo", "web-6f7c", "u1")
    with api.serve() as url:
        kubeconfig = tmp_path_factory.mktemp("webhook") / "kubeconfig"
        write_kubeconfig(kubeconfig, url)
        made = Webhook(api, kubeconfig)
        yield made
        made.stop()


def owned_by(name: str, uid: str, kind: str = "ReplicaSet", version: str = "apps/v1") -> Json:
    made = pod(hostNetwork=True)
    made["metadata"]["ownerReferences"] = [
        {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}
    ]
    return made


# --- Events


@pytest.mark.parametrize(
    "source",
    [
        owned_by("web-6f7c", "guessed"),
        owned_by("invented", "u1"),
        owned_by("tulle-webhook-tls", "u1", "Secret", "v1"),
        owned_by("../../secrets/tulle-webhook-tls", "u1"),
        owned_by("web-6f7c?watch=true", "u1"),
    ],
    ids=["wrong uid", "no such owner", "a Secret", "a path", "a query"],
)
def test_no_event_is_written_about_an_object_that_is_not_as_the_review_says(webhook: Webhook, source: Json) -> None:
    webhook.api.events.clear()
    before = unverified(webhook)

    webhook.review(source)
    wait_until(lambda: unverified(webhook) > before, "the review to be found untrue")

    assert [] == webhook.api.events
    assert all(".." not in path for path in webhook.api.asked)


def unverified(webhook: Webhook) -> float:
    text = webhook.get("/metrics")[1]
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("tulle_webhook_events_unver"))


def test_true_event_is_written_although_false_ones_came_before_it(webhook: Webhook) -> None:
    webhook.api.events.clear()
    for number in range(30):
        webhook.review(owned_by("web-6f7c", f"guess-{number}"))

    webhook.review(owned_by("web-6f7c", "u1"))

    wait_until(lambda: webhook.api.events, "the event")
    assert [("web-6f7c", "u1")] == [
        (one["involvedObject"]["name"], one["involvedObject"]["uid"]) for one in webhook.api.events
    ]


class Recorder(Kube):
    """Objects that can be looked up, and the Events that were written."""

    def __init__(self, found: Json | None = None) -> None:
        self.found = found
        self.events: list[Json] = []

    def involved(self, reference: Json) -> Json | None:
        return self.found

    def create_event(self, event: Json) -> None:
        self.events.append(event)


def event(name: str = "web", kind: str = "ReplicaSet", uid: str = "u1") -> Json:
    involved = {"apiVersion": "apps/v1", "kind": kind, "name": name, "namespace": "demo", "uid": uid}
    return {"involvedObject": involved, "reason": "HostNetwork"}


def written(told: Telling) -> None:
    """Let the thread's work be done here, until nothing is due."""
    while (one := told._next(0.0)) is not None:
        told._write(one)


def test_event_on_a_bare_pod_waits_for_the_annotation_that_the_webhook_put_there() -> None:
    clock = [100.0]
    kube = Recorder({"metadata": {"uid": "p1", "annotations": {names.SKIP_REASON: "HostNetwork"}}})
    told = Telling(kube, lambda: clock[0])
    bare = event(kind="Pod")
    del bare["involvedObject"]["uid"]

    told.tell(bare, "10.0.0.1")
    written(told)
    assert [] == kube.events
    clock[0] += telling.POD_DELAY_S
    written(told)

    assert ["p1"] == [one["involvedObject"]["uid"] for one in kube.events]
    kube.found = {"metadata": {"uid": "p2"}}
    told.tell({**event("other", kind="Pod")}, "10.0.0.1")
    clock[0] += telling.POD_DELAY_S
    written(told)
    assert 1 == told.unverified_count


def test_flood_of_events_from_one_address_takes_no_others_place() -> None:
    kube = Recorder({"metadata": {"uid": "u1"}})
    told = Telling(kube, lambda: 100.0)
    told.tell(event("first"), "10.0.0.1")
    for number in range(3 * QUEUE_LIMIT):
        told.tell(event(f"invented-{number}"), "10.9.9.9")
    told.tell(event("last"), "10.0.0.1")

    for _ in range(4):
        one = told._next(0.0)
        assert one is not None
        told._write(one)

    assert {"first", "last"} <= {one["involvedObject"]["name"] for one in kube.events}
    assert 2 * QUEUE_LIMIT + 2 == told.dropped_count


# --- paths


@pytest.mark.parametrize(
    "namespace", ["demo/secrets/x", "..", "?watch=true", "demo%2f..", "", "A", "x" * 64], ids=lambda text: text[:9]
)
def test_what_is_no_namespaces_name_is_never_asked_of_the_api_server(webhook: Webhook, namespace: str) -> None:
    webhook.api.asked.clear()

    status, answer = webhook.post(review(pod(), namespace))

    assert 503 == status
    assert "is not the name of a namespace" in answer["message"]
    assert not [
        path for path in webhook.api.asked if path.startswith("/api/v1/namespaces/") and "secrets/t" not in path
    ]


def test_namespace_is_looked_up_once_for_many_reviews(webhook: Webhook) -> None:
    webhook.api.asked.clear()
    for _ in range(10):
        assert 503 == webhook.post(review(pod(), "unheard-of"))[0]

    assert len([path for path in webhook.api.asked if path.endswith("/unheard-of")]) < 5


# --- lengths


def test_body_that_says_it_is_too_long_is_refused_before_it_comes(webhook: Webhook) -> None:
    connection = webhook.connection()
    connection.putrequest("POST", "/inject")
    connection.putheader("Content-Length", str(DRAIN_BYTES + 1))
    connection.endheaders()

    assert 413 == connection.getresponse().status
    connection.close()


def test_body_that_trickles_is_refused(webhook: Webhook, tmp_path: Path) -> None:
    connection = webhook.connection()
    connection.sock = None
    connection.timeout = LIMIT_S
    connection.putrequest("POST", "/inject")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"{")
    began_s = time.monotonic()

    assert 408 == connection.getresponse().status
    assert time.monotonic() - began_s < 13
    connection.close()


def test_body_that_is_too_long_is_refused_with_the_reason_and_not_held(webhook: Webhook) -> None:
    status, answer = webhook.post(b" " * (8 * 1024 * 1024))

    assert (413, "RequestEntityTooLarge") == (status, answer["reason"])


def test_largest_objects_that_an_api_server_takes_are_judged(webhook: Webhook) -> None:
    """An object of 3 MB, and a policy with its old self."""
    large = pod()
    large["spec"]["containers"][0]["args"] = ["x" * (OBJECT_BYTES - 10_000)]
    assert webhook.review(large)["allowed"]

    good = {"targetRef": {"name": "web"}}
    body = json.loads(policy_review(good, operation="UPDATE", old=good))
    for one in ("object", "oldObject"):
        body["request"][one]["metadata"]["annotations"] = {"large": "x" * (OBJECT_BYTES - 10_000)}
    connection = webhook.connection()
    connection.request("POST", "/validate", json.dumps(body).encode())
    response = connection.getresponse()
    assert json.loads(response.read())["response"]["allowed"]
    connection.close()


def test_longest_reviews_at_once_stay_within_the_containers_memory(webhook: Webhook) -> None:
    """What grows most when it is read: empty lists and objects. 7.9 MB peaked at 345 MB of 256 MiB."""
    room = OBJECT_BYTES - 2000
    hostile = [pod(ephemeral=[[]] * (room // 4)), pod(ephemeral=[{}] * (room // 4)), pod(ephemeral=[1.5] * (room // 5))]
    bodies = [json.dumps(json.loads(review(one)), separators=(",", ":")).encode() for one in hostile] * 3
    answers: list[int] = []

    def send(body: bytes) -> None:
        connection = webhook.connection()
        connection.timeout = LIMIT_S
        connection.request("POST", "/inject", body)
        answers.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=send, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    status = Path(f"/proc/{webhook.process.pid}/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert set(answers) <= {200, 408, 503}
    assert 200 in answers
    assert peak_kib < 230 * 1024


def test_long_words_are_not_compared_and_not_repeated() -> None:
    began_s = time.process_time()
    for source in (annotated({names.INJECT: "enable" * 50_000}), annotated({"tulle.mesh/" + "x" * 200_000: ""})):
        with pytest.raises(Refused) as refused:
            inject(source, ENABLED, NATIVE)
        assert len(str(refused.value)) < 400

    verdict = judge(parse_review(policy_review({"targetRef": {"name": "web"}, "retrys" * 15_000: 1})))
    assert kinds.INVALID == verdict.reason
    assert len(verdict.fault) < 2000
    many = {f"retrie{number}": 1 for number in range(8_000)}
    assert len(judge(parse_review(policy_review({"targetRef": {"name": "web"}, **many}))).fault) < 20_000
    assert time.process_time() - began_s < 3.0


def test_policy_whose_spec_is_longer_than_any_is_refused_unread_unless_it_stays() -> None:
    long = {"targetRef": {"name": "web"}, "retries": ["x" * SPEC_BYTES]}

    assert "spec: is " in judge(parse_review(policy_review(long))).fault
    assert "SpecUnchanged" == judge(parse_review(policy_review(long, operation="UPDATE", old=long))).reason


@pytest.mark.parametrize("field", ["uid", "namespace", "name", "operation"])
def test_texts_that_leave_again_are_bounded(field: str) -> None:
    with pytest.raises(BadReview, match=f"length <= .* - at `..request.{field}`"):
        parse_review(review(pod(), **{field: "x" * 5000}))


def test_warnings_are_bounded() -> None:
    many = pod(containers=[{"name": "x" * 1000, "securityContext": {"runAsUser": 2102}} for _ in range(5000)])
    decision = inject(many, ENABLED, NATIVE)
    answer = answer_untouched(parse_review(review(pod())), decision.warnings)  # type: ignore[union-attr]

    assert len(answer) < 20_000
    assert "and 4980 more" in answer.decode()


# --- the API server's certificate


class Clients:
    """A CA and the certificates that it gives to clients."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clients")])
        self.ca_file = directory / "ca.crt"
        self.ca_file.write_bytes(_pem(self._signed(self._name, self._key, is_ca=True)))

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        builder = builder.not_valid_after(datetime(2090, 1, 1, tzinfo=UTC))
        constraints = x509.BasicConstraints(ca=is_ca, path_length=None)
        return builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())

    def give(self, name: str) -> Path:
        """A certificate with its key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        file = self._directory / f"{name}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(_pem(self._signed(subject, key, is_ca=False)) + private)
        return file


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def guarded(api: StubApi, kubeconfig: Path, tmp_path: Path) -> Iterator[tuple[Webhook, Clients]]:
    api.namespace("demo", {names.INJECT: "enabled"})
    clients = Clients(tmp_path)
    made = Webhook(api, kubeconfig, CLIENT_CA_FILE=str(clients.ca_file), CLIENT_NAMES="kube-apiserver")
    yield made, clients
    made.stop()


def asking(webhook: Webhook, file: Path | None) -> Callable[[], tuple[int, Json]]:
    context = ssl.create_default_context(cadata=base64.b64decode(webhook.api.bundles()[0]).decode())
    if file is not None:
        context.load_cert_chain(file)

    def ask() -> tuple[int, Json]:
        connection = http.client.HTTPSConnection("127.0.0.1", webhook.port, timeout=5, context=context)
        try:
            connection.request("POST", "/inject", review(pod()))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    return ask


def test_where_a_client_ca_is_set_only_the_api_servers_certificate_gets_a_decision(
    guarded: tuple[Webhook, Clients],
) -> None:
    webhook, clients = guarded

    status, answer = asking(webhook, clients.give("kube-apiserver"))()
    assert (200, True) == (status, answer["response"]["allowed"])

    status, answer = asking(webhook, None)()
    assert (403, "Forbidden") == (status, answer["reason"])
    assert "this request came without one" in answer["message"]

    status, answer = asking(webhook, clients.give("kubelet"))()
    assert (403, True) == (status, "other names" in answer["message"])

    assert 200 == webhook.get("/healthz")[0]
    assert 200 == webhook.get("/readyz")[0]
    assert 'decision="foreign"' in webhook.get("/metrics")[1]


def test_certificate_of_another_ca_does_not_even_connect(guarded: tuple[Webhook, Clients], tmp_path: Path) -> None:
    webhook, _ = guarded
    other = first_material(("kube-apiserver",), datetime.now(UTC))
    file = tmp_path / "other.pem"
    file.write_bytes(other.leaf + other.leaf_key)

    with pytest.raises((OSError, http.client.HTTPException)):
        asking(webhook, file)()
