"""The decision itself: from a pod and its namespace to a patch, a reason or a refusal."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import VERSION, environment, names, ports
from webhook import containers
from webhook.annotations import SETTINGS, Refused
from webhook.inject import DEFAULT_CONTAINER, Patch, Skip, apply, inject, uninject
from webhook.settings import Settings

Json = dict[str, Any]

GOLDENS = Path(__file__).parent / "goldens"
NATIVE, CLASSIC = Settings(), Settings(native_sidecar=False)
ENABLED: Json = {"metadata": {"name": "demo", "labels": {names.INJECT: names.ENABLED}}}
PLAIN: Json = {"metadata": {"name": "plain"}}

OPAQUE = "21-22,25,110,143,587,2181,2888,3306,3888,4222,4444,5432,6379,9300,9418,11211,26379"


def pod(**spec: Any) -> Json:
    """As the API server hands over a Deployment's pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-6f7c-",
            "labels": {"app": "web"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6f7c", "uid": "u1", "controller": True}
            ],
        },
        "spec": {"containers": [{"name": "web", "image": "nginx"}], **spec},
    }


def annotated(annotations: dict[str, str], **spec: Any) -> Json:
    made = pod(**spec)
    made["metadata"]["annotations"] = annotations
    return made


def injected(source: Json, namespace: Json = ENABLED, settings: Settings = NATIVE) -> Json:
    decision = inject(source, namespace, settings)
    assert isinstance(decision, Patch), decision
    return apply(source, decision.operations)


def skipped(source: Json, namespace: Json = ENABLED) -> Skip:
    decision = inject(source, namespace, NATIVE)
    assert isinstance(decision, Skip)
    return decision


def container(patched: Json, name: str) -> Json:
    every = [*patched["spec"].get("initContainers", []), *patched["spec"]["containers"]]
    (found,) = [one for one in every if one["name"] == name]
    return dict(found)


def foreign(name: str, *, image: str = "some", mark: str = "", field: str = "containers") -> Json:
    """A pod with a container of this name and image, and the mark of another mesh's injector."""
    made = pod()
    made["spec"].setdefault(field, []).append({"name": name, "image": image})
    made["metadata"]["annotations"] = {mark: "x"} if mark else {}
    return made


