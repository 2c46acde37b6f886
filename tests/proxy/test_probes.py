"""/probe/tcp/PORT: the sidecar dials the application's port as the kubelet would have, and says what it met."""

import http.client
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
from proxyhouse import free_port

from proxy.admin import Admin, Answer
from proxy.model import Address
from proxy.probes import probe_pages

pytestmark = pytest.mark.trio


def admin(*ports: int, addresses: tuple[str, ...] = ("127.0.0.1",)) -> Admin:
    def on_bug(_where: object, error: Exception) -> None:
        raise error

    pages = {"/live": lambda: Answer(200, "text/plain", ["live\n"]), **probe_pages(ports, addresses)}
    return Admin(pages, on_bug, lambda _what: None)


@asynccontextmanager
async def served(one: Admin) -> AsyncIterator[trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, one.serve, [listener])
        async with await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]) as stream:
            yield stream
        nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream, target: str) -> str:
    await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n".encode())
    return b"".join([bytes(piece) async for piece in stream]).decode()


@pytest.mark.parametrize("query", ["", "?port=db"])
async def test_a_port_that_listens_is_well(query: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        port = application.getsockname()[1]
        async with served(admin(port)) as stream:
            answer = await ask(stream, f"/probe/tcp/{port}{query}")

    assert answer.startswith("HTTP/1.1 200 ")
    assert answer.endswith(f"127.0.0.1:{port} accepts\n")


async def test_a_dead_port_is_not_well_and_the_answer_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with served(admin(port)) as stream:
        answer = await ask(stream, f"/probe/tcp/{port}")

    assert answer.startswith("HTTP/1.1 503 ")
    assert answer.endswith(f"127.0.0.1:{port}: Connection refused\n")


async def test_only_ports_of_the_pods_own_probes_are_dialled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        port = other.getsockname()[1]
        for target in (f"/probe/tcp/{port}", f"/probe/tcp/1/{port}", "/probe/tcp/", f"/probe/tcp/0{port}"):
            async with served(admin(1)) as stream:
                assert (await ask(stream, target)).startswith("HTTP/1.1 404 ")
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_many_who_ask_at_once_make_one_dial() -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        application.settimeout(0)
        (page,) = probe_pages([application.getsockname()[1]], ("127.0.0.1",)).values()
        statuses = []

        async def look() -> None:
            statuses.append((await page()).status)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(look)
        assert [200] * 20 == statuses
        application.accept()[0].close()
        with pytest.raises(BlockingIOError):
            application.accept()


async def test_the_pods_first_address_is_dialled_and_not_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        port = application.getsockname()[1]
        async with served(admin(port, addresses=("127.0.0.2", "127.0.0.1"))) as stream:
            assert "127.0.0.2" in await ask(stream, f"/probe/tcp/{port}")


async def test_a_grpc_probe_of_a_dead_application_is_answered_unavailable(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(Address("127.0.0.1", free_port()))

    def check() -> grpc.StatusCode:
        with grpc.insecure_channel(f"127.0.0.1:{sidecar.app.config.inbound_port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
            return caught.value.code()

    assert grpc.StatusCode.UNAVAILABLE is await trio.to_thread.run_sync(check)


async def test_an_https_probe_of_a_dead_application_fails_in_its_handshake(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(Address("127.0.0.1", free_port()))

    port = sidecar.app.config.inbound_port

    def check() -> None:
        context = ssl._create_unverified_context()
        with pytest.raises(OSError, match=r"EOF|reset|closed"):
            http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context).request("GET", "/")

    await trio.to_thread.run_sync(check)
