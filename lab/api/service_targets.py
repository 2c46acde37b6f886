"""From a Service and its EndpointSlices to the addresses behind one of its ports. Pure.

For those who call a service from inside the API server (webhooks, services/proxy): they dial a ready pod directly, as
a node would after its own address translation.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lab.api import errors
from lab.api.reader import Object, Reader, spec_of


@dataclass(frozen=True, slots=True)
class Target:
    """One address to dial; IPv6 addresses are without brackets."""

    address: str
    port: int

    @property
    def authority(self) -> str:
        """As it stands in a URL."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def targets_of(reader: Reader, namespace: str, name: str, port: str) -> list[Target]:
    """The ready addresses of a service port, given by number or name ("" = its only port), IPv4 first.

    Raises ApiError: 404 for no such service, 400 for no such port, 503 when nothing is ready.
    """
    service = reader.get("services", namespace, name)
    chosen = port_of(service, port)
    slices = reader.list("endpointslices", namespace, labels=f"kubernetes.io/service-name={name}")
    found = list(ready_targets(slices, chosen.get("name") or ""))
    if not found:
        raise errors.ApiError(503, "ServiceUnavailable", f'no endpoints available for service "{name}"')
    return sorted(found, key=lambda target: ":" in target.address)


def port_of(service: Object, port: str) -> Object:
    """The ServicePort with that number or name; "" means the only one there is. Raises ApiError 400."""
    ports = spec_of(service).get("ports") or []
    if not port and len(ports) == 1:
        return dict(ports[0])
    for candidate in ports:
        if port and port in (str(candidate["port"]), candidate.get("name")):
            return dict(candidate)
    name = service["metadata"]["name"]
    known = ", ".join(f"{item.get('name', '')}:{item['port']}".lstrip(":") for item in ports) or "none"
    raise errors.bad_request(f'service "{name}" has no port "{port}": its ports are {known}')


def ready_targets(slices: Iterable[Object], port_name: str) -> Iterable[Target]:
    """Every ready address of the slices' port of that name ("" for an unnamed one)."""
    for item in slices:
        numbers = [port["port"] for port in item.get("ports") or [] if (port.get("name") or "") == port_name]
        for endpoint in item.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready", True) is False:
                continue
            for number in numbers:
                for address in endpoint["addresses"]:
                    yield Target(address, number)