CROWDED = pod(
    initContainers=[{"name": "migrate", "image": "m"}, {"name": "logs", "image": "l", "restartPolicy": "Always"}],
    containers=[
        {
            "name": "web",
            "image": "nginx",
            "envFrom": [{"configMapRef": {"name": "web"}}],
            "env": [{"name": "A", "value": "b"}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        },
        {"name": "metrics", "image": "x"},
    ],
    volumes=[{"name": "data", "emptyDir": {}}],
    securityContext={"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
)


@pytest.mark.parametrize(
    ("name", "source", "namespace", "settings"),
    [
        ("native", pod(), ENABLED, NATIVE),
        ("native-crowded", CROWDED, ENABLED, NATIVE),
        ("classic-crowded", CROWDED, ENABLED, CLASSIC),
    ],
)
def test_pods_come_out_as_their_goldens(name: str, source: Json, namespace: Json, settings: Settings) -> None:
    """To accept a change: run with UPDATE_GOLDENS=1, and look at what git shows."""
    text = json.dumps(injected(source, namespace, settings), indent=2) + "\n"
    golden = GOLDENS / f"{name}.json"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)

    assert golden.read_text() == text


def test_the_sidecar_comes_before_the_pods_own_init_containers() -> None:
    order = [one["name"] for one in injected(CROWDED)["spec"]["initContainers"]]

    assert ["tulle-init", "tulle-proxy", "migrate", "logs"] == order


def test_on_older_servers_capture_comes_last_and_the_sidecar_first_of_the_containers() -> None:
    spec = injected(CROWDED, settings=CLASSIC)["spec"]

    assert ["migrate", "logs", "tulle-init"] == [one["name"] for one in spec["initContainers"]]
    assert ["tulle-proxy", "web", "metrics"] == [one["name"] for one in spec["containers"]]


def test_a_plain_sidecar_holds_back_the_containers_after_it_and_knows_no_newer_fields() -> None:
    sidecar = container(injected(pod(), settings=CLASSIC), "tulle-proxy")

    assert ["python3", "-c", containers.HOLD] == sidecar["lifecycle"]["postStart"]["exec"]["command"]
    assert not {"restartPolicy", "startupProbe"} & sidecar.keys()


def test_a_plain_sidecar_does_not_become_what_kubectl_logs_means() -> None:
    assert "web" == injected(pod(), settings=CLASSIC)["metadata"]["annotations"][DEFAULT_CONTAINER]
    assert DEFAULT_CONTAINER not in injected(pod())["metadata"]["annotations"]


def test_a_native_sidecar_is_ready_before_the_next_container_starts() -> None:
    sidecar = container(injected(pod()), "tulle-proxy")

    assert "Always" == sidecar["restartPolicy"]
    assert ({"path": "/ready", "port": 4191}, 1) == (
        sidecar["startupProbe"]["httpGet"],
        sidecar["startupProbe"]["periodSeconds"],
    )
    assert "/live" == sidecar["livenessProbe"]["httpGet"]["path"]


def test_no_probe_of_the_sidecar_comes_before_its_port_can_be_open() -> None:
    """A probe that is refused is a Warning Event, at every start."""
    native = container(injected(pod()), "tulle-proxy")
    plain = container(injected(pod(), settings=CLASSIC), "tulle-proxy")

    assert (1, 3) == (native["startupProbe"]["initialDelaySeconds"], native["startupProbe"]["timeoutSeconds"])
    assert (1, 1) == tuple(plain[f"{kind}Probe"]["initialDelaySeconds"] for kind in ("readiness", "liveness"))


def test_the_patch_only_adds() -> None:
    for settings in (NATIVE, CLASSIC):
        decision = inject(CROWDED, ENABLED, settings)

        assert isinstance(decision, Patch)
        assert {"add"} == {operation["op"] for operation in decision.operations}


def test_the_pod_given_stays_as_it_was() -> None:
    before = copy.deepcopy(CROWDED)

    injected(CROWDED)

    assert before == CROWDED


@pytest.mark.parametrize("settings", [NATIVE, CLASSIC], ids=["native", "classic"])
@pytest.mark.parametrize("source", [pod(), CROWDED, {"spec": {"containers": [{"name": "a"}]}}])
def test_applied_twice_equals_applied_once_and_taken_away_equals_never_applied(
    source: Json, settings: Settings
) -> None:
    namespace = {"metadata": {**ENABLED["metadata"], "annotations": {names.OPAQUE_PORTS: "+9000"}}}
    once = injected(source, namespace, settings)

    again = inject(once, namespace, settings)

    assert isinstance(again, Skip)
    assert ("AlreadyInjected", once) == (again.reason, apply(once, again.operations))
    assert {"metadata": {}} | source == uninject(once)
    assert uninject(once) == uninject(uninject(once))


def test_taking_away_leaves_a_pod_that_was_never_injected_as_it_is() -> None:
    assert CROWDED == uninject(CROWDED)


def test_taking_away_keeps_the_pods_own_settings() -> None:
    source = annotated({names.PROXY_LOG_LEVEL: "debug"})

    assert source == uninject(injected(source))


def test_taking_away_clears_the_word_of_a_skip() -> None:
    source = annotated({"a": "b"}, hostNetwork=True)

    assert source == uninject(apply(source, skipped(source).operations))


def test_the_init_container_has_two_capabilities_and_nothing_else() -> None:
    context = container(injected(CROWDED), "tulle-init")["securityContext"]

    assert {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]} == context["capabilities"]
    assert (0, False, False, True) == (
        context["runAsUser"],
        context["runAsNonRoot"],
        context["allowPrivilegeEscalation"],
        context["readOnlyRootFilesystem"],
    )


def test_the_sidecar_has_no_capability_at_all() -> None:
    context = container(injected(CROWDED), "tulle-proxy")["securityContext"]

    assert ({"drop": ["ALL"]}, ports.PROXY_UID, True) == (
        context["capabilities"],
        context["runAsUser"],
        context["runAsNonRoot"],
    )


def test_the_sidecar_learns_who_it_is_from_the_downward_api() -> None:
    variables = {one["name"]: one for one in container(injected(pod()), "tulle-proxy")["env"]}

    assert "status.podIPs" == variables[environment.POD_IPS]["valueFrom"]["fieldRef"]["fieldPath"]
    assert "http://tulle-controller.tulle.svc.cluster.local:8085" == variables[environment.CONTROLLER_URL]["value"]
    assert OPAQUE == variables[environment.OPAQUE_PORTS]["value"]


