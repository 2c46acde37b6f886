"""The small pure parts: selectors, ages, paths of requests, encodings, protobuf."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.api import age, negotiation, protobuf, request, selectors, strategy, table
from lab.api.errors import ApiError

LABELS = {"app": "web", "tier": "front", "n": "5"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=back", True),
        ("app in (web, db)", True),
        ("app notin (web)", False),
        ("missing notin (x)", True),
        ("app", True),
        ("!app", False),
        ("missing!=x", True),
        ("n>4,n<6", True),
        ("app>4", False),
        ("app=", False),
    ],
)
def test_label_selectors(selector: str, expected: bool) -> None:
    assert selectors.label_matcher(selector)(LABELS) is expected


@pytest.mark.parametrize("selector", ["app in web", "a=b=c", "n>x", "(a)"])
def test_a_bad_label_selector_is_refused(selector: str) -> None:
    with pytest.raises(ApiError):
        selectors.label_matcher(selector)


def test_field_selectors_know_their_kind() -> None:
    pod = {"metadata": {"name": "a"}, "spec": {"nodeName": "n"}}
    assert selectors.matcher("pods", "", "spec.nodeName=n,metadata.name!=b")(pod)
    assert selectors.matcher("pods", "", "spec.hostNetwork=false")(pod)
    with pytest.raises(ApiError, match="field label not supported"):
        selectors.matcher("configmaps", "", "spec.nodeName=n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (3600, "60m"), (4 * 3600 + 120, "4h2m"), (90000, "25h"),
     (3 * 86400 + 7200, "3d2h"), (30 * 86400, "30d"), (800 * 86400, "2y70d"), (3500 * 86400, "9y"), (-5, "<invalid>")],
)  # fmt: skip
def test_ages_read_as_on_every_cluster(seconds: float, text: str) -> None:
    assert age.human(seconds) == text


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/namespaces/n/pods/p", ("get", "", "pods", "n", "p", "")),
        ("GET", "/api/v1/namespaces/n/pods", ("list", "", "pods", "n", "", "")),
        ("GET", "/api/v1/namespaces/n", ("get", "", "namespaces", "", "n", "")),
        ("PUT", "/api/v1/namespaces/n/finalize", ("update", "", "namespaces", "", "n", "finalize")),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/n/deployments/d/scale",
            ("patch", "apps", "deployments", "n", "d", "scale"),
        ),
        ("DELETE", "/apis/apps/v1/namespaces/n/deployments", ("deletecollection", "apps", "deployments", "n", "", "")),
        ("POST", "/apis/apps/v1/namespaces/n/deployments", ("create", "apps", "deployments", "n", "", "")),
    ],
)
def test_paths_are_read_as_questions(method: str, path: str, expected: tuple[str, ...]) -> None:
    asked = request.parse(method, path, {})
    assert asked is not None
    assert expected == (asked.verb, asked.group, asked.plural, asked.namespace, asked.name, asked.subresource)


@pytest.mark.parametrize("path", ["/", "/api", "/apis/apps", "/apis/apps/v1", "/version", "/openapi/v3"])
def test_other_paths_are_about_no_resource(path: str) -> None:
    assert request.parse("GET", path, {}) is None


def test_a_watch_is_a_list_that_goes_on() -> None:
    asked = request.parse("GET", "/api/v1/pods", {"watch": "1"})
    assert asked is not None
    assert asked.verb == "watch"


def test_the_form_of_an_answer_follows_accept() -> None:
    as_table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert negotiation.form(as_table) == "Table"
    assert negotiation.form("application/vnd.kubernetes.protobuf,application/json") == ""
    with pytest.raises(ApiError) as caught:
        negotiation.form("application/vnd.kubernetes.protobuf")
    assert caught.value.code == 406


@pytest.mark.parametrize(("body", "media"), [(b"{", "application/json"), (b"a: [", "text/yaml"), (b"", "image/png")])
def test_a_bad_body_is_refused(body: bytes, media: str) -> None:
    with pytest.raises(ApiError) as caught:
        negotiation.decode(body, media)
    assert caught.value.code in (400, 415)


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def envelope(kind: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + field(1, field(1, b"v1") + field(2, kind.encode())) + field(2, raw)


def test_a_protobuf_secret_is_read() -> None:
    raw = field(1, field(1, b"s")) + field(2, field(1, b"key") + field(2, b"\x00\xff")) + field(3, b"Opaque")
    assert protobuf.decode(envelope("Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"key": base64.b64encode(b"\x00\xff").decode()},
        "type": "Opaque",
    }


def test_an_unknown_protobuf_field_or_kind_is_named() -> None:
    with pytest.raises(ApiError, match="field 14 of Secret"):
        protobuf.decode(envelope("Secret", field(14, b"x")))
    with pytest.raises(ApiError, match="no protobuf of kind Zebra"):
        protobuf.decode(envelope("Zebra", b""))


@given(st.binary(max_size=60))
def test_no_bytes_at_all_break_the_protobuf_reader(data: bytes) -> None:
    for body in (data, protobuf.MAGIC + data, envelope("Pod", data)):
        with contextlib.suppress(ApiError):
            protobuf.decode(body)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".spec.a", [("key", "spec"), ("key", "a")]),
        (".items[0].b", [("key", "items"), ("index", "0"), ("key", "b")]),
        ('.status.conditions[?(@.type=="Ready")].status',
         [("key", "status"), ("key", "conditions"), ("where", "type=Ready"), ("key", "status")]),
        (r".metadata.labels.app\.x/y", [("key", "metadata"), ("key", "labels"), ("key", "app.x/y")]),
    ],
)  # fmt: skip
def test_printer_columns_paths(path: str, expected: Any) -> None:
    assert table.json_path(path) == expected


def test_quality_of_service_follows_requests_and_limits() -> None:
    both = {"cpu": "1", "memory": "1Gi"}
    assert strategy.quality_of_service({"containers": [{}]}) == "BestEffort"
    assert strategy.quality_of_service({"containers": [{"resources": {"limits": both}}]}) == "Guaranteed"
    assert strategy.quality_of_service({"containers": [{"resources": {"requests": both}}]}) == "Burstable"
