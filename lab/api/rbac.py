"""Role-based access control: from a user and the stored roles and bindings to yes or no. Pure.

`rules_of` collects what a user may do in one namespace; `allows` asks one question of it. Rules only ever add: there
is no deny. A role with an aggregationRule has, beside its own rules, those of every ClusterRole that the rule's
selectors pick; the sum is made here, when it is asked, and not written back into the role.

Sources: the PolicyRule type of rbac.authorization.k8s.io/v1; the built-in roles and bindings a cluster has
(`BUILT_INS`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lab.api.identity import User
from lab.api.reader import Object, Reader
from lab.api.selectors import selects

MASTERS: Final = "system:masters"
"""The group that no rule binds."""
AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"


@dataclass(frozen=True, slots=True)
class Question:
    """One access. For a path that is no resource, `path` is set and the rest but the verb is empty."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The stored objects that decide, as lists of plain objects."""

    roles: Sequence[Object] = ()
    cluster_roles: Sequence[Object] = ()
    role_bindings: Sequence[Object] = ()
    cluster_role_bindings: Sequence[Object] = ()


@dataclass(frozen=True, slots=True)
class Granted:
    """One rule that a user has, and the binding that gave it, for the reason of a decision."""

    rule: Object
    source: str


def policy_of(reader: Reader) -> Policy:
    """The roles and bindings as they are stored now."""
    return Policy(*(reader.list(row) for row in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")))


def rules_of(user: User, namespace: str, policy: Policy) -> Iterator[Granted]:
    """Every rule that the user has cluster-wide and, when `namespace` is not empty, in that namespace."""
    clusters = {role["metadata"]["name"]: role for role in policy.cluster_roles}
    for binding in policy.cluster_role_bindings:
        if _binds(binding, user):
            role = clusters.get(binding["roleRef"]["name"])
            yield from _granted(role, policy.cluster_roles, _source(binding))
    if not namespace:
        return
    local = {role["metadata"]["name"]: role for role in policy.roles if _namespace(role) == namespace}
    for binding in policy.role_bindings:
        if _namespace(binding) == namespace and _binds(binding, user):
            reference = binding["roleRef"]
            role = (clusters if reference["kind"] == "ClusterRole" else local).get(reference["name"])
            yield from _granted(role, policy.cluster_roles, _source(binding))


def allows(question: Question, user: User, policy: Policy) -> str | None:
    """The reason why the user may, or None when no rule says so."""
    if MASTERS in user.groups:
        return f'the user is in the group "{MASTERS}"'
    for granted in rules_of(user, question.namespace, policy):
        if rule_allows(granted.rule, question):
            return f"RBAC: allowed by {granted.source}"
    return None


def rule_allows(rule: Object, question: Question) -> bool:
    """Whether one PolicyRule covers the question."""
    if not _has(rule.get("verbs"), question.verb):
        return False
    if question.path:
        return any(_path_matches(pattern, question.path) for pattern in rule.get("nonResourceURLs") or [])
    names = rule.get("resourceNames") or []
    return (
        _has(rule.get("apiGroups"), question.group)
        and _resource_matches(rule.get("resources") or [], question.resource, question.subresource)
        and (not names or question.name in names)
    )


def _granted(role: Object | None, cluster_roles: Sequence[Object], source: str) -> Iterator[Granted]:
    if role is not None:
        for rule in role_rules(role, cluster_roles, frozenset()):
            yield Granted(rule, f'{source} of {role["kind"]} "{role["metadata"]["name"]}"')


def role_rules(role: Object, cluster_roles: Sequence[Object], seen: frozenset[str]) -> Iterator[Object]:
    """The role's own rules and those that its aggregationRule picks, at any depth (`seen` ends circles)."""
    yield from role.get("rules") or []
    seen |= {role["metadata"]["name"]}
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []:
        for other in cluster_roles:
            metadata = other["metadata"]
            if metadata["name"] not in seen and selects(selector, metadata.get("labels") or {}):
                yield from role_rules(other, cluster_roles, seen)


def _binds(binding: Object, user: User) -> bool:
    return any(_is_subject(subject, user, _namespace(binding)) for subject in binding.get("subjects") or [])


def _is_subject(subject: Object, user: User, namespace: str) -> bool:
    kind, name = subject["kind"], subject["name"]
    if kind == "User":
        return bool(name == user.name)
    if kind == "Group":
        return name in user.groups
    return bool(user.name == f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}")


def _namespace(item: Object) -> str:
    return str(item["metadata"].get("namespace", ""))


def _source(binding: Object) -> str:
    name, namespace = binding["metadata"]["name"], _namespace(binding)
    return f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'


def _has(values: Sequence[str] | None, wanted: str) -> bool:
    return "*" in (values or ()) or wanted in (values or ())


def _resource_matches(patterns: Sequence[str], resource: str, subresource: str) -> bool:
    wanted = f"{resource}/{subresource}" if subresource else resource
    return any(
        pattern in ("*", wanted) or (bool(subresource) and pattern == f"*/{subresource}") for pattern in patterns
    )


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))
