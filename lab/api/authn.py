"""Who asks, and may they? One `Authority` for the whole API server. Waits.

Bearer tokens only: the administrator's opaque token, or a service-account token that `tokens` signed and whose account
and pod still exist. A request without a token is `system:anonymous`; a wrong token is 401, never anonymous.
`Impersonate-User` and `Impersonate-Group` need the verb `impersonate`, as in every cluster. Rules are read from the
registry on every question: a deleted binding takes effect with the next request.

Sources: the authentication and impersonation pages of the Kubernetes reference (header names, group names).
"""

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.datastructures import Headers

from lab.api import errors
from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.rbac import AUTHENTICATED, MASTERS, UNAUTHENTICATED, Policy, Question, allows, policy_of
from lab.api.rbac_built_ins import BUILT_INS
from lab.api.reader import Reader
from lab.api.tokens import Claims, TokenError, TokenIssuer, is_alive

ADMIN: Final = User("kubernetes-admin", (MASTERS, AUTHENTICATED))
ANONYMOUS: Final = User("system:anonymous", (UNAUTHENTICATED,))
_ACCOUNT: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` says which rule allowed it, or what was missing."""

    allowed: bool
    reason: str


class Creator(Protocol):
    """The registry, as far as `install_built_ins` needs it."""

    async def create(self, resource: str, obj: dict[str, Any]) -> dict[str, Any]: ...


class Authority:
    """Authentication and authorization of one API server."""

    def __init__(
        self, reader: Reader, issuer: TokenIssuer, admin_token: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._reader = reader
        self.issuer = issuer
        self._admin_token = admin_token.encode()
        self.clock = clock

    async def authenticate(self, headers: Mapping[str, str], client_cert: bytes | None = None) -> User:
        """The user behind a request's headers. Client certificates are not looked at: the lab issues none.

        Raises ApiError 401 for a bad token and 403 for an impersonation that is not allowed.
        """
        del client_cert
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            user = ANONYMOUS
        elif scheme.lower() != "bearer":
            raise errors.unauthorized("only bearer tokens are accepted")
        else:
            user = self.user_of_token(token.strip())
        if headers.get("impersonate-user"):
            return await self._impersonated(user, headers)
        if headers.get("impersonate-group"):
            raise errors.bad_request("Impersonate-Group needs Impersonate-User beside it")
        return user

    def user_of_token(self, token: str) -> User:
        """The user of a bearer token. Raises ApiError 401."""
        if hmac.compare_digest(token.encode(), self._admin_token):
            return ADMIN
        try:
            return user_of(self.claims_of(token, ()))
        except TokenError as error:
            raise errors.unauthorized(f"Unauthorized: {error}") from None

    def claims_of(self, token: str, audiences: tuple[str, ...]) -> Claims:
        """The claims of a valid token of a living account, for one of `audiences`. Raises TokenError."""
        claims = self.issuer.verify(token, audiences=audiences, now_s=self.clock())
        if not is_alive(claims, self._uid_of):
            raise TokenError("the service account or the pod of this token is gone")
        return claims

    async def authorize(
        self,
        user: User,
        verb: str,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
    ) -> Decision:
        """Whether the user may do `verb` to a resource."""
        return self.decide(user, Question(verb, group, resource, subresource, namespace or "", name or ""))

    async def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        """Whether the user may do `verb` (the HTTP method, lower case) to a path such as /version."""
        return self.decide(user, Question(verb, path=path))

    async def require(
        self,
        user: User,
        verb: str,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
    ) -> None:
        """As `authorize`; raises ApiError 403 in Kubernetes' words."""
        question = Question(verb, group, resource, subresource, namespace or "", name or "")
        if not self.decide(user, question).allowed:
            raise denied(user, question)

    def decide(self, user: User, question: Question) -> Decision:
        reason = allows(question, user, Policy() if MASTERS in user.groups else self.policy())
        return Decision(reason is not None, reason or "no RBAC rule allows it")

    def policy(self) -> Policy:
        """The roles and bindings as they are stored now."""
        return policy_of(self._reader)

    async def _impersonated(self, user: User, headers: Mapping[str, str]) -> User:
        name = headers["impersonate-user"]
        groups = headers.getlist("impersonate-group") if isinstance(headers, Headers) else _listed(headers)
        if name.startswith(_ACCOUNT) and name.count(":") == 3:
            namespace, account = name.removeprefix(_ACCOUNT).split(":")
            await self.require(user, "impersonate", "", "serviceaccounts", "", namespace, account)
            groups = groups or list(account_groups(namespace))
        else:
            await self.require(user, "impersonate", "", "users", "", "", name)
        for group in groups:
            if group not in (AUTHENTICATED, *account_groups(name.split(":")[2] if name.startswith(_ACCOUNT) else "")):
                await self.require(user, "impersonate", "", "groups", "", "", group)
        everyone = UNAUTHENTICATED if name == ANONYMOUS.name else AUTHENTICATED
        return User(name, tuple(dict.fromkeys([*groups, everyone])))

    def _uid_of(self, resource: str, namespace: str, name: str) -> str | None:
        try:
            metadata = self._reader.get(resource, "" if resource == "nodes" else namespace, name)["metadata"]
        except ApiError:
            return None
        return str(metadata["uid"])


def account_groups(namespace: str) -> tuple[str, ...]:
    """The groups that every service account of a namespace is in."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)


def user_of(claims: Claims) -> User:
    """The user that a token's claims name; a bound pod is told in `extra`, as webhooks and reviews expect it."""
    extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims.identifier}",)}
    if claims.bound and claims.bound.kind == "Pod":
        extra["authentication.kubernetes.io/pod-name"] = (claims.bound.name,)
        extra["authentication.kubernetes.io/pod-uid"] = (claims.bound.uid,)
    return User(claims.user_name, account_groups(claims.namespace), claims.uid, extra)


def denied(user: User, question: Question) -> ApiError:
    """403, worded as kubectl's users know it."""
    if question.path:
        return errors.forbidden(f'forbidden: User "{user.name}" cannot {question.verb} path "{question.path}"')
    resource = f"{question.resource}/{question.subresource}" if question.subresource else question.resource
    where = f'in the namespace "{question.namespace}"' if question.namespace else "at the cluster scope"
    target = errors.qualified(question.resource, question.group)
    object_name = f' "{question.name}"' if question.name else ""
    text = (
        f'{target}{object_name} is forbidden: User "{user.name}" cannot {question.verb} resource "{resource}" '
        f'in API group "{question.group}" {where}'
    )
    return errors.forbidden(text, question.resource, question.group, question.name)


async def install_built_ins(registry: Creator) -> None:
    """Create the roles and bindings that every cluster has, where they are missing."""
    for resource, item in BUILT_INS:
        try:
            await registry.create(resource, item)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise


def _listed(headers: Mapping[str, str]) -> list[str]:
    value = headers.get("impersonate-group", "")
    return [group.strip() for group in value.split(",") if group.strip()]
