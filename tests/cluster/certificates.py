"""The cluster's authority, a certificate for each of its parts, and their kubeconfigs. Edge: writes files."""

import datetime
import json
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from tests.cluster.layout import API_PORT, API_SERVICES, CONTROL_ADDRESS, CONTROL_MACHINE, Machine

LIFE_DAYS = 30
"""Longer than any cluster of tests stands."""
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


_SIGNS = x509.KeyUsage(
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


class Authority:
    """The one authority that all parts trust."""

    def __init__(self, keys: Path) -> None:
        keys.mkdir(parents=True, exist_ok=True)
        self._keys = keys
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tulle-cluster")])
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_SIGNS, critical=True)
        self._write("ca", self._key, builder.sign(self._key, hashes.SHA256()))

    def issue(self, file: str, name: str, group: str | None = None, names: tuple[str, ...] = ()) -> None:
        """Write FILE.crt and FILE.key for a user of Kubernetes, or for a server with these names and addresses."""
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group is not None:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name(attributes), key.public_key())
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in names]), critical=False
            )
        self._write(file, key, builder.sign(self._key, hashes.SHA256()))

    def kubeconfig(self, file: str) -> None:
        """Write FILE.kubeconfig, which names the files of the certificate and the key."""
        cluster = {
            "server": f"https://{CONTROL_ADDRESS}:{API_PORT}",
            "certificate-authority": str(self._keys / "ca.crt"),
        }
        user = {
            "client-certificate": str(self._keys / f"{file}.crt"),
            "client-key": str(self._keys / f"{file}.key"),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tulle", "cluster": cluster}],
            "users": [{"name": file, "user": user}],
            "contexts": [{"name": "tulle", "context": {"cluster": "tulle", "user": file}}],
            "current-context": "tulle",
        }
        (self._keys / f"{file}.kubeconfig").write_text(json.dumps(content))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=LIFE_DAYS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        (self._keys / f"{file}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        secret = self._keys / f"{file}.key"
        secret.touch(mode=0o600)
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write_all(keys: Path, nodes: list[Machine]) -> None:
    """Everything that a cluster with these nodes needs."""
    authority = Authority(keys)
    api_names = (*SERVICE_NAMES, "127.0.0.1", *API_SERVICES, *CONTROL_MACHINE.addresses)
    authority.issue("apiserver", "kube-apiserver", names=api_names)
    authority.issue("front-proxy", "front-proxy")
    users = {
        "admin": ("admin", "system:masters"),
        "controller-manager": ("system:kube-controller-manager", None),
        "scheduler": ("system:kube-scheduler", None),
        "kube-proxy": ("system:kube-proxy", None),
    }
    for file, (name, group) in users.items():
        authority.issue(file, name, group)
        authority.kubeconfig(file)
    for node in nodes:
        authority.issue(node.name, f"system:node:{node.name}", "system:nodes", (node.name, *node.addresses))
        authority.kubeconfig(node.name)
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = accounts.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (keys / "accounts.pub").write_bytes(public)
    secret = keys / "accounts.key"
    secret.touch(mode=0o600)
    secret.write_bytes(accounts.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
