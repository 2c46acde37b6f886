"""The commands against an API server that answers from a table, over real HTTP."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from cli import install
from contract import VERSION, names
from contract.silence import SILENT_PATH
from tests.cli.conftest import Api, Ran, items, status
from tests.cli.test_certificate import LEAF, ONE, START

Tulle = Callable[..., Ran]
CONTROLLER = "/api/v1/namespaces/tulle/services/tulle-controller:8085/proxy"
EMPTY_ROW = {"namespace": "shop", "kind": "deployment", "name": "web", "meshed": 1, "pods": 1, "latency_ms": {}}
ROW = EMPTY_ROW | {"success_rate": 1.0, "rps": 2.0, "latency_ms": {"p50": 1, "p95": 2, "p99": 3}}


def test_stat_asks_in_the_contexts_namespace_with_the_users_token(api: Api, tulle: Tulle) -> None:
    api.answers[f"{CONTROLLER}/api/v1/namespaces/shop/deployments/stat"] = {"window_s": 60, "rows": [ROW]}
    ran = tulle("stat", "deploy")
    assert ran == Ran(
        0,
        "NAME   MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN\n"
        "web       1/1   100.00%   2.0rps           1ms           2ms           3ms          -\n",
        "",
    )
    assert api.requests == [f"GET {CONTROLLER}/api/v1/namespaces/shop/deployments/stat?window=1m"]
    assert api.headers[0]["authorization"] == "Bearer secret-token"


@pytest.mark.parametrize(
    ("arguments", "request_line"),
    [
        ("po -A -t 5m", "/api/v1/pods/stat?window=5m"),
        ("deploy/web -n other", "/api/v1/namespaces/other/deployments/web/stat?window=1m"),
        ("deploy --to svc/web", "/api/v1/namespaces/shop/deployments/stat?window=1m&to=services%2Fweb"),
        (
            "deploy --from deploy/a --from-namespace b",
            "/api/v1/namespaces/shop/deployments/stat?window=1m&from=deployments%2Fa&from_namespace=b",
        ),
        ("ns/shop", "/api/v1/namespaces/shop/stat?window=1m"),
    ],
)
def test_stat_asks_what_its_options_say(api: Api, tulle: Tulle, arguments: str, request_line: str) -> None:
    api.answers[CONTROLLER + request_line] = {"window_s": 60, "rows": []}
    assert tulle("stat", *arguments.split()) == Ran(0, "", "No traffic found.\n")
    assert api.requests == [f"GET {CONTROLLER}{request_line}"]


def test_stat_as_json_is_the_contracts_answer(api: Api, tulle: Tulle) -> None:
    api.answers[f"{CONTROLLER}/api/v1/namespaces/shop/deployments/stat"] = {"window_s": 60, "rows": [ROW, EMPTY_ROW]}
    answer = json.loads(tulle("stat", "deploy", "-o", "json").out)
    assert [row["rps"] for row in answer["rows"]] == [2.0, None]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((422, {"title": "Invalid", "detail": "window: '0s' is no duration"}), "window: '0s' is no duration"),
        ((404, {"title": "Not found"}), "Not found"),
        (status(403, "Forbidden", "me cannot get services/proxy"), "me cannot get services/proxy"),
        (
            status(503, "ServiceUnavailable", "no endpoints available"),
            "the controller in namespace tulle does not answer: no endpoints available (see tulle check)",
        ),
        (status(404, "NotFound", "service not found"), "the controller in namespace tulle does not answer"),
        ((200, b"<html>"), "the controller's answer is not understood"),
        ((200, {"rows": 3}), "the controller's answer is not understood"),
        ((502, b"bad\ngateway"), "HTTP 502: bad gateway"),
    ],
)
def test_a_refusal_is_one_line_with_the_servers_own_words(api: Api, tulle: Tulle, answer: Any, message: str) -> None:
    api.answers[f"{CONTROLLER}/api/v1/namespaces/shop/deployments/stat"] = answer
    ran = tulle("stat", "deploy")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert message in ran.err


@pytest.mark.parametrize("arguments", ["stat nope", "stat deploy -t x", "stat deploy --to web", "stat deploy -o xml"])
def test_a_wrong_command_line_asks_no_cluster(api: Api, tulle: Tulle, arguments: str) -> None:
    ran = tulle(*arguments.split())
    assert (ran.code, ran.out, api.requests) == (2, "", [])
    assert ran.err.startswith("tulle: ")


def test_version_tells_both_sides(api: Api, tulle: Tulle) -> None:
    api.answers[f"{CONTROLLER}/api/v1/version"] = {"version": "0.2.0"}
    assert tulle("version").out == f"Client version: {VERSION}\nServer version: 0.2.0\n"
    assert json.loads(tulle("version", "-o", "json").out) == {"client": VERSION, "server": "0.2.0"}


def test_verbose_tells_each_request(api: Api, tulle: Tulle) -> None:
    api.answers[f"{CONTROLLER}/api/v1/version"] = {"version": VERSION}
    ran = tulle("--verbose", "version")
    assert ran.err == f"tulle: GET {api.url}{CONTROLLER}/api/v1/version: 200\n"


def test_a_proxy_of_the_environment_is_used_unless_the_server_is_taken_out(
    api: Api, tulle: Tulle, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers[f"{CONTROLLER}/api/v1/version"] = {"version": VERSION}
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert "cannot reach the cluster" in tulle("version").err
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert tulle("version").code == 0


def test_version_of_the_client_needs_no_cluster(api: Api, tulle: Tulle) -> None:
    assert tulle("version", "--client") == Ran(0, f"Client version: {VERSION}\n", "")
    assert api.requests == []


def test_version_without_a_controller_says_why_and_fails(api: Api, tulle: Tulle) -> None:
    ran = tulle("version")
    assert (ran.code, ran.out) == (1, f"Client version: {VERSION}\nServer version: unavailable\n")
    assert "does not answer" in ran.err


def test_no_cluster_is_one_line(api: Api, tulle: Tulle, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tulle("--context", "elsewhere", "stat", "deploy")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "no usable kubeconfig" in ran.err
    ran = tulle("--kubeconfig", "/nowhere", "stat", "deploy")
    assert (ran.code, ran.err.count("\n")) == (1, 1)


def test_uninstall_names_everything_the_registration_first(api: Api, tulle: Tulle) -> None:
    api.answers |= {"/api/v1/pods": items(), "/api/v1/configmaps": items()}
    ran = tulle("uninstall")
    found = list(yaml.safe_load_all(ran.out))
    assert (ran.code, ran.err) == (0, "")
    assert [found[0]["kind"], found[-1]["kind"]] == ["MutatingWebhookConfiguration", "Namespace"]
    installed = [manifest.object for manifest in install.manifests("tulle", [], [], ha=False)]
    assert {(each["kind"], each["metadata"]["name"]) for each in found} == {
        (each["kind"], each["metadata"]["name"]) for each in installed if each["kind"] != "CustomResourceDefinition"
    }


def test_uninstall_keeps_what_users_wrote_and_says_how_to_delete_it(api: Api, tulle: Tulle) -> None:
    api.answers |= {"/api/v1/pods": items(), "/api/v1/configmaps": items()}
    last = tulle("uninstall").out.splitlines()[-1]
    assert last.startswith("# Kept")
    assert "kubectl delete crd faultinjections.policy.tulle.mesh trafficpolicies.policy.tulle.mesh" in last


def test_uninstall_finds_what_the_controller_made_in_other_namespaces(api: Api, tulle: Tulle) -> None:
    api.answers["/api/v1/pods"] = items()
    bundle = {"metadata": {"name": names.TRUST_BUNDLE, "namespace": "shop", "uid": "1"}, "data": {"a": "b"}}
    api.answers["/api/v1/configmaps"] = items(bundle)
    found = list(yaml.safe_load_all(tulle("uninstall").out))
    expected = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": names.TRUST_BUNDLE, "namespace": "shop"}}
    assert expected in found
    assert found[-1]["kind"] == "Namespace"


def test_uninstall_can_leave_the_namespace(api: Api, tulle: Tulle) -> None:
    api.answers["/api/v1/pods"] = items()
    kinds = [each["kind"] for each in yaml.safe_load_all(tulle("uninstall", "--keep-namespace").out)]
    assert "Namespace" not in kinds
    assert {"Deployment", "PodDisruptionBudget", "ServiceAccount"} <= set(kinds)


def test_uninstall_refuses_while_pods_are_meshed(api: Api, tulle: Tulle) -> None:
    done = {"metadata": {"name": "done", "namespace": "shop"}, "status": {"phase": "Succeeded"}}
    running = {"metadata": {"name": "web-1", "namespace": "shop"}, "status": {"phase": "Running"}}
    api.answers["/api/v1/pods"] = items(done, running)
    ran = tulle("uninstall")
    assert (ran.code, ran.out) == (1, "")
    assert "1 pods are still meshed: shop/web-1" in ran.err
    assert f"labelSelector={names.MESHED.replace('/', '%2F')}%3Dtulle" in api.requests[0]
    assert tulle("uninstall", "--force").code == 0
    api.answers["/api/v1/pods"] = items(done)
    assert tulle("uninstall").code == 0


def test_uninstall_without_a_cluster_says_that_it_did_not_look(api: Api, tulle: Tulle) -> None:
    ran = tulle("--kubeconfig", "/nowhere", "uninstall")
    assert ran.code == 0
    assert "kind: Namespace" in ran.out
    assert ran.err.startswith("tulle: not looked for meshed pods and trust bundles: no usable kubeconfig")


def healthy(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster in which all is well; its certificate's time is START."""
    api.answers["/version"] = {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
    for manifest in install.manifests("tulle", [], [], ha=False):
        found = dict(manifest.object)
        metadata = found["metadata"]
        prefix = "/apis/" if "/" in found["apiVersion"] else "/api/"
        scope = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        if found["kind"] == "Deployment":
            found["status"] = {"readyReplicas": 1, "updatedReplicas": 1}
        if found["kind"].endswith("WebhookConfiguration"):
            for webhook in found["webhooks"]:
                webhook["clientConfig"]["caBundle"] = base64.b64encode(ONE.pem).decode()
        api.answers[f"{prefix}{found['apiVersion']}{scope}/{found['kind'].lower()}s/{metadata['name']}"] = found
    secret = {"data": {"tls.crt": base64.b64encode(LEAF).decode()}}
    api.answers[f"/api/v1/namespaces/tulle/secrets/{names.WEBHOOK_SECRET}"] = secret
    api.answers["/api/v1/namespaces/tulle/pods"] = items()
    api.answers["/api/v1/namespaces/tulle/services/https:tulle-webhook:443/proxy/readyz"] = (200, b"ok")
    api.answers[f"{CONTROLLER}/api/v1/version"] = {"version": VERSION}
    api.answers[f"{CONTROLLER}{SILENT_PATH}"] = {"after_s": 30.0, "count": 0, "sidecars": []}
    api.answers["/api/v1/pods"] = items()
    api.answers["/api/v1/namespaces"] = items()
    for kind in ("trafficpolicies", "faultinjections"):
        api.answers[f"/apis/policy.tulle.mesh/v1alpha1/{kind}"] = items()
    moment = type("Moment", (), {"now": staticmethod(lambda zone: START)})
    monkeypatch.setattr("cli.check_command.datetime", moment)


def results(ran: Ran) -> dict[str, str]:
    found = json.loads(ran.out)
    return {each["description"]: each["result"] for category in found["categories"] for each in category["checks"]}


def test_check_finds_a_healthy_mesh_healthy(api: Api, tulle: Tulle, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy(api, monkeypatch)
    ran = tulle("check", "--wait", "0", "-o", "json")
    troubles = {name: result for name, result in results(ran).items() if result != "success"}
    # The table's server stamps its answers with the real time, and the test lives at START.
    assert troubles == {"its clock agrees with this machine's": "warning"}
    assert ran.code == 0


def break_version(api: Api) -> None:
    api.answers["/version"] = {"major": "1", "minor": "20", "gitVersion": "v1.20.0"}


def break_objects(api: Api) -> None:
    del api.answers["/apis/rbac.authorization.k8s.io/v1/clusterroles/tulle-viewer"]


def break_webhook(api: Api) -> None:
    path = "/api/v1/namespaces/tulle/services/https:tulle-webhook:443/proxy/readyz"
    api.answers[path] = status(503, "ServiceUnavailable", "no endpoints available")


def break_bundle(api: Api) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/tulle-webhook"
    del api.answers[path]["webhooks"][1]["clientConfig"]["caBundle"]


def break_bundle_of_policies(api: Api) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/tulle-webhook"
    del api.answers[path]["webhooks"][0]["clientConfig"]["caBundle"]


def break_judgement(api: Api) -> None:
    metadata = {"name": "web", "namespace": "shop", "generation": 1}
    api.answers["/apis/policy.tulle.mesh/v1alpha1/trafficpolicies"] = items({"metadata": metadata})


def break_discovery(api: Api) -> None:
    silent = {"namespace": "shop", "pod": "web-1", "silent_s": 61.0}
    api.answers[f"{CONTROLLER}{SILENT_PATH}"] = {"after_s": 30.0, "count": 1, "sidecars": [silent]}


def break_deployment(api: Api) -> None:
    api.answers["/apis/apps/v1/namespaces/tulle/deployments/tulle-controller"]["status"] = {}


@pytest.mark.parametrize(
    ("breaks", "description"),
    [
        (break_version, "is a version that Tulle runs on"),
        (break_objects, "its objects exist"),
        (break_webhook, "it can be reached"),
        (break_bundle, "its certificate is valid and registered"),
        (break_bundle_of_policies, "its certificate is valid and registered"),
        (break_judgement, "all trafficpolicies are in force"),
        (break_discovery, "sidecars are in touch with the controller"),
        (break_deployment, "tulle-controller is ready"),
    ],
)
def test_check_finds_what_is_broken(
    api: Api, tulle: Tulle, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[Api], None], description: str
) -> None:
    healthy(api, monkeypatch)
    breaks(api)
    ran = tulle("check", "--wait", "0", "-o", "json")
    assert [name for name, result in results(ran).items() if result == "error"] == [description]
    assert ran.code == 1


def test_check_of_an_older_controller_says_that_it_cannot_tell_who_is_silent(
    api: Api, tulle: Tulle, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(api, monkeypatch)
    api.answers[f"{CONTROLLER}{SILENT_PATH}"] = (404, {"title": "Not found", "detail": "there is nothing"})
    ran = tulle("check", "--wait", "0", "-o", "json")
    assert (results(ran)["sidecars are in touch with the controller"], ran.code) == ("warning", 0)


def test_check_says_what_a_user_without_rights_could_not_see(
    api: Api, tulle: Tulle, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(api, monkeypatch)
    api.answers[f"/api/v1/namespaces/tulle/secrets/{names.WEBHOOK_SECRET}"] = status(403, "Forbidden", "no")
    ran = tulle("check", "--wait", "0", "-o", "json")
    assert results(ran)["its certificate is valid and registered"] == "warning"
    assert ran.code == 0


def test_check_stops_where_there_is_no_control_plane(api: Api, tulle: Tulle) -> None:
    api.answers["/version"] = {"major": "1", "minor": "32"}
    ran = tulle("check", "--wait", "0")
    assert ran.code == 1
    assert "× namespace tulle exists" in ran.out
    assert "hint: is it installed? tulle install | kubectl apply -f -" in ran.out
    assert "data-plane" not in ran.out


def test_check_in_short_shows_troubles_only(api: Api, tulle: Tulle, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy(api, monkeypatch)
    break_deployment(api)
    ran = tulle("check", "--wait", "0", "-o", "short")
    assert "× tulle-controller is ready" in ran.out
    assert "√ namespace" not in ran.out
    assert ran.out.endswith("Status check results are ×\n")


def test_check_pre_asks_for_every_right_that_an_install_needs(api: Api, tulle: Tulle) -> None:
    api.answers["/version"] = {"major": "1", "minor": "32"}
    api.answers["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = {"status": {"allowed": True}}
    assert tulle("check", "--pre", "--wait", "0").code == 0
    asked = {body["spec"]["resourceAttributes"]["resource"] for body in api.bodies}
    assert {"namespaces", "deployments", "clusterrolebindings", "mutatingwebhookconfigurations"} <= asked
    api.answers["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = {"status": {"allowed": False}}
    ran = tulle("check", "--pre", "--wait", "0")
    assert ran.code == 1
    assert "hint: ask for the cluster-admin role" in ran.out
