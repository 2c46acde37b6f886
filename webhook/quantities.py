"""Kubernetes quantities (`100m`, `64Mi`): read and compared, never converted. Pure.

Source: the quantity grammar of k8s.io/apimachinery/pkg/api/resource.
"""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{0,9})?|\.\d{1,9})([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?", re.ASCII)

_FACTORS: dict[str, Decimal] = {
    **{suffix: Decimal(f"1e{exponent}") for suffix, exponent in (("n", -9), ("u", -6), ("m", -3))},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}

_SMALLEST_MEMORY_BYTES = 1024 * 1024


def parse_cpu(text: str) -> Decimal:
    """Read CPU in cores. Raises ValueError with the fix."""
    cores = _parse(text, "CPU such as 100m or 0.5")
    if cores <= 0:
        raise ValueError(f"{text!r} is no CPU; write more than zero, such as 100m")
    return cores


def parse_memory(text: str) -> Decimal:
    """Read memory in bytes. Raises ValueError with the fix."""
    size_bytes = _parse(text, "memory such as 64Mi or 1Gi")
    if size_bytes < _SMALLEST_MEMORY_BYTES:
        # `64m` and a bare `64` are the usual slips: thousandths of bytes, and bytes.
        raise ValueError(f"{text!r} is less than 1Mi; write memory with its unit, such as 64Mi")
    return size_bytes


def _parse(text: str, wanted: str) -> Decimal:
    matched = _QUANTITY.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is no quantity; write {wanted}")
    number, suffix = Decimal(matched[1]), matched[2] or ""
    return number * _FACTORS[suffix] if suffix in _FACTORS else number * Decimal(f"1{suffix}")
