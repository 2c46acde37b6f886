"""From a pod to the patch that puts it into the mesh, or to the reason why not. Pure.

The webhook and the command line are two thin callers of `inject`; neither adds anything of its own. What the pod has
already is never changed: the patch only adds, and `uninject` takes exactly that away again.
"""

from copy import deepcopy
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import jsonpatch

from contract import VERSION, names, ports
from contract.spelling import cut, nearest
from webhook import containers, pods, probes
from webhook.annotations import Options, Refused, read_options, to_freeze
from webhook.meshes import other_mesh
from webhook.settings import Settings

Json = dict[str, Any]

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""Which container `kubectl logs` and `exec` mean; a plain sidecar stands first and would be taken."""
MIRROR = "kubernetes.io/config.mirror"
POD_SECURITY = "pod-security.kubernetes.io/enforce"
"""Namespace label of the PodSecurity level; baseline and restricted forbid added capabilities."""
DNS_POLICY_CHARS = 20
"""Of a word that Kubernetes will refuse anyway."""
NAMESPACE_LABEL = "namespace label"
"""The weakest place of a wish: the pod's own annotation and label win over it."""


@dataclass(frozen=True, slots=True)
class Patch:
    """The pod joins the mesh. Operations are RFC 6902; warnings are lines for whoever applied the pod."""

    operations: list[Json]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skip:
    """The pod is left alone. The reason is a CamelCase word, the message a line; operations only annotate."""

    reason: str
    message: str
    operations: list[Json]


def inject(pod: Json, namespace: Json, settings: Settings) -> Patch | Skip:
    """Decide for one pod (v1.Pod or a workload's pod template) of this v1.Namespace.

    Raises Refused when an annotation or the pod itself cannot be honoured.
    """
    pods.check_shape(pod)
    reason = _why_not(pod, namespace)
    if reason is not None:
        return reason
    pod_annotations, namespace_annotations = pods.texts(pod, "annotations"), pods.texts(namespace, "annotations")
    options = read_options(pod_annotations, namespace_annotations, settings)
    frozen = to_freeze(pod_annotations, namespace_annotations)
    tcp_probes = probes.tcp_probes(pod, options.skip_inbound_ports) if options.tcp_probes_by_sidecar else []
    probe_ports = tuple(sorted({probe.number for probe in tcp_probes}))
    operations = [
        *_metadata(pod, frozen, settings),
        *_volumes(pod),
        *probes.operations(tcp_probes),
        *_containers(pod, options, settings, probe_ports),
    ]
    return Patch(jsonpatch.JsonPatch(operations).patch, tuple(_warnings(pod, namespace, options, settings)))


def apply(pod: Json, operations: list[Json]) -> Json:
    """Return the patched pod; the one given stays as it is."""
    patched: Json = jsonpatch.apply_patch(pod, operations)
    return patched


def uninject(pod: Json) -> Json:
    """Return the pod without anything that `inject` added; a pod never injected comes back equal."""
    pods.check_shape(pod)
    clean = deepcopy(pod)
    spec, metadata = clean.get("spec") or {}, clean.get("metadata") or {}
    own = {names.INIT_CONTAINER, names.PROXY_CONTAINER}
    for field in ("initContainers", "containers"):
        _without(spec, field, own)
    if pods.is_injected(pod):
        _without(spec, "volumes", set(containers.VOLUMES))
        for container in (*pods.entries(clean, "initContainers"), *pods.entries(clean, "containers")):
            probes.restore(container)
    added = {name for name in pods.texts(pod, "annotations").get(names.ADDED_ANNOTATIONS, "").split(",") if name}
    decisions = {names.STATUS, names.SKIP_REASON, names.CREATED_BY, names.PROXY_VERSION, names.ADDED_ANNOTATIONS}
    for field, keys in (("annotations", added | decisions), ("labels", {names.MESHED})):
        held = metadata.get(field) or {}
        if held.keys() & keys:
            metadata[field] = {name: value for name, value in held.items() if name not in keys}
            if not metadata[field]:
                del metadata[field]
    return clean


