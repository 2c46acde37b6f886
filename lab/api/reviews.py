"""The questions that are asked and not kept: token and access reviews, and requests for tokens. Waits.

`review` takes the posted object and returns it with its status filled in. It does not ask whether the caller may post
it: the route has done that (create on the review's resource).

Sources: authentication.k8s.io/v1 and authorization.k8s.io/v1.
"""

from datetime import UTC, datetime
from typing import Any

from lab.api import errors
from lab.api.authn import Authority, user_of
from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.rbac import MASTERS, Question, rules_of
from lab.api.reader import Reader, spec_of, user_info
from lab.api.tokens import DEFAULT_EXPIRY_S, MAX_EXPIRY_S, MIN_EXPIRY_S, Bound, Claims, TokenError

Object = dict[str, Any]


async def review(kind: str, body: Object, user: User, authority: Authority, registry: Reader) -> Object:
    """The review `body` of that kind, answered for `user`.

    For a TokenRequest, metadata.name and metadata.namespace name the service account. Raises ApiError: 400 for a
    review that asks nothing, 404 for a missing account or pod, 422 for bad values, 501 for a kind that the lab does
    not answer.
    """
    spec = spec_of(body)
    if kind == "TokenReview":
        status = _token_review(spec, authority)
    elif kind == "SubjectAccessReview":
        status = _access(spec, _subject(spec), authority)
    elif kind == "LocalSubjectAccessReview":
        status = _access(_local(body), _subject(spec), authority)
    elif kind == "SelfSubjectAccessReview":
        status = _access(spec, user, authority)
    elif kind == "SelfSubjectRulesReview":
        status = _rules(spec, user, authority)
    elif kind == "SelfSubjectReview":
        status = {"userInfo": user_info(user)}
    elif kind == "TokenRequest":
        spec, status = _token_request(body, authority, registry)
    else:
        raise errors.not_implemented(f"reviews of kind {kind}")
    answer = {**body, "metadata": {**(body.get("metadata") or {}), "creationTimestamp": _time(authority.clock())}}
    return (
        {**answer, "kind": kind, "spec": spec, "status": status} if spec else {**answer, "kind": kind, "status": status}
    )


def _token_review(spec: Object, authority: Authority) -> Object:
    token, audiences = spec.get("token") or "", tuple(spec.get("audiences") or ())
    if not token:
        raise errors.bad_request("spec.token: required: the token to be reviewed")
    ours = authority.issuer.issuer
    if not audiences or ours in audiences:
        try:
            user = authority.user_of_token(token)
            return {"authenticated": True, "user": user_info(user), "audiences": [ours]}
        except ApiError as error:
            failure = error.message
            if not audiences:
                return {"authenticated": False, "error": failure}
    try:
        claims = authority.claims_of(token, audiences)
    except TokenError as error:
        return {"authenticated": False, "error": str(error)}
    matched = [audience for audience in audiences if audience in claims.audiences]
    return {"authenticated": True, "user": user_info(user_of(claims)), "audiences": matched}


def _subject(spec: Object) -> User:
    if not spec.get("user") and not spec.get("groups"):
        raise errors.bad_request("spec.user: at least one of user or groups must be given")
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def _local(body: Object) -> Object:
    spec, namespace = spec_of(body), (body.get("metadata") or {}).get("namespace", "")
    asked = (spec.get("resourceAttributes") or {}).get("namespace", "")
    if asked != namespace:
        raise errors.bad_request(f'spec.resourceAttributes.namespace: must match metadata.namespace "{namespace}"')
    return spec


def _access(spec: Object, user: User, authority: Authority) -> Object:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if path is not None and resource is None:
        question = Question(path.get("verb", ""), path=path.get("path", ""))
    elif resource is not None and path is None:
        fields = ("verb", "group", "resource", "subresource", "namespace", "name")
        question = Question(*(str(resource.get(name) or "") for name in fields))
    else:
        raise errors.bad_request("spec: exactly one of resourceAttributes and nonResourceAttributes must be given")
    decision = authority.decide(user, question)
    # As in every cluster a plain no has no reason: `kubectl auth can-i` prints one behind it, and scripts compare.
    return {"allowed": True, "reason": decision.reason} if decision.allowed else {"allowed": False}


def _rules(spec: Object, user: User, authority: Authority) -> Object:
    namespace = spec.get("namespace") or ""
    if not namespace:
        raise errors.bad_request("spec.namespace: required: the namespace whose rules are asked for")
    rules = [granted.rule for granted in rules_of(user, namespace, authority.policy())]
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


def _token_request(body: Object, authority: Authority, registry: Reader) -> tuple[Object, Object]:
    metadata, spec = body.get("metadata") or {}, spec_of(body)
    name, namespace = metadata["name"], metadata["namespace"]
    account = registry.get("serviceaccounts", namespace, name)
    expiry_s = spec.get("expirationSeconds") or DEFAULT_EXPIRY_S
    if expiry_s < MIN_EXPIRY_S:
        why = f"Invalid value: {expiry_s}: may not specify a duration less than 10 minutes"
        raise errors.invalid("TokenRequest", "authentication.k8s.io", "", [errors.cause("spec.expirationSeconds", why)])
    expiry_s = min(expiry_s, MAX_EXPIRY_S)
    audiences = list(spec.get("audiences") or [authority.issuer.issuer])
    bound = _bound(spec.get("boundObjectRef"), namespace, name, registry)
    expires_at_s = int(authority.clock()) + expiry_s
    uid = account["metadata"]["uid"]
    claims = Claims(namespace, name, uid, tuple(audiences), expires_at_s, "", bound)
    token = authority.issuer.issue(claims, now_s=authority.clock())
    spec = {**spec, "audiences": audiences, "expirationSeconds": expiry_s}
    return spec, {"token": token, "expirationTimestamp": _time(expires_at_s)}


def _bound(reference: Object | None, namespace: str, account: str, registry: Reader) -> Bound | None:
    if not reference:
        return None
    kind, name = reference.get("kind", ""), reference.get("name", "")
    if kind not in ("Pod", "Secret"):
        raise errors.bad_request(f"spec.boundObjectRef.kind: {kind!r} cannot be bound to: use Pod or Secret")
    target = registry.get(f"{kind.lower()}s", namespace, name)
    uid = target["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        raise errors.conflict(f"{kind.lower()}s", "", name, f"the UID in the bound object reference is not {uid}")
    if kind == "Pod" and spec_of(target).get("serviceAccountName") != account:
        raise errors.bad_request(
            f"cannot bind token for serviceaccount {account!r} to pod {name!r}: it runs as another"
        )
    return Bound(kind, name, uid)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
