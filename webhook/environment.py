"""Read the webhook's settings from its environment, and tell every fault at once. Pure."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from contract.lists import parse_ports, parse_subnets
from webhook.annotations import Refused, check_limits, checked, parse_image, parse_log_level, parse_uid
from webhook.quantities import parse_cpu, parse_memory
from webhook.settings import Resources, Serving, Settings

T = TypeVar("T")

PREFIX = "TULLE_WEBHOOK_"
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
IGNORED = (f"{PREFIX}SERVICE_", f"{PREFIX}PORT")
"""Kubernetes sets such variables for the Service `tulle-webhook` in every pod of its namespace (Docker's links):
TULLE_WEBHOOK_PORT=tcp://10.0.0.1:443."""


class EnvironmentFault(ValueError):
    """The environment cannot be honoured; one line for each fault."""


def read_environment(environment: Mapping[str, str]) -> tuple[Settings, Serving]:
    """Read all TULLE_WEBHOOK_ variables. Raises EnvironmentFault with every fault, unknown names included."""
    reader = _Reader(environment)
    default, serving_default = Settings(), Serving()
    settings = Settings(
        image_registry=reader.value("IMAGE_REGISTRY", default.image_registry, checked(parse_image)),
        image_tag=reader.value("IMAGE_TAG", default.image_tag, _not_empty),
        proxy_image=reader.value("PROXY_IMAGE", default.proxy_image, parse_image),
        init_image=reader.value("INIT_IMAGE", default.init_image, parse_image),
        image_pull_policy=reader.value("IMAGE_PULL_POLICY", default.image_pull_policy, _pull_policy),
        control_plane_namespace=reader.value("NAMESPACE", default.control_plane_namespace, _not_empty),
        cluster_domain=reader.value("CLUSTER_DOMAIN", default.cluster_domain, _not_empty),
        controller_url=reader.value("CONTROLLER_URL", default.controller_url, _url),
        proxy_log_level=reader.value("PROXY_LOG_LEVEL", default.proxy_log_level, parse_log_level),
        proxy_uid=reader.value("PROXY_UID", default.proxy_uid, parse_uid),
        opaque_ports=reader.value("OPAQUE_PORTS", default.opaque_ports, parse_ports),
        skip_inbound_ports=reader.value("SKIP_INBOUND_PORTS", default.skip_inbound_ports, parse_ports),
        skip_outbound_ports=reader.value("SKIP_OUTBOUND_PORTS", default.skip_outbound_ports, parse_ports),
        skip_inbound_subnets=reader.value("SKIP_INBOUND_SUBNETS", default.skip_inbound_subnets, parse_subnets),
        skip_outbound_subnets=reader.value("SKIP_OUTBOUND_SUBNETS", default.skip_outbound_subnets, parse_subnets),
        resources=_resources(reader, default.resources),
    )
    serving = Serving(
        host=reader.value("LISTEN_HOST", serving_default.host, _not_empty),
        port=reader.value("LISTEN_PORT", serving_default.port, _port),
        log_level=reader.value("LOG_LEVEL", serving_default.log_level, parse_log_level),
        kubeconfig=reader.value("KUBECONFIG", serving_default.kubeconfig, str),
        serving_names=reader.value("SERVING_NAMES", serving_default.serving_names, _names),
        client_ca_file=reader.value("CLIENT_CA_FILE", serving_default.client_ca_file, str),
        client_names=reader.value("CLIENT_NAMES", serving_default.client_names, _names),
        drain_delay_s=reader.value("DRAIN_DELAY_S", serving_default.drain_delay_s, _seconds),
    )
    if serving.client_names and not serving.client_ca_file:
        reader.faults.append(f"{PREFIX}CLIENT_NAMES: names without a CA prove nothing; set {PREFIX}CLIENT_CA_FILE too")
    reader.finish()
    return settings, serving


class _Reader:
    """Reads variables and gathers what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._known: set[str] = set()
        self.faults: list[str] = []

    def value(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        full = PREFIX + name
        self._known.add(full)
        if full not in self._environment:
            return default
        try:
            return parse(self._environment[full].strip())
        except ValueError as error:
            self.faults.append(f"{full}: {error}")
            return default

    def optional(self, name: str, default: str, parse: Callable[[str], str]) -> str:
        """As `value`, where empty text is a value of its own: not set."""
        return self.value(name, default, lambda text: parse(text) if text else "")

    def finish(self) -> None:
        for name in sorted(self._environment):
            if name.startswith(PREFIX) and name not in self._known and not name.startswith(IGNORED):
                near = get_close_matches(name, self._known, n=1)
                self.faults.append(f"{name} is unknown" + (f"; did you mean {near[0]}?" if near else ""))
        if self.faults:
            raise EnvironmentFault("\n".join(self.faults))


def _resources(reader: _Reader, default: Resources) -> Resources:
    found = Resources(
        cpu_request=reader.optional("PROXY_CPU_REQUEST", default.cpu_request, checked(parse_cpu)),
        cpu_limit=reader.optional("PROXY_CPU_LIMIT", default.cpu_limit, checked(parse_cpu)),
        memory_request=reader.optional("PROXY_MEMORY_REQUEST", default.memory_request, checked(parse_memory)),
        memory_limit=reader.optional("PROXY_MEMORY_LIMIT", default.memory_limit, checked(parse_memory)),
    )
    try:
        check_limits(found)
    except Refused as error:
        reader.faults.append(str(error))
    return found


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("is empty; give it a value or leave it out")
    return text


def _pull_policy(text: str) -> str:
    if text not in PULL_POLICIES:
        raise ValueError(f"{text!r} is no pull policy; write one of {', '.join(PULL_POLICIES)}")
    return text


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is no URL; write http://HOST:PORT")
    return text.rstrip("/")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _port(text: str) -> int:
    ranges = parse_ports(text)
    if len(ranges) != 1 or ranges[0].first != ranges[0].last:
        raise ValueError(f"{text!r} is not one port; write a number from 1 to 65535")
    return ranges[0].first


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 600:
        raise ValueError(f"{text!r} is no time; write seconds from 0 to 600")
    return value
