"""Clients told by their addresses: what discovery is asked for, what it tells, what is forgotten."""

import pytest
from turnhouse import TurnHouse

from contract.discovery import Destination, Endpoint
from proxy.nearby import Nearby
from proxy.peers import MAX_COUNT, Peers


@pytest.fixture
def peers() -> Peers:
    return Peers(TurnHouse().pump, Nearby())


def pod(ip: str, account: str = "ann", kind: str = "pod") -> Destination:
    host = f"[{ip}]" if ":" in ip else ip
    endpoint = Endpoint(ip, 1, pod="p", namespace="shop", service_account=account)
    return Destination(f"{host}:1", f"r-{account}", kind, endpoints=(endpoint,))  # type: ignore[arg-type]


@pytest.mark.parametrize("ip", ["10.1.0.7", "fd00::7"])
def test_an_address_is_asked_for_once_and_stands_for_itself_until_it_is_told(peers: Peers, ip: str) -> None:
    asked: list[dict[str, str]] = []
    peers.on_wanted = lambda: asked.append(peers.wanted())

    assert ip == peers.identify(ip) == peers.identify(ip)
    assert [{pod(ip).target: ""}] == asked
    peers.apply([pod(ip)])
    assert "shop/ann" == peers.identify(ip)
    assert {pod(ip).target: "r-ann"} == peers.wanted()


def test_an_address_that_another_pod_has_now_is_that_one(peers: Peers) -> None:
    peers.identify("10.1.0.7")
    peers.apply([pod("10.1.0.7")])
    peers.apply([pod("10.1.0.7", "")])
    assert "shop/default" == peers.identify("10.1.0.7")
    peers.apply([Destination("10.1.0.7:1", "r2", "unknown")])
    assert "10.1.0.7" == peers.identify("10.1.0.7")


def test_what_was_not_asked_for_changes_nothing(peers: Peers) -> None:
    peers.identify("10.1.0.7")

    assert [] == peers.apply([pod("10.1.0.8"), Destination("10.1.0.7:80", "r", "pod"), Destination("?:1", "r", "pod")])
    assert {"10.1.0.7:1": ""} == peers.wanted()


def test_no_more_addresses_are_asked_for_than_the_bound_until_some_were_silent(peers: Peers) -> None:
    for number in range(MAX_COUNT + 5):
        peers.identify(f"10.1.{number // 256}.{number % 256}")
    assert MAX_COUNT == len(peers)

    peers.sweep(1000.0, 60.0)
    assert MAX_COUNT == len(peers)
    peers.sweep(1061.0, 60.0)
    assert 0 == len(peers)
