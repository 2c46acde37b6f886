"""Which other mesh a pod is in already: two captures in one pod would send its traffic in circles. Pure.

A name alone proves nothing: anybody may call a container `envoy`. A container counts as another mesh's when it has the
name that this mesh's injector gives, and the pod carries a mark of that injector or the container runs that mesh's
image.

Sources: what the injectors write, by their own documentation: Istio (sidecar.istio.io/status), Linkerd
(linkerd.io/proxy-version), Consul (consul.hashicorp.com/connect-inject-status), Kuma (kuma.io/sidecar-injected),
AWS App Mesh (image aws-appmesh-envoy), Open Service Mesh (label osm-proxy-uuid), Telepresence (image tel2).
"""

from dataclasses import dataclass
from typing import Any

from webhook import pods

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mesh:
    """How one mesh's injector leaves a pod."""

    name: str
    containers: frozenset[str]
    """Names that it gives to its containers."""
    marks: frozenset[str]
    """Annotations or labels that it, and no user, writes on the pod."""
    images: tuple[str, ...]
    """Parts of the names of its images, after the registry."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Another mesh's container, and how it is known."""

    container: str
    mesh: str
    evidence: str


MESHES = (
    Mesh(
        "Istio",
        frozenset({"istio-proxy", "istio-init", "istio-validation"}),
        frozenset({"sidecar.istio.io/status"}),
        ("proxyv2",),
    ),
    Mesh(
        "Linkerd",
        frozenset({"linkerd-proxy", "linkerd-init", "linkerd-network-validator"}),
        frozenset({"linkerd.io/proxy-version", "linkerd.io/control-plane-ns"}),
        ("linkerd/proxy", "linkerd-proxy", "proxy-init"),
    ),
    Mesh(
        "Consul",
        frozenset({"consul-dataplane", "consul-connect-inject-init", "consul-connect-envoy-sidecar"}),
        frozenset({"consul.hashicorp.com/connect-inject-status"}),
        ("consul-dataplane", "consul-k8s"),
    ),
    Mesh(
        "Kuma",
        frozenset({"kuma-sidecar", "kuma-init", "kuma-validation"}),
        frozenset({"kuma.io/sidecar-injected"}),
        ("kuma-dp", "kuma-init"),
    ),
    Mesh("App Mesh", frozenset({"envoy", "proxyinit"}), frozenset(), ("appmesh",)),
    Mesh("Open Service Mesh", frozenset({"envoy", "osm-init"}), frozenset({"osm-proxy-uuid"}), ("osm-init",)),
    Mesh("Telepresence", frozenset({"traffic-agent"}), frozenset(), ("tel2", "telepresence")),
)


def other_mesh(pod: Json) -> Foreign | None:
    """The first container that another mesh's injector put there."""
    marks = pods.texts(pod, "annotations").keys() | pods.texts(pod, "labels").keys()
    for container in (*pods.entries(pod, "initContainers"), *pods.entries(pod, "containers")):
        name, image = str(container.get("name", "")), str(container.get("image", ""))
        for mesh in MESHES:
            if name not in mesh.containers:
                continue
            mark = next(iter(sorted(mesh.marks & marks)), None)
            if mark is not None:
                return Foreign(name, mesh.name, mark)
            if any(part in _path(image) for part in mesh.images):
                return Foreign(name, mesh.name, f"image {image}")
    return None


def _path(image: str) -> str:
    """An image's name without its registry and tag."""
    first, slash, rest = image.partition("@")[0].partition("/")
    is_registry = slash and ("." in first or ":" in first or first == "localhost")
    return (rest if is_registry else first + slash + rest).partition(":")[0]
