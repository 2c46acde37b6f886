"""The pod's routes, as the kernel shows them. Edge.

Sources: Linux, /proc/net/route and /proc/net/ipv6_route.
"""

from pathlib import Path

MAX_BYTES = 65536
"""A pod has a handful of routes of about a hundred bytes each."""


def read_routes() -> tuple[str, str]:
    """Give the tables of IPv4 and IPv6; empty where there is none."""
    return _read("/proc/net/route"), _read("/proc/net/ipv6_route")


def _read(path: str) -> str:
    try:
        with Path(path).open() as file:
            return file.read(MAX_BYTES)
    except OSError:
        return ""
