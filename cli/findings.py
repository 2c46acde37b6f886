"""What `tulle check` concludes from what the cluster says. Pure: objects in, findings out; time is an argument."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from contract import VERSION, kinds, names, ports
from contract.silence import SilentAnswer

Object = dict[str, Any]
Outcome = Literal["ok", "warning", "error"]

MINIMUM_MINOR = 26
"""Kubernetes 1.26: the oldest whose API the chart keeps to."""

NATIVE_SIDECAR_MINOR = 29
"""Kubernetes 1.29: native sidecars are on by default; before it, jobs with a sidecar do not finish by themselves."""

MESSAGE_CHARS = 200
"""Of a container's last words in one finding."""

SHOWN_COUNT = 5
"""Objects named in one finding; more are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome; `reason` and `hint` (what to do) are empty when it is ok."""

    outcome: Outcome = "ok"
    reason: str = ""
    hint: str = ""


OK = Finding()


def server_version(version: Object) -> Finding:
    """Judge the answer of `/version`."""
    digits = re.match(r"\d+", str(version.get("minor", "")))
    minor = int(digits[0]) if digits else 0
    name = version.get("gitVersion", "unknown")
    if version.get("major") != "1" or minor < MINIMUM_MINOR:
        return Finding("error", f"the server is {name}", f"upgrade the cluster to 1.{MINIMUM_MINOR} or newer")
    if minor < NATIVE_SIDECAR_MINOR:
        hint = (
            f"from 1.{NATIVE_SIDECAR_MINOR} the sidecar is a native one: it starts first, ends last and lets jobs end"
        )
        return Finding("warning", f"the server is {name}, without native sidecars", hint)
    return OK


def deployment(found: Object, pods: list[Object]) -> Finding:
    """Judge one of the control plane's deployments; `pods` are those of its selector."""
    name, wanted = found["metadata"]["name"], found["spec"].get("replicas", 1)
    status = found.get("status", {})
    ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
    if wanted and ready >= wanted:
        return OK
    hint = f"kubectl logs -n {found['metadata']['namespace']} deployment/{name}, or kubectl describe pod"
    if not wanted:
        return Finding("error", f"{name} is scaled to 0", f"kubectl scale deployment/{name} --replicas 1")
    troubles = Counter(trouble for pod in pods if (trouble := pod_trouble(pod)))
    why = f": {_some([trouble for trouble, _ in troubles.most_common()])}" if troubles else ""
    return Finding("error", f"{ready} of {wanted} pods of {name} are ready{why}", hint)


def pod_trouble(pod: Object) -> str:
    """Why a pod is not ready, in the words of its statuses; "" when it is."""
    status = pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    if conditions.get("PodScheduled", {}).get("status") == "False":
        return f"not scheduled: {conditions['PodScheduled'].get('message', 'no reason given')}"
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        trouble = _container_trouble(container)
        if trouble:
            return f"{container['name']}: {trouble}"
    return f"{status.get('phase', 'Pending').lower()}, not ready yet"


def _container_trouble(status: Object) -> str:
    waiting, ended = status.get("state", {}).get("waiting", {}), status.get("state", {}).get("terminated", {})
    last = ended or status.get("lastState", {}).get("terminated", {})
    code = last.get("exitCode")
    exit_text = f"exit code {code} {(last.get('message') or '').strip()[:MESSAGE_CHARS]}".strip() if code else ""
    reason = waiting.get("reason")
    if reason == "CrashLoopBackOff":
        return f"{reason}, {exit_text or 'it ends at once'}"
    if reason not in (None, "PodInitializing", "ContainerCreating"):
        return f"{reason} {waiting.get('message', '')[:MESSAGE_CHARS]}".strip()
    return exit_text if ended else ""


