"""A server whose packets are lost from one moment to the next: connections to it end in a second or two, not in hours.

The server lives in a network namespace of its own; a firewall rule there swallows everything.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from proxyhouse import GET, Sidecar, read_all, read_until, wait_until

from proxy.model import Address

pytestmark = [pytest.mark.trio, pytest.mark.netns]

NAMESPACE = f"tulle-blackhole-{os.getpid()}"
LINK = f"tbh{os.getpid() % 100000}"
HERE, THERE = "10.254.11.1", "10.254.11.2"
PORT = 7000

ECHO = """
import socket, threading
listener = socket.create_server(("10.254.11.2", 7000))
print("ready", flush=True)
def echo(sock):
    while data := sock.recv(65536):
        if not data.startswith(b"GET"):
            sock.sendall(data)
while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
"""


def run(*command: str, stdin: str | None = None) -> None:
    subprocess.run(command, check=True, input=stdin, text=True, capture_output=True)


@pytest.fixture
def server() -> Iterator[Address]:
    """An echo server behind a wire; it hears HTTP requests and never answers them."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    run("ip", "netns", "add", NAMESPACE)
    child = None
    try:
        run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        run("ip", "address", "add", f"{HERE}/30", "dev", LINK)
        run("ip", "link", "set", LINK, "up")
        run("ip", "-n", NAMESPACE, "address", "add", f"{THERE}/30", "dev", "eth0")
        run("ip", "-n", NAMESPACE, "link", "set", "eth0", "up")
        command = ("ip", "netns", "exec", NAMESPACE, sys.executable, "-c", ECHO)
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield Address(THERE, PORT)
    finally:
        if child is not None:
            child.kill()
            child.communicate()
        # A namespace lives on while a connection in it does: the wire must not wait for that.
        subprocess.run(("ip", "link", "del", LINK), check=False)
        run("ip", "netns", "del", NAMESPACE)


def swallow() -> None:
    """From now on nothing reaches the server, and nobody is told."""
    rules = "add table ip hole\nadd chain ip hole in { type filter hook input priority 0; policy drop; }\n"
    run("ip", "netns", "exec", NAMESPACE, "nft", "-f", "-", stdin=rules)


async def lost(sidecar: Sidecar) -> None:
    def timed_out() -> int:
        return sum(found.closed.get("ETIMEDOUT", 0) for found in sidecar.app.meter.tcp.values())

    await wait_until(lambda: timed_out() == 1)


async def start(start_sidecar: Any, server: Address) -> Sidecar:
    sidecar: Sidecar = await start_sidecar(server, user_timeout_s=1.0, keepalive_s=1.0)
    return sidecar


async def test_a_tunnel_with_data_on_its_way_is_reset_after_the_user_timeout(
    start_sidecar: Any, server: Address
) -> None:
    sidecar = await start(start_sidecar, server)
    async with await sidecar.connect() as stream:
        await stream.send_all(b"\x00hello")
        assert await read_until(stream, b"hello") == b"\x00hello"
        swallow()
        await stream.send_all(b"into the void")

        assert await read_all(stream) == b"<reset>"
    await lost(sidecar)


async def test_a_silent_tunnel_is_reset_by_keep_alive(start_sidecar: Any, server: Address) -> None:
    sidecar = await start(start_sidecar, server)
    async with await sidecar.connect() as stream:
        await stream.send_all(b"\x00hello")
        assert await read_until(stream, b"hello") == b"\x00hello"
        swallow()

        assert await read_all(stream) == b"<reset>"
    await lost(sidecar)


async def test_a_tunnel_that_the_kernel_moves_is_reset_too(start_sidecar: Any, server: Address) -> None:
    sidecar = await start_sidecar(server, user_timeout_s=1.0, keepalive_s=1.0, splice_after_bytes=1)
    async with await sidecar.connect() as stream:
        for _ in range(3):
            await stream.send_all(b"\x00hello")
            assert await read_until(stream, b"hello") == b"\x00hello"
        swallow()
        await stream.send_all(b"into the void")

        assert await read_all(stream) == b"<reset>"


async def test_a_request_on_its_way_is_answered_502(start_sidecar: Any, server: Address) -> None:
    sidecar = await start(start_sidecar, server)
    async with await sidecar.connect() as stream:
        await stream.send_all(GET)
        await trio.sleep(0.05)
        swallow()
        answer = await read_until(stream, b"]\n")

        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"server-closed" in answer
