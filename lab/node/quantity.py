"""Kubernetes quantities ("100m", "64Mi", "1e3") as exact numbers. Pure.

Source: the `Quantity` type of apimachinery (resource.Quantity): decimal SI, binary SI and exponent forms.
"""

import re
from decimal import ROUND_CEILING, Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_FORM = re.compile(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")


def parse(text: str | int | float) -> Decimal:
    """The number that a quantity means; ValueError names what is wrong with it."""
    found = _FORM.fullmatch(str(text).strip())
    if not found:
        raise ValueError(f"{text!r} is no quantity (like 100m, 0.5, 64Mi)")
    number, exponent, suffix = found.groups()
    return Decimal(number + (exponent or "")) * _SUFFIXES[suffix or ""]


def divided(quantity: str | int | float, divisor: str | int | float) -> str:
    """How many `divisor`s a quantity is, rounded up, as a resourceFieldRef gives it. A divisor of 0 counts as 1."""
    by = parse(divisor) or Decimal(1)
    return str(int((parse(quantity) / by).to_integral_value(ROUND_CEILING)))
