"""What a stat request asks for, read from its path and parameters. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from contract.spelling import nearest
from contract.stat import RESOURCES
from controller.problems import Refusal, invalid_parameter, not_found

KINDS: Final[dict[str, str]] = {
    "deployments": "deployment", "deployment": "deployment", "deploy": "deployment",
    "pods": "pod", "pod": "pod", "po": "pod",
    "services": "service", "service": "service", "svc": "service",
    "statefulsets": "statefulset", "statefulset": "statefulset", "sts": "statefulset",
    "daemonsets": "daemonset", "daemonset": "daemonset", "ds": "daemonset",
    "jobs": "job", "job": "job",
    "namespaces": "namespace", "namespace": "namespace", "ns": "namespace",
}  # fmt: skip
"""Plural, singular and kubectl's short name -> lower-case singular."""

SHORTEST_WINDOW_S: Final = 10.0
LONGEST_WINDOW_S: Final = 3600.0
DEFAULT_WINDOW: Final = "1m"
PARAMETERS: Final = ("window", "to", "to_namespace", "from", "from_namespace")

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side that a question is narrowed to."""

    side: Literal["to", "from"]
    kind: str
    name: str
    namespace: str | None
    """None: any."""


@dataclass(frozen=True, slots=True)
class Query:
    kind: str
    """Lower-case singular."""
    namespace: str | None
    """None: all."""
    name: str | None
    """None: all of the kind."""
    window_s: float
    peer: Peer | None = None


def parse_kind(text: str) -> str:
    """Return the lower-case singular kind.

    Raises:
        Refusal: 404, unknown.
    """
    kind = KINDS.get(text.lower())
    if kind is None:
        raise not_found(f"There is no resource {text[:80]!r}. Resources with traffic are {', '.join(RESOURCES)}.")
    return kind


def parse_window(text: str) -> float:
    """Read a duration such as `30s`, `5m`, `1m30s` or `1h` as seconds.

    Raises:
        Refusal: 422, not a duration or out of range.
    """
    match = _DURATION.fullmatch(text)
    window_s = 0.0
    if match is not None and text and len(text) <= 20:
        hours, minutes, seconds = (int(group or 0) for group in match.groups())
        window_s = float(hours * 3600 + minutes * 60 + seconds)
    if not SHORTEST_WINDOW_S <= window_s <= LONGEST_WINDOW_S:
        raise invalid_parameter(
            "window", f"{text[:40]!r} is no duration from 10s to 1h; write for example 30s, 1m or 1h"
        )
    return window_s


def parse_query(kind: str, namespace: str | None, name: str | None, parameters: Mapping[str, list[str]]) -> Query:
    """Read a request's question; `parameters` are the query string's, each with all its values.

    Raises:
        Refusal: 404 for an unknown kind, 422 for a parameter that is unknown, repeated or makes no sense.
    """
    singular = parse_kind(kind)
    for parameter, values in parameters.items():
        if parameter not in PARAMETERS:
            near = nearest(parameter, PARAMETERS)
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(PARAMETERS)}"
            raise invalid_parameter(parameter[:80], f"there is no such parameter; {hint}")
        if len(values) > 1:
            raise invalid_parameter(parameter, "given more than once")
    flat = {parameter: values[0] for parameter, values in parameters.items()}
    window_s = parse_window(flat.get("window", DEFAULT_WINDOW))
    peer = _parse_peer("to", flat, namespace)
    source = _parse_peer("from", flat, namespace)
    if peer is not None and source is not None:
        raise invalid_parameter("from", "give either `to` or `from`, not both")
    if peer is not None and singular == "service":
        raise invalid_parameter("to", "a service sends no traffic: ask for a workload, or for the service with `from`")
    if source is not None and source.kind == "service":
        raise invalid_parameter("from", "a service sends no traffic: name a workload such as deployments/web")
    return Query(singular, namespace, name, window_s, peer or source)


def _parse_peer(side: Literal["to", "from"], parameters: Mapping[str, str], namespace: str | None) -> Peer | None:
    text, in_namespace = parameters.get(side), parameters.get(f"{side}_namespace")
    if text is None:
        return (
            None if in_namespace is None else Peer(side, "namespace", _named(f"{side}_namespace", in_namespace), None)
        )
    kind, slash, name = text.partition("/")
    if not slash or not name or "/" in name:
        raise invalid_parameter(
            side, f"{text[:80]!r} is not of the form RESOURCE/NAME; write for example deployments/web"
        )
    try:
        singular = parse_kind(kind)
    except Refusal as refusal:
        raise invalid_parameter(side, refusal.detail) from None
    if in_namespace is not None:
        namespace = _named(f"{side}_namespace", in_namespace)
    return Peer(side, singular, name, None if singular == "namespace" else namespace)


def _named(parameter: str, value: str) -> str:
    if not value:
        raise invalid_parameter(parameter, "is empty; write a namespace's name, for example shop")
    return value
