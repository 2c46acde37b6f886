"""What holds for a service's traffic: which policy wins, what it refers to, and what its status says of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.discovery import Destination
from contract.policy import Concurrency, Fault, Rate, RateLimit, ServicePolicy
from controller.cluster import Change, Cluster, Replace
from controller.destinations import resolve
from controller.kinds import KINDS, PODS, SLICES, TRAFFIC_POLICIES
from controller.objects import Condition, Key, Pod, Policy, ServicePort, SlicePort
from controller.settings import Settings
from controller.standing import conditions
from controller.truth import Truth
from tests.controller.builders import (
    NS,
    cluster_of,
    endpoint,
    grant,
    headless,
    node,
    piece,
    pod,
    policy,
    service,
)

NOW = "2026-11-23T00:00:00Z"
TARGET = "10.96.0.7:80"
TWO_PORTS = (ServicePort("http", 80, ""), ServicePort("admin", 81, ""))


def told(cluster: Cluster, target: str = TARGET, client: str = "") -> Destination:
    return resolve(cluster, target, (), client)


def limit(count: int) -> dict[str, Any]:
    return {"concurrency": {"service": {"limit": count}}}


def limit_of(cluster: Cluster, target: str = TARGET) -> int | None:
    found = told(cluster, target).policy
    return None if found is None else found.service_concurrency.limit_count


def standing(cluster: Cluster, found: Policy) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in conditions(cluster, found, NOW)}


# --- which policy holds


def test_service_without_a_policy_has_none() -> None:
    assert told(cluster_of(service())).policy is None
    assert told(cluster_of(service(), policy("p", of="other", **limit(1)))).policy is None


def test_policy_is_in_force_under_its_name() -> None:
    found = told(cluster_of(service(), policy("p", **limit(5)))).policy

    assert ServicePolicy(service_concurrency=Concurrency(limit_count=5), name="shop/p") == found


def test_policy_of_a_port_wins_over_that_of_the_service_whatever_their_age() -> None:
    cluster = cluster_of(
        service(ports=TWO_PORTS),
        policy("whole", created="2020-01-01T00:00:00Z", **limit(1)),
        policy("port", target_port="admin", **limit(2)),
    )

    assert (1, 2) == (limit_of(cluster), limit_of(cluster, "10.96.0.7:81"))


@given(st.permutations([("b", "2026-01-02T00:00:00Z"), ("z", "2026-01-01T00:00:00Z"), ("a", "2026-01-02T00:00:00Z")]))
def test_of_two_that_concern_the_same_the_oldest_holds_then_the_first_by_name(order: list[tuple[str, str]]) -> None:
    counts = {"z": 1, "a": 2, "b": 3}
    records = {name: policy(name, created=created, **limit(counts[name])) for name, created in order}
    cluster = cluster_of(service(), *records.values())
    seen = [limit_of(cluster)]
    for name in ("z", "a", "b"):
        cluster.apply(Change("trafficpolicies", records[name].key, None))
        seen.append(limit_of(cluster))

    assert [1, 2, 3, None] == seen


def test_policy_with_a_fault_is_not_in_force_and_hides_no_other() -> None:
    cluster = cluster_of(
        service(),
        policy("bad", created="2020-01-01T00:00:00Z", retries={"limit": 99}),
        policy("good", **limit(4)),
    )

    assert limit_of(cluster) == 4


def test_faults_of_all_injections_add_up_oldest_first() -> None:
    cluster = cluster_of(
        service(ports=TWO_PORTS),
        policy("b", "faultinjections", faults=[{"delay": "1s"}]),
        policy("a", "faultinjections", target_port="admin", faults=[{"reset": True}]),
        policy("c", "faultinjections", created="2020-01-01T00:00:00Z", faults=[{"delay": "2s"}, {"delay": "3s"}]),
    )

    for_http = (
        Fault(delay_s=2, name="shop/c"),
        Fault(delay_s=3, name="shop/c"),
        Fault(delay_s=1, name="shop/b"),
    )
    on_admin = told(cluster, "10.96.0.7:81").policy
    assert ServicePolicy(faults=for_http) == told(cluster).policy
    assert on_admin is not None
    assert ["shop/c", "shop/c", "shop/a", "shop/b"] == [fault.name for fault in on_admin.faults]


def test_pods_own_address_carries_the_policy_of_the_service_whose_port_it_is() -> None:
    limits = {"rateLimit": {"service": {"requestsPerSecond": 5}}}
    cluster = cluster_of(
        service(), pod(), piece(endpoint("10.244.0.1", "web-1")), policy("p", target_port="http", **limits)
    )

    found = told(cluster, "10.244.0.1:8080").policy

    assert found is not None
    assert isinstance(found.rate_limit, RateLimit)
    assert told(cluster, "10.244.0.1:9090").policy is None


def test_pod_behind_two_services_whose_policies_differ_carries_none() -> None:
    other = piece(endpoint("10.244.0.1", "web-1"), name="other-abc", of="other")
    records = [service(), service("other", "10.96.0.8"), pod(), piece(endpoint("10.244.0.1", "web-1")), other]
    cluster = cluster_of(*records, policy("p", **limit(1)))
    before = limit_of(cluster, "10.244.0.1:8080")
    second = policy("q", of="other", **limit(2))
    cluster.apply(Change(second.kind, second.key, second))

    assert (1, None) == (before, limit_of(cluster, "10.244.0.1:8080"))


def test_pod_behind_several_services_obeys_the_lowest_of_their_rates() -> None:
    def rates(**by_whom: int) -> dict[str, Any]:
        return {"rateLimit": {whose: {"requestsPerSecond": rate} for whose, rate in by_whom.items()}}

    others = [piece(endpoint("10.244.0.1", "web-1"), name=f"{name}-abc", of=name) for name in ("b", "c")]
    services = service(), service("b", "10.96.0.8"), service("c", "10.96.0.9")
    policies = (
        policy("p", **rates(service=10)),
        policy("q", of="b", **rates(service=5, client=2), **limit(1)),
        policy("r", of="c", **limit(1)),
    )
    cluster = cluster_of(*services, pod(), piece(endpoint("10.244.0.1", "web-1")), *others, *policies)

    found = told(cluster, "10.244.0.1:8080").policy

    assert ServicePolicy(rate_limit=RateLimit(Rate(5.0, 5), Rate(2.0, 2)), name="shop/p,shop/q") == found


def test_policy_for_an_external_name_says_that_there_is_no_traffic() -> None:
    found = policy("p", **limit(1))
    cluster = cluster_of(replace(service(), ips=(), external=True), found)

    status, reason, message = standing(cluster, found)["Accepted"]
    assert ("False", "TargetNotFound") == (status, reason)
    assert "ExternalName" in message


def test_headless_service_has_its_policy_on_its_pods() -> None:
    cluster = cluster_of(
        headless("db", ServicePort("sql", 5432, "")),
        pod(),
        piece(endpoint("10.244.0.1", "web-1"), of="db", ports=(SlicePort("sql", 5432),)),
        policy("p", of="db", **limit(3)),
    )

    assert limit_of(cluster, "10.244.0.1:5432") == 3


# --- what it refers to


def mirror(**backend: Any) -> dict[str, Any]:
    return {"mirror": {"backendRef": {"name": "next", "port": 8080, **backend}, "percent": 10}}


def test_mirror_leads_to_the_cluster_ip_of_its_backend() -> None:
    ports = (ServicePort("", 8080, ""),)
    cluster = cluster_of(
        service(),
        service("next", "10.96.0.9", ports=ports),
        policy("p", **mirror()),
        service("v6", "fd00::9", ports=ports),
    )
    found = told(cluster).policy
    six = policy("p", **mirror(name="v6"))
    cluster.apply(Change(six.kind, six.key, six))
    found_six = told(cluster).policy

    assert found is not None
    assert found.mirror is not None
    assert ("10.96.0.9:8080", "next.shop", 0.1) == (found.mirror.target, found.mirror.name, found.mirror.ratio)
    assert found_six is not None
    assert found_six.mirror is not None
    assert found_six.mirror.target == "[fd00::9]:8080"


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ((), "Service shop/next does not exist"),
        ((service("next", "10.96.0.9"),), "has no TCP port 8080 (it has 80)"),
        ((headless("next", ServicePort("", 8080, "")),), "has no cluster IP"),
        ((service("next", "10.96.0.9", namespace="lab"),), "Service shop/next does not exist"),
    ],
)
def test_mirror_that_leads_nowhere_is_left_out_and_told(records: Any, words: str) -> None:
    found = policy("p", **mirror(), **limit(1))
    cluster = cluster_of(service(), found, *records)

    status, reason, message = standing(cluster, found)["ResolvedRefs"]

    in_force = told(cluster).policy
    assert in_force is not None
    assert (None, 1) == (in_force.mirror, in_force.service_concurrency.limit_count)
    assert ("False", "BackendNotFound") == (status, reason)
    assert words in message
    assert standing(cluster, found)["Accepted"][0] == "True"


LAB = service("next", "10.96.0.9", namespace="lab", ports=(ServicePort("", 8080, ""),))


@pytest.mark.parametrize("given", [grant(), grant(to=("Service", "next"))], ids=["all services", "this service"])
def test_mirror_into_another_namespace_is_in_force_where_that_consents(given: Any) -> None:
    found = policy("p", **mirror(namespace="lab"))
    cluster = cluster_of(service(), LAB, found, given)

    in_force = told(cluster).policy
    assert in_force is not None
    assert in_force.mirror is not None
    assert "next.lab" == in_force.mirror.name
    assert "True" == standing(cluster, found)["ResolvedRefs"][0]


@pytest.mark.parametrize(
    "records",
    [
        (),
        (grant("other"),),
        (grant(sender="other"),),
        (grant(kind="FaultInjection"),),
        (grant(to=("Secret", "")),),
        (grant(to=("Service", "another")),),
    ],
    ids=["no grant", "of another namespace", "to another namespace", "to another kind", "of Secrets", "of another"],
)
def test_mirror_into_another_namespace_that_does_not_consent_is_refused_and_told(records: Any) -> None:
    found = policy("p", **mirror(namespace="lab"), **limit(1))
    cluster = cluster_of(service(), LAB, found, *records)

    status, reason, message = standing(cluster, found)["ResolvedRefs"]

    in_force = told(cluster).policy
    assert in_force is not None
    assert (None, 1) == (in_force.mirror, in_force.service_concurrency.limit_count)
    assert ("False", "RefNotPermitted") == (status, reason)
    assert "Make a ReferenceGrant (gateway.networking.k8s.io) there" in message
    assert "next does not exist" not in standing(cluster_of(service(), found), found)["ResolvedRefs"][2]


def test_grant_that_comes_or_goes_makes_the_mirrored_service_dirty() -> None:
    cluster = cluster_of(service(), LAB, policy("p", **mirror(namespace="lab")))
    for record in (grant(), None):
        cluster.take_dirty()
        cluster.apply(Change("referencegrants", grant().key, record))
        assert "10.96.0.7" in cluster.take_dirty()


def test_backend_that_comes_goes_or_moves_makes_the_mirrored_service_dirty() -> None:
    cluster = cluster_of(service(), policy("p", **mirror(namespace="lab")))
    backend = service("next", "10.96.0.9", namespace="lab", ports=(ServicePort("", 8080, ""),))
    cluster.take_dirty()
    cluster.apply(Change("services", backend.key, backend))
    came = cluster.take_dirty()
    cluster.apply(Change("services", backend.key, None))

    assert "10.96.0.7" in came
    assert "10.96.0.7" in cluster.take_dirty()


def test_policy_makes_its_service_and_the_pods_behind_it_dirty_and_no_other() -> None:
    cluster = cluster_of(service(), service("other", "10.96.0.8"), pod(), piece(endpoint("10.244.0.1", "web-1")))
    for kind, spec in (("trafficpolicies", limit(1)), ("faultinjections", {"faults": [{"reset": True}]})):
        found = policy("p", kind, **spec)
        for record in (found, None):
            cluster.take_dirty()
            cluster.apply(Change(kind, found.key, record))
            assert {"10.96.0.7", "10.244.0.1"} == cluster.take_dirty()


def test_status_that_is_written_makes_nothing_dirty() -> None:
    found = policy("p", **limit(1))
    cluster = cluster_of(service(), found)
    cluster.take_dirty()
    written = replace(found, version="8", conditions=conditions(cluster, found, NOW))
    cluster.apply(Change(found.kind, found.key, written))

    assert set() == cluster.take_dirty()
    assert written == cluster.policies.tables[found.kind][found.key]


def test_policy_that_moves_to_another_service_makes_both_dirty() -> None:
    cluster = cluster_of(service(), service("other", "10.96.0.8"), policy("p", **limit(1)))
    cluster.take_dirty()
    moved = policy("p", of="other", **limit(1))
    cluster.apply(Change(moved.kind, moved.key, moved))

    assert {"10.96.0.7", "10.96.0.8"} == cluster.take_dirty()
    assert (None, 1) == (limit_of(cluster), limit_of(cluster, "10.96.0.8:80"))


# --- what its status says


def test_policy_in_force_is_accepted() -> None:
    found = policy("p", target_port="http", **limit(1))

    assert {
        "Accepted": ("True", "Accepted", "in force for Service web"),
        "ResolvedRefs": ("True", "ResolvedRefs", "it refers to nothing beside its target"),
    } == standing(cluster_of(service(), found), found)


def test_policy_for_no_service_or_port_says_so() -> None:
    found, of_port = policy("p", of="wbe", **limit(1)), policy("q", target_port="grpc", **limit(1))
    cluster = cluster_of(service(), found, of_port)

    assert ("False", "TargetNotFound", "Service wbe does not exist in namespace shop") == standing(cluster, found)[
        "Accepted"
    ]
    assert (
        "False",
        "TargetNotFound",
        "Service web has no TCP port named grpc (it has http)",
    ) == standing(cluster, of_port)["Accepted"]


def test_policy_with_faults_says_all_of_them() -> None:
    found = policy("p", retries={"limit": 12}, hedging={})

    shown = standing(cluster_of(service(), found), found)

    assert ("False", "Invalid") == shown["Accepted"][:2]
    assert "spec.retries.limit: 12 is more than 10" in shown["Accepted"][2]
    assert "spec.hedging" in shown["Accepted"][2]
    assert ("Unknown", "Invalid") == shown["ResolvedRefs"][:2]


def test_loser_of_a_conflict_names_the_winner() -> None:
    old = policy("old", created="2020-01-01T00:00:00Z", **limit(1))
    young, same_age = policy("young", **limit(2)), policy("other", created="2020-01-01T00:00:00Z", **limit(3))
    cluster = cluster_of(service(), old, young, same_age)

    assert standing(cluster, old)["Accepted"][0] == "True"
    for loser, words in ((young, "older"), (same_age, "first by name")):
        status, reason, message = standing(cluster, loser)["Accepted"]
        assert ("False", "Conflicted") == (status, reason)
        assert "TrafficPolicy old" in message
        assert words in message


def test_fault_injections_never_conflict_and_refer_to_nothing() -> None:
    first = policy("a", "faultinjections", faults=[{"reset": True}])
    second = policy("b", "faultinjections", faults=[{"reset": True}])
    cluster = cluster_of(service(), first, second)

    assert {"Accepted": ("True", "Accepted", "in force for Service web")} == standing(cluster, second)


def test_a_condition_keeps_the_time_of_its_last_change_and_others_conditions_stay() -> None:
    found = policy("p", **limit(1))
    written = (
        Condition("Programmed", "True", "Ok", "", 1, "2020-01-01T00:00:00Z"),
        Condition("Accepted", "True", "Accepted", "old words", 1, "2021-01-01T00:00:00Z"),
        Condition("ResolvedRefs", "False", "BackendNotFound", "", 1, "2022-01-01T00:00:00Z"),
    )
    before = Policy(found.kind, found.key, found.created, 2, "8", found.content, "", written)

    shown = {one.type: one for one in conditions(cluster_of(service(), before), before, NOW)}

    assert ("2021-01-01T00:00:00Z", 2) == (shown["Accepted"].since, shown["Accepted"].generation)
    assert shown["ResolvedRefs"].since == NOW
    assert shown["Programmed"] == written[0]


def test_policies_are_judged_once_all_was_read_whatever_came_last() -> None:
    truth = Truth(Settings())
    for kind in sorted(KINDS, key=lambda kind: kind.name != "trafficpolicies"):
        truth.policies_changed.clear()
        truth.on_changes([(Replace(kind.name, ()), 0.0)])

    assert truth.is_synced
    assert truth.policies_changed.is_set()


# --- near endpoints and weights


def near(cluster: Cluster, client: str) -> set[str]:
    return {one.ip for one in told(cluster, client=client).endpoints if one.preferred}


def test_endpoints_hinted_for_the_zone_of_the_clients_node_are_preferred() -> None:
    cluster = cluster_of(
        service(),
        piece(endpoint("10.244.0.1", hinted_zones=("a",)), endpoint("10.244.0.2", hinted_zones=("b", "a"))),
        piece(endpoint("10.244.0.3", hinted_zones=("b",)), name="web-def"),
        node("node-a", "a"),
        node("node-b", "b"),
        node("node-c", "c"),
        node("node-0"),
    )

    assert {"10.244.0.1", "10.244.0.2"} == near(cluster, "node-a")
    assert {"10.244.0.2", "10.244.0.3"} == near(cluster, "node-b")
    assert set() == near(cluster, "node-c") | near(cluster, "node-0") | near(cluster, "nowhere") | near(cluster, "")


def test_hints_count_only_where_every_ready_endpoint_has_one() -> None:
    hinted, bare = endpoint("10.244.0.1", hinted_zones=("a",)), endpoint("10.244.0.2")
    unready = endpoint("10.244.0.2", ready=False, serving=False)
    leaving = endpoint("10.244.0.1", ready=False, terminating=True, hinted_zones=("a",))

    assert set() == near(cluster_of(service(), piece(hinted, bare), node("node-a", "a")), "node-a")
    assert {"10.244.0.1"} == near(cluster_of(service(), piece(hinted, unready), node("node-a", "a")), "node-a")
    assert set() == near(cluster_of(service(), piece(leaving), node("node-a", "a")), "node-a")


def test_node_that_changes_its_zone_makes_hinted_services_dirty_and_no_other() -> None:
    cluster = cluster_of(
        service(),
        service("plain", "10.96.0.8"),
        piece(endpoint("10.244.0.1", hinted_zones=("a",))),
        piece(endpoint("10.244.0.2"), name="plain-1", of="plain"),
    )
    cluster.take_dirty()
    found = node("node-a", "a")
    cluster.apply(Change("nodes", found.key, found))

    assert {"10.96.0.7"} == cluster.take_dirty()


def test_endpoint_has_the_weight_of_its_pod() -> None:
    cluster = cluster_of(service(), pod(weight=50), piece(endpoint("10.244.0.1", "web-1")))

    assert [50] == [one.weight for one in told(cluster).endpoints]


@pytest.mark.parametrize(
    ("annotation", "weight", "is_told"),
    [(None, 1, False), ("20", 20, False), ("0", 1, True), ("x", 1, True), ("1001", 1, True)],
)
def test_weight_of_a_pod_that_is_none_is_one_and_told(annotation: str | None, weight: int, is_told: bool) -> None:
    annotations = {} if annotation is None else {"config.tulle.mesh/weight": annotation}
    found = PODS.decode(json.dumps({"metadata": {"name": "a", "annotations": annotations}}).encode())

    assert isinstance(found, Pod)
    assert (weight, is_told) == (found.weight, "write a whole number" in found.bad_weight)


# --- as the API server writes them


def test_hints_and_zone_of_a_slice_are_read() -> None:
    item = {"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}, {"name": "b"}]}}
    found = SLICES.decode(
        json.dumps({"metadata": {"name": "s"}, "endpoints": [item, {"addresses": ["10.0.0.2"]}]}).encode()
    )

    assert found.hinted  # type: ignore[union-attr]
    assert [("a", "b"), ()] == [one.hinted_zones for one in found.endpoints]  # type: ignore[union-attr]


def test_policy_keeps_version_generation_and_status() -> None:
    body = {
        "metadata": {
            "name": "p",
            "namespace": NS,
            "generation": 3,
            "resourceVersion": "12",
            "creationTimestamp": NOW,
        },
        "spec": {"targetRef": {"name": "web"}},
        "status": {"conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 2}]},
    }
    found = TRAFFIC_POLICIES.decode(json.dumps(body).encode())

    assert isinstance(found, Policy)
    assert (Key(NS, "p"), 3, "12", NOW) == (found.key, found.generation, found.version, found.created)
    assert (Condition("Accepted", "True", "", "", 2),) == found.conditions
