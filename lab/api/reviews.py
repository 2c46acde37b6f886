"""The questions that are asked and not kept: token and access reviews, and requests for tokens. Waits.

`review` takes the posted object and returns it with its status filled in. It does not ask whether the caller may post
it: the route has done that (create on the review's resource).

Sources: authentication.k8s.io/v1 and authorization.k8s.io/v1.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from lab.api import errors
from lab.api.authn import Authority, user_of
from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.rbac import MASTERS, Question, rules_of
from lab.api.reader import Reader, spec_of, user_info
from lab.api.review_specs import AccessSpec, BoundReference, RulesSpec, TokenReviewSpec, TokenSpec, read
from lab.api.tokens import DEFAULT_EXPIRY_S, MAX_EXPIRY_S, MIN_EXPIRY_S, Bound, Claims, TokenError

Object = dict[str, Any]


async def review(kind: str, body: Object, user: User, authority: Authority, registry: Reader) -> Object:
    """The review `body` of that kind, answered for `user`.

    For a TokenRequest, metadata.name and metadata.namespace name the service account. Raises ApiError: 400 for a
    review that asks nothing, 404 for a missing account or pod, 422 for bad values, 501 for a kind that the lab does
    not answer.
    """
    spec = body.get("spec") or {}
    status: Object
    if kind == "TokenReview":
        status = _token_review(read(body, TokenReviewSpec), authority)
    elif kind in ("SubjectAccessReview", "LocalSubjectAccessReview"):
        asked = read(body, AccessSpec)
        if kind.startswith("Local"):
            _check_local(asked, body)
        status = _access(asked, _subject(asked), authority)
    elif kind == "SelfSubjectAccessReview":
        status = _access(read(body, AccessSpec), user, authority)
    elif kind == "SelfSubjectRulesReview":
        status = _rules(read(body, RulesSpec), user, authority)
    elif kind == "SelfSubjectReview":
        status = {"userInfo": user_info(user)}
    elif kind == "TokenRequest":
        spec, status = _token_request(body, read(body, TokenSpec), authority, registry)
    else:
        raise errors.not_implemented(f"reviews of kind {kind}")
    metadata = {**(body.get("metadata") or {}), "creationTimestamp": _time(authority.clock())}
    answer = {**body, "kind": kind, "metadata": metadata, "status": status}
    return {**answer, "spec": spec} if spec else answer


def _token_review(spec: TokenReviewSpec, authority: Authority) -> Object:
    audiences, ours = tuple(spec.audiences or ()), authority.issuer.issuer
    if not spec.token:
        raise errors.bad_request("spec.token: required: the token to be reviewed")
    if not audiences or ours in audiences:
        try:
            user = authority.user_of_token(spec.token)
            return {"authenticated": True, "user": user_info(user), "audiences": [ours]}
        except ApiError as error:
            if not audiences:
                return {"authenticated": False, "error": error.message}
    try:
        claims = authority.claims_of(spec.token, audiences)
    except TokenError as error:
        return {"authenticated": False, "error": str(error)}
    matched = [audience for audience in audiences if audience in claims.audiences]
    return {"authenticated": True, "user": user_info(user_of(claims)), "audiences": matched}


def _subject(spec: AccessSpec) -> User:
    if not spec.user and not spec.groups:
        raise errors.bad_request("spec.user: at least one of user or groups must be given")
    extra = {key: tuple(values) for key, values in (spec.extra or {}).items()}
    return User(spec.user, tuple(spec.groups or ()), spec.uid, extra)


def _check_local(spec: AccessSpec, body: Object) -> None:
    namespace = (body.get("metadata") or {}).get("namespace", "")
    if spec.resource_attributes is None or spec.resource_attributes.namespace != namespace:
        raise errors.bad_request(f'spec.resourceAttributes.namespace: must match metadata.namespace "{namespace}"')


def _access(spec: AccessSpec, user: User, authority: Authority) -> Object:
    resource, path = spec.resource_attributes, spec.non_resource_attributes
    if path is not None and resource is None:
        question = Question(path.verb, path=path.path)
    elif resource is not None and path is None:
        question = Question(*msgspec.structs.astuple(resource))
    else:
        raise errors.bad_request("spec: exactly one of resourceAttributes and nonResourceAttributes must be given")
    decision = authority.decide(user, question)
    # As in every cluster a plain no has no reason: `kubectl auth can-i` prints one behind it, and scripts compare.
    return {"allowed": True, "reason": decision.reason} if decision.allowed else {"allowed": False}


def _rules(spec: RulesSpec, user: User, authority: Authority) -> Object:
    if not spec.namespace:
        raise errors.bad_request("spec.namespace: required: the namespace whose rules are asked for")
    rules = [granted.rule for granted in rules_of(user, spec.namespace, authority.policy())]
    if MASTERS in user.groups:
        everything: Object = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        rules = [everything, {"verbs": ["*"], "nonResourceURLs": ["*"]}]
    resources = ("verbs", "apiGroups", "resources", "resourceNames")
    return {
        "resourceRules": [_only(rule, resources) for rule in rules if rule.get("resources")],
        "nonResourceRules": [
            _only(rule, ("verbs", "nonResourceURLs")) for rule in rules if rule.get("nonResourceURLs")
        ],
        "incomplete": False,
    }


def _only(rule: Object, names: tuple[str, ...]) -> Object:
    return {name: rule[name] for name in names if rule.get(name)}


def _token_request(body: Object, asked: TokenSpec, authority: Authority, registry: Reader) -> tuple[Object, Object]:
    metadata = body.get("metadata") or {}
    name, namespace = metadata["name"], metadata["namespace"]
    account = registry.get("serviceaccounts", namespace, name)
    expiry_s = DEFAULT_EXPIRY_S if asked.expiration_seconds is None else asked.expiration_seconds
    if expiry_s < MIN_EXPIRY_S:
        why = f"Invalid value: {expiry_s}: may not specify a duration less than 10 minutes"
        raise errors.invalid("TokenRequest", "authentication.k8s.io", "", [errors.cause("spec.expirationSeconds", why)])
    expiry_s = min(expiry_s, MAX_EXPIRY_S)
    audiences = asked.audiences or [authority.issuer.issuer]
    bound = _bound(asked.bound_object_ref, namespace, name, registry)
    expires_at_s = int(authority.clock()) + expiry_s
    claims = Claims(namespace, name, account["metadata"]["uid"], tuple(audiences), expires_at_s, "", bound)
    token = authority.issuer.issue(claims, now_s=authority.clock())
    spec = {**(body.get("spec") or {}), "audiences": audiences, "expirationSeconds": expiry_s}
    return spec, {"token": token, "expirationTimestamp": _time(expires_at_s)}


def _bound(reference: BoundReference | None, namespace: str, account: str, registry: Reader) -> Bound | None:
    if reference is None:
        return None
    if reference.kind not in ("Pod", "Secret"):
        raise errors.bad_request(f"spec.boundObjectRef.kind: {reference.kind!r} cannot be bound to: use Pod or Secret")
    resource, name = f"{reference.kind.lower()}s", reference.name
    target = registry.get(resource, namespace, name)
    uid = target["metadata"]["uid"]
    if reference.uid and reference.uid != uid:
        raise errors.conflict(resource, "", name, f"the UID in the bound object reference is not {uid}")
    if reference.kind == "Pod" and spec_of(target).get("serviceAccountName") != account:
        raise errors.bad_request(
            f"cannot bind token for serviceaccount {account!r} to pod {name!r}: it runs as another"
        )
    return Bound(reference.kind, name, uid)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
