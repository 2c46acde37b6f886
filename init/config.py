"""What the init container was asked to do, checked as a whole. Pure."""

from dataclasses import dataclass

from contract import ports
from contract.lists import PortRange, Subnet, parse_ports


class ConfigError(ValueError):
    """A setting that cannot be honoured; the message names the flag, the value and the fix."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides the capture rules.

    Skipped ports and subnets never reach the sidecar. Inbound subnets are those of the client, outbound ones those of
    the destination; IPv4 and IPv6 may be mixed.
    """

    inbound_proxy_port: int = ports.INBOUND_PORT
    outbound_proxy_port: int = ports.OUTBOUND_PORT
    proxy_uid: int = ports.PROXY_UID
    skip_inbound_ports: tuple[PortRange, ...] = parse_ports(",".join(map(str, ports.SKIP_PORTS)))
    skip_outbound_ports: tuple[PortRange, ...] = parse_ports(",".join(map(str, ports.SKIP_PORTS)))
    skip_inbound_subnets: tuple[Subnet, ...] = ()
    skip_outbound_subnets: tuple[Subnet, ...] = ()

    def __post_init__(self) -> None:
        if self.inbound_proxy_port == self.outbound_proxy_port:
            raise ConfigError(
                f"--inbound-proxy-port and --outbound-proxy-port are both {self.inbound_proxy_port}; "
                "the sidecar tells the directions apart by the port: give two different ones"
            )
        if self.proxy_uid == 0:
            raise ConfigError(
                "--proxy-uid 0: root's connections would all bypass the mesh; give the sidecar a user of its own"
            )
