"""The rivals' configurations, one thread each and no access log, as a mesh would program them. Pure."""

from typing import Any

from bench.servers import MAX_STREAMS_COUNT
from bench.setups import Setup

_TYPE = "type.googleapis.com/envoy.extensions."
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_LIMIT_COUNT = 100000
"""Envoy's own default of 1024 requests at once would refuse the largest loads here."""

_ENVOY_BALANCING = {"": "ROUND_ROBIN", "round-robin": "ROUND_ROBIN", "least-request": "LEAST_REQUEST"}
_HAPROXY_BALANCING = {"": "roundrobin", "round-robin": "roundrobin", "least-request": "leastconn"}

# The same promises as FEATURES of bench/discovery.py.
_FEATURES_ROUTE = {
    "timeout": "10s",
    "idle_timeout": "60s",
    "retry_policy": {"retry_on": "gateway-error,reset,connect-failure", "num_retries": 2, "per_try_timeout": "2s"},
}
_FEATURES_CLUSTER = {
    "outlier_detection": {
        "consecutive_5xx": 5,
        "interval": "1s",
        "base_ejection_time": "1s",
        "max_ejection_time": "30s",
        "max_ejection_percent": 50,
    },
    "track_cluster_stats": {"timeout_budgets": True, "per_endpoint_stats": True},
}


def envoy(setup: Setup, ip: str, port: int) -> dict[str, Any]:
    """Listener, filter and cluster: HTTP connection manager with one route, or TCP proxy."""
    filters = _tcp_proxy() if setup.protocol == "tcp" else _http_manager(setup)
    listen = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"address": listen, "filter_chains": [{"filters": [filters]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(setup, ip)]}}


def _tcp_proxy() -> dict[str, Any]:
    config = {"@type": _TYPE + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "outbound", "cluster": "web"}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def _http_manager(setup: Setup) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "web", **(_FEATURES_ROUTE if setup.features else {})}}
    router = {"@type": _TYPE + "filters.http.router.v3.Router"}
    config = {
        "@type": _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _cluster(setup: Setup, ip: str) -> dict[str, Any]:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    thresholds: dict[str, Any] = dict.fromkeys(limits, _LIMIT_COUNT)
    if setup.features:
        thresholds["retry_budget"] = {"budget_percent": {"value": 20}, "min_retry_concurrency": 10}
        thresholds["track_remaining"] = True
    cluster: dict[str, Any] = {
        "name": "web",
        "connect_timeout": "1s",
        "type": "STATIC",
        "lb_policy": _ENVOY_BALANCING[setup.balancing],
        "circuit_breakers": {"thresholds": [thresholds]},
        "load_assignment": {
            "cluster_name": "web",
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}}
                        for port in setup.ports
                    ]
                }
            ],
        },
        **(_FEATURES_CLUSTER if setup.features else {}),
    }
    if setup.protocol == "http2":
        options = {
            "@type": f"type.googleapis.com/{_OPTIONS}",
            # The servers' own limit: until it has heard of that, Envoy opens more streams and answers 503 for them.
            "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": MAX_STREAMS_COUNT}},
        }
        cluster["typed_extension_protocol_options"] = {_OPTIONS: options}
    return cluster


_HAPROXY = """
global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode {mode}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
{defaults}
frontend outbound
  bind 127.0.0.1:{port} {proto}
  default_backend web
backend web
  balance {balance}
{servers}
"""
_HAPROXY_FEATURES = """
  timeout server 10s
  retries 2
  retry-on conn-failure empty-response response-timeout 502 503 504
  option redispatch
"""


def haproxy(setup: Setup, ip: str, port: int) -> str:
    """One frontend, one backend; opaque bytes are spliced where HAProxy finds that worth it."""
    proto = "proto h2" if setup.protocol == "http2" else ""
    extra = " maxconn 50000 check observe layer7 error-limit 5 on-error mark-down" if setup.features else ""
    servers = "\n".join(f"  server s{number} {ip}:{number} {proto}{extra}" for number in setup.ports)
    defaults = "  option splice-auto" if setup.protocol == "tcp" else ""
    return _HAPROXY.format(
        mode="tcp" if setup.protocol == "tcp" else "http",
        defaults=defaults + (_HAPROXY_FEATURES if setup.features else ""),
        port=port,
        proto=proto,
        balance=_HAPROXY_BALANCING[setup.balancing],
        servers=servers,
    )
