"""Nobody hands out rights that they do not have: the check on writing roles and bindings. Pure.

Who writes a role must hold every right in it, or the verb `escalate` on it; who binds one must hold every right of the
role, or the verb `bind` on it. So a controller whose manifest lets it write roles shows in the lab already what a
cluster would refuse.

Source: the privilege escalation section of the Kubernetes RBAC reference.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

from lab.api import errors
from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.rbac import MASTERS, Policy, Question, allows, role_rules, rule_allows, rules_of

Object = dict[str, Any]

GROUP: Final = "rbac.authorization.k8s.io"
_EVERYTHING: Final[Object] = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


def is_grant(old: Object | None, new: Object) -> bool:
    """Whether a write changes what a role or binding gives; labels and the like are anybody's who may update it."""
    return old is None or any(
        old.get(key) != new.get(key) for key in ("rules", "aggregationRule", "roleRef", "subjects")
    )


def check_grant(plural: str, item: Object, user: User, policy: Policy) -> None:
    """Raises ApiError 403 when the user may not write this role or binding."""
    if MASTERS in user.groups:
        return
    metadata = item["metadata"]
    namespace = str(metadata.get("namespace", ""))
    if plural.endswith("bindings"):
        reference = item.get("roleRef") or {}
        if not reference.get("kind") or not reference.get("name"):
            return  # validation, which comes next, says so better
        target, name, verb = f"{reference['kind'].lower()}s", reference["name"], "bind"
    else:
        target, name, verb = plural, metadata["name"], "escalate"
    question = Question(verb, GROUP, target, namespace=namespace, name=name)
    if allows(question, user, policy) is not None:
        return
    wanted = _role_of(target, name, namespace, policy) if verb == "bind" else list(_own_rules(item))
    held = [granted.rule for granted in rules_of(user, namespace, policy)]
    missing = [rule for rule in wanted if not _covers(held, rule)]
    if missing:
        raise _refusal(plural, str(metadata["name"]), user, missing)


def _own_rules(role: Object) -> Iterator[Object]:
    yield from role.get("rules") or []
    if role.get("aggregationRule"):
        yield _EVERYTHING  # what it will sum up is not known yet


def _role_of(plural: str, name: str, namespace: str, policy: Policy) -> list[Object]:
    if plural == "clusterroles":
        found = [role for role in policy.cluster_roles if role["metadata"]["name"] == name]
    else:
        local = [role for role in policy.roles if role["metadata"].get("namespace") == namespace]
        found = [role for role in local if role["metadata"]["name"] == name]
    if not found:
        raise errors.not_found(plural, GROUP, name)  # what it will allow once it exists cannot be judged now
    return list(role_rules(found[0], policy.cluster_roles, frozenset()))


def _covers(held: list[Object], wanted: Object) -> bool:
    return all(any(rule_allows(rule, atom) for rule in held) for atom in _atoms(wanted))


def _atoms(rule: Object) -> Iterator[Question]:
    """The rule taken apart into single rights; a star stays a star, which only a star covers."""
    verbs = rule.get("verbs") or []
    for verb, path in product(verbs, rule.get("nonResourceURLs") or []):
        yield Question(verb, path=path)
    names = rule.get("resourceNames") or [""]
    for verb, group, resource, name in product(verbs, rule.get("apiGroups") or [], rule.get("resources") or [], names):
        plural, _, subresource = resource.partition("/")
        yield Question(verb, group, plural, subresource, "", name)


def _refusal(plural: str, name: str, user: User, missing: list[Object]) -> ApiError:
    lines = "\n".join(_shown(rule) for rule in missing)
    text = (
        f'{plural}.{GROUP} "{name}" is forbidden: user "{user.name}" is attempting to grant RBAC permissions '
        f"not currently held:\n{lines}"
    )
    return errors.forbidden(text, plural, GROUP, name)


def _shown(rule: Object) -> str:
    return ", ".join(f"{key}: {rule[key]}" for key in sorted(rule) if rule[key])
