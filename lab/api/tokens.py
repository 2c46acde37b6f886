"""Service-account tokens: JSON Web Tokens signed with ES256. Edge: it draws a random key; the clock is an argument.

The claims are those of Kubernetes' bound tokens: `iss`, `sub`, `aud`, `exp`, `nbf`, `iat`, `jti`, and under
`kubernetes.io` the namespace, the service account with its uid and, when bound, the pod with its uid. `verify` checks
the signature, the issuer, the times and the audience; that the service account and the pod still exist is asked by
`is_alive`, which is given the look-up, so that a deleted pod's token is worthless at once.

Sources: RFC 7515 (compact serialisation), RFC 7518 3.4 (ES256: the signature is r || s), RFC 7519 4.1.
"""

import base64
import binascii
import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
"""Issuer, and the audience of a token that asked for none: the API server itself."""

MIN_EXPIRY_S: Final = 600
"""Shortest life that a TokenRequest may ask for (the Kubernetes API's own bound)."""
DEFAULT_EXPIRY_S: Final = 3600
MAX_EXPIRY_S: Final = 48 * 3600
"""Longest life granted; a longer wish is shortened, as API servers do."""

_LEEWAY_S: Final = 10
_PART_BYTES: Final = 32  # r and s of P-256


class TokenError(Exception):
    """The token is not valid; the text says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The object that a token dies with."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. Times are Unix seconds; `bound` is the pod, when it is bound to one."""

    namespace: str
    service_account: str
    uid: str
    audiences: tuple[str, ...]
    expires_at_s: int
    identifier: str
    bound: Bound | None

    @property
    def user_name(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.service_account}"


Lookup = Callable[[str, str, str], str | None]
"""(resource, namespace, name) -> the object's uid, or None when there is none."""


class TokenIssuer:
    """Signs and verifies the tokens of one lab, with a key that lives as long as its daemon."""

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        encoded = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(encoded)
        self._key_id = _encode(digest.finalize())

    def issue(self, claims: Claims, *, now_s: float) -> str:
        """A signed token that says `claims` (its `identifier` may be empty: one is drawn)."""
        kubernetes: dict[str, Any] = {
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.service_account, "uid": claims.uid},
        }
        if claims.bound:
            kubernetes[claims.bound.kind.lower()] = {"name": claims.bound.name, "uid": claims.bound.uid}
        body = {
            "aud": list(claims.audiences),
            "exp": claims.expires_at_s,
            "iat": int(now_s),
            "nbf": int(now_s),
            "iss": self.issuer,
            "jti": claims.identifier or str(uuid.uuid4()),
            "kubernetes.io": kubernetes,
            "sub": claims.user_name,
        }
        head = {"alg": "ES256", "kid": self._key_id, "typ": "JWT"}
        signed = f"{_encode(json.dumps(head).encode())}.{_encode(json.dumps(body).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(_PART_BYTES, 'big') + s.to_bytes(_PART_BYTES, 'big'))}"

    def verify(self, token: str, *, audiences: tuple[str, ...] = (), now_s: float) -> Claims:
        """The claims of a token that we signed, that is in time and meant for one of `audiences` (none: for us).

        Raises TokenError.
        """
        head, body, signature = self._split(token)
        if len(signature) != 2 * _PART_BYTES:
            raise TokenError("the token's signature is not ES256")
        r, s = (int.from_bytes(part, "big") for part in (signature[:_PART_BYTES], signature[_PART_BYTES:]))
        signed = token.rpartition(".")[0].encode()
        try:
            self._key.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise TokenError("the token was not signed by this cluster") from None
        if head.get("alg") != "ES256" or body.get("iss") != self.issuer:
            raise TokenError("the token has another issuer or algorithm")
        claims = _claims(body)
        if now_s > claims.expires_at_s + _LEEWAY_S:
            raise TokenError("the token has expired")
        if body.get("nbf", 0) > now_s + _LEEWAY_S:
            raise TokenError("the token is not valid yet")
        if not set(claims.audiences) & set(audiences or (self.issuer,)):
            raise TokenError(f"the token's audience is {', '.join(claims.audiences)}, not one that was asked for")
        return claims

    def _split(self, token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenError("the token is no JSON Web Token")
        try:
            head, body = (json.loads(_decode(part)) for part in parts[:2])
            signature = _decode(parts[2])
        except (ValueError, binascii.Error):
            raise TokenError("the token is no JSON Web Token") from None
        if not isinstance(head, dict) or not isinstance(body, dict):
            raise TokenError("the token is no JSON Web Token")
        return head, body, signature


def is_alive(claims: Claims, uid_of: Lookup) -> bool:
    """Whether the service account, and the object that the token is bound to, are still the same ones."""
    if uid_of("serviceaccounts", claims.namespace, claims.service_account) != claims.uid:
        return False
    if claims.bound is None:
        return True
    return uid_of(f"{claims.bound.kind.lower()}s", claims.namespace, claims.bound.name) == claims.bound.uid


def admin_token() -> str:
    """An opaque bearer token for the administrator's kubeconfig (256 random bits)."""
    return secrets.token_urlsafe(32)


def _claims(body: dict[str, Any]) -> Claims:
    kubernetes = body["kubernetes.io"]
    bound = None
    for kind in ("Pod", "Secret", "Node"):
        if kind.lower() in kubernetes:
            reference = kubernetes[kind.lower()]
            bound = Bound(kind, reference["name"], reference["uid"])
    account = kubernetes["serviceaccount"]
    return Claims(
        namespace=kubernetes["namespace"],
        service_account=account["name"],
        uid=account["uid"],
        audiences=tuple(body["aud"]),
        expires_at_s=body["exp"],
        identifier=body["jti"],
        bound=bound,
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
