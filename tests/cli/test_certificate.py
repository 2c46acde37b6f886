"""The webhook's certificate: real ones, made here, at moments that the test chooses."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli import certificate

START = datetime(2026, 1, 1, tzinfo=UTC)
HOST = "tulle-webhook.tulle.svc"


class Authority:
    """A key, its self-signed certificate, and leaves of it for 90 days from START."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.pem = self._sign(self._name, self._key.public_key(), None)

    def leaf(self, host: str | None) -> bytes:
        return self._sign(x509.Name([]), ec.generate_private_key(ec.SECP256R1()).public_key(), host)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, host: str | None) -> bytes:
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(START).not_valid_after(START + timedelta(days=90))
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


ONE, OTHER = Authority("one"), Authority("other")
LEAF = ONE.leaf(HOST)


@pytest.mark.parametrize(
    ("served", "bundle", "day", "outcome", "reason"),
    [
        (LEAF, ONE.pem, 1, "ok", ""),
        (LEAF, OTHER.pem + ONE.pem, 1, "ok", ""),
        (LEAF + ONE.pem, ONE.pem, 1, "ok", ""),
        (LEAF, LEAF, 1, "ok", ""),
        (LEAF, OTHER.pem, 1, "error", "caBundle does not lead"),
        (ONE.leaf("elsewhere"), ONE.pem, 1, "error", "is for elsewhere, not for tulle-webhook.tulle.svc"),
        (ONE.leaf(None), ONE.pem, 1, "error", "not for tulle-webhook.tulle.svc"),
        (LEAF, ONE.pem, 80, "ok", ""),
        (LEAF, ONE.pem, 82, "warning", "ends in 8.0 days"),
        (LEAF, ONE.pem, 90, "error", "the certificate ended"),
        (LEAF, ONE.pem, -1, "error", "valid only from"),
        (b"", ONE.pem, 1, "error", "not a certificate"),
        (LEAF, b"junk", 1, "error", "not a certificate"),
    ],
)
def test_a_certificate_is_judged(served: bytes, bundle: bytes, day: int, outcome: str, reason: str) -> None:
    finding = certificate.judge(served, bundle, HOST, "tulle", START + timedelta(days=day))
    assert outcome == finding.outcome
    assert reason in finding.reason
