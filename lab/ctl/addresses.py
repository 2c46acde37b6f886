"""Cluster IPs: which addresses a service gets. Pure.

Every lab has the same ranges: services 10.96.0.0/16 and fd00:10:96::/112. 10.96.0.1 is the API server's and 10.96.0.10
the DNS server's, so neither is handed out unasked (nor are their IPv6 twins); a service may ask for any free address.
Source: Kubernetes documentation, "IPv4/IPv6 dual-stack": ipFamilyPolicy and its default, one family, IPv4 first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from lab.ctl.owners import Object

RANGES: dict[str, IPv4Network | IPv6Network] = {
    "IPv4": IPv4Network("10.96.0.0/16"),
    "IPv6": IPv6Network("fd00:10:96::/112"),
}
RESERVED = frozenset({"10.96.0.1", "10.96.0.10", "fd00:10:96::1", "fd00:10:96::a"})
"""Text of the addresses given only to a service that names them: the API server and DNS."""
HEADLESS = "None"
GIVEN = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a service cannot have what it asks for: the field's path, and a message that says what would do."""

    field: str
    message: str


def allocate(service: Object, taken: Iterable[str]) -> Object | Fault:
    """Give a new service its families and addresses.

    Args:
        service: the Service with defaults set; not changed.
        taken: text of every cluster IP in use, of both families.

    Returns: the service with spec.ipFamilyPolicy, ipFamilies, clusterIP and clusterIPs filled in (without them for
    ExternalName), or a Fault.
    """
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return {**service, "spec": {key: value for key, value in spec.items() if key not in GIVEN}}
    wanted = _wanted(spec)
    families = _families(spec, wanted)
    if isinstance(families, Fault):
        return families
    if wanted[:1] == [HEADLESS]:
        addresses: list[str] | Fault = [HEADLESS]
    else:
        addresses = _addresses(families, wanted, frozenset(taken))
    if isinstance(addresses, Fault):
        return addresses
    policy = spec.get("ipFamilyPolicy") or ("RequireDualStack" if len(families) == 2 else "SingleStack")
    given = {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": list(families), "ipFamilyPolicy": policy}
    return {**service, "spec": {**spec, **given}}


def keep(old: Object, new: Object, taken: Iterable[str]) -> Object | Fault:
    """Carry addresses over an update: the first never changes; a second comes or goes with ipFamilyPolicy.

    Args:
        old, new: the Service as stored and as written; neither is changed.
        taken: text of every cluster IP in use, of both families.
    """
    was, spec = old["spec"], new["spec"]
    if "ExternalName" in (was.get("type"), spec.get("type")):
        return allocate(new, taken) if was.get("type") != spec.get("type") else new
    if spec.get("clusterIP", "") not in ("", was.get("clusterIP", "")):
        return Fault("spec.clusterIP", "field is immutable; delete the service and create it again")
    families = list(was.get("ipFamilies") or ["IPv4"])
    policy = spec.get("ipFamilyPolicy") or was.get("ipFamilyPolicy") or "SingleStack"
    if policy == "SingleStack":
        families = families[:1]
    elif len(families) == 1:
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")
    stays = list(was.get("clusterIPs") or [was.get("clusterIP", "")])[: len(families)]
    free = frozenset(taken) - frozenset(stays)
    return allocate(
        {**new, "spec": {**spec, "ipFamilies": families, "ipFamilyPolicy": policy, "clusterIPs": stays}}, free
    )


def _wanted(spec: Object) -> list[str]:
    listed = list(spec.get("clusterIPs") or [])
    return listed or ([spec["clusterIP"]] if spec.get("clusterIP") else [])


def _families(spec: Object, wanted: Sequence[str]) -> list[str] | Fault:
    asked = list(spec.get("ipFamilies") or [])
    policy = spec.get("ipFamilyPolicy") or ("RequireDualStack" if len(asked) == 2 else "SingleStack")
    if policy not in POLICIES:
        return Fault("spec.ipFamilyPolicy", f'Unsupported value: "{policy}": supported values: {", ".join(POLICIES)}')
    for family in asked:
        if family not in RANGES:
            return Fault("spec.ipFamilies", f'Unsupported value: "{family}": supported values: IPv4, IPv6')
    if len(set(asked)) != len(asked):
        return Fault("spec.ipFamilies", "a family may stand here once")
    given = [family for text in wanted if (family := family_of(text))]
    if asked and given and asked[: len(given)] != given:
        return Fault("spec.clusterIPs", f"are {given}, but spec.ipFamilies is {asked}; let both have the same order")
    first = (asked or given or ["IPv4"])[0]
    if policy == "SingleStack":
        if max(len(asked), len(given)) > 1:
            return Fault(
                "spec.ipFamilyPolicy", "SingleStack takes one family; write PreferDualStack or RequireDualStack"
            )
        return [first]
    return [first, "IPv6" if first == "IPv4" else "IPv4"]


def _addresses(families: Sequence[str], wanted: Sequence[str], taken: frozenset[str]) -> list[str] | Fault:
    chosen: list[str] = []
    for position, family in enumerate(families):
        text = wanted[position] if position < len(wanted) else ""
        address = _asked(text, family, taken) if text else next_free(family, taken)
        if isinstance(address, Fault):
            return address
        chosen.append(address)
    return chosen


def _asked(text: str, family: str, taken: frozenset[str]) -> str | Fault:
    field = "spec.clusterIPs"
    try:
        address = ip_address(text)
    except ValueError:
        return Fault(field, f'Invalid value: "{text}": must be an IP address or "None"')
    if address not in RANGES[family]:
        return Fault(field, f'Invalid value: "{text}": the provided IP is not in the valid range {RANGES[family]}')
    if str(address) in taken:
        return Fault(field, f'Invalid value: "{text}": provided IP is already allocated')
    return str(address)


def next_free(family: str, taken: frozenset[str]) -> str | Fault:
    """The lowest free address of a family; a Fault when the range is full."""
    network = RANGES[family]
    base = int(network.network_address)
    kind = IPv4Address if family == "IPv4" else IPv6Address
    for offset in range(1, network.num_addresses - 1):
        text = str(kind(base + offset))
        if text not in taken and text not in RESERVED:
            return text
    return Fault("spec.clusterIP", f"no address is free in {network}; delete a service")


def family_of(text: str) -> str:
    """IPv4 or IPv6 for an address' text, empty for "None", nothing, and what is no address."""
    try:
        return f"IPv{ip_address(text).version}"
    except ValueError:
        return ""


def network_of(family: str) -> str:
    """The service range of a family, as text."""
    return str(ip_network(RANGES[family]))