def _why_not(pod: Json, namespace: Json) -> Skip | None:
    if pods.is_injected(pod):
        # Asked again after another webhook changed the pod: what was decided stands, the status says it already.
        return Skip("AlreadyInjected", "the pod has the mesh's containers already", [])
    if MIRROR in pods.texts(pod, "annotations"):
        # A node's own static pod, shown here; the kubelet compares it with its file and has no use for our words.
        return Skip("MirrorPod", "the pod only mirrors a static pod of its node", [])
    wish, source = _wish(pod, namespace)
    if wish == names.DISABLED:
        return _skip(pod, "Disabled", f"{source} {names.INJECT} is {names.DISABLED}")
    if wish is None:
        return _skip(pod, "NotEnabled", f"neither the pod nor its namespace has {names.INJECT}: {names.ENABLED}")
    if (pod.get("spec") or {}).get("hostNetwork"):
        return _skip(
            pod, "HostNetwork", "the pod uses its node's network, where capture rules would hit the whole node"
        )
    foreign = other_mesh(pod)
    if foreign is not None and source == NAMESPACE_LABEL:
        return _skip(
            pod,
            "OtherMesh",
            f"container {foreign.container} belongs to another mesh ({foreign.mesh}, by its {foreign.evidence}); "
            f"the pod's own label {names.INJECT}: {names.ENABLED} wins over this",
        )
    if pods.is_for_windows(pod):
        return _skip(pod, "Windows", "the pod is for Windows, where there are no capture rules")
    return None


def _wish(pod: Json, namespace: Json) -> tuple[str | None, str]:
    """The value that decides, and where it stands: the pod's annotation, its label, the namespace's label."""
    places = (
        ("pod annotation", pods.texts(pod, "annotations")),
        ("pod label", pods.texts(pod, "labels")),
        (NAMESPACE_LABEL, pods.texts(namespace, "labels")),
    )
    for source, values in places:
        value = values.get(names.INJECT)
        if value is None:
            continue
        if value not in (names.ENABLED, names.DISABLED):
            near = nearest(value, (names.ENABLED, names.DISABLED))
            meant = f"did you mean {near}?" if near else f"write {names.ENABLED} or {names.DISABLED}"
            raise Refused(f"{source} {names.INJECT}: {cut(value)!r} is unknown; {meant}")
        return value, source
    return None, ""


def _skip(pod: Json, reason: str, message: str) -> Skip:
    return Skip(reason, message, _annotate(pod, {names.STATUS: names.SKIPPED, names.SKIP_REASON: reason}))


def _metadata(pod: Json, frozen: dict[str, str], settings: Settings) -> list[Json]:
    added = dict(frozen)
    if not settings.native_sidecar and DEFAULT_CONTAINER not in pods.texts(pod, "annotations"):
        added[DEFAULT_CONTAINER] = str(pods.entries(pod, "containers")[0].get("name", ""))
    decisions = {
        names.STATUS: names.INJECTED,
        names.CREATED_BY: f"{names.WEBHOOK}/{VERSION}",
        names.PROXY_VERSION: VERSION,
        **({names.ADDED_ANNOTATIONS: ",".join(added)} if added else {}),
    }
    labels = {names.MESHED: settings.control_plane_namespace}
    return [*_annotate(pod, added | decisions), *_merge(pod, "labels", labels)]


def _annotate(pod: Json, values: dict[str, str]) -> list[Json]:
    # A template on the command line may have no metadata; the API server's pods always do.
    made: list[Json] = [] if pod.get("metadata") is not None else [{"op": "add", "path": "/metadata", "value": {}}]
    return [*made, *_merge(pod, "annotations", values)]


def _merge(pod: Json, field: str, values: dict[str, str]) -> list[Json]:
    if not pods.texts(pod, field):
        return [{"op": "add", "path": f"/metadata/{field}", "value": values}]
    return [
        {"op": "add", "path": f"/metadata/{field}/{_escaped(name)}", "value": value} for name, value in values.items()
    ]


def _volumes(pod: Json) -> list[Json]:
    taken = [str(volume.get("name")) for volume in pods.entries(pod, "volumes")]
    for name in containers.VOLUMES:
        if name in taken:
            raise Refused(f"spec.volumes: the name {name} is the mesh's own; give the pod's volume another name")
    return _insert(pod, "volumes", containers.volumes(), at_front=False)


