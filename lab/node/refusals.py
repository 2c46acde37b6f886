"""What a pod may ask for that the lab does not do: said in its status and an event, never ignored in silence. Pure."""

from collections.abc import Iterator

from .endpoints import Object
from .launch import CAPABILITIES, DEFAULT_CAPABILITIES, GRANTED_CAPABILITIES

VOLUMES = frozenset({"emptyDir", "configMap", "secret", "projected", "downwardAPI"})
_PROJECTED = frozenset({"serviceAccountToken", "configMap", "secret", "downwardAPI"})
_POD_FIELDS = {
    "hostPID": "processes of the host",
    "hostIPC": "the host's inter-process communication",
    "shareProcessNamespace": "one process namespace for a pod's containers",
    "runtimeClassName": "runtime classes",
    "resourceClaims": "resource claims",
    "ephemeralContainers": "ephemeral containers",
}
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def refusals(pod: Object) -> list[str]:
    """One sentence for each thing in the pod that the lab cannot give it; empty where it can run."""
    spec = pod["spec"]
    found = [f"spec.{name}: the lab has no {what}" for name, what in _POD_FIELDS.items() if spec.get(name)]
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        found.append("spec.os: the lab runs Linux programs only")
    for volume in spec.get("volumes") or []:
        found += _volume(volume)
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or []:
            found += [f"container {container['name']}: {fault}" for fault in _container(container)]
    return found


def _volume(volume: Object) -> Iterator[str]:
    kinds = set(volume) - {"name"}
    name = volume.get("name", "")
    for kind in sorted(kinds - VOLUMES):
        yield f"volume {name}: the lab has no {kind} volumes, only {', '.join(sorted(VOLUMES))}"
    for source in (volume.get("projected") or {}).get("sources") or []:
        for kind in sorted(set(source) - _PROJECTED):
            yield f"volume {name}: the lab projects no {kind}, only {', '.join(sorted(_PROJECTED))}"


def _container(container: Object) -> Iterator[str]:
    if not container.get("command"):
        yield (
            f"no command: the lab pulls no images, so what {container.get('image', 'the image')} would run is unknown; "
            "give it a command (and args) that this machine has"
        )
    security = container.get("securityContext") or {}
    if security.get("privileged"):
        yield "securityContext.privileged: no container of the lab may do everything; add capabilities"
    yield from _capabilities(security)
    if security.get("procMount", "Default") != "Default":
        yield "securityContext.procMount: the lab has Default only"
    if (security.get("seccompProfile") or {}).get("type") == "Localhost":
        yield "securityContext.seccompProfile: the lab has no profiles of its own"
    if container.get("volumeDevices"):
        yield "volumeDevices: the lab has no devices"
    for mount in container.get("volumeMounts") or []:
        if mount.get("mountPropagation", "None") != "None":
            yield f"volumeMounts {mount['mountPath']}: the lab propagates no mounts"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"ports: hostPort {port['hostPort']}: the lab opens no ports of the host; use kubectl port-forward"
    yield from _resources(container)
    for name in _PROBES:
        if "grpc" in (container.get(name) or {}):
            yield f"{name}: the lab makes no grpc probes; use httpGet, tcpSocket or exec"


def _capabilities(security: Object) -> Iterator[str]:
    """Those that reach the host: what `privileged` would give comes in by no other door."""
    wanted = {str(name).upper().removeprefix("CAP_") for name in (security.get("capabilities") or {}).get("add") or []}
    granted = ", ".join(sorted(GRANTED_CAPABILITIES))
    for name in sorted(wanted & {"ALL", *CAPABILITIES} - DEFAULT_CAPABILITIES - GRANTED_CAPABILITIES):
        yield f"securityContext.capabilities: {name} would reach the host itself; the lab adds {granted} only"


def _resources(container: Object) -> Iterator[str]:
    limits = (container.get("resources") or {}).get("limits") or {}
    requests = (container.get("resources") or {}).get("requests") or {}
    for name in sorted({*limits, *requests} - {"cpu", "memory", "ephemeral-storage"}):
        yield f"resources: the node has no {name}"