def finished(pod: Object) -> bool:
    """Whether a pod has run to its end, or is being deleted: the mesh owes it nothing."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]


def meshed(pod: Object) -> bool:
    """Whether a pod carries the sidecar."""
    spec = pod["spec"]
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    return any(container["name"] == names.PROXY_CONTAINER for container in containers)


def sidecars_ready(pods: list[Object]) -> Finding:
    """Judge the sidecars of all meshed pods that have not finished."""
    bad = []
    for pod in filter(meshed, pods):
        status = pod.get("status", {})
        statuses = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        if finished(pod) or any(each["name"] == names.PROXY_CONTAINER and each.get("ready") for each in statuses):
            continue
        bad.append(f"{pod_name(pod)} ({pod_trouble(pod) or 'its sidecar is not ready'})")
    if not bad:
        return OK
    hint = f"kubectl logs -n NAMESPACE POD -c {names.PROXY_CONTAINER} (or -c {names.INIT_CONTAINER})"
    return Finding("error", f"{len(bad)} meshed pods without a ready sidecar: {_some(bad)}", hint)


def missing_sidecars(pods: list[Object], namespaces: list[Object], control_plane: str) -> Finding:
    """Find pods that labels say should be meshed and that are not: made before the label, or while the webhook was out.

    Pods that the webhook looked at and left alone are told by `left_outside`.
    """
    enabled = _enabled(namespaces, control_plane)
    bad = [pod for pod in pods if _wanted(pod, enabled, control_plane) and not meshed(pod) and not finished(pod)]
    if not bad:
        return OK
    restarts = sorted({_restart(pod) for pod in bad})
    reason = f"{len(bad)} pods should be meshed and are not: {_some([pod_name(pod) for pod in bad])}"
    return Finding("warning", reason, f"restart them: {'; '.join(restarts[:SHOWN_COUNT])}")


def left_outside(pods: list[Object], namespaces: list[Object], control_plane: str) -> Finding:
    """Tell which pods of labelled namespaces, or with a label of their own, the webhook left alone, and why.

    Those that wish it themselves (`disabled`) are told and are well; the others are a warning.
    """
    enabled = _enabled(namespaces, control_plane)
    told: dict[str, list[str]] = {}
    for pod in pods:
        reason = _reason_outside(pod, enabled, control_plane)
        if reason and not meshed(pod) and not finished(pod):
            told.setdefault(reason, []).append(pod_name(pod))
    if not told:
        return OK
    lines = [f"{len(found)} because of {reason}: {_some(found)}" for reason, found in sorted(told.items())]
    text = f"outside of the mesh: {'; '.join(lines)}"
    if told.keys() <= {_BY_WISH}:
        return Finding("ok", text)
    return Finding("warning", text, "kubectl get events says more; a pod's own label tulle.mesh/inject decides")


_BY_WISH = "Disabled"
"""The one reason that somebody wrote on the pod itself."""

_NOT_A_REASON = frozenset({"", "NotEnabled"})
"""What a skip-reason may say that no longer holds once the namespace is labelled."""


def _enabled(namespaces: list[Object], control_plane: str) -> set[str]:
    return {
        found["metadata"]["name"]
        for found in namespaces
        if (found["metadata"].get("labels") or {}).get(names.INJECT) == names.ENABLED
    } - {control_plane, "kube-system"}


def _wanted(pod: Object, enabled: set[str], control_plane: str) -> bool:
    return _is_asked_for(pod, enabled, control_plane) and not _reason_outside(pod, enabled, control_plane)


def _is_asked_for(pod: Object, enabled: set[str], control_plane: str) -> bool:
    """Whether the pod or its namespace says `enabled`."""
    namespace = pod["metadata"]["namespace"]
    if namespace in (control_plane, "kube-system"):
        return False
    return _own_wish(pod) == names.ENABLED or namespace in enabled


def _reason_outside(pod: Object, enabled: set[str], control_plane: str) -> str:
    """Why the webhook leaves a pod alone that is asked for; "" when it does not."""
    if not _is_asked_for(pod, enabled, control_plane):
        return ""
    if _own_wish(pod) == names.DISABLED:
        return _BY_WISH
    if pod["spec"].get("hostNetwork"):
        return "HostNetwork"
    reason = str((pod["metadata"].get("annotations") or {}).get(names.SKIP_REASON, ""))[:MESSAGE_CHARS]
    return "" if reason in _NOT_A_REASON else reason


def _own_wish(pod: Object) -> str:
    """The pod's annotation, else its label, as the webhook reads them."""
    metadata = pod["metadata"]
    places = (metadata.get("annotations") or {}, metadata.get("labels") or {})
    return next((str(place[names.INJECT]) for place in places if names.INJECT in place), "")


