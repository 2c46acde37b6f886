"""The chart: what it renders is valid, narrow, labelled, stable, and what helm renders too."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cli import chart, install
from cli.values import merge, parse_set
from contract import VERSION, names, ports

CHART = Path(chart.__file__).parent.parent / "manifests" / "tulle"
GOLDENS = Path(__file__).parent / "goldens"
CASES: dict[str, tuple[str, list[str], bool]] = {
    "default": ("tulle", [], False),
    "ha": ("mesh", [], True),
    "sets": (
        "tulle",
        [
            "createNamespace=false",
            "registry=registry.example/mesh",
            "tag=v2",
            "pullSecrets=[one, two]",
            "webhook.antiAffinity=preferred",
            "webhook.tolerations=[{key: a, operator: Exists}]",
            "controller.nodeSelector={disk: ssd}",
            "viewer.aggregateToView=false",
        ],
        False,
    ),
}
HELM = os.environ.get("TULLE_HELM") or shutil.which("helm")


def rendered(case: str) -> list[dict[str, Any]]:
    namespace, sets, ha = CASES[case]
    return [manifest.object for manifest in install.manifests(namespace, [], sets, ha=ha)]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(found for found in objects if (found["kind"], found["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_what_was_agreed(case: str) -> None:
    """Set TULLE_UPDATE_GOLDENS=1 to agree on something else; read the diff."""
    namespace, sets, ha = CASES[case]
    text = install.as_yaml(install.manifests(namespace, [], sets, ha=ha))
    golden = GOLDENS / f"install-{case}.yaml"
    if os.environ.get("TULLE_UPDATE_GOLDENS"):
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.parametrize("case", CASES)
def test_every_object_keeps_to_the_published_schemas(case: str) -> None:
    for found in rendered(case):
        kubernetes_validate.validate(found, "1.32", strict=True)


@pytest.mark.helm
@pytest.mark.parametrize("case", CASES)
@pytest.mark.skipif(HELM is None, reason="helm is neither on PATH nor in TULLE_HELM")
def test_helm_renders_the_same(case: str, tmp_path: Path) -> None:
    namespace, sets, ha = CASES[case]
    values = tmp_path / "values.yaml"
    overlay: dict[str, Any] = {}
    for assignment in sets:
        overlay = merge(overlay, parse_set(assignment))
    values.write_text(yaml.safe_dump(overlay))
    command = [str(HELM), "template", chart.RELEASE, str(CHART), "--namespace", namespace, "--kube-version", "1.32"]
    # What a server tells of itself; without one helm knows groups and versions alone.
    command += ["--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"]
    command += ["--values", str(CHART / "values-ha.yaml")] if ha else []
    helm = subprocess.run([*command, "--values", str(values)], capture_output=True, text=True, check=True)
    expected = helm.stdout.replace('managed-by: "Helm"', 'managed-by: "tulle"')
    assert by_name(list(yaml.safe_load_all(expected))) == by_name(rendered(case))


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(found["kind"], found["metadata"]["name"]): found for found in objects if found}


def test_the_chart_the_package_and_the_contract_carry_one_version() -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(CHART.parent.parent / "setup.cfg")
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {VERSION} == {described["version"], described["appVersion"], setup["metadata"]["version"]}


def test_a_namespace_comes_before_what_is_in_it_and_the_registration_last() -> None:
    kinds = [found["kind"] for found in rendered("default")]
    assert kinds[0] == "Namespace"
    assert kinds[-1] == "MutatingWebhookConfiguration"
    assert sorted(kinds, key=chart.APPLY_ORDER.index) == kinds


@pytest.mark.parametrize("case", CASES)
def test_every_object_and_pod_says_whose_it_is(case: str) -> None:
    for found in rendered(case):
        pods = [found["spec"]["template"]] if found["kind"] == "Deployment" else []
        for labels in [each["metadata"]["labels"] for each in (found, *pods)]:
            assert labels["app.kubernetes.io/part-of"] == "tulle"
            assert labels["app.kubernetes.io/version"] == VERSION
            assert labels["app.kubernetes.io/managed-by"] == "tulle"
            assert labels["app.kubernetes.io/name"].startswith("tulle")


@pytest.mark.parametrize("name", [names.WEBHOOK, names.CONTROLLER])
def test_a_pod_of_the_control_plane_is_as_confined_as_pod_security_demands(name: str) -> None:
    spec = named(rendered("default"), "Deployment", name)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == ports.CONTROL_PLANE_UID
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["command"] == [name]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", [names.WEBHOOK, names.CONTROLLER])
def test_services_lead_to_the_pods_and_ports_of_their_deployment(name: str) -> None:
    objects = rendered("default")
    service, deployment = named(objects, "Service", name)["spec"], named(objects, "Deployment", name)["spec"]
    template = deployment["template"]
    assert service["selector"] == deployment["selector"]["matchLabels"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    exposed = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    (port,) = service["ports"]
    expected = {names.WEBHOOK: (443, ports.WEBHOOK_PORT), names.CONTROLLER: (ports.CONTROLLER_PORT,) * 2}
    assert (port["port"], exposed[port["targetPort"]]) == expected[name]


@pytest.mark.parametrize("case", CASES)
def test_an_update_can_always_take_its_next_step(case: str) -> None:
    """A pod that must stand alone on its node can be replaced only after it went; all others before."""
    for name in (names.WEBHOOK, names.CONTROLLER):
        deployment = named(rendered(case), "Deployment", name)["spec"]
        affinity = deployment["template"]["spec"].get("affinity", {}).get("podAntiAffinity", {})
        alone = "requiredDuringSchedulingIgnoredDuringExecution" in affinity
        update = deployment["strategy"]["rollingUpdate"]
        assert (update["maxUnavailable"], update["maxSurge"]) == ((1, 0) if alone else (0, 1))


def test_ha_refuses_pods_rather_than_missing_them() -> None:
    objects = rendered("ha")
    webhooks = named(objects, "MutatingWebhookConfiguration", names.WEBHOOK)["webhooks"]
    assert {webhook["failurePolicy"] for webhook in webhooks} == {"Fail"}
    assert named(objects, "Deployment", names.WEBHOOK)["spec"]["replicas"] == 3
    assert named(objects, "PodDisruptionBudget", names.WEBHOOK)["spec"]["maxUnavailable"] == 1


Labels = dict[str, str]
ENABLED, DISABLED = {names.INJECT: names.ENABLED}, {names.INJECT: names.DISABLED}
TYPO = {names.INJECT: "enabeld"}


@pytest.mark.parametrize(
    ("namespace", "labels", "pod", "asked"),
    [
        ("shop", {}, {}, 0),
        ("shop", ENABLED, {}, 1),
        ("shop", ENABLED, DISABLED, 0),
        ("shop", ENABLED, ENABLED, 1),
        ("shop", ENABLED, TYPO, 1),
        ("shop", {}, ENABLED, 1),
        ("shop", {}, TYPO, 0),
        ("shop", DISABLED, {}, 0),
        ("shop", DISABLED, ENABLED, 1),
        ("kube-system", ENABLED, ENABLED, 0),
        ("kube-system", {}, ENABLED, 0),
        ("tulle", {}, ENABLED, 0),
        ("tulle", ENABLED, {}, 0),
    ],
)
def test_the_api_server_asks_once_for_pods_that_concern_it_and_never_for_others(
    namespace: str, labels: Labels, pod: Labels, asked: int
) -> None:
    webhooks = named(rendered("default"), "MutatingWebhookConfiguration", names.WEBHOOK)["webhooks"]
    labels = labels | {"kubernetes.io/metadata.name": namespace}
    hits = [w for w in webhooks if selects(w["namespaceSelector"], labels) and selects(w["objectSelector"], pod)]
    assert len(hits) == asked


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    tests: dict[str, Callable[[str, list[str]], bool]] = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
    }
    exact = selector.get("matchLabels", {}).items() <= labels.items()
    return exact and all(tests[e["operator"]](e["key"], e["values"]) for e in selector.get("matchExpressions", []))


def test_webhooks_see_pod_creations_only_and_leave_dry_runs_without_a_trace() -> None:
    for webhook in named(rendered("default"), "MutatingWebhookConfiguration", names.WEBHOOK)["webhooks"]:
        (rule,) = webhook["rules"]
        assert (rule["operations"], rule["resources"]) == (["CREATE"], ["pods"])
        assert webhook["sideEffects"] == "NoneOnDryRun"
        assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Ignore", 5)
        assert (webhook["reinvocationPolicy"], webhook["matchPolicy"]) == ("IfNeeded", "Equivalent")
        assert "caBundle" not in webhook["clientConfig"]


def rules(objects: list[dict[str, Any]], kind: str, name: str) -> set[tuple[str, str, str, str]]:
    return {
        (group, resource, only, verb)
        for rule in named(objects, kind, name)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for only in rule.get("resourceNames", ["*"])
        for verb in rule["verbs"]
    }


def test_rights_are_the_few_that_the_programs_use() -> None:
    """As the tables in webhook/settings.py and controller/settings.py have them."""
    objects = rendered("default")
    assert rules(objects, "Role", names.WEBHOOK) == {
        ("", "secrets", "*", "create"),
        ("", "secrets", names.WEBHOOK_SECRET, "get"),
        ("", "secrets", names.WEBHOOK_SECRET, "update"),
    }
    assert rules(objects, "Role", names.CONTROLLER) == {
        ("", "secrets", "*", "create"),
        ("", "secrets", names.IDENTITY_ISSUER, "get"),
    }
    cluster_wide = rules(objects, "ClusterRole", names.WEBHOOK) | rules(objects, "ClusterRole", names.CONTROLLER)
    writes = {rule for rule in cluster_wide if rule[3] not in ("get", "list", "watch")}
    assert writes == {
        ("", "events", "*", "create"),
        ("", "configmaps", "*", "create"),
        ("", "configmaps", names.TRUST_BUNDLE, "update"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", names.WEBHOOK, "patch"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", names.WEBHOOK, "patch"),
        ("policy.tulle.mesh", "trafficpolicies/status", "*", "patch"),
        ("policy.tulle.mesh", "faultinjections/status", "*", "patch"),
    }
    assert not [rule for rule in cluster_wide if rule[1] == "secrets" or "*" in (rule[0], rule[1], rule[3])]


def test_definitions_are_made_from_the_table_of_fields() -> None:
    from manifests.make import TEMPLATES, templates

    stale = [name for name, text in templates().items() if (TEMPLATES / name).read_text() != text]

    assert stale == [], "run python manifests/make.py"


def test_policies_are_judged_at_admission_and_let_in_while_nobody_can_judge() -> None:
    (webhook,) = named(rendered("ha"), "ValidatingWebhookConfiguration", names.WEBHOOK)["webhooks"]
    (rule,) = webhook["rules"]
    assert (rule["apiGroups"], rule["operations"]) == (["policy.tulle.mesh"], ["CREATE", "UPDATE"])
    assert rule["resources"] == ["faultinjections", "trafficpolicies"]
    assert (webhook["failurePolicy"], webhook["sideEffects"]) == ("Ignore", "None")
    assert webhook["clientConfig"]["service"]["path"] == "/validate"
    assert "caBundle" not in webhook["clientConfig"]


@pytest.mark.parametrize("kind", ["trafficpolicies", "faultinjections"])
def test_policies_show_target_and_standing_in_kubectl_get(kind: str) -> None:
    spec = named(rendered("default"), "CustomResourceDefinition", f"{kind}.policy.tulle.mesh")["spec"]
    (version,) = spec["versions"]
    columns = [one["name"] for one in version["additionalPrinterColumns"] if not one.get("priority")]
    assert columns == ["Target", "Port", "Accepted", "Reason", "Age"]
    assert version["subresources"] == {"status": {}}
    assert spec["names"]["categories"] == ["tulle"]


def test_every_value_is_in_the_schema_with_a_comment_and_is_used() -> None:
    text = (CHART / "values.yaml").read_text()
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]
    values = yaml.safe_load(text)
    assert schema.keys() - {"global"} == values.keys()
    for key, value in values.items():
        if isinstance(value, dict):
            assert schema[key]["properties"].keys() == value.keys()
        for path in [f"{key}.{inner}" for inner in value] if isinstance(value, dict) and value else [key]:
            assert f".Values.{path}" in templates, f"{path} is used nowhere"
        before = text[: text.index(f"\n{key}:")]
        assert before.rstrip().splitlines()[-1].startswith("#"), f"{key} has no comment"


@pytest.mark.parametrize("case", CASES)
def test_the_programs_read_the_environment_that_the_chart_gives_them(case: str) -> None:
    """Names and forms; and the defaults of the chart are those of the programs."""
    from controller.settings import read_settings
    from webhook.environment import read_environment

    namespace = CASES[case][0]
    environments = {}
    for name in (names.WEBHOOK, names.CONTROLLER):
        (container,) = named(rendered(case), "Deployment", name)["spec"]["template"]["spec"]["containers"]
        environments[name] = {variable["name"]: variable.get("value", namespace) for variable in container["env"]}
    controller = read_settings(environments[names.CONTROLLER])
    webhook, serving = read_environment(environments[names.WEBHOOK])
    assert (controller.namespace, webhook.control_plane_namespace) == (namespace, namespace)
    if case == "default":
        default_webhook, default_serving = read_environment({})
        assert read_settings({}) == controller
        assert default_serving == serving
        assert default_webhook.proxy_image_name == webhook.proxy_image
        assert default_webhook.init_image_name == webhook.init_image
        assert default_webhook == replace(webhook, proxy_image="", init_image="")


def test_the_webhook_may_change_its_ca_bundle_alone() -> None:
    """What the guard refuses is tried on a real API server; this is what it compares."""
    objects = rendered("ha")
    guard = named(objects, "ValidatingAdmissionPolicy", names.WEBHOOK)["spec"]
    binding = named(objects, "ValidatingAdmissionPolicyBinding", names.WEBHOOK)["spec"]
    text = " ".join(one["expression"] for one in guard["validations"])

    assert (guard["failurePolicy"], binding["validationActions"]) == ("Fail", ["Deny"])
    assert guard["matchConditions"][0]["expression"].endswith('"system:serviceaccount:mesh:tulle-webhook"')
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        found = named(objects, kind, names.WEBHOOK)
        fields = {field for webhook in found["webhooks"] for field in webhook if field not in ("name", "clientConfig")}
        fields |= {field for webhook in found["webhooks"] for field in webhook["clientConfig"]}
        assert not [field for field in fields if f"?{field}" not in text]


def test_the_guard_is_made_where_the_api_offers_it() -> None:
    def kinds(offers: set[str], *sets: str) -> set[str]:
        return {found.object["kind"] for found in install.manifests("tulle", [], list(sets), ha=False, offers=offers)}

    offered = {"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"}
    assert "ValidatingAdmissionPolicyBinding" in kinds(offered)
    assert "ValidatingAdmissionPolicyBinding" not in kinds(set())
    assert "ValidatingAdmissionPolicyBinding" in kinds(set(), "webhook.registrationGuard=always")
    assert "ValidatingAdmissionPolicyBinding" not in kinds(offered, "webhook.registrationGuard=never")


def test_who_reaches_the_webhook_can_be_named() -> None:
    sets = ["webhook.allowedFrom=[{ipBlock: {cidr: 192.0.2.10/32}}]"]
    sets += ["webhook.clientCA=api-ca", "webhook.clientNames=api"]
    objects = [manifest.object for manifest in install.manifests("tulle", [], sets, ha=False)]
    for found in objects:
        kubernetes_validate.validate(found, "1.32", strict=True)

    (rule,) = named(objects, "NetworkPolicy", names.WEBHOOK)["spec"]["ingress"]
    assert rule == {"from": [{"ipBlock": {"cidr": "192.0.2.10/32"}}], "ports": [{"port": "https", "protocol": "TCP"}]}
    pod = named(objects, "Deployment", names.WEBHOOK)["spec"]["template"]["spec"]
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert environment["TULLE_WEBHOOK_CLIENT_CA_FILE"] == "/etc/tulle/client-ca/ca.crt"
    assert environment["TULLE_WEBHOOK_CLIENT_NAMES"] == "api"
    assert {"name": "client-ca", "configMap": {"name": "api-ca"}} in pod["volumes"]
    assert not [found for found in rendered("default") if found["kind"] == "NetworkPolicy"]
