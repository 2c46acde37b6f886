"""Which Linux capabilities this process holds. Edge."""

from pathlib import Path

NET_ADMIN = 12
NET_RAW = 13
"""Bit numbers of linux/capability.h."""

STATUS = Path("/proc/self/status")


def effective_capabilities(status: Path = STATUS) -> frozenset[int]:
    """Return the bit numbers of the effective set."""
    return parse_effective(status.read_text())


def parse_effective(status: str) -> frozenset[int]:
    """Read the `CapEff` line of /proc/PID/status, 16 hexadecimal digits."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)
    return frozenset()