def _containers(pod: Json, options: Options, settings: Settings, probe_ports: tuple[int, ...]) -> list[Json]:
    init = containers.init_container(options, settings)
    proxy = containers.proxy_container(options, settings, probe_ports, probes.asked(pod))
    if settings.native_sidecar:
        # Before the pod's own init containers: they reach the network through the sidecar too.
        return _insert(pod, "initContainers", [init, proxy], at_front=True)
    # A plain sidecar runs only after all init containers: until then the pod must not be captured.
    return [
        *_insert(pod, "initContainers", [init], at_front=False),
        *_insert(pod, "containers", [proxy], at_front=True),
    ]


def _insert(pod: Json, field: str, added: list[Json], at_front: bool) -> list[Json]:
    if not pods.entries(pod, field):
        return [{"op": "add", "path": f"/spec/{field}", "value": added}]
    places = [str(index) for index in range(len(added))] if at_front else ["-"] * len(added)
    return [
        {"op": "add", "path": f"/spec/{field}/{place}", "value": value}
        for place, value in zip(places, added, strict=True)
    ]


def _warnings(pod: Json, namespace: Json, options: Options, settings: Settings) -> list[str]:
    found: list[str] = []
    foreign = other_mesh(pod)
    if foreign is not None:
        found.append(
            f"container {foreign.container} belongs to another mesh ({foreign.mesh}): both capture the pod's traffic; "
            "take the pod out of one of them"
        )
    level = pods.texts(namespace, "labels").get(POD_SECURITY, "privileged")
    if level != "privileged":
        found.append(
            f"the namespace enforces the PodSecurity level {level}, which forbids the init container's NET_ADMIN and "
            f"NET_RAW: the pod will be refused unless the namespace is labelled {POD_SECURITY}=privileged"
        )
    found += _dns_warnings(pod, settings)
    pod_user = ((pod.get("spec") or {}).get("securityContext") or {}).get("runAsUser")
    reserved = (ports.INBOUND_PORT, ports.OUTBOUND_PORT, ports.CONTROL_PORT, ports.ADMIN_PORT)
    for container in [*pods.entries(pod, "initContainers"), *pods.entries(pod, "containers")]:
        name = container.get("name", "")
        user = (container.get("securityContext") or {}).get("runAsUser", pod_user)
        if user == options.proxy_uid:
            found.append(
                f"container {name} runs as user {user}, the sidecar's: its connections bypass the mesh; "
                f"give one of them another user ({names.PROXY_UID})"
            )
        listened = [port.get("containerPort") for port in container.get("ports") or ()]
        found += [
            f"container {name} listens on {number}, a port of the sidecar; one of them cannot start"
            for number in reserved
            if number in listened
        ]
    if not settings.native_sidecar and _belongs_to_job(pod):
        found.append("this server is older than Kubernetes 1.29: the sidecar keeps the Job's pod from completing")
    return found


def _dns_warnings(pod: Json, settings: Settings) -> list[str]:
    """The sidecar finds the controller by a name that only the cluster's own DNS knows."""
    policy = str((pod.get("spec") or {}).get("dnsPolicy") or "ClusterFirst")[:DNS_POLICY_CHARS]
    host = urlsplit(settings.controller_address).hostname or ""
    if policy not in ("None", "Default") or _is_address(host):
        return []
    return [
        f"dnsPolicy {policy}: the sidecar finds the controller as {host}, by the pod's DNS; where that does not know "
        "the name, no policy holds for the pod and its traffic passes untouched (tulle check tells)"
    ]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _belongs_to_job(pod: Json) -> bool:
    owners = (pod.get("metadata") or {}).get("ownerReferences") or []
    return any(owner.get("kind") == "Job" for owner in owners)


def _without(spec: Json, field: str, own: set[str]) -> None:
    held = spec.get(field)
    if held and any(entry.get("name") in own for entry in held):
        spec[field] = [entry for entry in held if entry.get("name") not in own]
        if not spec[field]:
            del spec[field]


def _escaped(name: str) -> str:
    """RFC 6901 section 3."""
    return name.replace("~", "~0").replace("/", "~1")
