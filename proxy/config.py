"""Settings of the sidecar: read from the environment, all faults told at once. Pure.

`SETTINGS` is the table: docs/configuration.md is made from it, `/config` shows it, `read` obeys it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from contract import environment
from contract.lists import parse_ports
from contract.ports import ADMIN_PORT, INBOUND_PORT, OPAQUE_PORTS, OUTBOUND_PORT
from proxy.errors import ConfigFault
from proxy.policy import probe

MIN_MEMORY_BYTES: Final = 67108864
"""The sidecar alone takes two thirds of this."""


def _setting(default: Any, meaning: str, unit: str = "", low: float = 0, high: float = 2**31, name: str = "") -> Any:
    about = {"meaning": meaning, "unit": unit, "low": low, "high": high, "name": name}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. A field `x_s` is read from `TULLE_PROXY_X_S` unless it says otherwise."""

    # Who this sidecar is.
    pod_name: str = _setting("", "name of the pod", name=environment.POD_NAME)
    pod_namespace: str = _setting("default", "namespace of the pod", name=environment.POD_NAMESPACE)
    pod_ips: tuple[str, ...] = _setting((), "addresses of the pod, comma-separated", name=environment.POD_IPS)
    node_ips: tuple[str, ...] = _setting(
        (), "addresses of the pod's node, comma-separated: the kubelet's", name=environment.NODE_IPS
    )
    probes: tuple[tuple[int, bytes], ...] = _setting(
        (),
        "what the kubelet's probes ask, as the injector writes it: `8080:/healthz 9090:grpc`",
        name=environment.PROBES,
    )
    controller_url: str = _setting(
        "", "base URL of the controller; empty: no discovery, no reports", name=environment.CONTROLLER_URL
    )
    log_level: str = _setting("warn", "error, warn, info or debug", name=environment.LOG_LEVEL)
    log_format: str = _setting("json", "json or console")
    opaque_ports: frozenset[int] = _setting(
        frozenset(OPAQUE_PORTS), "ports and ranges relayed unparsed", name=environment.OPAQUE_PORTS
    )

    probe_ports: frozenset[int] = _setting(
        frozenset(),
        "ports of the pod's own tcpSocket probes, dialled for `/probe/tcp/PORT` on the admin port",
        name=environment.PROBE_PORTS,
    )

    workers_count: int = _setting(
        1,
        "processes that share the traffic, each with limits of its own; more than 1 for machines with cores to spare",
        "processes",
        1,
        64,
        name="TULLE_PROXY_WORKERS",
    )

    # Where it listens.
    outbound_port: int = _setting(OUTBOUND_PORT, "port of captured outbound connections", "", 1, 65535)
    inbound_port: int = _setting(INBOUND_PORT, "port of captured inbound connections", "", 1, 65535)
    admin_port: int = _setting(ADMIN_PORT, "port of /live, /ready, /metrics, /config", "", 1, 65535)
    backlog_count: int = _setting(1024, "accept backlog of each listener", "connections", 1, 65535)

    # Times.
    connect_timeout_s: float = _setting(1.0, "until a server must have accepted", "seconds", 0.001, 3600)
    discovery_timeout_s: float = _setting(
        1.0, "until the controller must have told a new destination; then it passes through", "seconds", 0, 60
    )
    detect_dial_delay_s: float = _setting(
        0.01, "silence of a client after which its server is dialled, in case that speaks first", "seconds", 0, 60
    )
    detect_timeout_s: float = _setting(
        1.0,
        "from the first of bytes that tell no protocol until they are taken for what they look like",
        "seconds",
        0.001,
        60,
    )
    head_timeout_s: float = _setting(30.0, "until a request's head must be complete", "seconds", 0.01, 3600)
    request_timeout_s: float = _setting(0.0, "until a response must have begun; 0: no limit", "seconds", 0, 86400)
    # As long as an opaque relay's: who watches something that seldom changes is silent for minutes, and alive.
    stream_idle_timeout_s: float = _setting(
        3600.0, "silence of both sides within a request or response", "seconds", 0.01, 86400
    )
    client_idle_timeout_s: float = _setting(
        3600.0, "silence of a client's kept-alive connection between requests", "seconds", 0.01, 86400
    )
    tunnel_idle_timeout_s: float = _setting(3600.0, "silence of both sides of an opaque relay", "seconds", 0.01, 604800)
    half_closed_timeout_s: float = _setting(
        300.0, "silence of an opaque relay after one side has ended", "seconds", 0.01, 86400
    )
    pool_idle_timeout_s: float = _setting(3.0, "life of an unused kept-alive server connection", "seconds", 0, 3600)
    keepalive_s: float = _setting(10.0, "TCP keep-alive: idle time and interval; three probes", "seconds", 1, 3600)
    user_timeout_s: float = _setting(30.0, "TCP_USER_TIMEOUT: unacknowledged data until a reset", "seconds", 1, 3600)
    trunk_idle_timeout_s: float = _setting(60.0, "life of an unused HTTP/2 server connection", "seconds", 0, 86400)
    http2_ping_interval_s: float = _setting(
        10.0,
        "silence of an HTTP/2 connection in use after which another sidecar is asked (PING); applications never are",
        "seconds",
        0.05,
        3600,
    )
    http2_ping_timeout_s: float = _setting(3.0, "until it must have answered", "seconds", 0.05, 3600)
    target_idle_timeout_s: float = _setting(600.0, "life of a destination that nobody uses", "seconds", 1, 86400)
    metrics_idle_timeout_s: float = _setting(600.0, "life of a metric series that does not change", "seconds", 1, 86400)
    report_interval_s: float = _setting(10.0, "time between two reports to the controller", "seconds", 0.05, 3600)
    drain_timeout_s: float = _setting(25.0, "after SIGTERM: until what is left is cut", "seconds", 0, 3600)
    drain_quiet_s: float = _setting(
        2.0, "after SIGTERM: quiet time with no connection that ends the drain early", "seconds", 0, 3600
    )
    drain_idle_s: float = _setting(
        3.0, "after SIGTERM: until an unused kept-alive client connection is closed", "seconds", 0, 3600
    )

    # What is nobody's to decide but the user's.
    on_client_end: str = _setting(
        "wait",
        "when a client ends its direction behind a whole HTTP/1 request: wait, it still wants the answer; "
        "or cancel, it has left",
    )

    # Bounds.
    max_head_bytes: int = _setting(
        65536, "largest head of a request or response; HTTP/2's as it would be in HTTP/1", "bytes", 1024, 2**20
    )
    memory_bytes: int = _setting(
        0,
        "memory of the sidecar, all workers together; 0: the container's limit, or 256 MiB where there is none",
        "bytes",
        0,
        2**40,
    )
    max_fields_count: int = _setting(2048, "most fields of a head, in HTTP/1 and HTTP/2", "fields", 16, 16384)
    # 7/8 of 128 KB: glibc would map larger pieces anew for each read (M_MMAP_THRESHOLD), three system calls more.
    read_bytes: int = _setting(114688, "largest piece read from a connection at once", "bytes", 4096, 2**20)
    # With one piece more, 192 KB wait for a slow reader at the most.
    buffer_high_bytes: int = _setting(81920, "unsent bytes at which the other side's reads pause", "bytes", 1, 2**26)
    buffer_low_bytes: int = _setting(32768, "unsent bytes at which they go on", "bytes", 0, 2**26)
    replay_bytes: int = _setting(65536, "largest request kept for a silent second try", "bytes", 0, 2**24)
    max_sessions_count: int = _setting(
        10000,
        "open client connections of each direction; outbound more wait, inbound they take the place of the oldest idle "
        "one of the address that holds the most",
        "connections",
        1,
    )
    pool_idle_count: int = _setting(
        10000,
        "unused HTTP/1 server connections kept, at most a quarter of the descriptors; the longest unused go first",
        "connections",
        0,
        2**20,
    )
    http2_streams_count: int = _setting(
        250, "requests that a client may have open at once on one HTTP/2 connection", "requests", 1, 8000
    )
    trunk_streams_count: int = _setting(
        1000, "requests on one HTTP/2 server connection; more, or more than it allows, open another", "requests", 1
    )
    http2_window_bytes: int = _setting(
        262144, "bytes of one HTTP/2 stream and direction that are on their way, at most", "bytes", 16384, 2**28
    )
    http2_first_window_bytes: int = _setting(
        65536, "the same, of a stream that has not moved much yet", "bytes", 16384, 2**28
    )
    http2_shared_window_bytes: int = _setting(
        2**24, "bytes that the streams of one HTTP/2 connection may have on their way beyond that", "bytes", 0, 2**30
    )
    max_targets_count: int = _setting(4096, "destinations in use at once; more pass through", "destinations", 1, 4096)
    max_series_count: int = _setting(2000, "metric series; more fall into an overflow series", "series", 16, 2000)
    splice_after_bytes: int = _setting(
        262144, "bytes in one direction after which an opaque relay is spliced; 0: never", "bytes", 0
    )

    @property
    def first_window_bytes(self) -> int:
        """The window that an HTTP/2 stream begins with."""
        return min(self.http2_first_window_bytes, self.http2_window_bytes)

    def connection_window_bytes(self, streams_count: int) -> int:
        """The window of an HTTP/2 connection: twice what all its streams can be allowed; so none waits for another.

        Twice, because libnghttp2 tells the peer of room only when half of a window is free.
        """
        return 2 * (self.first_window_bytes * streams_count + self.http2_shared_window_bytes)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings."""

    name: str
    default: str
    unit: str
    meaning: str


def config_fields() -> tuple[Any, ...]:
    """Give the fields of Config, in the order of the table."""
    return fields(Config)


def variable(config_field: Any) -> str:
    """Name the environment variable of a field of Config."""
    return str(config_field.metadata["name"]) or f"TULLE_PROXY_{config_field.name.upper()}"


def render(value: object) -> str:
    """Write a value as the environment would hold it."""
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return probe.render(value)
    if isinstance(value, frozenset | tuple):
        return ",".join(str(item) for item in (sorted(value) if isinstance(value, frozenset) else value))
    return f"{value:g}" if isinstance(value, float) else str(value)


SETTINGS: Final = tuple(
    Setting(variable(f), render(f.default), f.metadata["unit"], f.metadata["meaning"]) for f in fields(Config)
)


def read(environ: Mapping[str, str]) -> Config:
    """Read the settings; raise ConfigFault naming every fault. An empty variable counts as absent."""
    faults: list[str] = []
    values: dict[str, Any] = {}
    for f in fields(Config):
        text = environ.get(variable(f), "")
        if text:
            try:
                values[f.name] = _parse(f.name, text, f)
            except ValueError as error:
                faults.append(f"{variable(f)}={text!r}: {error}")
    if not faults:
        config = Config(**values)
        if config.buffer_low_bytes >= config.buffer_high_bytes:
            faults.append("TULLE_PROXY_BUFFER_LOW_BYTES must be less than TULLE_PROXY_BUFFER_HIGH_BYTES")
        if config.connection_window_bytes(max(config.http2_streams_count, config.trunk_streams_count)) >= 2**31:
            faults.append(
                "TULLE_PROXY_HTTP2_FIRST_WINDOW_BYTES times the larger of the counts of streams, "
                "plus TULLE_PROXY_HTTP2_SHARED_WINDOW_BYTES, must be below 2^30"
            )
        if 0 < config.memory_bytes < MIN_MEMORY_BYTES:
            faults.append(f"TULLE_PROXY_MEMORY_BYTES must be 0 (the container's limit) or at least {MIN_MEMORY_BYTES}")
        ports = (config.outbound_port, config.inbound_port, config.admin_port)
        if len(set(ports)) < 3:
            faults.append("TULLE_PROXY_OUTBOUND_PORT, _INBOUND_PORT and _ADMIN_PORT must differ")
    if faults:
        raise ConfigFault(faults)
    return config


def unknown(environ: Mapping[str, str]) -> list[str]:
    """List variables that look like settings and are none: worth a warning, but Kubernetes may have made them."""
    names = {setting.name for setting in SETTINGS}
    return sorted(name for name in environ if name.startswith("TULLE_PROXY_") and name not in names)


def _parse(name: str, text: str, f: Any) -> object:
    default = f.default
    if name in ("opaque_ports", "probe_ports"):
        return frozenset(port for ports in parse_ports(text) for port in range(ports.first, ports.last + 1))
    if name == "probes":
        return probe.parse(text)
    if name in ("pod_ips", "node_ips"):
        return _ips(text)
    if name == "controller_url":
        return _url(text)
    if name == "log_level":
        return _one_of(text, ("error", "warn", "info", "debug"))
    if name == "on_client_end":
        return _one_of(text, ("wait", "cancel"))
    if name == "log_format":
        return _one_of(text, ("json", "console"))
    if isinstance(default, int | float):
        return _number(text, f, whole=isinstance(default, int))
    return text


def _number(text: str, f: Any, whole: bool) -> float | int:
    low, high, unit = f.metadata["low"], f.metadata["high"], f.metadata["unit"]
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        raise ValueError(f"not {'a whole' if whole else 'a'} number{' of ' + unit if unit else ''}") from None
    if not low <= value <= high:
        raise ValueError(f"not between {low:g} and {high:g}{' ' + unit if unit else ''}")
    return value


def _ips(text: str) -> tuple[str, ...]:
    from ipaddress import ip_address

    return tuple(ip_address(part.strip()).compressed for part in text.split(",") if part.strip())


def _url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if scheme != "http" or not separator or not rest.strip("/"):
        raise ValueError("not a URL such as http://tulle-controller.tulle.svc.cluster.local:8085")
    return text.rstrip("/")


def _one_of(text: str, words: tuple[str, ...]) -> str:
    if text.lower() not in words:
        raise ValueError(f"not one of {', '.join(words)}")
    return text.lower()
