"""Probes that capture would make blind, written anew by injection and back by uninjection."""

import copy
from typing import Any

import pytest

from contract import environment, names
from proxy.policy.probe import GRPC_TARGET, parse
from tests.webhook.test_inject import CLASSIC, ENABLED, NATIVE, annotated, container, injected, pod
from webhook.inject import apply, uninject
from webhook.settings import Settings

Json = dict[str, Any]


def probed(action: Json, **more: Any) -> Json:
    """A pod whose one container has this readiness probe and a port named `db`."""
    web = {"name": "web", "image": "x", "ports": [{"name": "db", "containerPort": 5432}]}
    return pod(containers=[web | {"readinessProbe": {**action, "periodSeconds": 3}} | more])


def probe_ports(patched: Json) -> str:
    variables = {one["name"]: one.get("value", "") for one in container(patched, names.PROXY_CONTAINER)["env"]}
    return str(variables.get(environment.PROBE_PORTS, ""))


@pytest.mark.parametrize("settings", [NATIVE, CLASSIC])
@pytest.mark.parametrize(
    ("port", "path"),
    [(5432, "/probe/tcp/5432"), ("db", "/probe/tcp/5432?port=db"), ("5432", "/probe/tcp/5432?port=5432")],
)
def test_a_tcp_probe_is_made_by_the_sidecar_which_gets_the_port_in_its_environment(
    port: int | str, path: str, settings: Settings
) -> None:
    patched = injected(probed({"tcpSocket": {"port": port}}), settings=settings)

    probe = container(patched, "web")["readinessProbe"]
    assert {"httpGet": {"path": path, "port": 4191}, "periodSeconds": 3} == probe
    assert "5432" == probe_ports(patched)


def test_every_kind_of_probe_and_every_container_is_looked_at() -> None:
    action = {"tcpSocket": {"port": 1}}
    source = pod(
        initContainers=[{"name": "first", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 7}}}],
        containers=[
            {"name": "web", "livenessProbe": action, "startupProbe": {"tcpSocket": {"port": 9}}},
            {"name": "other", "readinessProbe": {"tcpSocket": {"port": 8}}},
        ],
    )

    patched = injected(source)

    assert "1,7,8,9" == probe_ports(patched)
    assert "tcpSocket" not in str(patched)


@pytest.mark.parametrize(
    "action",
    [
        {"httpGet": {"port": 5432}},
        {"grpc": {"port": 5432}},
        {"exec": {"command": ["true"]}},
        {"tcpSocket": {"port": 5432, "host": "10.0.0.1"}},
        {"tcpSocket": {"port": 4567}},
        {"tcpSocket": {"port": "nonesuch"}},
        {"tcpSocket": {"port": 70000}},
        {"tcpSocket": {}},
        {"tcpSocket": None},
    ],
)
def test_probes_that_tell_the_truth_or_that_nobody_can_make_stay_as_they_are(action: Json) -> None:
    """What the application answers, what asks elsewhere, what is not captured (4567), what the kubelet refuses."""
    source = probed(action)

    patched = injected(source)

    assert source["spec"]["containers"][0]["readinessProbe"] == container(patched, "web")["readinessProbe"]
    assert "" == probe_ports(patched)


def test_hooks_stay_as_they_are() -> None:
    hooks = {"preStop": {"httpGet": {"port": 80}}, "postStart": {"tcpSocket": {"port": 80}}}

    assert hooks == container(injected(pod(containers=[{"name": "web", "lifecycle": hooks}])), "web")["lifecycle"]


@pytest.mark.parametrize("whose", ["pod", "namespace"])
def test_an_annotation_leaves_the_probes_to_the_kubelet(whose: str) -> None:
    source, namespace = probed({"tcpSocket": {"port": 5432}}), copy.deepcopy(ENABLED)
    chosen = source if whose == "pod" else namespace
    chosen["metadata"]["annotations"] = {names.TCP_PROBES: "kubelet"}

    patched = injected(source, namespace)

    assert {"port": 5432} == container(patched, "web")["readinessProbe"]["tcpSocket"]
    assert "" == probe_ports(patched)


@pytest.mark.parametrize("settings", [NATIVE, CLASSIC])
@pytest.mark.parametrize("port", [5432, "db"])
def test_uninject_writes_the_probes_as_they_were(port: int | str, settings: Settings) -> None:
    source = probed({"tcpSocket": {"port": port}}, startupProbe={"httpGet": {"path": "/probe/tcp/1", "port": 80}})

    assert source == uninject(injected(source, settings=settings))


def test_a_pods_own_probe_of_another_page_of_the_admin_port_is_not_touched_by_uninject() -> None:
    source = probed({"httpGet": {"path": "/ready", "port": 4191}})

    assert source == uninject(injected(source))
    assert annotated({}) == uninject(apply(annotated({}), []))


def told(source: Json, settings: Settings = NATIVE) -> Json:
    """What the sidecar's environment says of probes and the node."""
    variables = {
        one["name"]: one for one in container(injected(source, settings=settings), names.PROXY_CONTAINER)["env"]
    }
    field = variables[environment.NODE_IPS]["valueFrom"]["fieldRef"]["fieldPath"]
    return {"probes": variables.get(environment.PROBES, {}).get("value", ""), "node": field}


@pytest.mark.parametrize(
    ("action", "word"),
    [
        ({"httpGet": {"port": 8080, "path": "/healthz"}}, "8080:/healthz"),
        ({"httpGet": {"port": "db", "path": "healthz?full=1#top"}}, "5432:/healthz?full=1"),
        ({"httpGet": {"port": 8080, "path": "/a b/é%20"}}, "8080:/a%20b/%C3%A9%20"),
        ({"httpGet": {"port": 8080, "path": "/$(HOME)"}}, "8080:/$$(HOME)"),
        ({"httpGet": {"port": 8080}}, "8080:/"),
        ({"httpGet": {"port": 8080, "scheme": "HTTPS"}}, ""),
        ({"httpGet": {"port": 8080, "host": "10.0.0.1"}}, ""),
        ({"httpGet": {"port": 8080, "path": "/" + "x" * 1024}}, ""),
        ({"httpGet": {"port": "nonesuch"}}, ""),
        ({"grpc": {"port": 9090, "service": "web"}}, "9090:grpc"),
        ({"tcpSocket": {"port": 8080}}, ""),
        ({"exec": {"command": ["true"]}}, ""),
    ],
)
def test_the_sidecar_is_told_what_the_kubelets_probes_ask(action: Json, word: str) -> None:
    assert word == told(probed(action))["probes"]


def test_what_the_webhook_tells_the_sidecar_reads() -> None:
    several = probed(
        {"httpGet": {"port": 8080, "path": "/ready"}},
        livenessProbe={"grpc": {"port": 9090}},
        startupProbe={"httpGet": {"port": 8080, "path": "/ready"}},
    )

    assert ((8080, b"/ready"), (9090, GRPC_TARGET)) == parse(told(several)["probes"])


@pytest.mark.parametrize(("settings", "field"), [(NATIVE, "status.hostIPs"), (CLASSIC, "status.hostIP")])
def test_the_sidecar_is_told_its_nodes_addresses(settings: Settings, field: str) -> None:
    assert field == told(probed({}), settings)["node"]
