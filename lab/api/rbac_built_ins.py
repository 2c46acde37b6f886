"""The roles and bindings that every cluster has from its first second. Pure (data).

`admin`, `edit` and `view` are aggregated, as in every cluster: a ClusterRole labelled
`rbac.authorization.k8s.io/aggregate-to-view: "true"` adds its rules to `view`, and through it to `edit` and `admin`.

Source: the default roles table of the Kubernetes RBAC reference, cut to the kinds that the lab serves.
"""

from typing import Any, Final

from lab.api.rbac import AUTHENTICATED, MASTERS, UNAUTHENTICATED

Object = dict[str, Any]

_API: Final = "rbac.authorization.k8s.io"
_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")
_LABEL: Final = "rbac.authorization.k8s.io/aggregate-to-"

_CORE: Final = ("configmaps", "endpoints", "pods", "serviceaccounts", "services")
_APPS: Final = ("daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets")
_BATCH: Final = ("cronjobs", "jobs")
_STATUS: Final = ("events", "pods/log", "pods/status", "namespaces", "namespaces/status", "services/status")
_DISCOVERY: Final = ("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*")
_PROBES: Final = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_EXEC: Final = ("pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy")


def _rule(groups: str, resources: tuple[str, ...], verbs: tuple[str, ...]) -> Object:
    return {"apiGroups": groups.split(","), "resources": list(resources), "verbs": list(verbs)}


def _paths(paths: tuple[str, ...], verbs: tuple[str, ...] = ("get",)) -> Object:
    return {"nonResourceURLs": list(paths), "verbs": list(verbs)}


def _role(name: str, *rules: Object, adds_to: str = "", sums: str = "") -> Object:
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults", **({f"{_LABEL}{adds_to}": "true"} if adds_to else {})}
    role: Object = {"apiVersion": f"{_API}/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": labels}}
    if sums:
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {f"{_LABEL}{sums}": "true"}}]}
    role["rules"] = list(rules)
    return role


def _binding(role: str, *groups: str) -> Object:
    return {
        "apiVersion": f"{_API}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": _API, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _API, "kind": "Group", "name": group} for group in groups],
    }


_VIEW: Final = (
    _rule("", (*_CORE, *_STATUS), _READ),
    _rule("apps", _APPS, _READ),
    _rule("batch", _BATCH, _READ),
    _rule("discovery.k8s.io", ("endpointslices",), _READ),
)
_EDIT: Final = (
    _rule("", (*_CORE, "secrets"), (*_READ, *_WRITE)),
    _rule("", _EXEC, (*_READ, *_WRITE)),
    _rule("", ("serviceaccounts",), ("impersonate",)),
    _rule("", ("serviceaccounts/token", "pods/eviction", "events"), ("create", "patch", "update")),
    _rule("apps", _APPS, _WRITE),
    _rule("batch", _BATCH, _WRITE),
    _rule("coordination.k8s.io", ("leases",), (*_READ, *_WRITE)),
)
_ADMIN: Final = (
    _rule(_API, ("roles", "rolebindings"), (*_READ, *_WRITE)),
    _rule("authorization.k8s.io", ("localsubjectaccessreviews",), ("create",)),
)
_SELF: Final = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")


BUILT_INS: Final[tuple[tuple[str, Object], ...]] = (
    ("clusterroles", _role("cluster-admin", _rule("*", ("*",), ("*",)), _paths(("*",), ("*",)))),
    ("clusterroles", _role("admin", sums="admin")),
    ("clusterroles", _role("edit", adds_to="admin", sums="edit")),
    ("clusterroles", _role("view", adds_to="edit", sums="view")),
    ("clusterroles", _role("system:aggregate-to-admin", *_ADMIN, adds_to="admin")),
    ("clusterroles", _role("system:aggregate-to-edit", *_EDIT, adds_to="edit")),
    ("clusterroles", _role("system:aggregate-to-view", *_VIEW, adds_to="view")),
    ("clusterroles", _role("system:discovery", _paths((*_DISCOVERY, *_PROBES)))),
    ("clusterroles", _role("system:public-info-viewer", _paths(_PROBES))),
    (
        "clusterroles",
        _role(
            "system:basic-user",
            _rule("authorization.k8s.io", _SELF, ("create",)),
            _rule("authentication.k8s.io", ("selfsubjectreviews",), ("create",)),
        ),
    ),
    (
        "clusterroles",
        _role(
            "system:auth-delegator",
            _rule("authentication.k8s.io", ("tokenreviews",), ("create",)),
            _rule("authorization.k8s.io", ("subjectaccessreviews",), ("create",)),
        ),
    ),
    ("clusterrolebindings", _binding("cluster-admin", MASTERS)),
    ("clusterrolebindings", _binding("system:discovery", AUTHENTICATED)),
    ("clusterrolebindings", _binding("system:basic-user", AUTHENTICATED)),
    ("clusterrolebindings", _binding("system:public-info-viewer", AUTHENTICATED, UNAUTHENTICATED)),
)
"""(registry key, object), in the order to create them."""
