"""The objects of a new cluster: its namespaces, and the API server's own service. Waits.

The API server answers pods at its cluster IP itself, so its EndpointSlice names that address: nothing is translated.
"""

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl.owners import Object
from lab.ctl.slices import SERVICE

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
API_ADDRESS = "10.96.0.1"
API_PORT = 443


async def create_built_ins(registry: Registry) -> None:
    """Make what every cluster has, unless it is there."""
    for name in NAMESPACES:
        await _create(registry, "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await _create(registry, "services", api_service())
    await _create(registry, "endpointslices", api_slice())


async def _create(registry: Registry, resource: str, new: Object) -> None:
    try:
        await registry.create(resource, new)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


def api_service() -> Object:
    """default/kubernetes: no selector, a fixed address."""
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": API_ADDRESS,
            "clusterIPs": [API_ADDRESS],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": API_PORT, "protocol": "TCP", "targetPort": API_PORT}],
        },
    }


def api_slice() -> Object:
    """The slice of default/kubernetes; the API server keeps it in a cluster, so no controller manages it."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {SERVICE: "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [API_ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": API_PORT, "protocol": "TCP"}],
    }
