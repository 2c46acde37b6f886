"""Objects as an API server writes them become records."""

import json
from typing import Any

import msgspec
import pytest

from contract import names
from controller.kinds import KINDS, NAMESPACES, PODS, REPLICASETS, SERVICES, SLICES
from controller.objects import Key, Owner, ServicePort, SliceEndpoint, SlicePort

POD = {
    "kind": "Pod",
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {names.MESHED: "tulle", "app": "web"},
        "annotations": {names.OPAQUE_PORTS: "+9000"},
        "ownerReferences": [
            {"kind": "Other", "name": "x", "uid": "1", "apiVersion": "v1"},
            {"kind": "ReplicaSet", "name": "web-5d9c", "uid": "2", "apiVersion": "apps/v1", "controller": True},
        ],
        "managedFields": [{"manager": "kubelet"}],
    },
    "spec": {
        "nodeName": "node-a",
        "serviceAccountName": "web",
        "initContainers": [{"name": names.INIT_CONTAINER}, {"name": names.PROXY_CONTAINER, "restartPolicy": "Always"}],
        "containers": [{"name": "web"}],
    },
    "status": {"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}, {"ip": "FD00::0:5"}]},
}


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def test_pod_keeps_what_discovery_needs():
    record = PODS.decode(encode(POD))
    assert Key("shop", "web-1") == record.key
    assert record.ips == ("10.244.0.5", "fd00::5")
    assert record.owner == Owner("replicaset", "web-5d9c")
    assert (record.phase, record.node, record.service_account, record.meshed) == ("Running", "node-a", "web", True)
    assert record.opaque_ports == "+9000"
    assert record.host_network is False


@pytest.mark.parametrize(
    ("spec", "meshed"),
    [
        ({"containers": [{"name": "web"}]}, False),
        ({"containers": [{"name": names.PROXY_CONTAINER}, {"name": "web"}]}, True),
        ({"containers": [{"name": "web"}], "initContainers": [{"name": names.PROXY_CONTAINER}]}, True),
        ({"containers": [{"name": "web"}], "initContainers": [{"name": names.INIT_CONTAINER}]}, False),
    ],
)
def test_pod_is_meshed_by_its_sidecar_container_and_not_by_a_label_that_anybody_can_write(spec, meshed):
    record = PODS.decode(encode({**POD, "spec": spec}))
    assert meshed == record.meshed


def test_pod_without_status_or_owner_is_pending_and_bare():
    record = PODS.decode(encode({"metadata": {"name": "new", "namespace": "shop"}}))
    assert (record.phase, record.ips, record.owner) == ("Pending", (), Owner("", ""))


def test_status_update_that_changes_nothing_kept_gives_an_equal_record():
    later: dict[str, Any] = json.loads(json.dumps(POD))
    later["metadata"]["resourceVersion"] = "8"
    later["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert PODS.decode(encode(POD)) == PODS.decode(encode(later))


def test_service_keeps_all_families_and_tcp_ports_only():
    record = SERVICES.decode(
        encode(
            {
                "metadata": {"name": "dns", "namespace": "shop", "annotations": None},
                "spec": {
                    "clusterIP": "10.96.0.10",
                    "clusterIPs": ["10.96.0.10", "fd00::a"],
                    "internalTrafficPolicy": "Local",
                    "ports": [
                        {"name": "dns", "port": 53, "protocol": "UDP"},
                        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "appProtocol": "tulle.mesh/opaque"},
                    ],
                },
            }
        )
    )
    assert record.ips == ("10.96.0.10", "fd00::a")
    assert record.ports == (ServicePort("dns-tcp", 53, "tulle.mesh/opaque"),)
    assert record.node_local


@pytest.mark.parametrize(
    "spec", [{"clusterIP": "None", "clusterIPs": ["None"]}, {"type": "ExternalName", "externalName": "example.org"}]
)
def test_services_without_cluster_ip_have_no_address(spec: dict[str, object]):
    assert SERVICES.decode(encode({"metadata": {"name": "x", "namespace": "shop"}, "spec": spec})).ips == ()


def test_slice_conditions_follow_the_api_reference_where_they_are_absent():
    record = SLICES.decode(
        encode(
            {
                "metadata": {"name": "web-a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4",
                "ports": [
                    {"name": "http", "port": 8080, "protocol": "TCP"},
                    {"name": "x", "port": 1, "protocol": "UDP"},
                    {"name": "any", "port": None},
                ],
                "endpoints": [
                    {"addresses": ["10.244.0.5"], "conditions": {}},
                    {
                        "addresses": ["10.244.0.6"],
                        "conditions": {"ready": False, "serving": True, "terminating": True},
                        "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "shop"},
                        "zone": "z",
                        "nodeName": "n",
                    },
                    {"addresses": ["10.244.0.7"], "targetRef": {"kind": "Node", "name": "n"}},
                ],
            }
        )
    )
    assert record.service == "web"
    assert record.ports == (SlicePort("http", 8080),)
    assert record.endpoints == (
        SliceEndpoint("10.244.0.5", True, True, False, "", "", ""),
        SliceEndpoint("10.244.0.6", False, True, True, "web-1", "z", "n"),
        SliceEndpoint("10.244.0.7", True, True, False, "", "", ""),
    )


def test_slice_with_nulls_and_of_names_is_empty():
    metadata = {"name": "web-a", "namespace": "shop"}
    nulls = {"metadata": metadata, "addressType": "IPv6", "endpoints": None, "ports": None}
    names_ = {"metadata": metadata, "addressType": "FQDN", "endpoints": [{"addresses": ["example.org"]}]}
    assert SLICES.decode(encode(nulls)).endpoints == ()
    assert SLICES.decode(encode(names_)).endpoints == ()


def test_namespace_and_workload_keep_label_and_owner():
    labels = {names.INJECT: names.ENABLED}
    record = NAMESPACES.decode(encode({"metadata": {"name": "shop", "labels": labels, "deletionTimestamp": "2026"}}))
    assert (record.key, record.inject, record.terminating) == (Key("", "shop"), True, True)
    owner = [{"kind": "Deployment", "name": "web", "controller": True}]
    replicaset = REPLICASETS.decode(
        encode({"metadata": {"name": "web-1", "namespace": "shop", "ownerReferences": owner}})
    )
    assert replicaset.owner == Owner("deployment", "web")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_wrong_types_are_an_error_and_not_a_record(kind: Any):
    with pytest.raises(msgspec.ValidationError):
        kind.decode(b'{"metadata": {"name": 5}}')


def test_address_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="does not appear to be"):
        PODS.decode(encode({"metadata": {"name": "x"}, "status": {"podIP": "no address"}}))
