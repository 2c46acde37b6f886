"""A controller in a thread: the real application on the real server on loopback, without its watches."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from controller.app import make_app
from controller.cluster import Change, Replace
from controller.kinds import KINDS
from controller.listening import listen
from controller.objects import Record
from controller.settings import Settings
from controller.truth import Truth
from controller.wiring import Server, configure, limits_of
from tests.controller.builders import kind_of

Line = dict[str, Any]

HTTP = httpx.Client(trust_env=False, verify=False, limits=httpx.Limits(max_connections=None))
"""One client for all: making one costs more than most tests."""


def calling_from(ip: str) -> httpx.Client:
    """A client whose connections come from this loopback address."""
    return httpx.Client(transport=httpx.HTTPTransport(local_address=ip), trust_env=False)


class Running:
    """The test's hands on it."""

    def __init__(self, truth: Truth, loop: asyncio.AbstractEventLoop, server: Server, url: str) -> None:
        self.truth = truth
        self.url = url
        self._loop = loop
        self._server = server

    def do(self, work: Callable[[], object]) -> None:
        """Run something on the controller's loop and wait for it."""
        done = threading.Event()

        def step() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(step)
        assert done.wait(5)

    def sync(self, *records: Record) -> None:
        """All kinds are read: these records are all there is."""
        by_kind: dict[str, list[Record]] = {kind.name: [] for kind in KINDS}
        for record in records:
            by_kind[kind_of(record)].append(record)
        batch = [(Replace(kind, tuple(found)), 0.0) for kind, found in by_kind.items()]
        self.do(lambda: self.truth.on_changes(batch))

    def put(self, *records: Record) -> None:
        batch = [(Change(kind_of(record), record.key, record), 0.0) for record in records]
        self.do(lambda: self.truth.on_changes(batch))

    def stop(self) -> None:
        """What SIGTERM does."""

        def end() -> None:
            self.truth.hub.shut_down()
            self._server.should_exit = True

        self.do(end)

    def metric(self, name: str) -> float:
        """Value of a sample of /metrics, written as there, labels too."""
        text = HTTP.get(f"{self.url}/metrics").text
        return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.rpartition(" ")[0] == name)


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    """Start, and end cleanly."""
    listener = listen(settings)
    started: list[Running] = []
    is_started = threading.Event()

    async def serve() -> None:
        truth = Truth(settings)
        server = Server(configure(make_app(truth)), limits_of(settings), truth.meters.count_ended)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started.append(Running(truth, asyncio.get_running_loop(), server, url))
        is_started.set()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert is_started.wait(5)
    try:
        yield started[0]
    finally:
        started[0].stop()
        thread.join(10)
        assert not thread.is_alive()


class Subscription:
    """One open discovery stream; each `next` is the next line that is no heartbeat."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._lines = response.iter_lines()

    def next(self) -> Line:
        return next(line for line in map(json.loads, self._lines) if line)

    def next_raw(self) -> str:
        return next(self._lines)

    def rest(self) -> list[str]:
        """Lines until the other side ends the stream."""
        return list(self._lines)


@contextmanager
def subscribe(
    url: str, targets: dict[str, str], pod: str = "client", instance: str = "", client: httpx.Client = HTTP
) -> Iterator[Subscription]:
    body = {"namespace": "shop", "pod": pod, "targets": targets, "instance": instance}
    with client.stream("POST", f"{url}/proxy/v1/discovery", json=body, timeout=10) as response:
        yield Subscription(response)


@contextmanager
def deaf_client(url: str, body: bytes) -> Iterator[socket.socket]:
    """A client that opens a stream with the smallest buffer there is and never reads."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect((host, int(port)))
        head = f"POST /proxy/v1/discovery HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        yield client
