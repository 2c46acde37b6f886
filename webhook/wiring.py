"""The wiring: what is started, in which order, and how it ends. Waits."""

import asyncio
import socket
import sys
import time
from datetime import UTC, datetime
from threading import Event, Thread
from types import FrameType

import structlog
import uvicorn

from contract import VERSION, names
from contract.doorkeeper import Limits
from webhook.app import Parts, make_app
from webhook.certificates import first_material
from webhook.keeper import Keeper
from webhook.kube import KubeError, connect
from webhook.logs import configure_logs
from webhook.metrics import Metrics
from webhook.namespaces import Namespaces
from webhook.server import Server
from webhook.settings import Serving, Settings
from webhook.telling import Telling
from webhook.tls import ServingContext

KEEP_ALIVE_S = 75
"""API servers keep their connections; a handshake costs more than an admission."""
LIMITS = Limits(connections_count=256)
"""API servers keep a few connections each, and kubelets come and go; TLS costs some tens of kilobytes a connection."""
STOP_LIMIT_S = 5


def run(settings: Settings, serving: Serving, listener: socket.socket) -> int:
    """Run until told to stop; return the exit code: 0 stopped by a signal, 1 it cannot run here."""
    try:
        configure_logs(serving.log_level)
        return asyncio.run(_serve(settings, serving, listener))
    except (KubeError, OSError) as error:
        print(f"tulle-webhook: {error}", file=sys.stderr)
        return 1


async def _serve(settings: Settings, serving: Serving, listener: socket.socket) -> int:
    kube = connect(serving.kubeconfig)
    served_names = serving_names(settings, serving)
    # Until the Secret is read a throwaway certificate lets the kubelet ask /healthz; /readyz says no meanwhile.
    context = ServingContext(first_material(served_names, datetime.now(UTC)), serving.client_ca_file)
    stopping = Event()
    parts = Parts(
        settings=settings,
        namespaces=Namespaces(kube, time.monotonic),
        keeper=Keeper(kube, context, settings.control_plane_namespace, served_names, lambda: datetime.now(UTC)),
        serving=context,
        telling=Telling(kube, time.monotonic),
        metrics=Metrics(),
        is_draining=stopping.is_set,
        client_names=serving.client_names if serving.client_ca_file else None,
    )
    for name, run in (
        ("namespaces", parts.namespaces.run),
        ("keeper", parts.keeper.run),
        ("events", parts.telling.run),
    ):
        # Daemons: a watch that waits for its next event must not hold the process at its end.
        Thread(target=run, args=(stopping,), name=name, daemon=True).start()
    config = uvicorn.Config(
        make_app(parts),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_LIMIT_S,
    )
    server = DrainingServer(config, stopping, serving.drain_delay_s, parts)
    structlog.get_logger().info("start", version=VERSION, port=serving.port, names=list(served_names))
    await server.serve(sockets=[listener])
    return 0 if stopping.is_set() else 1


def serving_names(settings: Settings, serving: Serving) -> tuple[str, ...]:
    """The names under which API servers reach the webhook's Service, and those that the operator adds."""
    service = f"{names.WEBHOOK}.{settings.control_plane_namespace}"
    return (f"{service}.svc", f"{service}.svc.{settings.cluster_domain}", service, *serving.serving_names)


class DrainingServer(Server):
    """Serves on for a while after the first signal, and stops at the second."""

    def __init__(self, config: uvicorn.Config, draining: Event, delay_s: float, parts: Parts) -> None:
        super().__init__(config, LIMITS, parts.metrics.count_ended, lambda: parts.serving.context)
        self._draining = draining
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's signal handler; its own one stops at once, and then ends the process by the signal."""
        delay_s = 0.0 if self._draining.is_set() else self._delay_s
        self._draining.set()
        self._loop.call_soon_threadsafe(self._loop.call_later, delay_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True
