"""Environment variables of the sidecar, as the injector writes them and the sidecar reads them. Pure.

Settings with a default of their own live in proxy/config.py; here stand only those that two programs share.
"""

from typing import Final

POD_NAME: Final = "TULLE_POD_NAME"
POD_NAMESPACE: Final = "TULLE_POD_NAMESPACE"
POD_IPS: Final = "TULLE_POD_IPS"
"""Comma-separated addresses of the pod (status.podIPs)."""
NODE_NAME: Final = "TULLE_NODE_NAME"
SERVICE_ACCOUNT: Final = "TULLE_SERVICE_ACCOUNT"

CONTROLLER_URL: Final = "TULLE_PROXY_CONTROLLER_URL"
"""Base URL of the controller: `http://tulle-controller.tulle.svc.cluster.local:8085`."""
LOG_LEVEL: Final = "TULLE_PROXY_LOG_LEVEL"
"""error, warn, info or debug."""
PROBE_PORTS: Final = "TULLE_PROXY_PROBE_PORTS"
"""Ports of the pod's own tcpSocket probes, which the sidecar makes: `5432,6379`."""
OPAQUE_PORTS: Final = "TULLE_PROXY_OPAQUE_PORTS"
"""Ports and ranges: `25,3306,5000-5010`."""
PROBES: Final = "TULLE_PROBES"
"""What the kubelet's probes of the pod ask, separated by spaces: `8080:/healthz?full=1 9090:grpc`."""
GRPC_PROBE: Final = "grpc"
"""Stands for the target of a gRPC probe, which is always the same."""
NODE_IPS: Final = "TULLE_NODE_IPS"
"""Comma-separated addresses of the node (status.hostIPs)."""
