"""The controller's settings: environment variables to a frozen record. Pure.

The API server is found as the official client finds it: KUBECONFIG when set, else the pod's service account.

What the controller's ServiceAccount needs (nothing else):

    API group          resources                                       verbs               where
    ""                 pods, services, namespaces                      list, watch         cluster
    discovery.k8s.io   endpointslices                                  list, watch         cluster
    apps               replicasets, deployments, statefulsets,
                       daemonsets                                      list, watch         cluster
    batch              jobs                                            list, watch         cluster
    ""                 nodes                                           list, watch         cluster
    ""                 events                                          create              cluster
    policy.tulle.mesh  trafficpolicies, faultinjections                list, watch         cluster
    gateway.networking.k8s.io  referencegrants                         list, watch         cluster
    policy.tulle.mesh  trafficpolicies/status, faultinjections/status  patch               cluster
    ""                 secrets, named tulle-identity-issuer            get                 own namespace
    ""                 secrets (RBAC cannot name what is to be made)   create              own namespace
    ""                 configmaps, named tulle-trust-bundle            get, update         cluster
    ""                 configmaps                                      create              cluster
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final

from contract import names, ports
from controller.opaque import BUILT_IN, Ports, add_layer

PREFIX: Final = "TULLE_CONTROLLER_"
LOG_LEVELS: Final = ("error", "warn", "info", "debug")

_SERVICE_LINK = re.compile(r"(PORT|PORT_\d+_.*|SERVICE_HOST|SERVICE_PORT|SERVICE_PORT_.*)", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults are those of the chart; each field is the variable TULLE_CONTROLLER_<FIELD IN CAPITALS>."""

    address: str = ""
    """IP address to listen on; empty: all, IPv6 and IPv4."""
    port: int = ports.CONTROLLER_PORT
    """TCP port of REST, discovery, reports and metrics; 0: any free one, told in the log."""
    namespace: str = names.CONTROL_PLANE_NAMESPACE
    """The control plane's own namespace: the issuer's Secret lives there."""
    cluster_domain: str = "cluster.local"
    """Stands in the name of the certificate authority."""
    log_level: str = "info"
    opaque_ports: str = ",".join(map(str, ports.OPAQUE_PORTS))
    """Ports never parsed where no annotation says otherwise; `+` adds to the built-in list."""
    verify_senders: bool = True
    """`false` takes sidecars at their word where pods' addresses are rewritten (kube-proxy's `masqueradeAll`)."""
    max_streams_count: int = 4096
    """Discovery streams (one for each process of a sidecar); more are refused with 503, unknown senders first."""
    max_targets_count: int = 131072
    """Targets of all discovery streams, at some 600 bytes each; beyond it the pod that asks for most is cut."""
    max_sources_count: int = 4096
    """Sidecars whose reports are kept; beyond it those of pods that are gone make way."""
    max_series_count: int = 10000
    """Series of traffic kept; at some 6 to 20 KB each. Further peers are counted without a name."""
    max_series_bytes: int = 128 << 20
    """Memory of all series of traffic; beyond it the pods that are gone make way, then the sidecar that holds most."""
    max_source_bytes: int = 8 << 20
    """Memory of one sidecar's series; its further peers are counted without a name."""
    max_report_bytes: int = 1 << 20
    """Size of a report or subscription; more is refused with 413."""

    @property
    def default_opaque(self) -> Ports:
        return add_layer(BUILT_IN, self.opaque_ports)


_RANGES: Final[dict[str, tuple[int, int]]] = {
    "port": (0, 65535),
    "max_streams_count": (1, 1_000_000),
    "max_sources_count": (1, 1_000_000),
    "max_series_count": (1, 10_000_000),
    "max_report_bytes": (1024, 64 << 20),
    "max_targets_count": (1, 100_000_000),
    "max_series_bytes": (1 << 20, 1 << 40),
    "max_source_bytes": (1 << 16, 1 << 40),
}


class SettingsError(Exception):
    """All faults of the environment at once, one a line."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read TULLE_CONTROLLER_*; other variables are not looked at.

    Kubernetes itself sets TULLE_CONTROLLER_PORT=tcp://... and TULLE_CONTROLLER_SERVICE_HOST in pods beside a Service
    named tulle-controller ("service links"): those are told apart by their form and left alone.

    Raises:
        SettingsError: some value is wrong, or some name is unknown.
    """
    faults: list[str] = []
    values: dict[str, str | int | bool] = {}
    known = Settings.__dataclass_fields__
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX)
        if _SERVICE_LINK.fullmatch(name) and (name != "PORT" or text.startswith("tcp://")):
            continue
        field_name = name.lower()
        if field_name not in known or name != name.upper():
            near = get_close_matches(name, [item.upper() for item in known], 1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            faults.append(f"{variable}: no such setting{hint}")
            continue
        try:
            values[field_name] = _read(field_name, text)
        except ValueError as fault:
            faults.append(f"{variable}={text!r}: {fault}")
    if faults:
        raise SettingsError("\n".join(faults))
    return Settings(**values)  # type: ignore[arg-type]  # _read gives each field its type


def _read(name: str, text: str) -> str | int | bool:
    if name in _RANGES:
        low, high = _RANGES[name]
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise ValueError(f"write a whole number from {low} to {high}")
        return int(text)
    match name:
        case "verify_senders":
            if text not in ("true", "false"):
                raise ValueError("write true or false")
            return text == "true"
        case "log_level" if text not in LOG_LEVELS:
            raise ValueError(f"write one of {', '.join(LOG_LEVELS)}")
        case "namespace" if not _NAME.fullmatch(text):
            raise ValueError("write a namespace's name: lower-case letters, digits and dashes")
        case "cluster_domain" if not _DOMAIN.fullmatch(text):
            raise ValueError("write a domain such as cluster.local, without a final dot")
        case "opaque_ports":
            add_layer(BUILT_IN, text)
        case "address" if text:
            _check_address(text)
    return text


def _check_address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("write an IP address such as 0.0.0.0 or ::, or leave it empty for all") from None
