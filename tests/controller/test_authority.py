"""The authority: a root that others accept, kept in a Secret that is read back with care."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.verification import PolicyBuilder, Store

from contract import names
from controller.authority import Authority, AuthorityFault, create, from_secret, normalise, to_secret

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create("cluster.local", NOW)


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_root_is_p256_for_ten_years_and_may_sign(authority: Authority):
    certificate = authority.certificate
    assert isinstance(authority.key.curve, ec.SECP256R1)
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc - NOW >= timedelta(days=3650)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    certificate.verify_directly_issued_by(certificate)
    names_ = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names_.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cluster.local"]


def test_leaf_that_the_root_signed_verifies(authority: Authority):
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("web.shop")]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority.key, SHA256())
    )
    roots = x509.load_pem_x509_certificates(authority.bundle.encode())
    verifier = PolicyBuilder().store(Store(roots)).time(NOW).build_server_verifier(x509.DNSName("web.shop"))
    assert len(verifier.verify(leaf, [])) == 2


def test_secret_reads_back_as_the_same_authority(authority: Authority):
    secret = to_secret(authority, "tulle")
    assert secret["metadata"]["name"] == names.IDENTITY_ISSUER
    assert secret["type"] == "kubernetes.io/tls"
    again = from_secret(secret["data"], NOW)
    assert again.certificate == authority.certificate
    assert again.bundle == authority.bundle


def test_bundle_holds_further_roots_each_once_and_without_comments(authority: Authority):
    other = create("cluster.local", NOW)
    data = to_secret(authority, "tulle")["data"]
    text = "# the new root\r\n" + other.bundle + "\n\n" + authority.bundle
    found = from_secret({**data, "ca.crt": b64encode(text.encode()).decode()}, NOW)
    assert found.bundle == authority.bundle + other.bundle
    assert normalise([authority.certificate, authority.certificate]) == authority.bundle


def test_secret_that_cannot_be_used_says_what_is_wrong_and_what_to_do(authority: Authority):
    data = to_secret(authority, "tulle")["data"]
    leafless = create("other", NOW)
    faults = {
        "tls.crt holds no PEM": {**data, "tls.crt": ""},
        "tls.key is no PEM": {**data, "tls.key": b64encode(b"none").decode()},
        "tls.key is no base64": {**data, "tls.key": "***"},
        "no ECDSA P-256": {**data, "tls.key": b64encode(pem(ed25519.Ed25519PrivateKey.generate())).decode()},
        "not the key of": {**data, "tls.key": to_secret(leafless, "tulle")["data"]["tls.key"]},
        "ca.crt holds no PEM": {**data, "ca.crt": b64encode(b"x").decode()},
    }
    for words, faulty in faults.items():
        with pytest.raises(AuthorityFault, match=words) as caught:
            from_secret(faulty, NOW)
        assert "or delete the Secret" in str(caught.value)
    with pytest.raises(AuthorityFault, match="expired"):
        from_secret(data, NOW + timedelta(days=4000))


def test_key_never_stands_in_the_bundle(authority: Authority):
    assert "PRIVATE" not in authority.bundle
    assert b"PRIVATE" not in b64decode(to_secret(authority, "tulle")["data"]["tls.crt"])
