"""Read the mesh's annotations of a pod and its namespace into checked options. Pure.

The pod's value wins over its namespace's, and that over the operator's default. A list that begins with `+` adds to
what would hold without it; any other list takes its place.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from contract import kinds, names
from contract.lists import PortRange, Subnet, merge_ports, parse_ports, parse_subnets
from contract.spelling import cut, nearest
from webhook.quantities import parse_cpu, parse_memory
from webhook.settings import LOG_LEVELS, Resources, Settings

T = TypeVar("T")

PREFIX = "tulle.mesh/"
WORKLOAD_PREFIX = "config.tulle.mesh/"
SETTINGS = (
    names.SKIP_INBOUND_PORTS,
    names.SKIP_OUTBOUND_PORTS,
    names.SKIP_INBOUND_SUBNETS,
    names.SKIP_OUTBOUND_SUBNETS,
    names.OPAQUE_PORTS,
    names.PROXY_LOG_LEVEL,
    names.PROXY_CPU_REQUEST,
    names.PROXY_CPU_LIMIT,
    names.PROXY_MEMORY_REQUEST,
    names.PROXY_MEMORY_LIMIT,
    names.PROXY_UID,
    names.PROXY_IMAGE,
    names.TCP_PROBES,
)
KNOWN = frozenset(
    value for value in vars(names).values() if isinstance(value, str) and value.startswith((PREFIX, WORKLOAD_PREFIX))
)

MAXIMUM_VALUE_CHARS = 4096
"""Longer settings are refused: they would travel on in every pod."""

# Registry, path, tag or digest: distribution/reference's grammar without its corner cases.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,253}(@sha256:[0-9a-f]{64})?", re.ASCII)


class Refused(ValueError):
    """The pod asks for something that cannot be honoured; the message names the place, the value and the fix."""


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for one pod."""

    skip_inbound_ports: tuple[PortRange, ...]
    skip_outbound_ports: tuple[PortRange, ...]
    skip_inbound_subnets: tuple[Subnet, ...]
    skip_outbound_subnets: tuple[Subnet, ...]
    opaque_ports: tuple[PortRange, ...]
    proxy_log_level: str
    proxy_uid: int
    proxy_image: str
    resources: Resources
    tcp_probes_by_sidecar: bool


Annotations = Mapping[str, str]


def read_options(pod: Annotations, namespace: Annotations, settings: Settings) -> Options:
    """Find what holds for a pod with these annotations. Raises Refused at the first fault."""
    for owner, annotations in (("pod", pod), ("namespace", namespace)):
        _check_names(owner, annotations)
    if names.WEIGHT in pod:
        _parsed("pod", names.WEIGHT, pod[names.WEIGHT], kinds.parse_weight)
    source = _Source(pod, namespace)
    return Options(
        skip_inbound_ports=source.ports(names.SKIP_INBOUND_PORTS, settings.skip_inbound_ports),
        skip_outbound_ports=source.ports(names.SKIP_OUTBOUND_PORTS, settings.skip_outbound_ports),
        skip_inbound_subnets=source.subnets(names.SKIP_INBOUND_SUBNETS, settings.skip_inbound_subnets),
        skip_outbound_subnets=source.subnets(names.SKIP_OUTBOUND_SUBNETS, settings.skip_outbound_subnets),
        opaque_ports=source.ports(names.OPAQUE_PORTS, settings.opaque_ports),
        proxy_log_level=source.one(names.PROXY_LOG_LEVEL, settings.proxy_log_level, parse_log_level),
        proxy_uid=source.one(names.PROXY_UID, settings.proxy_uid, parse_uid),
        proxy_image=source.one(names.PROXY_IMAGE, settings.proxy_image_name, parse_image),
        resources=_resources(source, settings.resources),
        tcp_probes_by_sidecar=source.one(names.TCP_PROBES, True, _is_by_sidecar),
    )


def to_freeze(pod: Annotations, namespace: Annotations) -> dict[str, str]:
    """The namespace's settings that hold for the pod: copied onto it, they stay visible and do not change under it."""
    return {name: namespace[name] for name in SETTINGS if name in namespace and name not in pod}


def parse_log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise ValueError(f"{text!r} is no log level; write one of {', '.join(LOG_LEVELS)}")
    return text


