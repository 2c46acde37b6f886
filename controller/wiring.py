"""The wiring: what is started, in which order, and how it ends. Edge."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from contract.doorkeeper import Limits
from controller import server
from controller.app import VERSION, make_app
from controller.inbox import Inbox
from controller.kinds import KINDS, Kind
from controller.kube import Api
from controller.settings import Settings
from controller.status import StatusWriter
from controller.trust import Trust
from controller.truth import Delivery, Truth
from controller.watcher import Watcher
from controller.watchman import Watchman

EXPIRE_S: Final = 30.0
"""Between two clean-ups of series that no window can show any more."""
KEEP_ALIVE_S: Final = 75
"""Longer than several report intervals: sidecars keep their connection."""
OTHERS_COUNT: Final = 256
"""Connections of others than sidecars: people, scrapers, probes."""
BUG_PAUSE_S: Final = 5.0
GRACE_S: Final = 5
"""Seconds that requests in flight have at SIGTERM."""


class Server(server.Server):
    """Without uvicorn's signal handlers: ours end the streams first, and the exit code is 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def limits_of(settings: Settings) -> Limits:
    """A sidecar has a stream and a connection for its reports; some more ask for statistics, and probes."""
    return Limits(connections_count=2 * settings.max_streams_count + OTHERS_COUNT)


def configure(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # whom a request comes from is told by its connection alone
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


async def serve(settings: Settings, api: Api, listener: socket.socket) -> None:
    """Run until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    truth = Truth(settings)
    inbox: Inbox[Delivery] = Inbox(loop, truth.on_changes)
    watchers = [
        Watcher(api, kind, lambda change, read_s: inbox.put((change, read_s)), _on_loop(loop, truth)) for kind in KINDS
    ]
    served = Server(configure(make_app(truth)), limits_of(settings), truth.meters.count_ended)

    def stop() -> None:
        structlog.get_logger().info("stopping")
        truth.hub.shut_down()
        served.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    for watcher in watchers:
        watcher.start()
    trust = Trust(api, truth.cluster, truth.meters, settings.namespace, settings.cluster_domain)
    writer = StatusWriter(api, truth)
    watchman = Watchman(api, truth)
    tasks = [loop.create_task(_forever(work)) for work in (trust.run, writer.run, watchman.run, lambda: _expire(truth))]
    host, port = listener.getsockname()[:2]
    structlog.get_logger().info("listening", version=VERSION, address=host, port=port, api_server=api.host)
    try:
        await served.serve(sockets=[listener])
    finally:
        inbox.close()
        for watcher in watchers:
            watcher.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _on_loop(loop: asyncio.AbstractEventLoop, truth: Truth) -> Callable[[Kind, str], None]:
    def on_failure(kind: Kind, why: str) -> None:
        try:
            loop.call_soon_threadsafe(truth.on_failure, kind, why)
        except RuntimeError:
            pass  # the loop has ended, nobody listens any more

    return on_failure


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    """Repeat `work`; a bug in it is logged and does not take discovery down with it."""
    while True:
        try:
            await work()
        except Exception:
            structlog.get_logger().error("bug", exc_info=True)
            await asyncio.sleep(BUG_PAUSE_S)


async def _expire(truth: Truth) -> None:
    await asyncio.sleep(EXPIRE_S)
    truth.traffic.expire(truth.clock())
