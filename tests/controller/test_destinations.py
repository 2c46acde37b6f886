"""What stands behind an address, as tables."""

import pytest

from contract.discovery import Destination, Protocol
from controller.cluster import Change, Cluster, Replace
from controller.destinations import parse_target, resolve
from controller.objects import Key, Owner, ServicePort, SlicePort
from controller.opaque import BUILT_IN
from tests.controller.builders import (
    NS,
    cluster_of,
    endpoint,
    headless,
    namespace,
    piece,
    pod,
    service,
    workload,
)

REPLICASET = Owner("replicaset", "web-5d9c")
DEPLOYMENT = Owner("deployment", "web")


def ask(cluster: Cluster, target: str = "10.96.0.7:80", node: str = "") -> Destination:
    return resolve(cluster, target, BUILT_IN, node)


def addresses(destination: Destination) -> list[str]:
    return [f"{item.ip}:{item.port}" for item in destination.endpoints]


def test_cluster_ip_and_declared_port_give_the_service_and_its_labelled_endpoints():
    cluster = cluster_of(
        service(),
        piece(endpoint("10.244.0.1", "web-1")),
        pod(owner=REPLICASET),
        replicasets=(workload("web-5d9c", DEPLOYMENT),),
    )
    found = ask(cluster)
    assert (found.kind, found.namespace, found.name, found.port) == ("service", NS, "web", 80)
    (one,) = found.endpoints
    assert (one.ip, one.port, one.pod, one.namespace) == ("10.244.0.1", 8080, "web-1", NS)
    assert (one.owner_kind, one.owner) == ("deployment", "web")
    assert (one.service_account, one.zone, one.node, one.meshed) == ("default", "zone-1", "node-a", True)
    assert one.identity == ""


def test_undeclared_port_of_a_service_is_unknown():
    assert ask(cluster_of(service(), piece(endpoint("10.244.0.1"))), "10.96.0.7:81").kind == "unknown"


def test_service_without_ready_endpoint_exists_and_is_empty():
    found = ask(cluster_of(service(), piece(endpoint("10.244.0.1", ready=False))))
    assert (found.kind, found.endpoints) == ("service", ())


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False)], ["10.0.0.1:8080"]),
        ([endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False, terminating=True)], ["10.0.0.1:8080"]),
        (
            [endpoint("10.0.0.2", ready=False, terminating=True), endpoint("10.0.0.3", ready=False)],
            ["10.0.0.2:8080"],
        ),
        ([endpoint("10.0.0.2", ready=False, serving=False, terminating=True)], []),
        ([endpoint("10.0.0.2"), endpoint("10.0.0.1")], ["10.0.0.1:8080", "10.0.0.2:8080"]),
    ],
)
def test_ready_endpoints_serve_and_terminating_ones_only_when_no_other_is_left(endpoints, expected):
    assert addresses(ask(cluster_of(service(), piece(*endpoints)))) == expected


def test_each_family_sees_its_own_slices():
    cluster = cluster_of(
        service("web", "10.96.0.7", "fd00::7"),
        piece(endpoint("10.244.0.1"), name="web-4"),
        piece(endpoint("fd00:10::1"), name="web-6"),
    )
    assert addresses(ask(cluster, "10.96.0.7:80")) == ["10.244.0.1:8080"]
    assert addresses(ask(cluster, "[fd00::7]:80")) == ["fd00:10::1:8080"]


def test_ports_are_told_apart_by_name_and_several_slices_are_joined():
    ports = (ServicePort("http", 80, ""), ServicePort("admin", 81, ""))
    cluster = cluster_of(
        service(ports=ports),
        piece(endpoint("10.0.0.1"), name="a", ports=(SlicePort("http", 8080), SlicePort("admin", 9090))),
        piece(endpoint("10.0.0.2"), name="b", ports=(SlicePort("http", 8081),)),
        piece(endpoint("10.0.0.9"), name="other", of="other"),
    )
    assert addresses(ask(cluster, "10.96.0.7:80")) == ["10.0.0.1:8080", "10.0.0.2:8081"]
    assert addresses(ask(cluster, "10.96.0.7:81")) == ["10.0.0.1:9090"]


