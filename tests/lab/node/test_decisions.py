"""The node's pure parts as tables: what goes in, what must come out."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.node import node_object, quantity
from lab.node.addresses import AddressPool, NoAddressLeft
from lab.node.credentials import credentials
from lab.node.endpoints import collect
from lab.node.environment import ConfigurationFault, NodeFacts, Sources, environment, expand, field
from lab.node.launch import DEFAULT_CAPABILITIES
from lab.node.launching import Host, Places, launch
from lab.node.pod_files import hosts, resolv_conf
from lab.node.refusals import refusals
from lab.node.volume_content import files

FACTS = NodeFacts("node", "10.244.0.1", "fd00:10:244::1", "2", "1024Ki")
MAPS = {"cm": {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\xff").decode()}}}
SECRETS = {"s": {"data": {"p": base64.b64encode(b"word").decode()}}}


def sources(*services: Any) -> Sources:
    return Sources(MAPS.get, SECRETS.get, tuple(collect(services, [])), FACTS)


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "ns", "uid": "u", "labels": {"k": 'v"1'}, "annotations": {"n": "x\ny"}}
    status = {"podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}, {"ip": "fd00:10:244::9"}]}
    one = {"name": "c", "command": ["run"], **(container or {})}
    return {"metadata": metadata, "spec": {"containers": [one], **spec}, "status": status}


def test_addresses_come_in_turn_and_one_given_back_comes_last() -> None:
    pool = AddressPool()
    first, second = pool.take(), pool.take()
    assert (first.v4, first.v6, first.link) == ("10.244.0.2", "fd00:10:244::2", "pod0-2")
    pool.give(first)
    assert [pool.take().v4 for _ in range(2)] == ["10.244.0.4", "10.244.0.5"]
    assert second.v4 == "10.244.0.3"


def test_addresses_run_out_with_a_clear_word() -> None:
    pool = AddressPool()
    taken = [pool.take() for _ in range(65533)]
    assert len({entry.v4 for entry in taken}) == len({entry.link for entry in taken}) == 65533
    with pytest.raises(NoAddressLeft, match=r"10\.244\.0\.0/16"):
        pool.take()
    pool.give(taken[7])
    assert pool.take() == taken[7]


@pytest.mark.parametrize(
    ("text", "divisor", "expected"),
    [
        ("100m", "1", "1"),
        ("1500m", "1m", "1500"),
        ("64Mi", "1", "67108864"),
        ("64Mi", "1Mi", "64"),
        ("1e3", "0", "1000"),
    ],
)
def test_a_quantity_is_divided_and_rounded_up(text: str, divisor: str, expected: str) -> None:
    assert quantity.divided(text, divisor) == expected


@pytest.mark.parametrize("text", ["", "1x", "Mi", "1 Gi", "--1"])
def test_what_is_no_quantity_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(NO)", "$(NO)"), ("a$(A)b$(A)", "a1b1"), ("$A", "$A"), ("$$$(A)", "$1")],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@given(st.text())
def test_text_without_a_dollar_is_never_changed(text: str) -> None:
    assert expand(text.replace("$", ""), {"A": "1"}) == text.replace("$", "")


def test_variables_come_from_everywhere_and_the_last_one_wins() -> None:
    container = {
        "envFrom": [{"prefix": "M_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
        "env": [
            {"name": "p", "value": "own"},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "BOTH", "value": "$(M_a)-$(IPS)"},
            {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "b"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": True}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
    }
    whole = pod(container)
    assert environment(whole, whole["spec"]["containers"][0], sources()) == {
        "M_a": "1",
        "M_b": "2",
        "p": "own",
        "IPS": "10.244.0.9,fd00:10:244::9",
        "BOTH": "1-10.244.0.9,fd00:10:244::9",
        "ONE": "2",
        "CPU": "2",
    }


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"envFrom": [{"configMapRef": {"name": "no"}}]}, 'configmap "no" not found'),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x"}}}]}, "couldn't find key x"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}, "fieldRef spec.x"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(container: dict[str, Any], words: str) -> None:
    whole = pod(container)
    with pytest.raises(ConfigurationFault, match=words):
        environment(whole, whole["spec"]["containers"][0], sources())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['k']", 'v"1'),
        ("metadata.labels", 'k="v\\"1"'),
        ("metadata.annotations", 'n="x\\ny"'),
        ("status.hostIP", "10.244.0.1"),
        ("spec.serviceAccountName", "default"),
    ],
)
def test_a_field_of_the_pod_is_read(path: str, expected: str) -> None:
    assert field(path, pod(), FACTS) == expected


def test_services_of_the_namespace_and_the_api_server_are_in_the_environment() -> None:
    def service(namespace: str, name: str, address: str) -> dict[str, Any]:
        spec = {"clusterIP": address, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
        return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}

    known = sources(
        service("ns", "my-web", "10.96.0.5"),
        service("default", "kubernetes", "10.96.0.1"),
        service("o", "x", "10.96.0.6"),
    )
    whole = pod()
    found = environment(whole, whole["spec"]["containers"][0], known)
    assert found["MY_WEB_SERVICE_HOST"] == "10.96.0.5"
    assert found["MY_WEB_SERVICE_PORT_HTTP"] == "80"
    assert found["MY_WEB_PORT_80_TCP"] == "tcp://10.96.0.5:80"
    assert not [name for name in found if name.startswith("X_")]
    whole["spec"]["enableServiceLinks"] = False
    only = environment(whole, whole["spec"]["containers"][0], known)
    assert {name.split("_")[0] for name in only} == {"KUBERNETES"}


def test_a_container_that_asks_for_nothing_is_root_with_the_default_capabilities() -> None:
    whole = pod()
    who = credentials(whole, whole["spec"]["containers"][0])
    assert (who.uid, who.gid, who.no_new_privileges) == (0, 0, False)
    assert set(who.capabilities) == DEFAULT_CAPABILITIES


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"runAsUser": 5}, {"runAsUser": 7, "runAsGroup": 8, "fsGroup": 9}, (5, 8, (8, 9), False)),
        ({"allowPrivilegeEscalation": False}, {"supplementalGroups": [4]}, (0, 0, (0, 4), True)),
    ],
)
def test_the_containers_word_wins_over_the_pods(ours: Any, theirs: Any, expected: Any) -> None:
    whole = pod({"securityContext": ours}, securityContext=theirs)
    who = credentials(whole, whole["spec"]["containers"][0])
    assert (who.uid, who.gid, who.groups, who.no_new_privileges) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"drop": ["ALL"]}, set()),
        ({"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]}, {"NET_ADMIN", "NET_RAW"}),
        ({"drop": ["NET_RAW"]}, DEFAULT_CAPABILITIES - {"NET_RAW"}),
        ({"add": ["SYS_ADMIN", "SYS_PTRACE"]}, DEFAULT_CAPABILITIES | {"SYS_PTRACE"}),
        ({"add": ["ALL"]}, DEFAULT_CAPABILITIES),
    ],
)
def test_capabilities_are_dropped_and_then_added(change: Any, expected: set[str]) -> None:
    whole = pod({"securityContext": {"capabilities": change}})
    assert set(credentials(whole, whole["spec"]["containers"][0]).capabilities) == expected


@pytest.mark.parametrize(
    ("security", "words"),
    [({"runAsNonRoot": True}, "runAsNonRoot"), ({"capabilities": {"add": ["FLY"]}}, "unknown capability FLY")],
)
def test_a_security_context_that_cannot_be_is_refused(security: Any, words: str) -> None:
    whole = pod({"securityContext": security})
    with pytest.raises(ConfigurationFault, match=words):
        credentials(whole, whole["spec"]["containers"][0])


@pytest.mark.parametrize(
    ("container", "spec", "words"),
    [
        ({"command": []}, {}, "the lab pulls no images"),
        ({"securityContext": {"privileged": True}}, {}, "privileged"),
        ({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}, {}, "SYS_ADMIN would reach the host itself"),
        ({"securityContext": {"capabilities": {"add": ["cap_sys_module"]}}}, {}, "SYS_MODULE would reach the host"),
        ({"securityContext": {"capabilities": {"add": ["DAC_READ_SEARCH"]}}}, {}, "DAC_READ_SEARCH would reach"),
        ({"securityContext": {"capabilities": {"add": ["ALL"]}}}, {}, "ALL would reach the host itself"),
        ({"ports": [{"containerPort": 1, "hostPort": 80}]}, {}, "hostPort 80"),
        ({"readinessProbe": {"grpc": {"port": 1}}}, {}, "readinessProbe: the lab makes no grpc probes"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, {}, "nvidia.com/gpu"),
        ({"volumeDevices": [{"name": "d", "devicePath": "/d"}]}, {}, "volumeDevices"),
        ({}, {"hostPID": True}, "spec.hostPID"),
        ({}, {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, "no hostPath volumes"),
        (
            {},
            {"volumes": [{"name": "t", "projected": {"sources": [{"clusterTrustBundle": {}}]}}]},
            "clusterTrustBundle",
        ),
        ({}, {"os": {"name": "windows"}}, "spec.os"),
    ],
)
def test_what_the_lab_has_not_is_refused_by_name(container: Any, spec: Any, words: str) -> None:
    assert words in "; ".join(refusals(pod(container, **spec)))


def test_a_plain_pod_is_not_refused() -> None:
    assert (
        refusals(pod({"readinessProbe": {"exec": {"command": ["x"]}}}, volumes=[{"name": "e", "emptyDir": {}}])) == []
    )


def test_files_of_a_projected_volume_come_from_all_its_sources() -> None:
    projected = {
        "defaultMode": 0o440,
        "sources": [
            {"serviceAccountToken": {"audience": "a", "path": "token"}},
            {"configMap": {"name": "cm", "items": [{"key": "a", "path": "deep/a", "mode": 0o600}]}},
            {"secret": {"name": "s"}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            {"configMap": {"name": "no", "optional": True}},
        ],
    }
    found = files({"name": "v", "projected": projected}, pod(), sources(), lambda source: f"t-{source['audience']}")
    assert [(f.path, f.data, f.mode) for f in found] == [
        ("deep/a", b"1", 0o600),
        ("ns", b"ns", 0o440),
        ("p", b"word", 0o440),
        ("token", b"t-a", 0o440),
    ]


def test_binary_data_is_shown_as_it_is() -> None:
    found = files({"name": "v", "configMap": {"name": "cm"}}, pod(), sources(), str)
    assert {f.path: f.data for f in found}["c"] == b"\xff"


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        ({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}, "has no key z"),
        ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../z"}]}}, "stay inside"),
    ],
)
def test_a_volume_that_cannot_be_made_says_why(volume: Any, words: str) -> None:
    with pytest.raises(ConfigurationFault, match=words):
        files({"name": "v", **volume}, pod(), sources(), str)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {},
            "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        ),
        ({"dnsPolicy": "Default"}, "nameserver 10.96.0.10\n"),
        (
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.2.3.4"], "options": [{"name": "edns0"}]}},
            "nameserver 1.2.3.4\noptions edns0\n",
        ),
    ],
)
def test_resolv_conf_follows_the_dns_policy(spec: Any, expected: str) -> None:
    assert resolv_conf(pod(**spec)) == expected


def test_hosts_has_the_pods_names_and_its_aliases() -> None:
    text = hosts(
        pod(hostname="h", subdomain="s", hostAliases=[{"ip": "1.1.1.1", "hostnames": ["x", "y"]}]), ("10.0.0.1",)
    )
    assert text.split("\n")[2:4] == ["10.0.0.1 h.s.ns.svc.cluster.local h", "1.1.1.1 x y"]


def test_a_launch_has_all_that_the_container_says() -> None:
    container = {
        "args": ["$(A)"],
        "env": [{"name": "A", "value": "1"}],
        "volumeMounts": [{"name": "v", "mountPath": "/a/b", "subPath": "s"}, {"name": "w", "mountPath": "/a"}],
        "securityContext": {"readOnlyRootFilesystem": True},
    }
    whole = pod(container)
    places = Places("/scratch", "/h", "/r", "/n", "/t", {"v": ("/vols/v", False), "w": ("/vols/w", True)})
    made = launch(
        whole, whole["spec"]["containers"][0], sources(), Host("/env/bin", (), {0: "/root"}), places, "{}/{}".format
    )
    assert made.argv == ("run", "1")
    assert made.environment["PATH"].startswith("/env/bin:")
    assert (made.environment["HOME"], made.environment["HOSTNAME"]) == ("/root", "p")
    assert made.root is not None
    assert made.root.read_only
    mounts = [(bind.source, bind.target, bind.read_only) for bind in made.root.binds]
    assert mounts[-2:] == [("/vols/w", "/a", True), ("/vols/v/s", "/a/b", False)]
    assert ("/t", "/dev/termination-log", False) in mounts


def test_a_mount_of_a_volume_that_is_not_there_is_named() -> None:
    whole = pod({"volumeMounts": [{"name": "v", "mountPath": "/a"}]})
    places = Places("/scratch", "/h", "/r", "/n", "/t", {})
    with pytest.raises(ConfigurationFault, match="no volume v"):
        launch(whole, whole["spec"]["containers"][0], sources(), Host("", (), {}), places, "{}/{}".format)


def test_only_a_node_selector_that_fits_is_scheduled() -> None:
    labels = {"kubernetes.io/os": "linux"}
    assert node_object.why_not_here(pod(nodeSelector={"kubernetes.io/os": "linux"}), labels) == ""
    assert "disk=ssd" in node_object.why_not_here(pod(nodeSelector={"disk": "ssd"}), labels)
