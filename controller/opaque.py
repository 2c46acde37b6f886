"""Which ports are opaque: the cluster-wide list, a namespace's annotation, an object's own. Pure.

The layers are those of the injector (the written form is contract/lists.py): each replaces the one before it, or
adds to it when it begins with `+`. So what the client's sidecar assumes is what the server's sidecar was told.
"""

from typing import Final

from contract import ports
from contract.lists import PortRange, merge_ports, parse_ports

Ports = tuple[PortRange, ...]

BUILT_IN: Final[Ports] = merge_ports(PortRange(port, port) for port in ports.OPAQUE_PORTS)


def has_port(listed: Ports, port: int) -> bool:
    return any(low <= port <= high for low, high in listed)


def add_layer(base: Ports, text: str) -> Ports:
    """Lay a written list over another.

    Raises:
        ValueError: it is malformed; the message names the entry and the fix.
    """
    text = text.strip()
    listed = parse_ports(text.removeprefix("+"))
    return merge_ports([*base, *listed]) if text.startswith("+") else listed


def annotated(base: Ports, of_namespace: str | None, own: str | None) -> Ports | None:
    """The ports that annotations give; None where there is none.

    One that cannot be read counts as absent: for a pod the injector has said so, and traffic must not stop for it.
    """
    found = None
    for text in (of_namespace, own):
        if text is not None:
            try:
                found = add_layer(base if found is None else found, text)
            except ValueError:
                continue
    return found