def _restart(pod: Object) -> str:
    namespace = pod["metadata"]["namespace"]
    owner: Object = next(iter(pod["metadata"].get("ownerReferences") or [{}]))
    kind, name = owner.get("kind", ""), owner.get("name", "")
    if kind == "ReplicaSet":
        kind, name = "Deployment", name.rpartition("-")[0]
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        return f"kubectl rollout restart -n {namespace} {kind.lower()}/{name}"
    return f"delete and make again pod/{pod['metadata']['name']} in {namespace}"


def silent_sidecars(answer: SilentAnswer) -> Finding:
    """Judge what the controller says of sidecars that hold no discovery stream: no policy is in force in them."""
    if not answer.count:
        return OK
    shown = [f"{one.namespace}/{one.pod} ({one.silent_s:.0f} s)" for one in answer.sidecars]
    more = f" and {answer.count - SHOWN_COUNT} more" if answer.count > SHOWN_COUNT else ""
    reason = f"{answer.count} sidecars are not in touch, and follow no policy: {', '.join(shown[:SHOWN_COUNT])}{more}"
    hint = (
        "kubectl logs -n NAMESPACE POD -c "
        f"{names.PROXY_CONTAINER}; the pod must resolve {names.CONTROLLER} (dnsPolicy) "
        f"and reach its port {ports.CONTROLLER_PORT} (NetworkPolicy)"
    )
    return Finding("error", reason, hint)


def proxy_versions(pods: list[Object]) -> Finding:
    """Find meshed pods whose sidecar is of another version than this command."""
    others = Counter(
        version
        for pod in pods
        if meshed(pod) and not finished(pod)
        if (version := (pod["metadata"].get("annotations") or {}).get(names.PROXY_VERSION, "unknown")) != VERSION
    )
    if not others:
        return OK
    found = ", ".join(f"{count} of {version}" for version, count in sorted(others.items()))
    return Finding("warning", f"sidecars of other versions than {VERSION}: {found}", "restart their workloads")


def same_version(what: str, version: str) -> Finding:
    """Compare a part's version with this command's."""
    if version == VERSION:
        return OK
    hint = "use the tulle of that version, or run tulle install | kubectl apply -f -"
    return Finding("warning", f"{what} is {version or 'of unknown version'}, this tulle is {VERSION}", hint)


def policies_in_force(policies: list[Object]) -> Finding:
    """Find policies that the controller does not follow, wholly or in part, or has not judged yet."""
    pending, refused = [], []
    for policy in policies:
        conditions = (policy.get("status") or {}).get("conditions") or []
        current = [one for one in conditions if one.get("observedGeneration") == policy["metadata"].get("generation")]
        if all(one["type"] != kinds.ACCEPTED for one in current):
            pending.append(pod_name(policy))
        refused += [
            f"{pod_name(policy)} ({one['reason']}: {str(one['message'])[:MESSAGE_CHARS]})"
            for one in current
            if one["status"] != "True"
        ]
    if refused:
        return Finding("warning", f"not in force, or not wholly: {_some(refused)}", "kubectl get tulle -A -o wide")
    if pending:
        return Finding("error", f"not judged by the controller: {_some(pending)}", "see the controller's log")
    return OK


def pod_name(pod: Object) -> str:
    """`namespace/name`."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _some(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN_COUNT} more" if len(items) > SHOWN_COUNT else ""
    return ", ".join(items[:SHOWN_COUNT]) + more
