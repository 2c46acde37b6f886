"""The few calls that the webhook makes to the API server, by the official client. Edge.

All of them block and belong into threads. Bodies stay JSON: the client's models would cost a second of start and say
no more about a namespace's labels.
"""

import json
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from contract import impersonation, names
from contract.spelling import cut

Json = dict[str, Any]

TIMEOUT_S = (3.0, 10.0)
"""Connect and read."""

ADMISSION_TIMEOUT_S = (1.0, 3.0)
"""The same while an admission waits: the API server gives up on the webhook after 5 s."""

MUTATING = "MutatingWebhookConfiguration"
VALIDATING = "ValidatingWebhookConfiguration"

SERVICE_HOST = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every container."""

UNREACHABLE = (urllib3.exceptions.HTTPError, OSError, ValueError)
"""What the client lets through besides ApiException when an answer does not come, or is no JSON."""


LOOKED_UP = {
    ("v1", "Pod"): "/api/v1/namespaces/{}/pods/{}",
    ("v1", "ReplicationController"): "/api/v1/namespaces/{}/replicationcontrollers/{}",
    ("apps/v1", "ReplicaSet"): "/apis/apps/v1/namespaces/{}/replicasets/{}",
    ("apps/v1", "StatefulSet"): "/apis/apps/v1/namespaces/{}/statefulsets/{}",
    ("apps/v1", "DaemonSet"): "/apis/apps/v1/namespaces/{}/daemonsets/{}",
    ("batch/v1", "Job"): "/apis/batch/v1/namespaces/{}/jobs/{}",
}
"""What Events are written about: paths by apiVersion and kind, for a namespace and a name."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
"""Names that may stand in a path: whatever else a review says would ask for another."""


class KubeError(Exception):
    """The API server refused or did not answer; `status` is its HTTP status, 0 for none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A Secret's data and the version that an update must name."""

    data: dict[str, bytes]
    resource_version: str


