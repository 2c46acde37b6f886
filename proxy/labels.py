"""Labels of series: who is on the other side of the traffic, as far as that is known. Pure.

A label that a peer could fill with ever new values would fill the table of series. So an address gets a series of its
own when discovery knows it as a service, or when something there has accepted a connection. Until then its traffic
counts together with that of all others: scans of ports on which nobody listens are one series.

Sources: Linkerd's names (contract/metrics.py).
"""

from typing import Final

from contract.discovery import Destination, Endpoint
from contract.metrics import INBOUND, OUTBOUND
from proxy.meter import Labels
from proxy.model import Address, Direction

UNKNOWN: Final = "unknown"
"""In place of all addresses that are nobody's, or have not answered yet."""


def unknown_labels(direction: Direction) -> Labels:
    """Labels of all traffic to what is unknown."""
    return (("direction", direction), ("target_addr", UNKNOWN), *_tls(direction))


def address_labels(direction: Direction, address: Address) -> Labels:
    """Labels of traffic to an address."""
    return (
        ("direction", direction),
        ("target_addr", str(address)),
        ("target_ip", address.ip),
        ("target_port", str(address.port)),
        *_tls(direction),
    )


def endpoint_labels(address: Address, told: Endpoint, of: Destination) -> Labels:
    """Labels of outbound traffic to an endpoint that discovery has named."""
    pairs = [
        ("dst_namespace", told.namespace or of.namespace),
        ("dst_service", of.name if of.kind == "service" else ""),
        ("dst_pod", told.pod),
        (f"dst_{told.owner_kind}", told.owner if told.owner_kind else ""),
        ("dst_serviceaccount", told.service_account),
        ("dst_zone", told.zone),
    ]
    return (*address_labels(OUTBOUND, address), *((name, value) for name, value in pairs if value))


def pod_labels(address: Address, told: Endpoint, of: Destination) -> Labels:
    """Labels of traffic to all ports of a pod that have not answered."""
    nowhere = (("target_addr", address.ip), ("target_ip", address.ip), ("target_port", UNKNOWN))
    kept = endpoint_labels(address, told, of)
    return (kept[0], *nowhere, *kept[4:])


def service_labels(address: Address, of: Destination) -> Labels:
    """Labels of outbound requests that found no endpoint of a service."""
    return (*address_labels(OUTBOUND, address), ("dst_namespace", of.namespace), ("dst_service", of.name))


def of_peer(labels: Labels, peer: str) -> Labels:
    """Labels of connections: `src` is the client's, `dst` the server's."""
    return (labels[0], ("peer", peer), *labels[1:])


def _tls(direction: Direction) -> Labels:
    """Say why it is not encrypted (Linkerd's words)."""
    if direction == INBOUND:
        return (("tls", "disabled"), ("no_tls_reason", "no_tls_from_remote"))
    return (("tls", "no_identity"), ("no_tls_reason", "not_provided_by_service_discovery"))
