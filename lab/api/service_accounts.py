"""The ServiceAccount admission: every pod gets an account, its token volume and its mounts. Pure.

Mirrors the built-in admission of the API server: a missing serviceAccountName becomes `default`; unless the pod
(first) or the account says automountServiceAccountToken: false, a projected volume `kube-api-access-XXXXX` (token,
ca.crt, namespace) is added and mounted read-only in every container and init container that has nothing at that path
yet. Applied twice equals once.

Source: the projected volume that API servers from 1.22 inject.
"""

import copy
from typing import Any, Final

Object = dict[str, Any]

MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX: Final = "kube-api-access-"
TOKEN_S: Final = 3607
"""Life of the projected token, seconds: an hour, and the odd seven by which API servers mark their own request."""
CA_CONFIG_MAP: Final = "kube-root-ca.crt"


def account_of(pod: Object) -> str:
    """The name of the service account that the pod runs as."""
    spec = pod.get("spec") or {}
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or "default")


def admit_pod(pod: Object, account: Object, *, suffix: str) -> Object:
    """A copy of the pod, completed; `suffix` (five lower-case letters or digits) ends the volume's name."""
    pod = copy.deepcopy(pod)
    spec = pod.setdefault("spec", {})
    name = account["metadata"]["name"]
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = copy.deepcopy(account["imagePullSecrets"])
    if wants_token(pod, account):
        _mount(spec, suffix)
    return pod


def wants_token(pod: Object, account: Object) -> bool:
    """The pod's own word, else the account's, else yes."""
    for source in (pod.get("spec") or {}, account):
        if source.get("automountServiceAccountToken") is not None:
            return bool(source["automountServiceAccountToken"])
    return True


def _mount(spec: Object, suffix: str) -> None:
    volumes = spec.get("volumes") or []
    present = [volume["name"] for volume in volumes if volume["name"].startswith(VOLUME_PREFIX)]
    name = present[0] if present else f"{VOLUME_PREFIX}{suffix}"
    is_used = False
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        mounts = container.get("volumeMounts") or []
        if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
            continue
        container["volumeMounts"] = [*mounts, {"name": name, "mountPath": MOUNT_PATH, "readOnly": True}]
        is_used = True
    if is_used and not present:
        spec["volumes"] = [*volumes, _volume(name)]


def _volume(name: str) -> Object:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources: list[Object] = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_S, "path": "token"}},
        {"configMap": {"name": CA_CONFIG_MAP, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"defaultMode": 0o644, "sources": sources}}
