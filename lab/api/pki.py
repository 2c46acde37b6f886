"""The lab's certificate authority, its serving certificate, and the administrator's kubeconfig. Edge: it draws random
keys.

Strict verifiers (Go, and Python from 3.13) want key identifiers on every certificate and critical basicConstraints and
keyUsage on the authority; all are here. Nothing is kept on disk by this module: a lab does not outlive its daemon.

Sources: RFC 5280 4.2.1.1, 4.2.1.2, 4.2.1.3, 4.2.1.9.
"""

import base64
import ipaddress
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

API_NAMES: Final = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
API_ADDRESSES: Final = ("127.0.0.1", "::1", "10.96.0.1")
"""How clients call the API server: the host's loopback, and the service address that pods use."""

LIFETIME: Final = timedelta(days=365)
_BACKDATED: Final = timedelta(minutes=5)  # a verifier whose clock is behind still accepts a new certificate


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate with its key, both PEM."""

    certificate: bytes
    key: bytes


class CertificateAuthority:
    """A P-256 root, and the certificates that it signs."""

    def __init__(self, common_name: str, *, now: datetime) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(common_name)
        public = self._key.public_key()
        builder = _builder(self._name, self._name, public, now)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def certificate(self) -> bytes:
        """The root, PEM: what clients trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, common_name: str, *, now: datetime, names: tuple[str, ...] = (), addresses: tuple[str, ...] = ()
    ) -> Leaf:
        """Sign a serving and client certificate for DNS `names` and IP `addresses`."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = _builder(_name(common_name), self._name, public, now)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        return Leaf(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))

    def issue_api(self, *, now: datetime) -> Leaf:
        """The API server's own certificate, for every name and address that a client may call it by."""
        return self.issue("kube-apiserver", now=now, names=API_NAMES, addresses=API_ADDRESSES)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def kubeconfig(server: str, authority_pem: bytes, token: str, *, context: str) -> str:
    """Text of a kubeconfig for `server` (`https://127.0.0.1:PORT`) that trusts our root and bears `token`.

    JSON, which is YAML, so that kubectl and the Python client read it alike. It holds a secret: write it with mode
    0600.
    """
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority_pem).decode()}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": {"token": token}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context, "namespace": "default"}}],
            "current-context": context,
        },
        indent=2,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