def connect(kubeconfig: str) -> "Kube":
    """Find the API server: a given kubeconfig, else the pod's service account, else the user's kubeconfig.

    Raises KubeError when there is none.
    """
    settings = client.Configuration()
    try:
        # Not the client's own load_config, which prints a line of doubt on every start in a pod.
        if kubeconfig or SERVICE_HOST not in os.environ:
            path = kubeconfig or None
            config.load_kube_config(config_file=path, client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "service account or kubeconfig"
        raise KubeError(f"no usable {where}: {error}") from error
    if (kubeconfig or SERVICE_HOST not in os.environ) and _acts_as_another(kubeconfig):
        # The client leaves those fields out, and would act as the stronger user in silence.
        fields = ", ".join(impersonation.FIELDS)
        raise KubeError(f"the kubeconfig's user has one of {fields}, which the webhook does not take; give it its own")
    settings.retries = False
    return Kube(client.ApiClient(settings))


def _acts_as_another(kubeconfig: str) -> bool:
    path = kubeconfig or config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    merged = config.kube_config.KubeConfigMerger(path).config  # type: ignore[no-untyped-call]
    chosen = merged["contexts"].get_with_name(merged["current-context"])["context"]
    entry = merged["users"].get_with_name(chosen.value.get("user"), safe=True)
    user = {} if entry is None else entry.value.get("user") or {}
    return any(user.get(name) for name in impersonation.FIELDS)


class Kube:
    """Thread-safe, as the client under it is."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def server_version(self) -> tuple[int, int]:
        """Major and minor of the server: (1, 29)."""
        found = self._json("GET", "/version")
        return _number(found.get("major", "")), _number(found.get("minor", ""))

    def namespace(self, name: str) -> Json:
        """Raises KubeError, for what is no name of a namespace too."""
        if not _LABEL.fullmatch(name):
            raise KubeError(f"{cut(name)!r} is not the name of a namespace")
        return self._json("GET", f"/api/v1/namespaces/{name}", timeout_s=ADMISSION_TIMEOUT_S)

    def involved(self, reference: Json) -> Json | None:
        """The object of an Event's `involvedObject`; None where there is none, or none that may be looked up."""
        path = LOOKED_UP.get((str(reference["apiVersion"]), str(reference["kind"])))
        namespace, name = str(reference["namespace"]), str(reference["name"])
        if path is None or not _LABEL.fullmatch(namespace) or not _SUBDOMAIN.fullmatch(name):
            return None
        try:
            return self._json("GET", path.format(namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def namespaces(self) -> tuple[list[Json], str]:
        """All namespaces, and the version to watch from."""
        found = self._json("GET", "/api/v1/namespaces")
        return found["items"], found["metadata"]["resourceVersion"]

    def watch_namespaces(self, resource_version: str, timeout_s: int) -> Iterator[Json]:
        """Yield watch events until the server ends the watch. Raises KubeError."""
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(timeout_s)),
        ]
        # A server that died silently must not hold the watch for ever.
        response = self._call("GET", "/api/v1/namespaces", query=query, timeout_s=(TIMEOUT_S[0], timeout_s + 30.0))
        try:
            for line in _lines(response):
                yield json.loads(line)
        except UNREACHABLE as error:
            raise KubeError(f"watching namespaces: {error}") from error
        finally:
            response.close()
            response.release_conn()

    def secret(self, namespace: str, name: str) -> StoredSecret | None:
        try:
            found = self._json("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
        except KubeError as error:
            if error.status == 404:
                return None
            raise
        data = {key: b64decode(value) for key, value in (found.get("data") or {}).items()}
        return StoredSecret(data, found["metadata"]["resourceVersion"])

    def write_secret(self, namespace: str, name: str, data: dict[str, bytes], resource_version: str | None) -> bool:
        """Create (no version) or replace the Secret; False when another replica was first."""
        metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": names.WEBHOOK}}
        body: Json = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": metadata,
            "data": {key: b64encode(value).decode() for key, value in data.items()},
        }
        path = f"/api/v1/namespaces/{namespace}/secrets"
        try:
            if resource_version is None:
                self._json("POST", path, body)
            else:
                metadata["resourceVersion"] = resource_version
                self._json("PUT", f"{path}/{name}", body)
        except KubeError as error:
            if error.status == 409:
                return False
            raise
        return True

    def registration(self, kind: str) -> Json | None:
        """The MUTATING or VALIDATING configuration, or None while nobody has applied it."""
        try:
            return self._json("GET", _registration(kind))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def patch_registration(self, kind: str, operations: list[Json]) -> bool:
        """Apply RFC 6902 operations; False when the object changed meanwhile."""
        try:
            self._json("PATCH", _registration(kind), operations, content_type="application/json-patch+json")
        except KubeError as error:
            if error.status in (409, 422):
                return False
            raise
        return True

    def create_event(self, event: Json) -> None:
        self._json("POST", f"/api/v1/namespaces/{event['metadata']['namespace']}/events", event)

    def _json(
        self,
        method: str,
        path: str,
        body: Json | list[Json] | None = None,
        content_type: str = "application/json",
        timeout_s: tuple[float, float] = TIMEOUT_S,
    ) -> Json:
        response = self._call(method, path, body=body, content_type=content_type, timeout_s=timeout_s)
        try:
            found: Json = json.loads(response.data)
        except UNREACHABLE as error:
            raise KubeError(f"{method} {path}: {error}") from error
        finally:
            response.release_conn()
        return found

    def _call(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Json | list[Json] | None = None,
        content_type: str = "application/json",
        timeout_s: tuple[float, float] = TIMEOUT_S,
    ) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        request = self._api.param_serialize(
            method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = self._send(request, timeout_s)
        except (ApiException, *UNREACHABLE) as error:
            raise KubeError(f"{method} {path}: {error}") from error
        if response.status >= 300:
            raise KubeError(f"{method} {path}: {_status_message(response)}", response.status)
        return response

    def _send(self, request: tuple[Any, ...], timeout_s: tuple[float, float]) -> Any:
        try:
            return self._api.call_api(*request, _request_timeout=timeout_s).response
        except urllib3.exceptions.ProtocolError:
            # The server closed a kept connection at the moment of its reuse; asking twice harms no question.
            if request[0] != "GET":
                raise
            return self._api.call_api(*request, _request_timeout=timeout_s).response


def _registration(kind: str) -> str:
    return f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s/{names.WEBHOOK}"


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(65536, decode_content=False):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line for line in complete if line.strip())


def _status_message(response: Any) -> str:
    try:
        return f"{response.status} {json.loads(response.data)['message']}"
    except (*UNREACHABLE, TypeError, KeyError):
        return f"{response.status} {response.reason}"
    finally:
        response.release_conn()


def _number(text: str) -> int:
    """`29+` of some providers is 29."""
    digits = "".join(character for character in text if character.isdigit())
    return int(digits) if digits else 0
