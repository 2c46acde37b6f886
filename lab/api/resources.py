"""The table of kinds: what the server serves, under which names, with which subresources and verbs. Pure.

A `Resource` is one row; a `Catalog` is the built-in rows plus the custom ones that CustomResourceDefinitions add and
take away. The key of a built-in is its plural ("pods"); of a custom one "plural.group" ("widgets.example.com").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.api import errors

# group version plural kind scope(n|c) short-names categories flags
# Flags: s = has a status subresource, g = keeps metadata.generation, r = refused (listed, always empty, every write
# says so), v = a view of another row's objects, o = a deletion answers with the object, not with a Status.
BUILTIN = """
-                            v1 namespaces                      Namespace                    c ns       -   s
-                            v1 nodes                           Node                         c no       -   s
-                            v1 pods                            Pod                          n po       all so
-                            v1 services                        Service                      n svc      all so
-                            v1 configmaps                      ConfigMap                    n cm       -   -
-                            v1 secrets                         Secret                       n -        -   -
-                            v1 serviceaccounts                 ServiceAccount               n sa       -   o
-                            v1 events                          Event                        n ev       -   -
-                            v1 endpoints                       Endpoints                    n ep       -   r
-                            v1 persistentvolumeclaims          PersistentVolumeClaim        n pvc      -   sr
-                            v1 persistentvolumes               PersistentVolume             c pv       -   sr
-                            v1 replicationcontrollers          ReplicationController        n rc       all sr
-                            v1 limitranges                     LimitRange                   n limits   -   r
-                            v1 resourcequotas                  ResourceQuota                n quota    -   sr
apps                         v1 deployments                     Deployment                   n deploy   all sg
apps                         v1 replicasets                     ReplicaSet                   n rs       all sg
apps                         v1 statefulsets                    StatefulSet                  n sts      all sgr
apps                         v1 daemonsets                      DaemonSet                    n ds       all sgr
batch                        v1 jobs                            Job                          n -        all sg
batch                        v1 cronjobs                        CronJob                      n cj       all sgr
coordination.k8s.io          v1 leases                          Lease                        n -        -   -
discovery.k8s.io             v1 endpointslices                  EndpointSlice                n -        -   g
events.k8s.io                v1 events                          Event                        n ev       -   v
rbac.authorization.k8s.io    v1 roles                           Role                         n -        -   -
rbac.authorization.k8s.io    v1 rolebindings                    RoleBinding                  n -        -   -
rbac.authorization.k8s.io    v1 clusterroles                    ClusterRole                  c -        -   -
rbac.authorization.k8s.io    v1 clusterrolebindings             ClusterRoleBinding           c -        -   -
admissionregistration.k8s.io v1 mutatingwebhookconfigurations   MutatingWebhookConfiguration c -        -   g
admissionregistration.k8s.io v1 validatingwebhookconfigurations ValidatingWebhookConfiguration c -        -   g
apiextensions.k8s.io         v1 customresourcedefinitions       CustomResourceDefinition     c crd,crds -   sg
autoscaling                  v2 horizontalpodautoscalers        HorizontalPodAutoscaler      n hpa      all sr
networking.k8s.io            v1 ingresses                       Ingress                      n ing      -   sr
networking.k8s.io            v1 networkpolicies                 NetworkPolicy                n netpol   -   gr
policy                       v1 poddisruptionbudgets            PodDisruptionBudget          n pdb      -   sr
scheduling.k8s.io            v1 priorityclasses                 PriorityClass                c pc       -   r
storage.k8s.io               v1 storageclasses                  StorageClass                 c sc       -   r
"""

# Beside status, which a flag says.
SUBRESOURCES = {
    "namespaces": ("finalize",),
    "pods": ("attach", "binding", "eviction", "exec", "log", "portforward", "proxy"),
    "services": ("proxy",),
    "serviceaccounts": ("token",),
    "deployments": ("scale",),
    "replicasets": ("scale",),
    "statefulsets": ("scale",),
}

# Reviews are asked, never kept: create is their only verb.
REVIEWS = """
authentication.k8s.io v1 tokenreviews              TokenReview              c
authentication.k8s.io v1 selfsubjectreviews        SelfSubjectReview        c
authorization.k8s.io  v1 subjectaccessreviews      SubjectAccessReview      c
authorization.k8s.io  v1 localsubjectaccessreviews LocalSubjectAccessReview n
authorization.k8s.io  v1 selfsubjectaccessreviews  SelfSubjectAccessReview  c
authorization.k8s.io  v1 selfsubjectrulesreviews   SelfSubjectRulesReview   c
"""

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as it is served. `subresources` excludes status; `schema` is set for custom kinds only."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    has_status: bool = False
    has_generation: bool = False
    is_refused: bool = False
    returns_deleted: bool = False
    is_view: bool = False
    is_custom: bool = False
    list_kind: str = ""
    schema: Mapping[str, Any] | None = None
    columns: tuple[Mapping[str, Any], ...] = ()
    scale_paths: tuple[str, str, str] = ("spec.replicas", "status.replicas", "")
    is_storage: bool = True
    is_served: bool = True

    @property
    def key(self) -> str:
        """The store's name of this kind: the same for all versions and views of it."""
        return f"{self.plural}.{self.group}" if self.is_custom else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`deployments.apps`, as messages and audit lines name it."""
        return errors.qualified(self.plural, self.group)

    @property
    def all_subresources(self) -> tuple[str, ...]:
        return (*self.subresources, "status") if self.has_status else self.subresources


def _words(cell: str) -> tuple[str, ...]:
    return () if cell == "-" else tuple(cell.split(","))


def _builtin(line: str) -> Resource:
    group, version, plural, kind, scope, short, categories, flags = line.split()
    return Resource(
        group="" if group == "-" else group,
        version=version,
        plural=plural,
        kind=kind,
        namespaced=scope == "n",
        singular=kind.lower(),
        short_names=_words(short),
        categories=_words(categories),
        subresources=SUBRESOURCES.get(plural, ()),
        has_status="s" in flags,
        has_generation="g" in flags,
        is_refused="r" in flags,
        returns_deleted="o" in flags,
        is_view="v" in flags,
        list_kind=f"{kind}List",
    )


def _review(line: str) -> Resource:
    group, version, plural, kind, scope = line.split()
    return Resource(
        group, version, plural, kind, scope == "n", kind.lower(), verbs=("create",), list_kind=f"{kind}List"
    )


@dataclass(slots=True)
class Catalog:
    """The kinds served now. Lookups raise ApiError NotFound as the server would."""

    custom: dict[str, tuple[Resource, ...]] = field(default_factory=dict)
    revision: int = 0
    _by_path: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    _by_key: dict[str, Resource] = field(default_factory=dict)
    _by_kind: dict[tuple[str, str], Resource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in filter(None, BUILTIN.splitlines()):
            self._index(_builtin(line))
        for line in filter(None, REVIEWS.splitlines()):
            self._index(_review(line))

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_path.values())

    def _index(self, row: Resource) -> None:
        if row.is_served:
            self._by_path[row.group, row.version, row.plural] = row
            self._by_kind[row.api_version, row.kind] = row
        if not row.is_view and row.is_storage:
            self._by_key[row.key] = row

    def at(self, group: str, version: str, plural: str) -> Resource:
        """The row behind a request path."""
        row = self._by_path.get((group, version, plural))
        if row is None:
            raise errors.no_such_resource()
        return row

    def keyed(self, key: str) -> Resource:
        """The storage row of a key ("pods", "widgets.example.com")."""
        row = self._by_key.get(key)
        if row is None:
            raise errors.no_such_resource()
        return row

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row of an object's apiVersion and kind, or None."""
        return self._by_kind.get((api_version, kind))

    def set_custom(self, definition: str, rows: Iterable[Resource]) -> None:
        """Serve `rows` for the definition of that name, in place of what it served before; none = stop serving it."""
        for row in self.custom.pop(definition, ()):
            self._by_path.pop((row.group, row.version, row.plural), None)
            self._by_kind.pop((row.api_version, row.kind), None)
            self._by_key.pop(row.key, None)
        served = tuple(rows)
        if served:
            self.custom[definition] = served
        for row in served:
            self._index(row)
        self.revision += 1
