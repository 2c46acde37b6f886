"""The sidecar's gauges: what it holds now, and the limit beside each. Waits."""

import time
from typing import TYPE_CHECKING

import trio.lowlevel

from proxy import render
from proxy.admin import process_metrics
from proxy.dial import TurnDoor
from proxy.policy.limit import CLIENTS_MAX_COUNT

if TYPE_CHECKING:
    from proxy.app import App


def add_gauges(app: "App", door: TurnDoor) -> None:
    """Enter them into the meter."""
    config, parts = app.config, app.parts
    gauges = app.meter.gauges
    gauges.update(process_metrics(time.time()))
    for name, read, meaning in (
        ("sessions_open", lambda: len(parts.sessions), "Client connections open."),
        ("sessions_limit", lambda: config.max_sessions_count, "Client connections allowed, of each direction."),
        ("inbound_sessions_open", lambda: len(parts.inbound_seats), "Client connections from outside."),
        ("inbound_sessions_limit", lambda: parts.inbound_seats.limit_count, "The same, allowed."),
        ("inbound_clients", lambda: parts.inbound_seats.sources_count, "Addresses that they come from."),
        ("pool_idle_connections", lambda: app.pool.size_count, "Kept-alive server connections."),
        ("pool_idle_connections_limit", lambda: app.pool.idle_count, "The same, allowed."),
        ("trunks_open", lambda: len(app.pool.trunks), "HTTP/2 server connections."),
        ("trunk_streams", lambda: sum(len(trunk.streams) for trunk in app.pool.trunks), "Requests on them."),
        ("trunk_streams_limit", lambda: config.trunk_streams_count, "Requests allowed on one of them."),
        ("http2_streams_limit", lambda: config.http2_streams_count, "Requests allowed on one client connection."),
        (
            "http2_connection_window_bytes",
            lambda: config.connection_window_bytes(config.http2_streams_count),
            "Bytes of a client's HTTP/2 connection on their way.",
        ),
        (
            "trunk_window_bytes",
            lambda: config.connection_window_bytes(config.trunk_streams_count),
            "Bytes of an HTTP/2 server connection on their way.",
        ),
        ("http2_window_bytes", lambda: config.http2_window_bytes, "Bytes of an HTTP/2 stream on their way."),
        ("memory_limit_bytes", lambda: app.memory_bytes // config.workers_count, "Memory of the process, allowed."),
        ("memory_held_bytes", lambda: app.holdings.held_bytes, "Bytes that clients make it hold."),
        ("memory_held_limit_bytes", lambda: app.holdings.limit_bytes, "The same, allowed."),
        ("head_limit_bytes", lambda: config.max_head_bytes, "Bytes of a head allowed."),
        ("head_fields_limit", lambda: config.max_fields_count, "Fields of a head allowed."),
        ("dials_in_progress", lambda: door.dialling_count, "Server connections being opened."),
        ("targets_in_use", lambda: len(app.outbound) + len(app.inbound), "Destinations remembered."),
        ("targets_limit", lambda: config.max_targets_count, "Destinations allowed, for each direction."),
        (render.EJECTED_GAUGE[0], lambda: app.outbound.ejected_count, render.EJECTED_GAUGE[1]),
        ("outbound_requests_waiting", lambda: app.outbound.waiting_count, "Requests in queues of policies."),
        ("ratelimit_clients", lambda: app.inbound.limited_clients_count, "Clients whose rate is remembered."),
        ("ratelimit_clients_limit_per_port", lambda: CLIENTS_MAX_COUNT, "The same, allowed."),
        ("buffer_high_bytes", lambda: config.buffer_high_bytes, "Unsent bytes at which reads pause."),
        ("metrics_series", lambda: len(app.meter.http) + len(app.meter.tcp), "Series remembered."),
        ("metrics_series_limit", lambda: config.max_series_count, "Series allowed, of each kind."),
        ("tasks_running", lambda: trio.lowlevel.current_statistics().tasks_living, "Tasks of the waiting world."),
        ("memory_trims_total", lambda: app.trimmer.trims_count, "Times that memory was given back after a burst."),
        ("pump_turns_total", lambda: app.pump.turns_count, "Turns of the pump."),
        ("pump_events_total", lambda: app.pump.events_count, "Events that the pump has served."),
    ):
        gauges[name] = (read, meaning)