def test_the_identity_volume_holds_a_token_for_the_mesh_and_the_trust_bundle() -> None:
    (volume,) = [one for one in injected(pod())["spec"]["volumes"] if one["name"] == "tulle-identity"]

    token, bundle = volume["projected"]["sources"]
    assert (names.TOKEN_AUDIENCE, "token") == (
        token["serviceAccountToken"]["audience"],
        token["serviceAccountToken"]["path"],
    )
    assert (names.TRUST_BUNDLE, True) == (bundle["configMap"]["name"], bundle["configMap"]["optional"])


def test_the_pod_says_what_was_decided() -> None:
    metadata = injected(pod())["metadata"]

    assert {
        names.STATUS: "injected",
        names.CREATED_BY: f"tulle-webhook/{VERSION}",
        names.PROXY_VERSION: VERSION,
    } == metadata["annotations"]
    assert {"app": "web", names.MESHED: "tulle"} == metadata["labels"]


@pytest.mark.parametrize(
    ("reason", "source", "namespace"),
    [
        ("HostNetwork", pod(hostNetwork=True), ENABLED),
        ("OtherMesh", foreign("istio-proxy", mark="sidecar.istio.io/status"), ENABLED),
        ("OtherMesh", foreign("istio-proxy", image="docker.io/istio/proxyv2:1.28.0"), ENABLED),
        ("OtherMesh", foreign("linkerd-init", mark="linkerd.io/proxy-version", field="initContainers"), ENABLED),
        ("OtherMesh", foreign("linkerd-proxy", image="cr.l5d.io/linkerd/proxy:edge"), ENABLED),
        ("OtherMesh", foreign("consul-dataplane", mark="consul.hashicorp.com/connect-inject-status"), ENABLED),
        ("OtherMesh", foreign("kuma-sidecar", mark="kuma.io/sidecar-injected"), ENABLED),
        ("OtherMesh", foreign("envoy", image="public.ecr.aws/appmesh/aws-appmesh-envoy:v1"), ENABLED),
        ("OtherMesh", foreign("traffic-agent", image="localhost:5000/tel2:2"), ENABLED),
        ("Windows", pod(os={"name": "windows"}), ENABLED),
        ("Windows", pod(nodeSelector={"kubernetes.io/os": "windows"}), ENABLED),
        ("Disabled", annotated({names.INJECT: "disabled"}), ENABLED),
        ("Disabled", pod(), {"metadata": {"labels": {names.INJECT: "disabled"}}}),
        ("NotEnabled", pod(), PLAIN),
    ],
)
def test_what_is_left_alone_says_why(reason: str, source: Json, namespace: Json) -> None:
    decision = skipped(source, namespace)

    patched = apply(source, decision.operations)
    assert (reason, "skipped", reason) == (
        decision.reason,
        patched["metadata"]["annotations"][names.STATUS],
        patched["metadata"]["annotations"][names.SKIP_REASON],
    )
    assert source["spec"] == patched["spec"]


@pytest.mark.parametrize(
    "source",
    [
        foreign("envoy", image="envoyproxy/envoy:v1.36"),
        foreign("envoy"),
        foreign("envoy-sidecar", image="envoyproxy/envoy:v1.36"),
        foreign("istio-proxy", image="registry.example.com:5000/web"),
        foreign("linkerd-init", field="initContainers"),
        foreign("web", mark="sidecar.istio.io/inject"),
        foreign("web", mark="sidecar.istio.io/status"),
        foreign("envoy", image="appmesh.example.com/envoy"),
    ],
)
def test_a_container_that_only_has_the_name_of_another_meshs_sidecar_is_meshed(source: Json) -> None:
    assert isinstance(inject(source, ENABLED, NATIVE), Patch)


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_the_pods_own_wish_wins_over_another_meshs_sidecar_and_the_answer_warns(field: str) -> None:
    source = foreign("istio-proxy", mark="sidecar.istio.io/status")
    source["metadata"][field] = {**source["metadata"].get(field, {}), names.INJECT: "enabled"}

    decision = inject(source, ENABLED, NATIVE)

    assert isinstance(decision, Patch)
    assert any("belongs to another mesh (Istio)" in warning for warning in decision.warnings)


@pytest.mark.parametrize(
    ("policy", "url", "warns"),
    [
        ("None", "", True),
        ("Default", "", True),
        ("ClusterFirst", "", False),
        ("ClusterFirstWithHostNet", "", False),
        ("None", "http://10.96.0.5:8085", False),
        ("None", "http://[fd00::5]:8085", False),
        ("Default", "http://controller.example.com:8085", True),
    ],
)
def test_a_pod_whose_dns_may_not_know_the_controller_is_warned_of(policy: str, url: str, warns: bool) -> None:
    decision = inject(pod(dnsPolicy=policy), ENABLED, Settings(controller_url=url))

    assert isinstance(decision, Patch)
    assert warns == any(f"dnsPolicy {policy}: the sidecar finds the controller" in one for one in decision.warnings)


