"""Real sidecars on loopback sockets, with an injected original destination, and servers that follow a script."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
import pytest
import structlog
import trio

from contract.discovery import DISCOVERY_PATH, Destination, Endpoint, Subscribe, Update
from contract.report import REPORT_PATH, Report
from proxy.app import App
from proxy.binding import bind
from proxy.config import Config
from proxy.model import Address

Handler = Callable[[trio.SocketStream], Awaitable[None]]


_PORTS = count(20000 + os.getpid() * 97 % 10000)
"""Below the range that the kernel takes ports of outgoing connections from: nobody else takes one meanwhile."""


def free_port() -> int:
    """Give a port that is free on all of the machine's addresses."""
    while True:
        port = 20000 + next(_PORTS) % 12000
        try:
            for host in ("0.0.0.0", "::"):
                sock = bind(host, port, 1)
                if sock is not None:
                    sock.close()
        except OSError:
            continue
        return port


@dataclass
class Sidecar:
    """One App in this process."""

    app: App
    destination: Address
    app_listens: bool = False

    @property
    def port(self) -> int:
        return self.app.config.outbound_port

    async def connect(self, inbound: bool = False) -> trio.SocketStream:
        port = self.app.config.inbound_port if inbound else self.app.config.outbound_port
        return await trio.open_tcp_stream("127.0.0.1", port)

    def counter(self, name: str, **labels: str) -> int:
        """Sum the counters of a name whose labels include the given ones."""
        wanted = set(labels.items())
        return sum(n for (key, pairs), n in self.app.meter.counters.items() if key == name and wanted <= set(pairs))

    async def admin(self, path: str) -> tuple[int, str]:
        async with await trio.open_tcp_stream("127.0.0.1", self.app.config.admin_port) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()


async def read_all(stream: trio.SocketStream) -> bytes:
    """Read until the end; a reset ends it too."""
    data = b""
    with trio.fail_after(5):
        try:
            async for piece in stream:
                data += bytes(piece)
        except trio.BrokenResourceError:
            data += b"<reset>"
    return data


async def read_until(stream: trio.SocketStream, ending: bytes) -> bytes:
    """Read until the bytes end so, or the stream does."""
    data = b""
    with trio.fail_after(5):
        while not data.endswith(ending):
            piece = await stream.receive_some(65536)
            if not piece:
                break
            data += bytes(piece)
    return data


@pytest.fixture
async def start_sidecar(nursery: trio.Nursery) -> AsyncIterator[Callable[..., Awaitable[Sidecar]]]:
    """Start sidecars; whatever happens in a test, none of them may have met a bug."""
    sidecars: list[Sidecar] = []

    async def start(destination: Address, **settings: Any) -> Sidecar:
        quick = {"drain_quiet_s": 0.0, "pod_name": "web-1"}
        ports = {"outbound_port": free_port(), "inbound_port": free_port(), "admin_port": free_port()}
        sidecar: Sidecar
        app = App(
            Config(**{**quick, **ports, **settings}),
            structlog.wrap_logger(None, processors=[structlog.processors.KeyValueRenderer()], wrapper_class=SilentLog),
            lambda _sock: sidecar.destination,
            lambda _own_ports: sidecar.app_listens,
        )
        sidecar = Sidecar(app, destination)
        nursery.start_soon(app.run)
        with trio.fail_after(5):
            await app.started.wait()
        sidecars.append(sidecar)
        return sidecar

    yield start
    for sidecar in sidecars:
        assert sidecar.counter("bugs_total") == 0


class SilentLog:
    """A logger that says nothing, but for bugs."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None: ...

    def error(self, event: str, **details: Any) -> None:
        if event == "bug":
            print(details.get("trace"))

    def info(self, event: str, **details: Any) -> None: ...
    def warning(self, event: str, **details: Any) -> None: ...


@pytest.fixture
def serve(nursery: trio.Nursery) -> Callable[[Handler], Awaitable[Address]]:
    """Start a server that handles each connection so."""

    async def start(handler: Handler) -> Address:
        async def guarded(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await handler(stream)
                except trio.BrokenResourceError:
                    pass

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, guarded, listeners)
        return Address("127.0.0.1", listeners[0].socket.getsockname()[1])

    return start


@dataclass
class Script:
    """A server that keeps what it is sent and answers each head with the next answer."""

    answers: list[bytes]
    received: list[bytes] = field(default_factory=list)
    connections_count: int = 0
    read_body_until: bytes = b"\r\n\r\n"

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections_count += 1
        while True:
            request = await read_until(stream, self.read_body_until)
            if not request:
                return
            self.received.append(request)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await stream.send_all(answer)
            if b"\r\n\r\n" in answer and _ends(answer):
                return


def _ends(answer: bytes) -> bool:
    head = answer.partition(b"\r\n\r\n")[0].lower()
    is_final = not head.startswith(b"http/1.1 1")
    has_framing = b"content-length" in head or b"chunked" in head or b" 204" in head or b" 304" in head
    return b"connection: close" in head or (is_final and not has_framing)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


@dataclass
class Controller:
    """A small controller over real HTTP: discovery streams and reports."""

    destinations: dict[str, Destination] = field(default_factory=dict)
    subscribes: list[Subscribe] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    streams: list[trio.SocketStream] = field(default_factory=list)
    is_silent: bool = False
    report_status: int = 204
    url: str = ""

    async def handle(self, stream: trio.SocketStream) -> None:
        while True:
            request = await self._read(stream)
            if request is None:
                return
            path, body = request
            if path == REPORT_PATH:
                if self.report_status < 300:
                    self.reports.append(msgspec.json.decode(body, type=Report))
                await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.report_status)
            elif path == DISCOVERY_PATH:
                await self._stream(stream, msgspec.json.decode(body, type=Subscribe))
                return

    async def _stream(self, stream: trio.SocketStream, subscribe: Subscribe) -> None:
        self.subscribes.append(subscribe)
        self.streams.append(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n")
        if not self.is_silent:
            known = [self.destinations.get(target) for target in subscribe.targets]
            news = tuple(d for d in known if d is not None and d.revision != subscribe.targets[d.target])
            await self.tell(stream, *news)
        await trio.sleep_forever()

    async def tell(self, stream: trio.SocketStream, *news: Destination) -> None:
        await stream.send_all(msgspec.json.encode(Update(news)) + b"\n")

    async def _read(self, stream: trio.SocketStream) -> tuple[str, bytes] | None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = await stream.receive_some(65536)
            if not piece:
                return None
            data += bytes(piece)
        head, _, body = data.partition(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < size:
            body += bytes(await stream.receive_some(65536))
        return head.split()[1].decode(), body

    def service(
        self, target: Address, *endpoints: Address, protocol: Any = "detect", revision: str = "1", meshed: bool = False
    ) -> Destination:
        """Know a service at this target."""
        destination = Destination(
            target=str(target),
            revision=revision,
            kind="service",
            namespace="shop",
            name="web",
            port=target.port,
            protocol=protocol,
            endpoints=tuple(
                Endpoint(
                    ip=e.ip,
                    port=e.port,
                    pod=f"web-{n}",
                    namespace="shop",
                    owner_kind="deployment",
                    owner="web",
                    meshed=meshed,
                )
                for n, e in enumerate(endpoints)
            ),
        )
        self.destinations[str(target)] = destination
        return destination


@pytest.fixture
async def controller(serve: Callable[[Handler], Awaitable[Address]]) -> Controller:
    made = Controller()
    made.url = f"http://{await serve(made.handle)}"
    return made


async def wait_until(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, not one event
            await trio.sleep(0.005)
