"""What an original destination means: the endpoints that may take a request. Pure."""

from collections.abc import Sequence
from typing import Literal, TypeVar

E = TypeVar("E")

Kind = Literal["service", "pod", "unknown"]


def match(kind: Kind, known: Sequence[E], direct: Sequence[E]) -> Sequence[E]:  # stop 5
    """Choose between the endpoints that discovery knows and the original address itself.

    Args:
        kind: what the destination is; `unknown` also stands for one that discovery has not answered.
        known: the endpoints of the last snapshot.
        direct: the original address as the only endpoint.

    Returns:
        Endpoints to pick from; empty only for a service that has none ready. Everything that is not a service of
        the cluster passes through to where its client sent it.
    """
    if kind == "service" or (kind == "pod" and known):
        return known
    return direct


Standing = Literal["opaque", "http", "detect"]


def standing(is_inbound: bool, protocol: str, is_listed: bool, is_limited: bool) -> Standing:
    """Settle what a connection must speak: opaque bytes are not read, and where HTTP stands all else is refused.

    Args:
        is_inbound: the destination is the local application; what discovery says of it heeds its pod's own list.
        protocol: what discovery says: a declaration (contract.discovery.Protocol) or `detect`.
        is_listed: the port is in this sidecar's own list of opaque ports.
        is_limited: a rate limit holds for the port: bytes that are not read would escape it.
    """
    if protocol == "opaque" or (is_listed and not is_inbound):
        return "opaque"
    if protocol != "detect":
        return "http"
    if is_listed:
        return "opaque"
    return "http" if is_limited and is_inbound else "detect"
