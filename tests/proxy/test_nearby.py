"""Which addresses are the node's, by what the pod's routes say on the networks that clusters have."""

from sys import byteorder

import pytest

from proxy.nearby import Nearby, nearby
from proxy.routes import read_routes

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
BRIDGE = (
    HEAD + "eth0\t00000000\t0101F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
POINT_TO_POINT = (
    HEAD + "eth0\t00000000\t0101FEA9\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t0101FEA9\t00000000\t0001\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
)
V6 = (
    "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n"
    "ff000000000000000000000000000000 08 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0\n"
    "00000000000000000000000000000001 80 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000000 00000004 00000000 80200001       lo\n"
)


@pytest.mark.skipif(byteorder != "little", reason="the text is one of a little-endian machine")
@pytest.mark.parametrize(
    ("routes", "ip", "is_node", "is_near"),
    [
        (BRIDGE, "10.244.1.1", True, True),  # the bridge, from which a kubelet's packets come
        (BRIDGE, "10.244.1.2", False, True),  # a pod, or another address of the node: discovery knows
        (BRIDGE, "10.244.2.1", False, False),
        (BRIDGE, "192.168.0.7", True, False),  # the node's own, of the downward API
        (BRIDGE, "192.168.0.8", False, False),
        (POINT_TO_POINT, "169.254.1.1", True, True),
        (POINT_TO_POINT, "10.244.1.1", False, False),
        (BRIDGE, "fd00::1", True, True),
        (BRIDGE, "fd00::2", False, True),
        (BRIDGE, "fd01::2", False, False),
        (BRIDGE, "ff02::1", False, False),
        (BRIDGE, "::1", False, False),
        (BRIDGE, "", False, False),
    ],
)
def test_the_node_is_its_addresses_and_the_gateways_and_near_is_the_pods_subnet(
    routes: str, ip: str, is_node: bool, is_near: bool
) -> None:
    found = nearby(("192.168.0.7",), routes, V6)

    assert (is_node, is_near) == (found.is_node(ip), found.is_near(ip))


@pytest.mark.parametrize("routes", ["", HEAD, HEAD + "eth0\n", HEAD + "\n\n", "eth0 x\n"])
def test_routes_that_cannot_be_read_tell_nothing(routes: str) -> None:
    found = nearby((), routes, routes)

    assert (False, False) == (found.is_node("10.0.0.1"), found.is_near("10.0.0.1"))


def test_without_anything_known_nobody_is_the_node() -> None:
    assert not Nearby().is_node("127.0.0.1")
    assert not Nearby().is_near("127.0.0.1")


def test_this_machines_routes_can_be_read() -> None:
    routes, routes_v6 = read_routes()

    assert isinstance(nearby((), routes, routes_v6), Nearby)
