"""Judges the webhook's serving certificate against the bundle that the API server holds. Pure; time is an argument."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cli.findings import OK, Finding

WARN_LEFT_RATIO = 0.1
"""Share of a certificate's lifetime: the webhook renews long before it is down to this, so something is wrong then."""

_RESTART = "restart the webhook: kubectl rollout restart -n {namespace} deployment/tulle-webhook"


def judge(served_pem: bytes, bundle_pem: bytes, host: str, namespace: str, now: datetime) -> Finding:
    """Judge a certificate chain (leaf first) for `host` by the anchors of a bundle at `now` (with a time zone).

    Only direct issuance is followed, leaf by leaf upward: the webhook makes its own authority, one level deep.
    """
    restart = _RESTART.format(namespace=namespace)
    try:
        chain = x509.load_pem_x509_certificates(served_pem)
        anchors = x509.load_pem_x509_certificates(bundle_pem)
    except ValueError as error:
        return Finding("error", f"not a certificate: {error}", restart)
    leaf = chain[0]
    if not any(_issued(chain[-1], anchor) or chain[-1] == anchor for anchor in anchors):
        return Finding("error", "the registration's caBundle does not lead to the webhook's certificate", restart)
    if host not in _names(leaf):
        return Finding("error", f"the certificate is for {', '.join(_names(leaf))}, not for {host}", restart)
    left = leaf.not_valid_after_utc - now
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if leaf.not_valid_before_utc > now:
        return Finding("error", f"the certificate is valid only from {leaf.not_valid_before_utc}", "compare the clocks")
    if left <= timedelta(0):
        return Finding("error", f"the certificate ended {leaf.not_valid_after_utc}", restart)
    if left < lifetime * WARN_LEFT_RATIO:
        days = left / timedelta(days=1)
        return Finding("warning", f"the certificate ends in {days:.1f} days and was not renewed", restart)
    return OK


def _issued(leaf: x509.Certificate, anchor: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(anchor)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)
