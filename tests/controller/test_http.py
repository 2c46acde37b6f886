"""The HTTP parts over real sockets: streams, reports, problem documents, and what the OpenAPI document promises."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest

from contract.discovery import Update
from contract.metrics import LATENCY_BUCKETS_MS
from contract.stat import StatAnswer
from controller import sidecars
from controller.objects import Owner
from controller.settings import Settings
from tests.controller.builders import endpoint, namespace, piece, pod, service
from tests.controller.running import HTTP, Running, deaf_client, running, subscribe

REPORT: dict[str, Any] = {
    "namespace": "shop",
    "pod": "web-1",
    "instance": "a",
    "sequence": 1,
    "interval_s": 10.0,
    "http": [
        {
            "direction": "inbound",
            "peer": {},
            "success": 90,
            "failure": 10,
            "latency_ms": [0, 100] + [0] * (len(LATENCY_BUCKETS_MS) - 1),
            "latency_sum_ms": 150.0,
        }
    ],
    "tcp": [],
}
RECORDS = (
    namespace("shop"),
    service(),
    piece(endpoint("10.244.0.1", "web-1")),
    pod(owner=Owner("job", "once")),
    pod("client", "10.244.0.9", node="node-b"),
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with running(Settings(address="127.0.0.1", port=0, verify_senders=False)) as found:
        found.sync(*RECORDS)
        yield found


@pytest.fixture
def fresh() -> Iterator[Running]:
    settings = Settings(address="127.0.0.1", port=0, max_streams_count=3, max_report_bytes=4096, verify_senders=False)
    with running(settings) as found:
        yield found


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that the answer is a problem document, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert set(found) == {"type", "title", "status", "detail", "instance", "errors"}
    assert found["status"] == status
    assert found["instance"] == response.request.url.path
    assert "Traceback" not in response.text
    return found


# --- discovery


def test_stream_begins_with_all_that_the_sidecar_does_not_hold(shared: Running):
    with subscribe(shared.url, {"10.96.0.7:80": "", "203.0.113.1:443": ""}) as stream:
        assert stream.headers["content-type"] == "application/x-ndjson"
        update = msgspec.convert(stream.next(), Update)
    by_target = {item.target: item for item in update.destinations}
    assert by_target["10.96.0.7:80"].endpoints[0].ip == "10.244.0.1"
    assert by_target["203.0.113.1:443"].kind == "unknown"


def test_sidecar_that_holds_all_gets_a_heartbeat_at_once(shared: Running):
    with subscribe(shared.url, {"10.96.0.7:80": ""}) as stream:
        revision = stream.next()["destinations"][0]["revision"]
    with subscribe(shared.url, {"10.96.0.7:80": revision}) as stream:
        assert stream.next_raw() == "{}"


def test_only_what_changed_is_sent_and_soon(fresh: Running):
    fresh.sync(*RECORDS)
    with subscribe(fresh.url, {"10.96.0.7:80": "", "10.244.0.9:80": "", "10.96.0.99:80": ""}) as stream:
        assert len(stream.next()["destinations"]) == 3
        started_s = monotonic()
        fresh.put(piece(endpoint("10.244.0.1", "web-1"), endpoint("10.244.0.2")))
        (changed,) = stream.next()["destinations"]
        assert monotonic() - started_s < 0.5  # a loaded machine; the figure is in the benchmark
        assert [item["ip"] for item in changed["endpoints"]] == ["10.244.0.1", "10.244.0.2"]
        fresh.put(pod("stranger", "10.244.0.50"), service("late", "10.96.0.99"))
        (changed,) = stream.next()["destinations"]
        assert (changed["target"], changed["kind"], changed["name"]) == ("10.96.0.99:80", "service", "late")


def test_changes_that_cancel_out_send_nothing(fresh: Running):
    fresh.sync(*RECORDS)
    with subscribe(fresh.url, {"10.96.0.7:80": ""}) as stream:
        stream.next()
        batch = [piece(endpoint("10.9.9.9")), piece(endpoint("10.244.0.1", "web-1"))]
        fresh.put(*batch)
        fresh.put(service("web", "10.96.0.7", opaque_ports="80"))
        (changed,) = stream.next()["destinations"]
        assert changed["protocol"] == "opaque"
        assert [item["ip"] for item in changed["endpoints"]] == ["10.244.0.1"]


def test_node_local_service_differs_by_client(fresh: Running):
    local = piece(endpoint("10.0.0.1", node="node-a"), endpoint("10.0.0.2", node="node-b"))
    fresh.sync(service(node_local=True), local, pod("a", node="node-a"), pod("client", "10.1.1.1", node="node-b"))
    for client, ip in (("a", "10.0.0.1"), ("client", "10.0.0.2")):
        with subscribe(fresh.url, {"10.96.0.7:80": ""}, client) as stream:
            (found,) = stream.next()["destinations"]
            assert [item["ip"] for item in found["endpoints"]] == [ip]


def test_long_answers_are_cut_into_several_lines(fresh: Running):
    many = [endpoint(f"10.{n >> 8}.{n & 255}.1") for n in range(3000)]
    services = [service(f"s{n}", f"10.96.1.{n}") for n in range(4)]
    pieces = [piece(*many, name=f"p{n}", of=f"s{n}") for n in range(4)]
    fresh.sync(*services, *pieces)
    with HTTP.stream(
        "POST",
        f"{fresh.url}/proxy/v1/discovery",
        json={"namespace": "shop", "pod": "x", "targets": {f"10.96.1.{n}:80": "" for n in range(4)}},
    ) as response:
        lines = response.iter_lines()
        found = [json.loads(next(lines)) for _ in range(2)]
    assert sum(len(line["destinations"]) for line in found) == 4


def test_heartbeats_come_while_nothing_changes(shared: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sidecars, "HEARTBEAT_S", 0.01)
    with subscribe(shared.url, {"10.96.0.7:80": ""}) as stream:
        stream.next()
        assert [stream.next_raw() for _ in range(3)] == ["{}"] * 3


def test_streams_end_cleanly_at_shutdown_and_new_ones_are_sent_elsewhere(fresh: Running):
    fresh.sync(*RECORDS)
    with subscribe(fresh.url, {"10.96.0.7:80": ""}) as stream:
        stream.next()
        fresh.do(fresh.truth.hub.shut_down)
        assert stream.rest() == []  # httpx raises if the last chunk is missing
    body = {"namespace": "shop", "pod": "x", "targets": {}}
    assert "shutting down" in problem(HTTP.post(f"{fresh.url}/proxy/v1/discovery", json=body), 503)["detail"]


def test_stream_that_takes_no_byte_is_closed(fresh: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sidecars, "SLOW_S", 0.2)
    many = [endpoint(f"10.{n >> 8}.{n & 255}.1") for n in range(30_000)]
    fresh.sync(service(), *(service(f"s{n}", f"10.96.1.{n}") for n in range(4)), piece(*many))
    fresh.put(*(piece(*many, name=f"p{n}", of=f"s{n}") for n in range(4)))
    targets = {f"10.96.1.{n}:80": "" for n in range(4)}
    body = msgspec.json.encode({"namespace": "shop", "pod": "x", "targets": targets})
    with deaf_client(fresh.url, body):
        deadline_s = monotonic() + 10
        while fresh.metric("tulle_controller_discovery_streams") != 1 and monotonic() < deadline_s:
            sleep(0.01)
        name = 'tulle_controller_discovery_streams_closed_total{reason="slow"}'
        while f"\n{name} 1.0" not in HTTP.get(f"{fresh.url}/metrics").text and monotonic() < deadline_s:
            sleep(0.02)
        assert fresh.metric(name) == 1
        assert fresh.metric("tulle_controller_discovery_streams") == 0


def test_stream_that_the_client_closed_leaves_nothing_behind(fresh: Running):
    fresh.sync(*RECORDS)
    with subscribe(fresh.url, {"10.96.0.7:80": ""}) as stream:
        stream.next()
    deadline_s = monotonic() + 5
    while fresh.truth.hub.streams and monotonic() < deadline_s:
        sleep(0.005)
    hub = fresh.truth.hub
    assert (hub.streams, hub.targets_count, hub._encoded) == (set(), 0, {})


def test_discovery_waits_until_the_cluster_was_read(fresh: Running):
    body = {"namespace": "shop", "pod": "x", "targets": {}}
    response = HTTP.post(f"{fresh.url}/proxy/v1/discovery", json=body)
    assert "pods: not read yet" in problem(response, 503)["detail"]
    assert response.headers["retry-after"] == "1"
    problem(HTTP.get(f"{fresh.url}/readyz"), 503)
    problem(HTTP.get(f"{fresh.url}/api/v1/pods/stat"), 503)
    assert HTTP.get(f"{fresh.url}/healthz").status_code == 200
    fresh.sync(*RECORDS)
    assert HTTP.get(f"{fresh.url}/readyz").status_code == 200


def test_streams_are_bounded(fresh: Running):
    fresh.sync(*RECORDS)
    with (
        subscribe(fresh.url, {}, "a") as first,
        subscribe(fresh.url, {}, "b") as second,
        subscribe(fresh.url, {}, "c") as third,
    ):
        assert [stream.next_raw() for stream in (first, second, third)] == ["{}"] * 3
        body = {"namespace": "shop", "pod": "x", "targets": {}}
        assert "3 streams" in problem(HTTP.post(f"{fresh.url}/proxy/v1/discovery", json=body), 503)["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "$"),
        (b"[1,2", "$"),
        (b'{"namespace":"a","pod":"b"}', "$"),
        (b'{"namespace":"a","pod":"b","targets":{"web:80":""}}', "$.targets"),
        (b'{"namespace":"a","pod":"b","targets":{"10.0.0.1:80":5}}', "$.targets[...]"),
        (b'{"namespace":"a","pod":"b","targets":{},"more":1}', "$"),
        (b'{"namespace":"\xff","pod":"b","targets":{}}', "$"),
    ],
)
def test_malformed_subscriptions_name_the_field(shared: Running, body: bytes, field: str):
    found = problem(HTTP.post(f"{shared.url}/proxy/v1/discovery", content=body), 422)
    assert found["errors"][0]["field"] == field


def test_too_many_targets_are_refused(shared: Running):
    targets = {f"10.0.{n >> 8}.{n & 255}:80": "" for n in range(4097)}
    body = {"namespace": "shop", "pod": "x", "targets": targets}
    assert "4096" in problem(HTTP.post(f"{shared.url}/proxy/v1/discovery", json=body), 422)["detail"]


# --- reports


def post_report(running_: Running, **changes: object) -> httpx.Response:
    return HTTP.post(f"{running_.url}/proxy/v1/reports", json={**REPORT, **changes})


def test_report_becomes_a_row(fresh: Running):
    fresh.sync(*RECORDS)
    assert [post_report(fresh).status_code for _ in range(3)] == [204, 204, 204]
    body = HTTP.get(f"{fresh.url}/api/v1/namespaces/shop/pods/web-1/stat").content
    (row,) = msgspec.json.decode(body, type=StatAnswer).rows
    assert row.rps == pytest.approx(10.0, rel=0.02)
    assert row.success_rate == 0.9
    assert fresh.metric('tulle_controller_reports_total{result="duplicate"}') == 2
    assert fresh.metric("tulle_controller_report_series") == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sequence": "1"}, "$.sequence"),
        ({"sequence": -1}, "$.sequence"),
        ({"interval_s": 1e9}, "$.interval_s"),
        ({"http": [{**REPORT["http"][0], "success": 1.5}]}, "$.http[0].success"),
        ({"http": [{**REPORT["http"][0], "latency_ms": [1]}]}, "$.http[0].latency_ms"),
        ({"http": [{**REPORT["http"][0], "direction": "up"}]}, "$.http[0].direction"),
        ({"http": [{**REPORT["http"][0], "peer": {"srv": "x"}}]}, "$.http[0].peer"),
        ({"extra": 1}, "$"),
        ({"pod": "x" * 300}, "$.pod"),
    ],
)
def test_reports_with_a_wrong_schema_name_the_field(shared: Running, changes: dict[str, object], field: str):
    found = problem(post_report(shared, **changes), 422)
    assert found["errors"][0]["field"] == field


def test_report_that_is_too_large_is_refused_told_or_not(fresh: Running):
    url = f"{fresh.url}/proxy/v1/reports"
    problem(HTTP.post(url, content=b"x" * 5000), 413)
    problem(HTTP.post(url, content=(b"x" * 1000 for _ in range(5))), 413)


def test_compressed_body_is_refused(shared: Running):
    response = HTTP.post(f"{shared.url}/proxy/v1/reports", content=b"x", headers={"content-encoding": "gzip"})
    problem(response, 415)


# --- REST


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/namespaces/shop/deployments/stat?window=0s", 422, "window: '0s' is no duration from 10s to 1h"),
        ("/api/v1/namespaces/shop/deployments/stat?window=", 422, "window"),
        ("/api/v1/namespaces/shop/deployments/stat?to=catalog", 422, "RESOURCE/NAME"),
        ("/api/v1/namespaces/shop/deployments/stat?windw=1m", 422, "did you mean 'window'"),
        ("/api/v1/namespaces/shop/deployments/stat?window=1m&window=2m", 422, "more than once"),
        ("/api/v1/namespaces/shop/replicasets/stat", 404, "no resource 'replicasets'"),
        ("/api/v1/namespaces/shop/deployments/nope/stat", 404, "no deployment 'nope'"),
        ("/api/v1/namespaces/nope/stat", 404, "no namespace 'nope'"),
        ("/api/v1/things/stat", 404, "no resource 'things'"),
        ("/api/v1/namespaces/shop/pods/%2e%2e%2fx/stat", 404, "nothing at"),
        ("/api/v1/namespaces/shop/pods/%00%ff/stat", 404, ""),
        ("/api/v2", 404, "/openapi.json lists what there is"),
        ("/", 404, "nothing at '/'"),
        ("/docs", 404, "nothing at"),
    ],
)
def test_refusals_are_problem_documents(shared: Running, path: str, status: int, words: str):
    assert words in problem(HTTP.get(shared.url + path), status)["detail"]


def test_wrong_method_is_a_problem_document_too(shared: Running):
    response = HTTP.delete(f"{shared.url}/api/v1/version")
    assert "DELETE" in problem(response, 405)["detail"]
    assert response.headers["allow"] == "GET"


def test_bug_is_answered_without_its_traceback(fresh: Running, monkeypatch: pytest.MonkeyPatch):
    fresh.sync(*RECORDS)
    monkeypatch.setattr(fresh.truth, "cluster", None)
    found = problem(HTTP.get(f"{fresh.url}/api/v1/pods/stat"), 500)
    assert found["detail"] == "The controller failed to answer; its log says more."


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/shop/pods/web-1/stat",
        "/api/v1/namespaces/shop/po/stat?window=30s",
        "/api/v1/namespaces/shop/stat",
        "/api/v1/services/stat",
        "/api/v1/namespaces/stat",
        "/api/v1/ns/stat",
        "/api/v1/namespaces/shop/namespaces/shop/stat",
        "/api/v1/pods/stat?from_namespace=shop",
        "/api/v1/namespaces/shop/pods/stat?to=svc/web&to_namespace=shop&window=1h",
    ],
)
def test_every_form_of_question_is_answered_by_the_contract(shared: Running, path: str):
    response = HTTP.get(shared.url + path)
    assert response.status_code == 200, response.text
    assert msgspec.json.decode(response.content, type=StatAnswer).rows


def test_metrics_are_prometheus_text(shared: Running):
    response = HTTP.get(f"{shared.url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "tulle_controller_watch_lag_seconds_bucket" in response.text


# --- the OpenAPI document


@pytest.fixture(scope="module")
def document(shared: Running) -> dict[str, Any]:
    found: dict[str, Any] = HTTP.get(f"{shared.url}/openapi.json").json()
    return found


EXAMPLES = {"namespace": "shop", "resource": "pods", "name": "web-1"}
UNKNOWN = {"namespace": "nowhere", "resource": "things", "name": "nobody"}


def schema_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": document["components"]}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, item) for path, methods in document["paths"].items() for method, item in methods.items()]


def test_document_lists_every_route_with_texts(document: dict[str, Any]):
    assert {path for path, _, _ in operations(document)} == {
        "/api/v1/namespaces/{namespace}/{resource}/{name}/stat",
        "/api/v1/namespaces/{namespace}/{resource}/stat",
        "/api/v1/namespaces/{namespace}/stat",
        "/api/v1/{resource}/stat",
        "/api/v1/sidecars/silent",
        "/api/v1/version",
        "/healthz",
        "/readyz",
        "/metrics",
        "/proxy/v1/discovery",
        "/proxy/v1/reports",
    }
    for _, _, operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert all(parameter["description"] for parameter in operation.get("parameters", []))


def test_parameters_are_named_as_the_query_reads_them(document: dict[str, Any]):
    operation = document["paths"]["/api/v1/{resource}/stat"]["get"]
    found = {parameter["name"] for parameter in operation["parameters"]}
    assert found == {"resource", "window", "to", "to_namespace", "from", "from_namespace"}


def test_all_references_lead_somewhere(document: dict[str, Any]):
    names = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_example_fits_its_schema(document: dict[str, Any]):
    checked = 0
    for _, _, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (content for body in bodies for content in body.get("content", {}).values()):
            if "example" in content and "schema" in content:
                jsonschema.validate(content["example"], schema_of(document, content["schema"]))
                checked += 1
    assert checked > 10


def ask(shared: Running, path: str, method: str, operation: dict[str, Any], names: dict[str, str], **more: Any):
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    with HTTP.stream(method.upper(), shared.url + path.format(**names), json=body, timeout=5, **more) as response:
        if response.headers.get("content-type") == "application/x-ndjson":
            return response, json.loads(next(response.iter_lines()))
        response.read()
        is_json = "json" in response.headers.get("content-type", "")
        return response, response.json() if is_json else response.text


@pytest.mark.parametrize(
    ("names", "params"), [(EXAMPLES, None), (UNKNOWN, None), (EXAMPLES, {"window": "0s"})], ids=["good", "404", "422"]
)
def test_every_route_answers_what_it_documents(shared: Running, document, names: dict[str, str], params):
    for path, method, operation in operations(document):
        response, body = ask(shared, path, method, operation, names, params=params)
        documented = operation["responses"].get(str(response.status_code))
        assert documented is not None, (path, response.status_code)
        media_type = response.headers.get("content-type", "").split(";")[0]
        if media_type:
            schema = documented["content"][media_type].get("schema", {})
            jsonschema.validate(body, schema_of(document, schema))
        else:
            assert "content" not in documented


def test_silent_connections_keep_neither_probes_nor_reports_out() -> None:
    with running(Settings(address="127.0.0.1", port=0, max_streams_count=1)) as controller, ExitStack() as stack:
        address = ("127.0.0.1", int(controller.url.rpartition(":")[2]))
        for number in range(600):
            source = (f"127.0.1.{number % 3 + 1}", 0)
            stack.enter_context(socket.create_connection(address, source_address=source))

        with httpx.Client(timeout=2.0) as fresh:
            assert fresh.get(f"{controller.url}/healthz").status_code == 200
        assert controller.metric('tulle_controller_connections_ended_total{reason="full"}') >= 600 - 258
