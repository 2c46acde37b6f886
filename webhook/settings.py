"""What the operator decides for the injector: images, defaults, the control plane's place. Pure.

`webhook.environment` reads these from the environment; annotations on a pod or its namespace win over the defaults
here (`webhook.annotations`).

RBAC that the webhook needs, and nothing more:

| scope         | group                        | resource                                        | verbs            |
|---------------|------------------------------|-------------------------------------------------|------------------|
| own namespace | ""                           | secrets                                         | create           |
| own namespace | ""                           | secrets `tulle-webhook-tls`                     | get, update      |
| cluster       | admissionregistration.k8s.io | mutatingwebhookconfigurations `tulle-webhook`   | get, patch       |
| cluster       | admissionregistration.k8s.io | validatingwebhookconfigurations `tulle-webhook` | get, patch       |
| cluster       | ""                           | namespaces                                      | get, list, watch |
| cluster       | ""                           | events                                          | create           |
| cluster       | ""                           | pods, replicationcontrollers                    | get              |
| cluster       | apps                         | daemonsets, replicasets, statefulsets           | get              |
| cluster       | batch                        | jobs                                            | get              |

`/version` is open to every authenticated user (the cluster role system:public-info-viewer).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from contract import VERSION, names, ports
from contract.lists import PortRange, Subnet, merge_ports

LOG_LEVELS = ("error", "warn", "info", "debug")


def _single_ports(numbers: Iterable[int]) -> tuple[PortRange, ...]:
    return merge_ports(PortRange(number, number) for number in numbers)


@dataclass(frozen=True, slots=True)
class Resources:
    """Kubernetes quantities of one container; empty text is not set."""

    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that injection depends on besides the pod and its namespace."""

    image_registry: str = "ghcr.io/tulle-mesh"
    image_tag: str = VERSION
    proxy_image: str = ""
    """Empty: `proxy:TAG` of the registry."""
    init_image: str = ""
    """Empty: `init:TAG` of the registry."""
    image_pull_policy: str = "IfNotPresent"
    native_sidecar: bool = True
    """Whether the API server knows init containers with restartPolicy Always (Kubernetes 1.29)."""
    control_plane_namespace: str = names.CONTROL_PLANE_NAMESPACE
    cluster_domain: str = "cluster.local"
    controller_url: str = ""
    """Empty: the controller's service in the control plane's namespace."""
    proxy_log_level: str = "info"
    proxy_uid: int = ports.PROXY_UID
    opaque_ports: tuple[PortRange, ...] = _single_ports(ports.OPAQUE_PORTS)
    skip_inbound_ports: tuple[PortRange, ...] = _single_ports(ports.SKIP_PORTS)
    skip_outbound_ports: tuple[PortRange, ...] = _single_ports(ports.SKIP_PORTS)
    skip_inbound_subnets: tuple[Subnet, ...] = ()
    skip_outbound_subnets: tuple[Subnet, ...] = ()
    resources: Resources = Resources(cpu_request="10m", memory_request="40Mi", memory_limit="250Mi")

    @property
    def proxy_image_name(self) -> str:
        return self.proxy_image or f"{self.image_registry}/proxy:{self.image_tag}"

    @property
    def init_image_name(self) -> str:
        return self.init_image or f"{self.image_registry}/init:{self.image_tag}"

    @property
    def controller_address(self) -> str:
        host = f"{names.CONTROLLER}.{self.control_plane_namespace}.svc.{self.cluster_domain}"
        return self.controller_url or f"http://{host}:{ports.CONTROLLER_PORT}"


@dataclass(frozen=True, slots=True)
class Serving:
    """How the webhook itself runs."""

    host: str = ""
    """Address to listen on; empty: every address, of both families where the kernel has both."""
    port: int = ports.WEBHOOK_PORT
    log_level: str = "info"
    kubeconfig: str = ""
    """Path of a kubeconfig; empty: the pod's own service account, else the user's kubeconfig."""
    serving_names: tuple[str, ...] = ()
    """Further DNS names and addresses of the serving certificate, for a webhook outside of the cluster."""
    drain_delay_s: float = 3.0
    """How long it serves on after SIGTERM, unready, until no API server sends it anything new."""
    client_ca_file: str = ""
    """Path of a CA's certificates: decisions are for clients with one of its; empty: for all who reach the port."""
    client_names: tuple[str, ...] = ()
    """Names of which such a certificate must have one; empty: any name."""
