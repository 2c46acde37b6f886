"""Cluster IPs as a table: what a service asks for, what it gets."""

from ipaddress import IPv4Network

import pytest

from lab.ctl import addresses
from lab.ctl.addresses import Fault, allocate, keep, next_free


def asked(**spec):
    return {"metadata": {"name": "web"}, "spec": {"type": "ClusterIP", **spec}}


@pytest.mark.parametrize(
    ("spec", "expected", "policy"),
    [
        ({}, ["10.96.0.2"], "SingleStack"),
        ({"ipFamilies": ["IPv6"]}, ["fd00:10:96::2"], "SingleStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["10.96.0.2", "fd00:10:96::2"], "PreferDualStack"),
        ({"ipFamilyPolicy": "RequireDualStack"}, ["10.96.0.2", "fd00:10:96::2"], "RequireDualStack"),
        (
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]},
            ["fd00:10:96::2", "10.96.0.2"],
            "RequireDualStack",
        ),
        ({"clusterIP": "10.96.7.7"}, ["10.96.7.7"], "SingleStack"),
        ({"clusterIP": "10.96.7.7", "ipFamilyPolicy": "PreferDualStack"}, ["10.96.7.7", "fd00:10:96::2"], None),
        ({"clusterIP": "fd00:10:96::77"}, ["fd00:10:96::77"], "SingleStack"),
        ({"clusterIP": "10.96.0.10"}, ["10.96.0.10"], "SingleStack"),
        ({"clusterIP": "None"}, ["None"], "SingleStack"),
        ({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}, ["None"], "PreferDualStack"),
    ],
)
def test_a_service_gets_its_families_and_addresses(spec, expected, policy):
    given = allocate(asked(**spec), [])["spec"]
    assert expected == given["clusterIPs"]
    assert expected[0] == given["clusterIP"]
    assert (policy or spec["ipFamilyPolicy"]) == given["ipFamilyPolicy"]
    assert (2 if given["ipFamilyPolicy"] != "SingleStack" else 1) == len(given["ipFamilies"])


@pytest.mark.parametrize(
    ("spec", "field", "part"),
    [
        ({"clusterIP": "10.97.0.1"}, "spec.clusterIPs", "not in the valid range 10.96.0.0/16"),
        ({"clusterIP": "ten"}, "spec.clusterIPs", "must be an IP address"),
        ({"clusterIP": "10.96.0.5"}, "spec.clusterIPs", "already allocated"),
        ({"ipFamilies": ["IPv5"]}, "spec.ipFamilies", "IPv4, IPv6"),
        ({"ipFamilyPolicy": "Both"}, "spec.ipFamilyPolicy", "SingleStack, PreferDualStack, RequireDualStack"),
        ({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}, "spec.ipFamilyPolicy", "PreferDualStack"),
        ({"ipFamilies": ["IPv6"], "clusterIP": "10.96.1.1"}, "spec.clusterIPs", "same order"),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies", "once"),
    ],
)
def test_a_wish_that_cannot_be_granted_names_its_field(spec, field, part):
    fault = allocate(asked(**spec), ["10.96.0.5"])
    assert isinstance(fault, Fault)
    assert field == fault.field
    assert part in fault.message


def test_addresses_in_use_and_the_reserved_ones_are_not_handed_out():
    taken = {f"10.96.0.{number}" for number in range(1, 10)}
    assert "10.96.0.11" == next_free("IPv4", frozenset(taken))


def test_an_alias_gets_no_address():
    alias = allocate(asked(type="ExternalName", externalName="example.org", clusterIP="10.96.0.9"), [])
    assert {"type": "ExternalName", "externalName": "example.org"} == alias["spec"]


def test_a_full_range_is_said_so(monkeypatch):
    monkeypatch.setitem(addresses.RANGES, "IPv4", IPv4Network("10.96.0.0/30"))
    assert "no address is free" in next_free("IPv4", frozenset({"10.96.0.2"})).message


def stored(**spec):
    return allocate(asked(**spec), [])


def test_an_update_without_addresses_keeps_them():
    old = stored(ipFamilyPolicy="PreferDualStack")
    written = asked(sessionAffinity="ClientIP", ipFamilyPolicy="PreferDualStack")
    assert old["spec"]["clusterIPs"] == keep(old, written, old["spec"]["clusterIPs"])["spec"]["clusterIPs"]


def test_a_second_family_comes_and_goes_with_the_policy():
    single = stored()
    dual = keep(single, {**single, "spec": {**single["spec"], "ipFamilyPolicy": "PreferDualStack"}}, ["10.96.0.2"])
    assert ["10.96.0.2", "fd00:10:96::2"] == dual["spec"]["clusterIPs"]
    again = keep(dual, {**dual, "spec": {**dual["spec"], "ipFamilyPolicy": "SingleStack"}}, dual["spec"]["clusterIPs"])
    assert ["10.96.0.2"] == again["spec"]["clusterIPs"]
    assert ["IPv4"] == again["spec"]["ipFamilies"]


def test_the_first_address_never_changes():
    old = stored()
    fault = keep(old, {**old, "spec": {**old["spec"], "clusterIP": "10.96.0.99"}}, ["10.96.0.2"])
    assert "spec.clusterIP" == fault.field
    assert "immutable" in fault.message


def test_a_service_that_becomes_an_alias_gives_its_address_back():
    old = stored()
    new = keep(old, asked(type="ExternalName", externalName="example.org"), ["10.96.0.2"])
    assert "clusterIP" not in new["spec"]
