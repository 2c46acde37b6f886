"""The webhook's own certificate authority and serving certificate: made, judged, renewed. Pure but for new keys.

One Secret holds it all, so that every replica serves the same certificate. A new authority joins the bundle beside
the old ones before anything signed by it is served, and the old ones leave it when they expire.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=90)
RENEWAL_RATIO = 0.7
"""Share of its life after which a certificate is replaced."""
BACKDATING = timedelta(minutes=5)
"""Clocks of API servers may be behind ours."""
OLD_AUTHORITIES = 2
"""Authorities kept in the bundle beside the current one."""


class BadMaterial(ValueError):
    """The Secret's content is damaged; it is replaced as a whole."""


@dataclass(frozen=True, slots=True)
class Material:
    """What the Secret holds, all PEM. The bundle begins with the current authority."""

    bundle: bytes
    authority_key: bytes
    leaf: bytes
    leaf_key: bytes


KEYS = {"bundle": "ca.crt", "authority_key": "ca.key", "leaf": "tls.crt", "leaf_key": "tls.key"}
"""Field of Material -> key of the Secret's data."""


def to_data(material: Material) -> dict[str, bytes]:
    """The Secret's data."""
    return {key: getattr(material, field) for field, key in KEYS.items()}


def from_data(data: Mapping[str, bytes]) -> Material:
    """Read the Secret's data. Raises BadMaterial when a part is missing, unreadable or does not fit the others."""
    missing = [key for key in KEYS.values() if not data.get(key)]
    if missing:
        raise BadMaterial(f"{', '.join(missing)} is missing")
    material = Material(**{field: data[key] for field, key in KEYS.items()})
    try:
        authorities = x509.load_pem_x509_certificates(material.bundle)
        leaf = x509.load_pem_x509_certificate(material.leaf)
        _same_key(authorities[0], material.authority_key, "ca.key")
        _same_key(leaf, material.leaf_key, "tls.key")
    except (ValueError, TypeError) as error:
        raise BadMaterial(str(error)) from None
    if not chains_to(leaf, authorities[:1]):
        raise BadMaterial("tls.crt is not signed by the first certificate of ca.crt")
    return material


def first_material(names: Sequence[str], now: datetime) -> Material:
    """Make an authority and a serving certificate for these DNS names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _new_authority(key, now)
    return _with_leaf(_pem(authority), authority, key, names, now)


def renewed(material: Material, names: Sequence[str], now: datetime) -> Material | None:
    """Replace what is due, or return None when nothing is. The names are part of what must hold."""
    authorities = x509.load_pem_x509_certificates(material.bundle)
    if _is_due(authorities[0], now):
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _new_authority(key, now)
        kept = [old for old in authorities if old.not_valid_after_utc > now][:OLD_AUTHORITIES]
        return _with_leaf(b"".join(map(_pem, [authority, *kept])), authority, key, names, now)
    living = [authority for authority in authorities if authority.not_valid_after_utc > now]
    leaf = x509.load_pem_x509_certificate(material.leaf)
    if _is_due(leaf, now) or not set(names) <= names_of(leaf) or len(living) < len(authorities):
        authority_key = _load_key(material.authority_key)
        return _with_leaf(b"".join(map(_pem, living)), living[0], authority_key, names, now)
    return None


def serves(leaf: bytes, bundle: bytes, now: datetime) -> str | None:
    """Say why an API server that trusts this bundle would refuse this leaf now, or None when it would not."""
    certificate = x509.load_pem_x509_certificate(leaf)
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        return f"the serving certificate is valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC only"
    try:
        authorities = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return "the published caBundle holds no certificate"
    if not chains_to(certificate, [one for one in authorities if one.not_valid_after_utc > now]):
        return "the serving certificate does not chain to the published caBundle"
    return None


def chains_to(leaf: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    """Whether one of the authorities signed the leaf."""
    return any(_issued(authority, leaf) for authority in authorities)


def expiry(leaf: bytes) -> datetime:
    """When a PEM certificate ends, UTC."""
    return x509.load_pem_x509_certificate(leaf).not_valid_after_utc


def names_of(leaf: x509.Certificate) -> set[str]:
    """DNS names and addresses that a certificate stands for."""
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now >= certificate.not_valid_before_utc + lifetime * RENEWAL_RATIO


def _issued(authority: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _new_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # Two authorities must differ in name, or a client may try the wrong one's key and give up.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tulle-webhook-ca-{now:%Y%m%d%H%M%S}")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(name, name, key, now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _with_leaf(
    bundle: bytes,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    now: datetime,
) -> Material:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tulle-webhook")])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    lifetime = min(LEAF_LIFETIME, authority.not_valid_after_utc - now)
    leaf = (
        _builder(subject, authority.subject, key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Material(bundle, _key_pem(authority_key), _pem(leaf), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + lifetime)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _same_key(certificate: x509.Certificate, key: bytes, name: str) -> None:
    if certificate.public_key() != _load_key(key).public_key():
        raise ValueError(f"{name} is not the key of its certificate")


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is no elliptic-curve key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