def test_a_static_pods_mirror_is_left_alone_without_a_word() -> None:
    decision = skipped(annotated({"kubernetes.io/config.mirror": "x"}))

    assert ("MirrorPod", []) == (decision.reason, decision.operations)


def test_the_pods_own_wish_wins_over_its_namespaces() -> None:
    labelled = pod()
    labelled["metadata"]["labels"][names.INJECT] = "enabled"
    disabled = {"metadata": {"labels": {names.INJECT: "disabled"}}}

    for namespace in (PLAIN, disabled):
        assert isinstance(inject(labelled, namespace, NATIVE), Patch)
        assert isinstance(inject(annotated({names.INJECT: "enabled"}), namespace, NATIVE), Patch)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        ("inject", "enable", "pod annotation tulle.mesh/inject: 'enable' is unknown; did you mean enabled?"),
        ("inject", "true", "pod annotation tulle.mesh/inject: 'true' is unknown; write enabled or disabled"),
        ("skip-inbound-ports", "99999", "pod annotation tulle.mesh/skip-inbound-ports: '99999' is out of range"),
        ("skip-inbound-subnets", "10.0.0.0/99", "pod annotation tulle.mesh/skip-inbound-subnets: '10.0.0.0/99' is"),
        ("opaque-ports", "http", "pod annotation tulle.mesh/opaque-ports: 'http' is no port; write a number"),
        ("proxy-log-level", "loud", "'loud' is no log level; write one of error, warn, info, debug"),
        ("proxy-uid", "0", "'0' is no user id for the sidecar; write a number from 1"),
        ("proxy-uid", "root", "'root' is no user id for the sidecar"),
        ("proxy-image", "a b", "'a b' is no image name; write it as registry/name:tag"),
        ("proxy-cpu-request", "ten", "'ten' is no quantity; write CPU such as 100m or 0.5"),
        ("proxy-cpu-request", "0", "'0' is no CPU; write more than zero"),
        ("proxy-memory-limit", "64m", "'64m' is less than 1Mi; write memory with its unit"),
        ("proxy-memory-limit", "1Mi", "tulle.mesh/proxy-memory-request: the request 40Mi is above the limit 1Mi"),
        ("skip-inbound-port", "80", "tulle.mesh/skip-inbound-port is unknown; did you mean tulle.mesh/skip-inbound-p"),
        ("opaque-ports", "1," * 3000, "has 6000 characters; the most is 4096"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(annotation: str, value: str, message: str) -> None:
    with pytest.raises(Refused) as refusal:
        inject(annotated({f"tulle.mesh/{annotation}": value}), ENABLED, NATIVE)

    assert message in str(refusal.value)


def test_a_fault_of_the_namespace_is_told_as_the_namespaces() -> None:
    namespace = {"metadata": {**ENABLED["metadata"], "annotations": {names.PROXY_UID: "x"}}}

    with pytest.raises(Refused, match=r"namespace annotation tulle.mesh/proxy-uid: 'x' is no user id"):
        inject(pod(), namespace, NATIVE)


def test_annotations_of_others_are_none_of_our_business() -> None:
    assert injected(annotated({"policy.tulle.mesh/x": "1", "example.com/tulle.mesh/y": "2"}))


SETTING_EFFECTS = [
    (names.SKIP_INBOUND_PORTS, "80,90-99", "tulle-init", "args", "--skip-inbound-ports=80,90-99"),
    (names.SKIP_INBOUND_PORTS, "+80", "tulle-init", "args", "--skip-inbound-ports=80,4567-4568"),
    (names.SKIP_INBOUND_PORTS, "", "tulle-init", "args", "--skip-inbound-ports="),
    (names.SKIP_OUTBOUND_PORTS, "80", "tulle-init", "args", "--skip-outbound-ports=80"),
    (names.SKIP_INBOUND_SUBNETS, "10.0.0.0/8", "tulle-init", "args", "--skip-inbound-subnets=10.0.0.0/8"),
    (names.SKIP_OUTBOUND_SUBNETS, "fd00::/8", "tulle-init", "args", "--skip-outbound-subnets=fd00::/8"),
    (names.PROXY_UID, "3000", "tulle-init", "args", "--proxy-uid=3000"),
    (names.OPAQUE_PORTS, "9000", "tulle-proxy", "env", {"name": environment.OPAQUE_PORTS, "value": "9000"}),
    (
        names.OPAQUE_PORTS,
        "+9000",
        "tulle-proxy",
        "env",
        {"name": environment.OPAQUE_PORTS, "value": OPAQUE.replace("9300", "9000,9300")},
    ),
    (names.PROXY_LOG_LEVEL, "debug", "tulle-proxy", "env", {"name": environment.LOG_LEVEL, "value": "debug"}),
]


@pytest.mark.parametrize(("name", "value", "where", "field", "expected"), SETTING_EFFECTS)
def test_a_setting_holds_from_the_pod_or_from_its_namespace(
    name: str, value: str, where: str, field: str, expected: object
) -> None:
    namespace = {"metadata": {**ENABLED["metadata"], "annotations": {name: value}}}

    assert expected in container(injected(annotated({name: value})), where)[field]
    assert expected in container(injected(pod(), namespace), where)[field]


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        (names.PROXY_CPU_REQUEST, "20m", ("requests", "cpu")),
        (names.PROXY_CPU_LIMIT, "2", ("limits", "cpu")),
        (names.PROXY_MEMORY_REQUEST, "64Mi", ("requests", "memory")),
        (names.PROXY_MEMORY_LIMIT, "1Gi", ("limits", "memory")),
    ],
)
def test_resources_hold_for_both_containers(name: str, value: str, path: tuple[str, str]) -> None:
    patched = injected(annotated({name: value}))

    for one in ("tulle-init", "tulle-proxy"):
        assert value == container(patched, one)["resources"][path[0]][path[1]]


