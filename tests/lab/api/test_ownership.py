"""Field sets, their owners, and what server-side apply makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.api import field_sets, ownership, schema, ssa
from lab.api.errors import ApiError
from lab.api.ownership import APPLY, UPDATE, Owner
from lab.api.resources import Catalog

SERVICE = Catalog().keyed("services")
KNOWN = schema.of_kind("v1", "Service") or {}
Object = dict[str, Any]
T0, T1 = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


def service(ports: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}}
    return {**head, "spec": {"ports": ports, **spec}}


def applied(
    live: dict[str, Any] | None, config: dict[str, Any], manager: str, *, force: bool = False
) -> dict[str, Any]:
    owner = Owner(manager, APPLY)
    if live is None:
        return ssa.fresh(config, owner, KNOWN, T0)
    return ssa.apply(SERVICE, live, config, owner, KNOWN, force=force, moment=T1)


HTTP = {"port": 80, "name": "http"}
DNS = {"port": 53, "protocol": "UDP", "name": "dns"}


def test_paths_name_list_items_by_all_their_keys_with_defaults() -> None:
    found = field_sets.leaves(service([HTTP])["spec"], schema.resolved(KNOWN["properties"]["spec"]))
    assert ("f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:port") in found
    assert field_sets.shown(("f:ports", 'k:{"port":80,"protocol":"TCP"}')) == '.ports[port=80,protocol="TCP"]'


_steps = st.text("abc", min_size=1, max_size=2).map(lambda text: f"f:{text}")


@given(st.frozensets(st.lists(_steps, min_size=1, max_size=4).map(tuple), max_size=12))
def test_encoding_and_decoding_fields_gives_them_back(paths: frozenset[tuple[str, ...]]) -> None:
    assert field_sets.decode(field_sets.encode(paths)) == paths


def test_an_item_its_manager_no_longer_says_is_removed() -> None:
    live = applied(None, service([HTTP, DNS]), "me")
    assert applied(live, service([HTTP]), "me")["spec"]["ports"] == [HTTP]


def test_an_item_that_another_manager_says_too_stays() -> None:
    live = applied(applied(None, service([HTTP, DNS]), "me"), service([DNS]), "you")
    assert applied(live, service([HTTP]), "me")["spec"]["ports"] == [HTTP, DNS]


@pytest.mark.parametrize(
    ("live", "config", "expected"),
    [
        ("ab", "cab", "cab"),
        ("ab", "ba", "ba"),
        ("xab", "ca", "xcab"),
        ("axb", "ab", "axb"),
        ("ax", "ba", "bax"),
        ("abc", "b", "abc"),
        ("", "ab", "ab"),
    ],
)
def test_the_applied_order_wins_and_others_keep_their_neighbours(live: str, config: str, expected: str) -> None:
    def spec(names: str) -> Object:
        return {"containers": [{"name": name} for name in names]}

    known = schema.definitions()["io.k8s.api.core.v1.PodSpec"]
    assert field_sets.merge(spec(live), spec(config), known) == spec(expected)


def test_a_field_removed_leaves_no_empty_parent() -> None:
    live = applied(None, service([HTTP], sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}}), "me")
    assert "sessionAffinityConfig" not in applied(live, service([HTTP]), "me")["spec"]


def test_another_value_for_anothers_field_is_a_conflict_that_names_it() -> None:
    live = applied(None, service([HTTP], type="ClusterIP"), "me")
    with pytest.raises(ApiError) as caught:
        applied(live, service([HTTP], type="NodePort"), "you")
    assert caught.value.code == 409
    assert caught.value.details is not None
    assert caught.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "me" using v1', "field": ".spec.type"}
    ]


def test_force_takes_the_field_away() -> None:
    live = applied(None, service([HTTP], type="ClusterIP"), "me")
    taken = applied(live, service([HTTP], type="NodePort"), "you", force=True)
    assert taken["spec"]["type"] == "NodePort"
    owners = ownership.load(taken["metadata"])
    assert ("f:spec", "f:type") not in owners[Owner("me", APPLY)].fields
    assert ("f:spec", "f:type") in owners[Owner("you", APPLY)].fields


def test_the_same_value_is_shared() -> None:
    live = applied(applied(None, service([HTTP], type="NodePort"), "me"), service([HTTP], type="NodePort"), "you")
    assert all(("f:spec", "f:type") in entry.fields for entry in ownership.load(live["metadata"]).values())


def test_an_update_moves_what_it_changes_to_its_manager() -> None:
    live = applied(None, service([HTTP], type="ClusterIP"), "me")
    new = {**live, "metadata": dict(live["metadata"]), "spec": {**live["spec"], "type": "NodePort"}}
    ownership.note_update(Owner("editor", UPDATE), live, new, KNOWN, T1)
    owners = ownership.load(new["metadata"])
    assert owners[Owner("editor", UPDATE)].fields == {("f:spec", "f:type")}
    assert ("f:spec", "f:type") not in owners[Owner("me", APPLY)].fields


def test_a_client_may_reset_all_owners() -> None:
    live = applied(None, service([HTTP]), "me")
    new = {**live, "metadata": {**live["metadata"], "managedFields": [{}]}}
    ownership.note_update(Owner("editor", UPDATE), live, new, KNOWN, T1)
    assert "managedFields" not in new["metadata"]


def test_times_alone_are_no_change() -> None:
    live = applied(None, service([HTTP]), "me")
    assert ownership.same_but_times(live, applied(live, service([HTTP]), "me"))