def test_node_local_service_keeps_the_clients_node():
    cluster = cluster_of(
        service(node_local=True), piece(endpoint("10.0.0.1", node="node-a"), endpoint("10.0.0.2", node="node-b"))
    )
    assert addresses(ask(cluster, node="node-b")) == ["10.0.0.2:8080"]
    assert addresses(ask(cluster, node="node-c")) == []


def test_pod_address_gives_the_pod_on_any_port():
    cluster = cluster_of(pod(owner=Owner("job", "once")))
    found = ask(cluster, "10.244.0.1:1234")
    assert (found.kind, found.namespace, found.name, found.port) == ("pod", NS, "web-1", 1234)
    assert addresses(found) == ["10.244.0.1:1234"]
    assert found.endpoints[0].owner_kind == "job"


@pytest.mark.parametrize("meshed", [True, False])
def test_address_of_a_client_tells_whether_its_pod_has_a_sidecar(meshed):
    (one,) = ask(cluster_of(pod(meshed=meshed)), "10.244.0.1:1").endpoints
    assert meshed == one.meshed


@pytest.mark.parametrize(
    "record",
    [pod(host_network=True), pod(phase="Succeeded"), pod(phase="Failed"), pod(ip="")],
    ids=["host network", "succeeded", "failed", "no address yet"],
)
def test_addresses_that_are_not_a_pods_own_are_unknown(record):
    assert ask(cluster_of(record), "10.244.0.1:80").kind == "unknown"


def test_of_two_pods_with_one_address_the_younger_has_it():
    old, young = pod("old", created="2026-01-01T00:00:00Z"), pod("young", created="2026-01-02T00:00:00Z")
    assert ask(cluster_of(young, old), "10.244.0.1:80").name == "young"


def test_finished_pod_does_not_hide_the_one_that_has_its_address_now():
    assert ask(cluster_of(pod("done", phase="Succeeded", created="3"), pod("now")), "10.244.0.1:80").name == "now"


def test_replicaset_without_deployment_is_the_top_owner():
    cluster = cluster_of(pod(owner=REPLICASET), replicasets=(workload("web-5d9c"),))
    assert ask(cluster, "10.244.0.1:80").endpoints[0].owner_kind == "replicaset"


def test_endpoint_that_is_no_pod_carries_its_address_alone():
    (one,) = ask(cluster_of(service(), piece(endpoint("192.0.2.1")))).endpoints
    assert (one.ip, one.pod, one.namespace, one.meshed) == ("192.0.2.1", "", "", False)


def test_slice_that_names_a_pod_at_anothers_address_is_not_believed():
    victim, thief = pod("victim", "10.244.0.1"), pod("thief", "10.244.0.9", meshed=False)
    cluster = cluster_of(service(), piece(endpoint("10.244.0.9", "victim")), victim, thief)
    (one,) = ask(cluster).endpoints
    assert (one.pod, one.meshed) == ("thief", False)
    assert ask(cluster, "10.244.0.1:8080").endpoints[0].zone == ""


def test_slice_that_names_a_pod_at_an_address_of_nobody_lends_no_name():
    cluster = cluster_of(service(), piece(endpoint("192.0.2.1", "victim")), pod("victim", "10.244.0.1"))
    (one,) = ask(cluster).endpoints
    assert (one.ip, one.pod, one.namespace, one.meshed) == ("192.0.2.1", "", "", False)


def test_slice_that_names_a_pod_at_anothers_address_hints_no_protocol_for_it():
    fake = service("fake", "10.96.0.9", ports=(ServicePort("http", 80, "tulle.mesh/opaque"),))
    cluster = cluster_of(fake, piece(endpoint("192.0.2.1", "victim"), of="fake"), pod("victim", "10.244.0.1"))
    assert ask(cluster, "10.244.0.1:8080").protocol == "detect"


