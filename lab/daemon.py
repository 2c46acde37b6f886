"""The lab's one process: registry, API server, controllers and node, wired. Waits.

It lives in the node's network namespace and in a mount namespace of its own, so that whatever it makes goes with it.
Only the socket on the host's loopback, which the launcher opened, reaches out of it.
"""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
import uvicorn

from lab import ctl, state
from lab.api.admission import Admission
from lab.api.app import VERSION, make_app
from lab.api.authn import Authority, install_built_ins
from lab.api.pki import CertificateAuthority, kubeconfig
from lab.api.registry import Registry
from lab.api.tokens import MAX_EXPIRY_S, MIN_EXPIRY_S, Bound, Claims, TokenIssuer, admin_token
from lab.node.addresses import API_V4, API_V6
from lab.node.agent import Node, Settings
from lab.node.endpoints import Object
from lab.node.launching import Host

log = structlog.get_logger("lab")
API_PORT = 443
_CLOSE_S = 1


@dataclass(frozen=True)
class Options:
    """What the launcher tells the daemon. `tell` receives the word "ready" once the lab can be used."""

    paths: state.Paths
    listener: socket.socket
    tell: Callable[[str], None]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(options: Options) -> None:
    """Run the lab until SIGTERM or SIGINT. An ExceptionGroup says what broke it."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    now = utc_now()
    certificates = CertificateAuthority(f"tulle-lab-{options.paths.name}", now=now)
    registry, token, issuer = Registry(), admin_token(), TokenIssuer()
    admission = Admission(registry)
    registry.admission = admission
    authority = Authority(registry, issuer, token)
    node = Node(registry, _settings(options.paths), _mint(registry, issuer), utc_now)
    leaf = certificates.issue_api(now=now)
    server = _server(options.paths, make_app(registry, authority, node), leaf.certificate, leaf.key)
    port = options.listener.getsockname()[1]
    _write_private(
        options.paths.kubeconfig,
        kubeconfig(f"https://127.0.0.1:{port}", certificates.certificate, token, context=f"tulle-{options.paths.name}"),
    )
    await ctl.create_built_ins(registry)
    await install_built_ins(registry)
    sockets = [options.listener, *(_listen(address) for address in (API_V4, API_V6))]
    try:
        async with asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(server.serve(sockets=sockets), name="api"),
                tasks.create_task(ctl.run(registry, root_ca=certificates.certificate.decode()), name="controllers"),
                tasks.create_task(node.run(), name="node"),
                tasks.create_task(_announce(node, server, options.tell), name="announce"),
            ]
            await stop.wait()
            log.info("stopping")
            for part in parts[1:]:
                part.cancel()
            server.should_exit = True
    finally:
        await admission.close()


def utc_now() -> datetime:
    return datetime.now(UTC)


async def _announce(node: Node, server: uvicorn.Server, tell: Callable[[str], None]) -> None:
    await node.ready.wait()
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    tell("ready")
    log.info("ready")


def _settings(paths: state.Paths) -> Settings:
    project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    host = Host(
        programs=os.path.dirname(sys.executable),
        traversable=tuple(sorted({sys.prefix, sys.base_prefix, project})),
        homes={entry.pw_uid: entry.pw_dir for entry in reversed(pwd.getpwall())},
    )
    return Settings(f"tulle-{paths.name}", paths.pods, host, VERSION["gitVersion"])


def _mint(registry: Registry, issuer: TokenIssuer) -> Callable[[Object, str, int], str]:
    def mint(pod: Object, audience: str, life_s: int) -> str:
        metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName") or "default"
        uid = registry.get("serviceaccounts", metadata["namespace"], account)["metadata"]["uid"]
        now_s = time.time()
        claims = Claims(
            namespace=metadata["namespace"],
            service_account=account,
            uid=uid,
            audiences=(audience or issuer.issuer,),
            expires_at_s=int(now_s) + min(max(life_s, MIN_EXPIRY_S), MAX_EXPIRY_S),
            identifier="",
            bound=Bound("Pod", metadata["name"], metadata["uid"]),
        )
        return issuer.issue(claims, now_s=now_s)

    return mint


def _server(paths: state.Paths, app: object, certificate: bytes, key: bytes) -> uvicorn.Server:
    files = {"tls.crt": certificate, "tls.key": key}
    for name, data in files.items():
        _write_private(f"{paths.folder}/{name}", data.decode())
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        ws="wsproto",  # the only one that accepts the protocol name of kubectl's port-forward
        ws_ping_interval=None,  # a command that does not read its stdin must not cost kubectl its stream
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=f"{paths.folder}/tls.crt",
        ssl_keyfile=f"{paths.folder}/tls.key",
        timeout_graceful_shutdown=_CLOSE_S,
        backlog=512,
    )
    return _Server(config)


def _listen(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, API_PORT), family=family, backlog=512)
    # asyncio sets it only on sockets that name their protocol; without it every kept-alive answer waits for an
    # acknowledgement, some 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _write_private(path: str, text: str) -> None:
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w") as out:
        out.write(text)
