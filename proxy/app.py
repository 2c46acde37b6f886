"""The wiring: one nursery tree, read from top to bottom. Waits."""

import gc
import random
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import trio
import trio.lowlevel

from contract import VERSION
from proxy import config as configuration
from proxy import render
from proxy.admin import JSON, METRICS, TEXT, Admin, Answer, Page
from proxy.binding import ANY_HOSTS, listen
from proxy.channel import SocketChannel
from proxy.config import Config
from proxy.conversation import Conversation
from proxy.dial import TurnDoor
from proxy.drain import AppListens, drain, kernel_app_listens
from proxy.gauges import add_gauges
from proxy.holdings import Holdings
from proxy.listener import Listener, OriginalDestination, kernel_original_destination
from proxy.memory import DEFAULT_LIMIT_BYTES, Trimmer, limit_bytes, resident_bytes
from proxy.meter import Meter
from proxy.multiplex import Multiplex
from proxy.nearby import nearby
from proxy.notices import Notices
from proxy.parts import Parts
from proxy.peers import Peers
from proxy.pool import Pool, pool_limit
from proxy.probes import probe_pages
from proxy.pump import Pump
from proxy.routes import read_routes
from proxy.server import Server
from proxy.session import Session
from proxy.targets import Targets
from proxy.trunk import Trunk
from proxy.tunnel import Tunnel

SWEEP_S = 0.25
"""Seconds between two looks at the limits of sessions and pooled connections."""

GC_THRESHOLDS = (10_000, 20, 20)
"""Containers made before a collection of each generation. CPython's 700 look for garbage every few dozen requests, and
the request path leaves hardly any: 4 to 8 % of CPU a request (bench case `http1`), for a megabyte or two at most."""

AGAIN_S = 1.0
"""Seconds until an accompanying task that met a bug begins anew."""

LAST_REPORT_S = 2.0
"""Seconds that the last report may take."""

EXPIRE_S = 10.0
"""Seconds between two looks for unused targets and series."""


OUTBOUND_HOSTS = ("127.0.0.1", "::1")