def test_host_network_pod_is_labelled_as_an_endpoint():
    cluster = cluster_of(service(), piece(endpoint("192.0.2.1", "agent")), pod("agent", "192.0.2.1", host_network=True))
    assert ask(cluster).endpoints[0].pod == "agent"
    assert ask(cluster, "192.0.2.1:8080").kind == "unknown"


@pytest.mark.parametrize(
    ("app_protocol", "hint"),
    [
        ("", "detect"),
        ("http", "http/1"),
        ("HTTP", "http/1"),
        ("kubernetes.io/h2c", "http/2"),
        ("grpc", "http/2"),
        ("kubernetes.io/ws", "http/1"),
        ("tulle.mesh/opaque", "opaque"),
        ("https", "opaque"),
        ("example.org/own", "detect"),
    ],
)
def test_app_protocol_hints(app_protocol: str, hint: Protocol):
    cluster = cluster_of(service(ports=(ServicePort("http", 80, app_protocol),)))
    assert ask(cluster).protocol == hint


@pytest.mark.parametrize(
    ("records", "hint"),
    [
        ([service(opaque_ports="80")], "opaque"),
        ([service(opaque_ports="70-90")], "opaque"),
        ([service(opaque_ports="8080")], "detect"),
        ([service(opaque_ports="eighty")], "detect"),
        ([service(), namespace(opaque_ports="80")], "opaque"),
        ([service(opaque_ports=""), namespace(opaque_ports="80")], "detect"),
        ([service(opaque_ports="+81"), namespace(opaque_ports="80")], "opaque"),
        ([service(), pod(opaque_ports="8080")], "opaque"),
        ([service(), pod(opaque_ports="80")], "detect"),
        ([service(ports=(ServicePort("http", 80, "http"),), opaque_ports="80")], "opaque"),
    ],
)
def test_opaque_annotation_of_service_pod_or_namespace(records, hint: Protocol):
    assert ask(cluster_of(*records, piece(endpoint("10.244.0.1", "web-1")))).protocol == hint


@pytest.mark.parametrize(
    ("port", "target", "annotation", "pod_annotation", "hint"),
    [
        (3306, 13306, None, None, "opaque"),
        (80, 3306, None, None, "opaque"),
        (3306, 13306, "", None, "detect"),
        (3306, 3306, "", "", "detect"),
        (3306, 3306, "+9000", None, "opaque"),
    ],
)
def test_cluster_wide_list_holds_where_no_annotation_stands_instead(port, target, annotation, pod_annotation, hint):
    cluster = cluster_of(
        service(ports=(ServicePort("db", port, ""),), opaque_ports=annotation),
        piece(endpoint("10.244.0.1", "web-1"), ports=(SlicePort("db", target),)),
        pod(opaque_ports=pod_annotation),
    )
    assert ask(cluster, f"10.96.0.7:{port}").protocol == hint


def test_pod_dialled_by_address_takes_hints_of_its_headless_service_and_its_own():
    cluster = cluster_of(
        headless("db", ServicePort("grpc", 9000, "grpc")),
        piece(endpoint("10.244.0.1", "web-1"), of="db", ports=(SlicePort("grpc", 9000),)),
        pod(opaque_ports="+7000"),
    )
    hints = {port: ask(cluster, f"10.244.0.1:{port}").protocol for port in (9000, 7000, 6379, 80)}
    assert hints == {9000: "http/2", 7000: "opaque", 6379: "opaque", 80: "detect"}


@pytest.mark.parametrize(
    "target", ["10.96.0.7", "10.96.0.7:", "10.96.0.7:0", "10.96.0.7:65536", "web:80", "fd00::7:80", "[10.0.0.1]:80", ""]
)
def test_malformed_target_is_refused_by_name(target: str):
    with pytest.raises(ValueError, match="write "):
        parse_target(target)


