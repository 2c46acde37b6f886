"""Probes of a TCP port that the sidecar makes in the kubelet's stead: the path that stands for one. Pure.

Under capture the sidecar accepts every connection to the pod, so that a kubelet's tcpSocket probe learns nothing of the
application. The injector writes `httpGet: {path: /probe/tcp/8080, port: 4191}` in its place, and the sidecar answers by
dialling the port. The path carries what `uninject` needs to write the probe as it was.
"""

from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

TCP_PATH: Final = "/probe/tcp/"


def tcp_path(number: int, written: int | str) -> str:
    """The path for a port; `written` is how the probe named it: the number, or the name that the container gives it."""
    return f"{TCP_PATH}{number}" + (f"?port={quote(written, safe='')}" if isinstance(written, str) else "")


def written_port(path: str) -> int | str | None:
    """How the probe named its port before; None for a path that no injector wrote."""
    parts = urlsplit(path)
    digits = parts.path.removeprefix(TCP_PATH)
    if digits == parts.path or not (digits.isascii() and digits.isdigit()):
        return None
    return parse_qs(parts.query).get("port", [int(digits)])[0]
