"""Kubernetes timestamps: RFC 3339 text in UTC to seconds since the epoch and back. Pure.

`metav1.Time` has whole seconds; `MicroTime` (Lease) is not needed here.
"""

from datetime import UTC, datetime


def to_text(seconds: float) -> str:
    """Write seconds since the epoch as `2026-01-31T12:00:00Z`, cut down to the whole second."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_seconds(text: str | None) -> float | None:
    """Read a timestamp, with or without a fraction; None for nothing."""
    return None if not text else datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