def test_target_is_answered_in_the_spelling_that_was_asked():
    cluster = cluster_of(service("web", "fd00::7"))
    found = ask(cluster, "[FD00:0::7]:80")
    assert (found.kind, found.target) == ("service", "[FD00:0::7]:80")


def test_revision_changes_with_content_and_with_nothing_else():
    first = ask(cluster_of(service(), piece(endpoint("10.0.0.1"), endpoint("10.0.0.2"))))
    same = ask(cluster_of(piece(endpoint("10.0.0.2"), endpoint("10.0.0.1"), name="other"), service()))
    other = ask(cluster_of(service(), piece(endpoint("10.0.0.1"))))
    assert first.revision == same.revision != other.revision


# --- which addresses a change makes dirty


@pytest.mark.parametrize(
    "changed", [service(ports=(ServicePort("http", 80, "http"),)), service(opaque_ports="80"), None]
)
def test_what_a_service_says_of_its_ports_concerns_its_pods_own_sidecars(changed):
    cluster = cluster_of(service(), piece(endpoint("10.244.0.1", "web-1"), endpoint("10.244.0.2", "web-2")))
    cluster.take_dirty()
    cluster.apply(Change("services", Key(NS, "web"), changed))
    assert cluster.take_dirty() == {"10.96.0.7", "10.244.0.1", "10.244.0.2"}


def test_changes_name_the_addresses_they_concern():
    cluster = cluster_of(service(), piece(endpoint("10.244.0.1", "web-1")), pod(), pod("other", "10.244.0.9"))
    cluster.take_dirty()
    cluster.apply(Change("pods", Key(NS, "web-1"), pod(opaque_ports="1")))
    assert cluster.take_dirty() == {"10.244.0.1", "10.96.0.7"}
    cluster.apply(Change("pods", Key(NS, "web-1"), pod(opaque_ports="1")))
    assert cluster.take_dirty() == set()
    cluster.apply(Change("endpointslices", Key(NS, "web-abc"), None))
    assert "10.96.0.7" in cluster.take_dirty()
    cluster.apply(Change("services", Key(NS, "web"), service("web", "10.96.0.8")))
    assert cluster.take_dirty() == {"10.96.0.7", "10.96.0.8"}
    cluster.apply(Change("namespaces", Key("", NS), namespace(opaque_ports="80")))
    assert cluster.take_dirty() == {"10.96.0.8", "10.244.0.1", "10.244.0.9"}


def test_replicaset_that_arrives_after_its_pods_relabels_them():
    cluster = cluster_of(service(), piece(endpoint("10.244.0.1", "web-1")), pod(owner=REPLICASET))
    before = ask(cluster)
    cluster.take_dirty()
    cluster.apply(Change("replicasets", Key(NS, "web-5d9c"), workload("web-5d9c", DEPLOYMENT)))
    assert cluster.take_dirty() == {"10.244.0.1", "10.96.0.7"}
    assert before.revision != ask(cluster).revision


def test_replace_drops_what_the_list_does_not_name():
    cluster = cluster_of(pod("gone", "10.244.0.1"), pod("stays", "10.244.0.2"))
    cluster.take_dirty()
    cluster.apply(Replace("pods", (pod("stays", "10.244.0.2"), pod("new", "10.244.0.3"))))
    assert cluster.take_dirty() == {"10.244.0.1", "10.244.0.3"}
    assert [ask(cluster, f"10.244.0.{n}:80").name for n in (1, 2, 3)] == ["", "stays", "new"]


def test_cluster_that_was_emptied_keeps_no_index():
    cluster = cluster_of(service(), piece(endpoint("10.244.0.1", "web-1")), pod())
    for kind in ("pods", "services", "endpointslices"):
        cluster.apply(Replace(kind, ()))
    empty = Cluster()
    for name in ("_pods_by_ip", "_service_by_ip", "_slices_by_service", "_slices_by_pod", "pods", "services", "slices"):
        assert getattr(cluster, name) == getattr(empty, name)