def parse_uid(text: str) -> int:
    # 0 would exempt everything that runs as root; 2**32 - 1 means "no user" (linux/uidgid.h); 2**31 and above are
    # refused by Kubernetes for runAsUser.
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or not 1 <= int(text) < 2**31:
        raise ValueError(f"{text!r} is no user id for the sidecar; write a number from 1 to 2147483647, such as 2102")
    return int(text)


def parse_image(text: str) -> str:
    if not _IMAGE.fullmatch(text):
        raise ValueError(f"{text!r} is no image name; write it as registry/name:tag")
    return text


def _is_by_sidecar(text: str) -> bool:
    if text not in (names.BY_SIDECAR, names.BY_KUBELET):
        raise ValueError(f"{text[:40]!r} is nobody who makes probes; write {names.BY_SIDECAR} or {names.BY_KUBELET}")
    return text == names.BY_SIDECAR


def checked(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Check a text by its parser, and keep it as it was written."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


class _Source:
    """Pod annotations in front of the namespace's."""

    def __init__(self, pod: Annotations, namespace: Annotations) -> None:
        # Weakest first: a later list may add to an earlier one.
        self._layers = (("namespace", namespace), ("pod", pod))

    def one(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        value = default
        for owner, annotations in self._layers:
            if name in annotations:
                value = _parsed(owner, name, annotations[name].strip(), parse)
        return value

    def ports(self, name: str, default: tuple[PortRange, ...]) -> tuple[PortRange, ...]:
        return self._listed(name, default, parse_ports, lambda base, added: merge_ports([*base, *added]))

    def subnets(self, name: str, default: tuple[Subnet, ...]) -> tuple[Subnet, ...]:
        return self._listed(name, default, parse_subnets, lambda base, added: tuple(dict.fromkeys([*base, *added])))

    def _listed(self, name: str, default: T, parse: Callable[[str], T], join: Callable[[T, T], T]) -> T:
        value = default
        for owner, annotations in self._layers:
            if name not in annotations:
                continue
            text = annotations[name].strip()
            parsed = _parsed(owner, name, text.removeprefix("+"), parse)
            value = join(value, parsed) if text.startswith("+") else parsed
        return value


def _parsed(owner: str, name: str, text: str, parse: Callable[[str], T]) -> T:
    if len(text) > MAXIMUM_VALUE_CHARS:
        raise Refused(f"{owner} annotation {name} has {len(text)} characters; the most is {MAXIMUM_VALUE_CHARS}")
    try:
        return parse(text)
    except ValueError as error:
        raise Refused(f"{owner} annotation {name}: {error}") from None


def _resources(source: _Source, default: Resources) -> Resources:
    found = Resources(
        cpu_request=source.one(names.PROXY_CPU_REQUEST, default.cpu_request, checked(parse_cpu)),
        cpu_limit=source.one(names.PROXY_CPU_LIMIT, default.cpu_limit, checked(parse_cpu)),
        memory_request=source.one(names.PROXY_MEMORY_REQUEST, default.memory_request, checked(parse_memory)),
        memory_limit=source.one(names.PROXY_MEMORY_LIMIT, default.memory_limit, checked(parse_memory)),
    )
    check_limits(found)
    return found


def check_limits(resources: Resources) -> None:
    """Refuse a request above its limit, which Kubernetes would refuse later and less plainly. Raises Refused."""
    pairs = (
        (names.PROXY_CPU_REQUEST, resources.cpu_request, resources.cpu_limit, parse_cpu),
        (names.PROXY_MEMORY_REQUEST, resources.memory_request, resources.memory_limit, parse_memory),
    )
    for name, request, limit, parse in pairs:
        if request and limit and parse(request) > parse(limit):
            raise Refused(
                f"annotation {name}: the request {request} is above the limit {limit}; lower it or raise the limit"
            )


def _check_names(owner: str, annotations: Annotations) -> None:
    for name in annotations:
        if name.startswith((PREFIX, WORKLOAD_PREFIX)) and name not in KNOWN:
            near = nearest(name, KNOWN) or names.INJECT
            raise Refused(f"{owner} annotation {cut(name)} is unknown; did you mean {near}?")
