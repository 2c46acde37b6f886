"""Port and subnet lists as people write them."""

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.lists import PortRange, format_ports, format_subnets, parse_ports, parse_subnets

PORTS = st.integers(1, 65535)
RANGES = st.tuples(PORTS, PORTS).map(lambda pair: PortRange(min(pair), max(pair)))


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", []),
        ("  ", []),
        ("80", [(80, 80)]),
        (" 80 , 443 ", [(80, 80), (443, 443)]),
        ("443,80", [(80, 80), (443, 443)]),
        ("80,80", [(80, 80)]),
        ("80,81", [(80, 81)]),
        ("80-90,85-100", [(80, 100)]),
        ("1-65535,7", [(1, 65535)]),
        ("5000-5000", [(5000, 5000)]),
    ],
)
def test_ports_come_out_sorted_and_joined(text: str, ranges: list[tuple[int, int]]) -> None:
    assert tuple(PortRange(*one) for one in ranges) == parse_ports(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "'0' is out of range"),
        ("65536", "'65536' is out of range"),
        ("9" * 5000, "is out of range"),
        ("80-", "'80-' is no port"),
        ("-80", "'-80' is no port"),
        ("80-90-100", "'80-90-100' is no port"),
        ("90-80", "'90-80' runs backwards; write 80-90"),
        ("+80", "is no port"),
        ("8_0", "is no port"),
        ("٨٠", "is no port"),
        ("0x50", "is no port"),
        ("80,,90", "has an empty entry"),
        ("80,", "has an empty entry"),
        ("80 90", "'80 90' is no port"),
    ],
)
def test_bad_ports_are_refused_by_entry(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        parse_ports(text)


@settings(deadline=None)
@given(st.lists(RANGES, max_size=20))
def test_ports_survive_being_written_and_read(ranges: list[PortRange]) -> None:
    once = parse_ports(format_ports(ranges))

    assert once == parse_ports(format_ports(once))
    assert all(any(kept.first <= one.first and one.last <= kept.last for kept in once) for one in ranges)


def test_subnets_keep_their_order_and_lose_repetitions() -> None:
    found = parse_subnets("fd00::/8, 10.0.0.0/8, 192.0.2.1, fd00::/8")

    assert ("fd00::/8", "10.0.0.0/8", "192.0.2.1/32") == tuple(map(str, found))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.0/99", "'10.0.0.0/99' is no subnet; write an address and a prefix length"),
        ("10.0.0.1/8", "'10.0.0.1/8' has bits set behind its prefix; write 10.0.0.0/8"),
        ("10.0.0.0/8,", "has an empty entry"),
        ("example.com", "'example.com' is no subnet"),
        ("fd00::1%eth0/64", "is no subnet|has bits set"),
    ],
)
def test_bad_subnets_are_refused_by_entry(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_subnets(text)


@settings(deadline=None)
@given(st.lists(st.ip_addresses(), max_size=10))
def test_subnets_survive_being_written_and_read(addresses: list[object]) -> None:
    subnets = tuple(dict.fromkeys(ip_network(str(address)) for address in addresses))

    assert subnets == parse_subnets(format_subnets(subnets))
