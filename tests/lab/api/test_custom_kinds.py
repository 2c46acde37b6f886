"""CustomResourceDefinitions and their objects, with the real kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "additionalPrinterColumns": [{"name": "Colour", "type": "string", "jsonPath": ".spec.colour"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["colour"],
                                "properties": {
                                    "colour": {"type": "string", "enum": ["red", "blue"], "description": "Its paint."},
                                    "size": {"type": "integer", "minimum": 0, "default": 3},
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "port": {"x-kubernetes-int-or-string": True},
                                },
                            },
                            "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
                        },
                    }
                },
            },
            {
                "name": "v1beta1",
                "served": True,
                "storage": False,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            },
        ],
    },
}


def widget(name: str, **spec: Any) -> str:
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}
    return json.dumps(body)


@pytest.fixture(scope="module", autouse=True)
def definition(server: Any) -> Iterator[None]:
    server.kubectl("apply", "-f", "-", given=json.dumps(DEFINITION))
    server.kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=5s")
    yield
    server.kubectl("delete", "crd", "widgets.example.com")
    assert "could not find the requested resource" in server.kubectl("get", "widgets", fails=True)


def test_an_object_gets_its_defaults_and_prints_its_columns(server: Any) -> None:
    server.kubectl("apply", "-f", "-", given=widget("one", colour="red", free={"any": [1]}, port="http"))
    assert server.kubectl_json("get", "wd", "one")["spec"]["size"] == 3
    assert ["NAME", "COLOUR"] == server.kubectl("get", "widgets").splitlines()[0].split()
    server.kubectl("apply", "-f", "-", given=widget("one", colour="blue"))
    assert server.kubectl_json("get", "wd", "one")["spec"] == {"colour": "blue", "size": 3}


BAD = [
    ({"colour": "green"}, 'supported values: "red", "blue"'),
    ({"size": 1}, "spec.colour: Required value"),
    ({"colour": "red", "size": -1}, "greater than or equal to 0"),
    ({"colour": "red", "size": "big"}, "must be of type integer"),
    ({"colour": "red", "sice": 1}, 'unknown field "spec.sice"'),
]


@pytest.mark.parametrize(("spec", "words"), BAD)
def test_a_bad_object_is_refused_with_the_field(server: Any, spec: dict[str, Any], words: str) -> None:
    assert words in server.kubectl("apply", "-f", "-", given=widget("bad", **spec), fails=True)


def test_other_versions_show_the_same_object(server: Any) -> None:
    server.kubectl("apply", "-f", "-", given=widget("both", colour="red"))
    found = json.loads(server.kubectl("get", "--raw", "/apis/example.com/v1beta1/namespaces/default/widgets/both"))
    assert (found["apiVersion"], found["spec"]["colour"]) == ("example.com/v1beta1", "red")


def test_status_and_scale_are_subresources(server: Any) -> None:
    server.kubectl("apply", "-f", "-", given=widget("scaled", colour="red"))
    server.kubectl("scale", "widget/scaled", "--replicas=8")
    server.kubectl("patch", "widget", "scaled", "--subresource=status", "--type=merge", "-p", '{"status":{"size":8}}')
    found = server.kubectl_json("get", "widget", "scaled")
    assert (found["spec"]["size"], found["status"]["size"], found["metadata"]["generation"]) == (8, 8, 2)


def test_explain_knows_custom_fields(server: Any) -> None:
    assert "Its paint." in server.kubectl("explain", "widget.spec.colour")


def test_server_side_apply_works_on_custom_objects(server: Any) -> None:
    server.kubectl("apply", "--server-side", "-f", "-", given=widget("applied", colour="red", size=1))
    server.kubectl("apply", "--server-side", "-f", "-", given=widget("applied", colour="red"))
    assert server.kubectl_json("get", "widget", "applied")["spec"]["size"] == 3


def test_a_definition_with_a_wrong_name_or_a_conversion_webhook_is_refused(server: Any) -> None:
    wrong = json.loads(json.dumps(DEFINITION))
    wrong["metadata"]["name"] = "things.example.com"
    wrong["spec"]["conversion"] = {"strategy": "Webhook"}
    refusal = server.kubectl("create", "-f", "-", given=json.dumps(wrong), fails=True)
    assert "spec.names.plural" in refusal
    assert "the lab does not implement conversion webhooks" in refusal


def test_a_stored_version_need_not_be_served(server: Any) -> None:
    other = json.loads(json.dumps(DEFINITION).replace("widget", "relic").replace("Widget", "Relic"))
    other["spec"]["names"]["shortNames"] = []
    other["spec"]["versions"][0]["served"] = False
    server.kubectl("create", "-f", "-", given=json.dumps(other))
    old = {"apiVersion": "example.com/v1beta1", "kind": "Relic", "metadata": {"name": "r"}, "spec": {"colour": "red"}}
    server.kubectl("create", "-f", "-", given=json.dumps(old))
    assert server.kubectl_json("get", "relics", "r")["apiVersion"] == "example.com/v1beta1"
    server.kubectl("delete", "crd", "relics.example.com")


def test_a_definition_waits_for_its_objects_finalizers(server: Any) -> None:
    other = json.loads(json.dumps(DEFINITION).replace("widget", "gadget").replace("Widget", "Gadget"))
    other["spec"]["names"]["shortNames"] = []
    server.kubectl("create", "-f", "-", given=json.dumps(other))
    body = json.loads(widget("held", colour="red").replace("Widget", "Gadget"))
    body["metadata"]["finalizers"] = ["example.com/hold"]
    server.kubectl("create", "-f", "-", given=json.dumps(body))
    server.kubectl("delete", "crd", "gadgets.example.com", "--wait=false")
    assert "deletionTimestamp" in server.kubectl_json("get", "gadget", "held")["metadata"]
    server.kubectl("patch", "gadget", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "not found" in server.kubectl("get", "crd", "gadgets.example.com", fails=True)