class App:
    """The sidecar: made from its settings, run until SIGTERM."""

    def __init__(
        self,
        config: Config,
        log: Any,
        original_destination: OriginalDestination = kernel_original_destination,
        app_listens: AppListens = kernel_app_listens,
    ) -> None:
        self.config = config
        self._log = log
        self._original_destination = original_destination
        self._app_listens = app_listens
        self.meter = Meter(config.max_series_count)
        notices = Notices(self.meter, log, time.monotonic)
        self.pump = Pump(time.perf_counter, self._on_bug)
        idle_count = pool_limit(config.pool_idle_count, descriptor_limit())
        self.pool = Pool(self.meter, idle_count, config.pool_idle_timeout_s)
        bounds = (config.max_targets_count, config.discovery_timeout_s)
        self.outbound = Targets("outbound", self.pump, self.meter, *bounds, random.random)
        self.inbound = Targets("inbound", self.pump, self.meter, *bounds, random.random, config.probes)
        self.peers = Peers(self.pump, nearby(config.node_ips, *read_routes()))
        self.trimmer = Trimmer()
        self._notices = notices
        self.parts: Parts
        self.holdings: Holdings
        self.memory_bytes = 0
        self.is_ready = False
        self.started = trio.Event()
        self.stopping = trio.Event()
        self.cut_count = 0
        self._listeners: list[Listener] = []
        self.admin = Admin(self._pages(), notices.bug, admin_refusals(self.meter))
        self.admin_socks: list[socket.socket] = []
        """Of the admin port, where `__main__` has opened them already."""
        self.listening: dict[int, list[socket.socket]] | None = None
        """By port: sockets of the parent process, which also answers the admin port and reports. None: no parent."""

    async def run(self) -> None:
        """Serve until `stopping` is set or SIGTERM comes; return when drained."""
        try:
            async with trio.open_nursery() as nursery:
                await self._serve(nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._close()

    async def _serve(self, nursery: trio.Nursery) -> None:
        door = TurnDoor(self.pump, self.config)
        self.parts = Parts(self.config, self.pump, door, self.meter, self.pool, random.random, self._notices.failure)
        self.parts.outbound = self.outbound
        self.parts.peers = self.peers
        self._limit_strangers()
        add_gauges(self, door)
        nursery.start_soon(self.pump.run)
        nursery.start_soon(self.pump.run_timers)
        if self.listening is None:
            socks = self.admin_socks or listen(ANY_HOSTS, self.config.admin_port, self.config.backlog_count)
            nursery.start_soon(serve_admin, self.admin, socks)
        self._listen()
        gc.collect()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.freeze()  # what lives as long as the process is not looked at by later collections
        self._budget()
        self.is_ready = True
        self.started.set()
        self._log.info("ready", version=VERSION, outbound=self.config.outbound_port)
        nursery.start_soon(self._again, self._sweep)
        nursery.start_soon(self._watch_signals)
        reporter = await self._start_control_plane(nursery)
        await self.stopping.wait()
        self.is_ready = False
        self._log.info("draining")
        self.cut_count = await drain(self.parts, self._listeners, self._app_listens)
        if reporter is not None:
            with trio.move_on_after(LAST_REPORT_S):
                await reporter.send()
        self._log.info("drained", cut=self.cut_count)

    def _limit_strangers(self) -> None:
        """Let what comes from outside not take all descriptors."""
        wanted_count = self.config.max_sessions_count
        count = self.parts.inbound_seats.limit_count = inbound_limit(wanted_count, descriptor_limit())
        if count < wanted_count:
            self._log.warning("open files allow fewer inbound connections", wanted=wanted_count, count=count)

    def _budget(self) -> None:
        """See how much memory there is for what clients make this process hold."""
        config = self.config
        self.memory_bytes = config.memory_bytes or limit_bytes() or DEFAULT_LIMIT_BYTES
        base_bytes = resident_bytes()
        spare_bytes = (self.memory_bytes - base_bytes) // config.workers_count
        self.holdings = Holdings(self.parts, spare_bytes, base_bytes, lambda: self.trimmer.trim(False))
        self.pump.on_full = self.holdings.look

    def _close(self) -> None:
        """Leave no socket behind, whatever has ended the run."""
        for listener in self._listeners:
            listener.abandon()
        while self.parts.sessions:
            for session in list(self.parts.sessions):
                self.pump.enter(session.abort, "draining")
        self.pool.close()
        self.pump.close()

    def _listen(self) -> None:
        config = self.config
        for port, targets, hosts in (
            (config.outbound_port, self.outbound, OUTBOUND_HOSTS),
            (config.inbound_port, self.inbound, ANY_HOSTS),
        ):
            given = self.listening
            for sock in listen(hosts, port, config.backlog_count) if given is None else given[port]:
                self._listeners.append(Listener(self.parts, sock, targets, self._original_destination))

    async def _start_control_plane(self, nursery: trio.Nursery) -> Any:
        if not self.config.controller_url:
            return None
        from proxy.discovery import Discovery
        from proxy.report import Reporter

        client = controller_client(self.config)
        identity = (self.config.pod_namespace, self.config.pod_name)
        askers = (self.outbound, self.inbound, self.peers)
        discovery = Discovery(client, identity, self.pump, askers, random.random, self._log, secrets.token_hex(8))
        reporter = Reporter(client, identity, secrets.token_hex(8), self.meter, time.monotonic, self._log)
        self.meter.gauges["discovery_connected"] = (
            lambda: discovery.statistics()["connected"],
            "1 while the controller's stream is open.",
        )
        self.meter.gauges["discovery_age_seconds"] = (
            lambda: discovery.statistics()["age_s"],
            "Seconds since the controller was last heard.",
        )
        nursery.start_soon(_keep_open, client)
        nursery.start_soon(self._again, discovery.run)
        if self.listening is not None:
            return None
        nursery.start_soon(self._again, reporter.run, self.config.report_interval_s, random.random)
        return reporter

    async def _again(self, wait: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run what only accompanies the traffic; a bug in it is noted, and it begins anew: traffic goes on."""
        while True:
            try:
                await wait(*arguments)
            except Exception as error:
                self._notices.bug(wait, error)
            await trio.sleep(AGAIN_S)

    def _on_bug(self, owner: object, error: Exception) -> None:
        """End the one session that met a bug; all others go on."""
        self._notices.bug(owner, error)
        hearer = owner.user if isinstance(owner, SocketChannel) else owner
        hearer = getattr(hearer, "owner", hearer)  # of a link, and of who hears a channel on another's behalf
        try:
            if isinstance(hearer, Server | Trunk):
                hearer.lose("bug")
            elif isinstance(hearer, Session | Conversation | Multiplex | Tunnel):
                hearer.abort("bug")
        except Exception as again:
            self._notices.bug(hearer, again)

    async def _sweep(self) -> None:
        expire_s = 0.0
        while True:
            await trio.sleep(SWEEP_S)
            self.pump.enter(self._check)
            expire_s += SWEEP_S
            if expire_s >= EXPIRE_S:
                expire_s = 0.0
                self.pump.enter(self._expire)

    def _check(self) -> None:
        now_s = self.pump.now_s
        self.pool.sweep(now_s)
        self.trimmer.look(len(self.parts.sessions) + self.pool.size_count, now_s)
        self.holdings.look()
        self.holdings.watch(resident_bytes(), now_s)
        for session in list(self.parts.sessions):
            session.check(now_s)

    def _expire(self) -> None:
        now_s = self.pump.now_s
        for targets in (self.outbound, self.inbound):
            targets.sweep(now_s, self.config.target_idle_timeout_s)
        self.peers.sweep(now_s, self.config.target_idle_timeout_s)
        self.meter.expire(now_s, self.config.metrics_idle_timeout_s)

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self.stopping.set()

    def _pages(self) -> dict[str, Page]:
        return {
            "/live": lambda: Answer(200, TEXT, ["live\n"]),
            "/ready": self._ready,
            "/metrics": lambda: Answer(200, METRICS, render.render(self.meter)),
            "/config": self._config_page,
            **probe_pages(self.config.probe_ports, self.config.pod_ips),
        }

    def _ready(self) -> Answer:
        return Answer(200, TEXT, ["ready\n"]) if self.is_ready else Answer(503, TEXT, ["draining\n"])

    def _config_page(self) -> Answer:
        values = {
            configuration.variable(f): configuration.render(getattr(self.config, f.name))
            for f in configuration.config_fields()
        }
        return Answer(200, JSON, [msgspec.json.format(msgspec.json.encode(values)).decode() + "\n"])


async def _keep_open(client: Any) -> None:
    async with client:
        await trio.sleep_forever()


def controller_client(config: Config) -> Any:
    """Make the client of the controller."""
    import httpx  # here, because it costs tens of milliseconds: the listeners come first

    timeout = httpx.Timeout(None, connect=5.0)
    return httpx.AsyncClient(base_url=config.controller_url, timeout=timeout, trust_env=False, verify=False)


def admin_refusals(meter: Meter) -> Callable[[str], None]:
    """Count what the admin port turns away."""
    return lambda what: meter.count("admin_refusals_total", (("what", what),))


async def serve_admin(admin: Admin, socks: list[socket.socket]) -> None:
    """Answer the admin port for ever."""
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in socks]
    await trio.serve_listeners(admin.serve, listeners)


def inbound_limit(wanted_count: int, descriptors_count: int) -> int:
    """Connections from outside that the process has descriptors for: two each, one for the server's. What strangers
    cannot take, a quarter, is left for the application's own, the admin port and the controller."""
    return max(1, min(wanted_count, descriptors_count * 3 // 8))


def descriptor_limit() -> int:
    """Descriptors that the process may have."""
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """Use all the descriptors that the process may have."""
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
