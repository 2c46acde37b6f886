"""The HTTP face: who may, what is refused and in which words, headers and forms."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from lab.api.app import make_app
from lab.api.authn import Authority
from lab.api.negotiation import BODY_MAX_BYTES
from lab.api.registry import Registry, bootstrap
from lab.api.tokens import TokenIssuer

ADMIN = {"authorization": "Bearer secret"}
MAPS = "/api/v1/namespaces/default/configmaps"


def ask(method: str, path: str, headers: dict[str, str] | None = None, **rest: Any) -> httpx.Response:
    """One request to a fresh server that knows one administrator; `json` and `content` as httpx takes them."""

    async def work() -> httpx.Response:
        registry = Registry()
        await bootstrap(registry)
        await registry.create("configmaps", {"metadata": {"name": "here", "namespace": "default"}})
        app = make_app(registry, Authority(registry, TokenIssuer(), "secret"), None)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lab") as client:
            return await client.request(method, path, headers={**ADMIN, **(headers or {})}, **rest)

    return asyncio.run(work())


def test_a_wrong_token_is_unauthorized() -> None:
    answer = ask("GET", MAPS, {"authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")


def test_who_may_not_is_told_what_in_kubernetes_words() -> None:
    answer = ask("GET", f"{MAPS}/here", {"impersonate-user": "eve"})
    assert answer.status_code == 403
    message = answer.json()["message"]
    assert message.startswith('configmaps "here" is forbidden: User "eve" cannot get resource "configmaps"')
    assert 'in API group "" in the namespace "default"' in message


def test_health_needs_nobody() -> None:
    assert ask("GET", "/readyz", {"authorization": ""}).text == "ok"


REFUSED = [
    ("GET", f"{MAPS}/gone", {}, b"", 404, "NotFound"),
    ("GET", "/apis/none.io/v1/things", {}, b"", 404, "NotFound"),
    ("GET", f"{MAPS}/here/parts", {}, b"", 501, "NotImplemented"),
    ("GET", f"{MAPS}?labelSelector=a%20in", {}, b"", 400, "BadRequest"),
    ("GET", f"{MAPS}?fieldSelector=spec.x%3D1", {}, b"", 400, "BadRequest"),
    ("GET", f"{MAPS}?limit=many", {}, b"", 400, "BadRequest"),
    ("GET", f"{MAPS}?continue=xx", {}, b"", 400, "BadRequest"),
    ("GET", MAPS, {"accept": "application/cbor"}, b"", 406, "NotAcceptable"),
    ("POST", MAPS, {"content-type": "image/png"}, b"{}", 415, "UnsupportedMediaType"),
    ("POST", MAPS, {}, b"{", 400, "BadRequest"),
    ("POST", MAPS, {}, b"[]", 400, "BadRequest"),
    ("POST", MAPS, {}, b"[" * 100_000, 400, "BadRequest"),
    ("POST", MAPS, {}, b'{"a":' * 900 + b"1" + b"}" * 900, 400, "BadRequest"),
    ("POST", MAPS, {"content-type": "application/yaml"}, b"a: &a [x]\nb: *a", 400, "BadRequest"),
    ("POST", MAPS, {}, b'{"kind":"Pod","apiVersion":"v1"}', 400, "BadRequest"),
    ("POST", MAPS, {}, b'{"metadata":{"name":"here"}}', 409, "AlreadyExists"),
    ("POST", MAPS, {}, b'{"metadata":{"name":"No Good"}}', 422, "Invalid"),
    ("POST", MAPS, {}, b'{"metadata":{"name":"x","namespace":"other"}}', 400, "BadRequest"),
    ("POST", MAPS, {}, b" " * (BODY_MAX_BYTES + 1), 413, "RequestEntityTooLarge"),
    ("POST", f"{MAPS}?dryRun=Some", {}, b'{"metadata":{"name":"x"}}', 400, "BadRequest"),
    ("POST", "/api/v1/configmaps", {}, b'{"metadata":{"name":"x"}}', 404, "NotFound"),
    ("PUT", f"{MAPS}/here", {}, b'{"metadata":{"name":"there"}}', 400, "BadRequest"),
    ("PATCH", f"{MAPS}/here", {"content-type": "application/json"}, b"{}", 415, "UnsupportedMediaType"),
    ("PATCH", f"{MAPS}/here", {"content-type": "application/apply-patch+yaml"}, b"{}", 422, "Invalid"),
    ("PATCH", f"{MAPS}/here", {"content-type": "application/json-patch+json"}, b'[{"op":"x"}]', 422, "Invalid"),
    ("DELETE", f"{MAPS}/here?propagationPolicy=Sideways", {}, b"", 422, "Invalid"),
    ("POST", "/version", {}, b"", 405, "MethodNotAllowed"),
    ("POST", "/apis/apps/v1/namespaces/default/daemonsets", {}, b"{}", 501, "NotImplemented"),
]


@pytest.mark.parametrize(("method", "path", "headers", "content", "code", "reason"), REFUSED)
def test_a_refusal_is_a_status(
    method: str, path: str, headers: dict[str, str], content: bytes, code: int, reason: str
) -> None:
    answer = ask(method, path, headers, content=content)
    status = answer.json()
    assert (answer.status_code, status["reason"]) == (code, reason), status
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", code)
    assert status["message"]


def test_unknown_fields_are_warned_of_and_dropped() -> None:
    answer = ask("POST", MAPS, json={"metadata": {"name": "x"}, "dta": {}})
    assert answer.status_code == 201
    assert answer.headers["warning"] == '299 - "unknown field \\"dta\\""'
    assert "dta" not in answer.json()


def test_yaml_is_read_as_json_would_be() -> None:
    body = b"metadata: {name: x}\ndata:\n  when: 2026-01-01T00:00:00Z\n"
    assert (
        ask("POST", MAPS, {"content-type": "application/yaml"}, content=body).json()["data"]["when"].startswith("2026")
    )


def test_a_load_balancer_is_kept_with_a_warning() -> None:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    answer = ask("POST", "/api/v1/namespaces/default/services", json={"metadata": {"name": "s"}, "spec": spec})
    assert answer.status_code == 201
    assert "no load balancer" in answer.headers["warning"]


def test_partial_metadata_is_metadata_alone() -> None:
    form = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    answer = ask("GET", f"{MAPS}/here", {"accept": form}).json()
    assert answer.keys() == {"kind", "apiVersion", "metadata"}
    listed = ask("GET", MAPS, {"accept": form.replace("Metadata;", "MetadataList;")}).json()
    assert listed["kind"] == "PartialObjectMetadataList"


def test_a_watch_that_wants_initial_events_ends_them_with_a_bookmark() -> None:
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    lines = [json.loads(line) for line in ask("GET", f"{MAPS}?{query}").text.splitlines()]
    assert [line["type"] for line in lines] == ["ADDED", "BOOKMARK", "BOOKMARK"], "the last one ends the stream"
    assert lines[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert lines[1]["object"]["kind"] == "ConfigMap"


def test_documents_with_a_hash_may_be_kept() -> None:
    paths = ask("GET", "/openapi/v3").json()["paths"]
    answer = ask("GET", paths["apis/apps/v1"]["serverRelativeURL"])
    assert "immutable" in answer.headers["cache-control"]
    assert "io.k8s.api.apps.v1.Deployment" in answer.json()["components"]["schemas"]


def test_the_root_lists_paths() -> None:
    assert "/apis" in ask("GET", "/").json()["paths"]
