"""The certificate authority of the mesh: its key and certificate, and the bundle that all trust. Pure.

An ECDSA P-256 root that signs leaves itself, for ten years. Randomness (the key, the serial number) comes from the
operating system; time is an argument.

Sources: RFC 5280, sections 4.1 and 4.2; SPIFFE X.509-SVID, section 3.1 (a signing certificate carries the trust
domain as its URI SAN).
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract import names

VALIDITY: Final = timedelta(days=3652)
"""Ten years: a root is replaced by adding a second one to the bundle, never by its expiry."""
BACKDATED: Final = timedelta(minutes=5)
"""Clocks of nodes differ."""


class AuthorityFault(Exception):
    """The Secret holds no usable authority; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority; `certificate` is the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    bundle: str
    """All roots to trust, normalised PEM."""


def create(trust_domain: str, now: datetime) -> Authority:
    """Make a new authority; `now` is aware."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"root.tulle.{trust_domain}"[:64])])
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(subject_key, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key, normalise([certificate]))


def normalise(certificates: list[x509.Certificate]) -> str:
    """Write certificates as PEM without comments, each once, in order of first appearance."""
    pems = dict.fromkeys(
        certificate.public_bytes(serialization.Encoding.PEM).decode("ascii") for certificate in certificates
    )
    return "".join(pems)


def to_secret(authority: Authority, namespace: str) -> dict[str, Any]:
    """Write the Secret of an authority."""
    key = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    data = {"tls.crt": authority.bundle.encode(), "tls.key": key, "ca.crt": authority.bundle.encode()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.IDENTITY_ISSUER,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "tulle"},
            "annotations": {names.CREATED_BY: names.CONTROLLER},
        },
        "type": "kubernetes.io/tls",
        "data": {name: b64encode(value).decode("ascii") for name, value in data.items()},
    }


def from_secret(data: dict[str, str], now: datetime) -> Authority:
    """Read an authority: `tls.crt` and `tls.key` are the signer's, `ca.crt` may hold further roots to trust.

    Raises:
        AuthorityFault: a part is missing, is not what it should be, has expired, or does not fit the others.
    """
    certificates = _certificates(data, "tls.crt")
    try:
        key = serialization.load_pem_private_key(_decoded(data, "tls.key"), password=None)
    except (ValueError, TypeError) as fault:
        raise _fault(f"tls.key is no PEM private key ({fault})") from None
    certificate = certificates[0]
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _fault("tls.key is no ECDSA P-256 key")
    if certificate.public_key() != key.public_key():
        raise _fault("tls.key is not the key of tls.crt")
    if certificate.not_valid_after_utc <= now:
        raise _fault(f"tls.crt expired at {certificate.not_valid_after_utc:%Y-%m-%d}")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise _fault("tls.crt is no authority's certificate") from None
    if not constraints.ca:
        raise _fault("tls.crt is no authority's certificate")
    others = _certificates(data, "ca.crt") if data.get("ca.crt") else []
    return Authority(certificate, key, normalise([*certificates, *others]))


def _certificates(data: dict[str, str], name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_decoded(data, name))
    except ValueError as fault:
        raise _fault(f"{name} holds no PEM certificate ({fault})") from None


def _decoded(data: dict[str, str], name: str) -> bytes:
    try:
        return b64decode(data.get(name, ""), validate=True)
    except Base64Error:
        raise _fault(f"{name} is no base64") from None


def _fault(what: str) -> AuthorityFault:
    return AuthorityFault(
        f"Secret {names.IDENTITY_ISSUER}: {what}. Put a P-256 authority there, or delete the Secret: "
        "the controller then makes a new one, and every sidecar takes it over when its own certificate is renewed."
    )