def test_user_and_image_of_the_sidecar_can_be_set() -> None:
    sidecar = container(
        injected(annotated({names.PROXY_UID: "3000", names.PROXY_IMAGE: "localhost:5000/p@sha256:" + "a" * 64})),
        "tulle-proxy",
    )

    assert (3000, 3000) == (sidecar["securityContext"]["runAsUser"], sidecar["securityContext"]["runAsGroup"])
    assert "localhost:5000/p@sha256:" + "a" * 64 == sidecar["image"]


def test_the_pods_setting_wins_over_its_namespaces_and_plus_adds_to_it() -> None:
    namespace = {"metadata": {**ENABLED["metadata"], "annotations": {names.OPAQUE_PORTS: "1000"}}}

    for value, expected in (("2000", "2000"), ("+2000", "1000,2000")):
        sidecar = container(injected(annotated({names.OPAQUE_PORTS: value}), namespace), "tulle-proxy")

        assert {"name": environment.OPAQUE_PORTS, "value": expected} in sidecar["env"]


def test_the_namespaces_settings_are_frozen_on_the_pod() -> None:
    namespace = {
        "metadata": {
            **ENABLED["metadata"],
            "annotations": {names.OPAQUE_PORTS: "+1000", names.PROXY_UID: "7", "other": "x"},
        }
    }
    source = annotated({names.PROXY_UID: "8"})

    annotations = injected(source, namespace)["metadata"]["annotations"]

    assert ("+1000", "8") == (annotations[names.OPAQUE_PORTS], annotations[names.PROXY_UID])
    assert "other" not in annotations
    assert names.OPAQUE_PORTS == annotations[names.ADDED_ANNOTATIONS]


def test_an_application_that_runs_as_the_sidecars_user_is_warned_of() -> None:
    decision = inject(pod(securityContext={"runAsUser": 2102}), ENABLED, NATIVE)

    assert isinstance(decision, Patch)
    assert "container web runs as user 2102, the sidecar's" in decision.warnings[0]


def test_an_application_that_listens_on_a_port_of_the_sidecar_is_warned_of() -> None:
    source = pod(containers=[{"name": "web", "ports": [{"containerPort": 4143}]}])

    decision = inject(source, ENABLED, NATIVE)

    assert isinstance(decision, Patch)
    assert "container web listens on 4143" in decision.warnings[0]


def test_a_namespace_whose_pod_security_forbids_capture_is_warned_of() -> None:
    labels = {names.INJECT: "enabled", "pod-security.kubernetes.io/enforce": "restricted"}

    decision = inject(pod(), {"metadata": {"labels": labels}}, NATIVE)

    assert isinstance(decision, Patch)
    assert "enforces the PodSecurity level restricted, which forbids" in decision.warnings[0]


