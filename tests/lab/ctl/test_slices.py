"""EndpointSlices as tables: a service and its pods, to addresses, ports and conditions."""

import pytest

from lab.ctl import slices
from lab.ctl.slices import plan


@pytest.fixture
def web(objects):
    made = objects.service(ipFamilies=["IPv4"], clusterIP="10.96.0.5")
    made["metadata"] |= {"uid": "s", "labels": {"team": "a"}}
    return made


def pod(number, ready=True, deleted=False, phase="Running", port=8080, **spec):
    container = {"name": "main", "ports": [{"name": "http", "containerPort": port}]}
    made = {
        "metadata": {"name": f"p{number}", "namespace": "default", "uid": f"u{number:03}", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [container], **spec},
        "status": {
            "phase": phase,
            "podIPs": [{"ip": f"10.244.0.{number}"}, {"ip": f"fd00:10:244::{number:x}"}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }
    if deleted:
        made["metadata"]["deletionTimestamp"] = "now"
    return made


def only(service, chosen, zones=None, present=()):
    created = plan(service, chosen, zones or {}, present).create
    assert 1 == len(created)
    return created[0]


def stored(made, name="web-1"):
    return {**made, "metadata": {**made["metadata"], "name": name, "uid": name, "resourceVersion": "1"}}


def test_an_endpoint_says_where_it_is_and_whose(web):
    made = only(web, [pod(7)], {"node-1": "zone-b"})
    assert {
        "addresses": ["10.244.0.7"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "p7", "uid": "u007"},
        "nodeName": "node-1",
        "zone": "zone-b",
    } == made["endpoints"][0]
    assert [{"name": "http", "port": 8080, "protocol": "TCP"}] == made["ports"]
    assert {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    } == made["metadata"]["labels"]
    assert ("Service", "web") == tuple(made["metadata"]["ownerReferences"][0][key] for key in ("kind", "name"))


@pytest.mark.parametrize(
    ("ready", "deleted", "published", "expected"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, False, (False, False, True)),
        (False, False, True, (True, False, False)),
        (True, True, True, (True, True, True)),
    ],
)
def test_the_conditions_tell_ready_serving_and_terminating_apart(web, ready, deleted, published, expected):
    web["spec"]["publishNotReadyAddresses"] = published
    told = only(web, [pod(1, ready, deleted)])["endpoints"][0]["conditions"]
    assert expected == (told["ready"], told["serving"], told["terminating"])


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_or_has_no_address_is_not_in(web, phase):
    unplaced = pod(2)
    unplaced["status"] = {"phase": "Pending"}
    assert [] == only(web, [pod(1, phase=phase), unplaced])["endpoints"]


def test_each_family_has_its_slice(web):
    web["spec"]["ipFamilies"] = ["IPv4", "IPv6"]
    created = plan(web, [pod(10)], {}, []).create
    assert [("IPv4", "10.244.0.10"), ("IPv6", "fd00:10:244::a")] == [
        (made["addressType"], made["endpoints"][0]["addresses"][0]) for made in created
    ]


def test_a_named_port_is_each_pods_own(web):
    created = plan(web, [pod(1), pod(2, port=9090), pod(3)], {}, []).create
    assert [(8080, 2), (9090, 1)] == [(made["ports"][0]["port"], len(made["endpoints"])) for made in created]


def test_a_named_port_may_be_a_native_sidecars(web):
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [{"name": "http", "containerPort": 4143}]}
    chosen = pod(1, containers=[{"name": "main"}], initContainers=[sidecar])
    assert 4143 == only(web, [chosen])["ports"][0]["port"]


def test_a_named_port_that_a_pod_lacks_is_left_out(web):
    web["spec"]["ports"].append({"name": "admin", "port": 81, "targetPort": "admin", "appProtocol": "http"})
    assert ["http"] == [port["name"] for port in only(web, [pod(1)])["ports"]]


def test_a_headless_service_is_labelled_and_names_its_hosts(web):
    web["spec"]["clusterIP"] = "None"
    made = only(web, [pod(1, hostname="db-0", subdomain="web")])
    assert "" == made["metadata"]["labels"]["service.kubernetes.io/headless"]
    assert "db-0" == made["endpoints"][0]["hostname"]


def test_a_service_without_pods_has_an_empty_slice(web):
    assert ([], []) == (only(web, [])["endpoints"], only(web, [])["ports"])


def test_a_present_slice_is_written_anew_not_replaced(web):
    present = stored(only(web, [pod(1)]))
    result = plan(web, [pod(1), pod(2)], {}, [present])
    assert ((), ["web-1"], ()) == (result.create, [one["metadata"]["name"] for one in result.update], result.delete)
    assert slices.Plan((), (), ()) == plan(web, [pod(1)], {}, [present])


def test_slices_that_nothing_needs_are_deleted(web):
    first = stored(only(web, [pod(1)]))
    second = stored(only(web, [pod(2, port=9090)]), "web-2")
    assert ["web-2"] == [one["metadata"]["name"] for one in plan(web, [pod(1)], {}, [first, second]).delete]


def test_many_endpoints_are_split(web):
    created = plan(web, [pod(number) for number in range(1, 251)], {}, []).create
    assert [100, 100, 50] == [len(made["endpoints"]) for made in created]


@pytest.mark.parametrize(
    ("spec", "managed"),
    [({"selector": {"app": "web"}}, True), ({}, False), ({"selector": {}}, False)],
)
def test_only_a_service_with_a_selector_is_managed(spec, managed):
    assert managed == slices.is_managed({"spec": spec})
    assert not slices.is_managed({"spec": {**spec, "type": "ExternalName"}})
