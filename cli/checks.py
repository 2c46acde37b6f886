"""The checks of `tulle check`: each asks the cluster little and lets cli.findings judge. Edge (GETs to the cluster)."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import Any

import msgspec

from cli import chart, findings
from cli.cluster import Cluster, ClusterError
from cli.findings import OK, Finding, Object
from contract import kinds, names
from contract.silence import SILENT_PATH, SilentAnswer

REQUEST_S = 10.0
"""Seconds for one request of a check."""

SKEW_S = 60.0
"""Seconds between the clocks of this machine and the API server's that certificates and tokens still bear."""


CLUSTER_SCOPED = (
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `waits`: try again until --wait is over. `fatal`: nothing after it makes sense."""

    category: str
    description: str
    look: Callable[[], Finding]
    waits: bool = False
    fatal: bool = False


class Facts:
    """What several checks need, asked for once until `forget`."""

    def __init__(self, cluster: Cluster, now: datetime) -> None:
        self.cluster = cluster
        self.now = now

    def forget(self) -> None:
        """Ask the cluster again from here on."""
        self.__dict__.pop("pods", None)
        self.__dict__.pop("namespaces", None)

    @cached_property
    def namespaces(self) -> list[Object]:
        """All namespaces."""
        return self.cluster.list("/api/v1/namespaces", REQUEST_S)

    @cached_property
    def pods(self) -> list[Object]:
        """All pods that have not finished."""
        selector = "status.phase!=Succeeded,status.phase!=Failed"
        return self.cluster.list("/api/v1/pods", REQUEST_S, fieldSelector=selector)


def api_checks(facts: Facts) -> Iterator[Check]:
    """Is there a cluster, and one that Tulle can run on?"""
    yield Check("kubernetes-api", "can query the Kubernetes API", lambda: _reach(facts), waits=True, fatal=True)
    yield Check("kubernetes-api", "is a version that Tulle runs on", lambda: _version(facts))
    yield Check("kubernetes-api", "its clock agrees with this machine's", lambda: _skew(facts))


def pre_checks(facts: Facts, rendered: list[chart.Manifest]) -> Iterator[Check]:
    """May this user make what `tulle install` prints?"""
    namespace = facts.cluster.control_plane
    yield Check("pre-installation", f"namespace {namespace} does not exist yet", lambda: _no_namespace(facts))
    for api_version, kind in sorted({(m.object["apiVersion"], m.object["kind"]) for m in rendered}):
        look = _may_create(facts, api_version, kind)
        yield Check("pre-installation", f"this user may create {kind}s", look)


def control_plane_checks(facts: Facts, rendered: list[chart.Manifest]) -> Iterator[Check]:
    """Is the control plane there, ready and of this version?"""
    namespace = facts.cluster.control_plane
    yield Check("control-plane", f"namespace {namespace} exists", lambda: _namespace(facts), waits=True, fatal=True)
    yield Check("control-plane", "its objects exist", lambda: _objects(facts, rendered), waits=True)
    for name in (names.CONTROLLER, names.WEBHOOK):
        yield Check("control-plane", f"{name} is ready", partial(_deployment, facts, name), waits=True)
    yield Check("webhook", "its certificate is valid and registered", lambda: _certificate(facts), waits=True)
    yield Check("webhook", "it can be reached", lambda: _webhook(facts), waits=True)
    yield Check("webhook", "it is of this version", lambda: _webhook_version(facts))
    yield Check("controller", "its API answers", lambda: _controller(facts), waits=True)
    yield Check("controller", "it is of this version", lambda: _controller_version(facts))


def data_plane_checks(facts: Facts) -> Iterator[Check]:
    """Do the pods that should be in the mesh carry a working sidecar?"""
    cluster = facts.cluster.control_plane
    yield Check(
        "data-plane", "meshed pods have a ready sidecar", lambda: findings.sidecars_ready(facts.pods), waits=True
    )
    yield Check(
        "data-plane",
        "pods that should be meshed are",
        lambda: findings.missing_sidecars(facts.pods, facts.namespaces, cluster),
    )
    yield Check(
        "data-plane",
        "pods left outside of the mesh are meant to be",
        lambda: findings.left_outside(facts.pods, facts.namespaces, cluster),
    )
    yield Check("data-plane", "sidecars are in touch with the controller", lambda: _silent(facts), waits=True)
    yield Check("data-plane", "sidecars are of this version", lambda: findings.proxy_versions(facts.pods))


def policy_checks(facts: Facts) -> Iterator[Check]:
    """Are the policies that users wrote in force?"""
    for kind in (kinds.TRAFFIC_POLICIES, kinds.FAULT_INJECTIONS):
        look = partial(_policies, facts, f"/apis/{kinds.API_VERSION}/{kind}")
        yield Check("policies", f"all {kind} are in force", look, waits=True)


def _policies(facts: Facts, path: str) -> Finding:
    return findings.policies_in_force(facts.cluster.list(path, REQUEST_S))


def _reach(facts: Facts) -> Finding:
    facts.cluster.get("/version", REQUEST_S)
    return OK


def _version(facts: Facts) -> Finding:
    return findings.server_version(facts.cluster.get("/version", REQUEST_S))


def _skew(facts: Facts) -> Finding:
    date = facts.cluster.date(REQUEST_S)
    skew_s = (parsedate_to_datetime(date) - facts.now).total_seconds() if date else 0.0
    if abs(skew_s) <= SKEW_S:
        return OK
    return Finding("warning", f"the API server's clock is {skew_s:+.0f} s off", "set both clocks by NTP")


def _no_namespace(facts: Facts) -> Finding:
    try:
        facts.cluster.get(f"/api/v1/namespaces/{facts.cluster.control_plane}", REQUEST_S)
    except ClusterError as error:
        if error.status == 404:
            return OK
        raise
    return Finding("warning", "it exists: Tulle is installed already?", "run tulle check without --pre")


def _may_create(facts: Facts, api_version: str, kind: str) -> Callable[[], Finding]:
    group, _, _ = api_version.rpartition("/")
    scoped = kind in CLUSTER_SCOPED
    attributes = {"verb": "create", "group": group, "resource": kind.lower() + "s"}
    if not scoped:
        attributes["namespace"] = facts.cluster.control_plane

    def look() -> Finding:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        status = facts.cluster.post(path, review, REQUEST_S).get("status", {})
        if status.get("allowed"):
            return OK
        return Finding("error", status.get("reason") or "not allowed", "ask for the cluster-admin role")

    return look


def _namespace(facts: Facts) -> Finding:
    facts.cluster.get(f"/api/v1/namespaces/{facts.cluster.control_plane}", REQUEST_S)
    return OK


def _objects(facts: Facts, rendered: list[chart.Manifest]) -> Finding:
    missing = []
    for manifest in rendered:
        try:
            facts.cluster.get(_path(manifest.object), REQUEST_S)
        except ClusterError as error:
            if error.status != 404:
                raise
            missing.append(f"{manifest.object['kind']} {manifest.object['metadata']['name']}")
    if not missing:
        return OK
    return Finding("error", f"missing: {', '.join(missing)}", "tulle install | kubectl apply -f -")


def _path(found: Object) -> str:
    version, metadata = found["apiVersion"], found["metadata"]
    prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{prefix}{scope}/{found['kind'].lower()}s/{metadata['name']}"


def _deployment(facts: Facts, name: str) -> Finding:
    namespace = facts.cluster.control_plane
    found = facts.cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}", REQUEST_S)
    path = f"/api/v1/namespaces/{namespace}/pods"
    pods = facts.cluster.list(path, REQUEST_S, labelSelector=f"app.kubernetes.io/name={name}")
    return findings.deployment(found, pods)


def _certificate(facts: Facts) -> Finding:
    from cli import certificate

    namespace = facts.cluster.control_plane
    root = "/apis/admissionregistration.k8s.io/v1"
    paths = [f"{root}/{kind}webhookconfigurations/{names.WEBHOOK}" for kind in ("mutating", "validating")]
    webhooks = [webhook for path in paths for webhook in facts.cluster.get(path, REQUEST_S).get("webhooks", [])]
    bundles = [webhook["clientConfig"].get("caBundle", "") for webhook in webhooks]
    if not bundles or not all(bundles):
        hint = f"kubectl logs -n {namespace} deployment/{names.WEBHOOK}"
        return Finding("error", "the webhook has not registered its caBundle yet", hint)
    try:
        path = f"/api/v1/namespaces/{namespace}/secrets/{names.WEBHOOK_SECRET}"
        data: dict[str, Any] = facts.cluster.get(path, REQUEST_S).get("data", {})
    except ClusterError as error:
        if error.status == 403:
            hint = f"let a user check who may read Secrets in {namespace}"
            return Finding("warning", "this user may not read the webhook's certificate", hint)
        raise
    served = base64.b64decode(data.get("tls.crt", ""))
    host = f"{names.WEBHOOK}.{namespace}.svc"
    judged = [certificate.judge(served, base64.b64decode(each), host, namespace, facts.now) for each in set(bundles)]
    return next((finding for finding in judged if finding != OK), OK)


def _webhook(facts: Facts) -> Finding:
    facts.cluster.proxied(f"https:{names.WEBHOOK}:443", "/readyz", REQUEST_S)
    return OK


def _webhook_version(facts: Facts) -> Finding:
    path = f"/apis/apps/v1/namespaces/{facts.cluster.control_plane}/deployments/{names.WEBHOOK}"
    labels = facts.cluster.get(path, REQUEST_S)["metadata"].get("labels", {})
    return findings.same_version("the webhook", labels.get("app.kubernetes.io/version", ""))


def _silent(facts: Facts) -> Finding:
    try:
        body = facts.cluster.controller(SILENT_PATH, REQUEST_S)
    except ClusterError as error:
        if error.status != 404 or error.reason:  # with a reason it is the API server's word: nobody is there
            raise
        return Finding("warning", "this controller is too old to say", "tulle install | kubectl apply -f -")
    return findings.silent_sidecars(msgspec.json.decode(body, type=SilentAnswer))


def _controller(facts: Facts) -> Finding:
    facts.cluster.controller("/api/v1/version", REQUEST_S)
    return OK


def _controller_version(facts: Facts) -> Finding:
    return findings.same_version("the controller", facts.cluster.controller_version(REQUEST_S))