def test_a_job_on_an_older_server_is_warned_of() -> None:
    source = pod()
    source["metadata"]["ownerReferences"][0]["kind"] = "Job"

    decision = inject(source, ENABLED, CLASSIC)

    assert isinstance(decision, Patch)
    assert "keeps the Job's pod from completing" in decision.warnings[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"spec": {}}, "spec.containers is empty"),
        ({"spec": "x"}, "spec is no object"),
        ({"metadata": [], "spec": {"containers": [{}]}}, "metadata is no object"),
        ({"metadata": {"annotations": {"a": 1}}, "spec": {"containers": [{}]}}, "metadata.annotations.a. is no text"),
        ({"spec": {"containers": {"a": 1}}}, "spec.containers is no list"),
        ({"spec": {"containers": [{}], "volumes": [1]}}, "spec.volumes is no list"),
        ({"spec": {"containers": [{}], "volumes": [{"name": "tulle-run"}]}}, "the name tulle-run is the mesh's own"),
    ],
)
def test_what_is_no_pod_is_refused_by_field(source: Json, message: str) -> None:
    with pytest.raises(Refused, match=message):
        inject(source, ENABLED, NATIVE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)


CONTAINER = st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "securityContext", "ports"), JSON))
SPEC = st.fixed_dictionaries(
    {"containers": st.lists(CONTAINER, min_size=1, max_size=2)},
    optional={
        "initContainers": st.lists(CONTAINER, max_size=1),
        **dict.fromkeys(("volumes", "os", "nodeSelector", "securityContext", "hostNetwork"), JSON),
    },
)
METADATA = st.fixed_dictionaries({}, optional={"ownerReferences": JSON, "annotations": JSON, "labels": JSON})


@pytest.mark.parametrize("settings", [NATIVE, CLASSIC], ids=["native", "classic"])
@given(st.fixed_dictionaries({"spec": SPEC}, optional={"metadata": METADATA}))
def test_whatever_arrives_ends_in_a_decision_or_a_refusal(settings: Settings, source: Json) -> None:
    try:
        inject(source, ENABLED, settings)
    except Refused:
        pass


@given(JSON)
def test_whatever_is_no_pod_at_all_is_refused(source: Any) -> None:
    with pytest.raises(Refused):
        inject(source, ENABLED, NATIVE)


@given(st.dictionaries(st.sampled_from(SETTINGS), st.text(max_size=20)))
def test_whatever_an_annotation_says_ends_in_a_decision_or_a_refusal(annotations: dict[str, str]) -> None:
    try:
        inject(annotated(annotations), ENABLED, NATIVE)
    except Refused:
        pass


WORKLOADS = {
    "Pod": ("v1", lambda template: template),
    "ReplicationController": ("v1", lambda template: {"spec": {"selector": {"app": "web"}, "template": template}}),
    "Deployment": ("apps/v1", None),
    "ReplicaSet": ("apps/v1", None),
    "StatefulSet": ("apps/v1", lambda template: {"spec": _selected(template) | {"serviceName": "web"}}),
    "DaemonSet": ("apps/v1", None),
    "Job": ("batch/v1", lambda template: {"spec": {"template": template}}),
    "CronJob": (
        "batch/v1",
        lambda template: {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}},
    ),
}


def _selected(template: Json) -> Json:
    return {"selector": {"matchLabels": {"app": "web"}}, "template": template}


@pytest.mark.parametrize("kind", WORKLOADS)
@pytest.mark.parametrize(("settings", "version"), [(NATIVE, "1.31"), (CLASSIC, "1.27")], ids=["native", "classic"])
def test_injected_workloads_of_every_kind_validate_against_the_kubernetes_schemas(
    kind: str, settings: Settings, version: str
) -> None:
    api_version, wrap = WORKLOADS[kind]
    source = copy.deepcopy(CROWDED)
    if not settings.native_sidecar:
        source["spec"]["initContainers"].pop()  # a native sidecar of its own
    crowded = injected(source, settings=settings)
    template = {
        "metadata": {"labels": crowded["metadata"]["labels"], "annotations": crowded["metadata"]["annotations"]}
    }
    template["spec"] = crowded["spec"]
    wrapped = (wrap or (lambda inner: {"spec": _selected(inner)}))(template)
    metadata = {"name": "web", **wrapped.get("metadata", {})}

    document = {**wrapped, "apiVersion": api_version, "kind": kind, "metadata": metadata}

    kubernetes_validate.validate(document, version, strict=True)
