"""What an HTTP request asks for: path, method and query to a typed question. Pure.

Source: the RequestInfo resolver of apiserver, as far as its paths are served here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.api import errors

# `namespaces/NAME/X` is a subresource of the namespace for these X, a resource inside of it for all others.
NAMESPACE_SUBRESOURCES = ("status", "finalize")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for resources. `namespace` and `name` are "" where the path has none; `verb` is RBAC's word."""

    verb: str
    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def is_collection(self) -> bool:
        return not self.name


def parse(method: str, path: str, query: Mapping[str, str]) -> Asked | None:
    """The question that a path asks; None for paths that are about no resource (/version, /apis/apps)."""
    steps = [step for step in path.split("/") if step]
    if steps[:1] == ["api"] and len(steps) > 2:
        group, version, rest = "", steps[1], steps[2:]
    elif steps[:1] == ["apis"] and len(steps) > 3:
        group, version, rest = steps[1], steps[2], steps[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    verb = _verb(method, name, query)
    return Asked(verb, group, version, rest[0], namespace, name, "/".join(rest[2:]))


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method in ("GET", "HEAD"):
        if name:
            return "get"
        return "watch" if is_true(query, "watch") else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    if method in _VERBS:
        return _VERBS[method]
    raise errors.method_not_allowed()


def is_true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def whole_number(query: Mapping[str, str], name: str) -> int | None:
    """A non-negative integer of the query; None when it is missing or empty. Raises ApiError BadRequest."""
    text = query.get(name, "")
    if not text:
        return None
    if not text.isdigit():
        raise errors.bad_request(f"invalid value {text!r} for the parameter {name}: must be a non-negative integer")
    return int(text)


def forbidden(asked: Asked, user: str, reason: str) -> errors.ApiError:
    """The 403 of RBAC in Kubernetes' words."""
    resource = f"{asked.plural}/{asked.subresource}" if asked.subresource else asked.plural
    subject = errors.qualified(asked.plural, asked.group) + (f' "{asked.name}"' if asked.name else "")
    place = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    message = (
        f'{subject} is forbidden: User "{user}" cannot {asked.verb} resource "{resource}" '
        f'in API group "{asked.group}" {place}'
    )
    return errors.forbidden(f"{message}: {reason}" if reason else message, asked.plural, asked.group, asked.name)
