"""What a sidecar may assume of the bytes on a port. Pure.

First match wins:
1. opaque, when the annotation `tulle.mesh/opaque-ports` of the service or its namespace names the service port, or
   that of a pod behind it or the pod's namespace names the port of the endpoint;
2. what the port's appProtocol says;
3. opaque, when the cluster-wide list has the service port or an endpoint's port and no annotation stands instead;
4. detect.

A pod that is dialled by its own address takes the hints of the services, headless ones above all, that it is behind.

Sources: KEP-3726 (standard appProtocols); Kubernetes, "Service", application protocol.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from contract.discovery import Protocol
from controller.cluster import Cluster
from controller.objects import Key, Pod, Service, ServicePort
from controller.opaque import Ports, annotated, has_port

APP_PROTOCOLS: Final[dict[str, Protocol]] = {
    "http": "http/1",
    "kubernetes.io/ws": "http/1",
    "kubernetes.io/h2c": "http/2",
    "http2": "http/2",
    "grpc": "http/2",
    "tulle.mesh/opaque": "opaque",
    "tcp": "opaque",
    "tls": "opaque",
    "https": "opaque",
    "kubernetes.io/wss": "opaque",
    "mysql": "opaque",
    "postgresql": "opaque",
    "redis": "opaque",
    "mongo": "opaque",
}
"""Lower-case appProtocol -> hint. Encrypted and server-first protocols have nothing to detect; `http2`, `grpc`, `tls`,
`tcp`, `mysql`, `mongo` and `redis` are not standard but in wide use (Istio's names). Any other value: detect."""


def service_protocol(
    cluster: Cluster, service: Service, port: ServicePort, behind: Iterable[tuple[Pod | None, int]], default: Ports
) -> Protocol:
    """Hint for a service port; `behind` gives each endpoint's pod, where it is one, and port."""
    listed = _service_ports(cluster, service, default)
    if listed is not None and has_port(listed, port.port):
        return "opaque"
    targets = set()
    for pod, target in behind:
        pod_listed = None if pod is None else _pod_ports(cluster, pod, default)
        if pod_listed is None:
            targets.add(target)
        elif has_port(pod_listed, target):
            return "opaque"
    declared = APP_PROTOCOLS.get(port.app_protocol.lower())
    if declared is not None:
        return declared
    by_default = (listed is None and has_port(default, port.port)) or any(has_port(default, item) for item in targets)
    return "opaque" if by_default else "detect"


def pod_protocol(cluster: Cluster, pod: Pod, port: int, default: Ports) -> Protocol:
    """Hint for a port of a pod that is dialled by its own address."""
    listed = _pod_ports(cluster, pod, default)
    if listed is not None and has_port(listed, port):
        return "opaque"
    for service, service_port in services_on(cluster, pod, port):
        service_listed = _service_ports(cluster, service, default)
        if service_listed is not None and has_port(service_listed, service_port.port):
            return "opaque"
        declared = APP_PROTOCOLS.get(service_port.app_protocol.lower())
        if declared is not None:
            return declared
    return "opaque" if listed is None and has_port(default, port) else "detect"


def _service_ports(cluster: Cluster, service: Service, default: Ports) -> Ports | None:
    return annotated(default, cluster.namespace_opaque_ports(service.key.namespace), service.opaque_ports)


def _pod_ports(cluster: Cluster, pod: Pod, default: Ports) -> Ports | None:
    return annotated(default, cluster.namespace_opaque_ports(pod.key.namespace), pod.opaque_ports)


def services_on(cluster: Cluster, pod: Pod, port: int) -> Iterator[tuple[Service, ServicePort]]:
    """The services of which the pod's port is an endpoint."""
    for piece in cluster.slices_with(pod):
        service = cluster.services.get(Key(piece.key.namespace, piece.service))
        port_names = {item.name for item in piece.ports if item.port == port}
        if service is not None:
            yield from ((service, item) for item in service.ports if item.name in port_names)
