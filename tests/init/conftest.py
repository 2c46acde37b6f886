"""Two machines and a pod's inside, as network namespaces with real addresses; sockets made in them.

    peer 10.77.0.1 fd77::1 -- 10.77.0.2 fd77::2 pod 10.78.0.1 fd78::1 -- 10.78.0.2 fd78::2 inner

`pod` is where rules are programmed; `inner` is a container inside of it, behind a bridge of its own.
"""

import ctypes
import itertools
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

ADDRESSES = {
    "peer": {4: "10.77.0.1", 6: "fd77::1"},
    "pod": {4: "10.77.0.2", 6: "fd77::2"},
    "inner": {4: "10.78.0.2", 6: "fd78::2"},
    "localhost": {4: "127.0.0.1", 6: "::1"},
    # Nobody's: a service's address, routed towards the peer.
    "service": {4: "10.96.0.10", 6: "fd96::10"},
}
CLONE_NEWNET = 0x40000000
SO_ORIGINAL_DST = 80
TIMEOUT_S = 3.0
TULLE_INIT = Path(sys.executable).with_name("tulle-init")

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Seen:
    """What a listener learnt of one connection."""

    listener_port: int
    original: tuple[str, int]


class Namespace:
    """A network namespace of this test run."""

    def __init__(self, name: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("network namespaces need root")
        self.name = f"tulle-{os.getpid()}-{next(_numbers)}-{name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        full = ["nsenter", f"--net=/run/netns/{self.name}", *command]
        return subprocess.run(full, check=check, capture_output=True, text=True, timeout=30)

    def init(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.run(*prefix, str(TULLE_INIT), *arguments, check=False)

    def inside(self, work: Callable[[], T]) -> T:
        """Do something in a thread that lives in the namespace: sockets made there stay there."""
        results: list[T] = []
        failures: list[BaseException] = []

        def enter_and_work() -> None:
            try:
                with open(f"/run/netns/{self.name}") as file:
                    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                results.append(work())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return results[0]

    def listen(self, port: int, family: int = 6) -> socket.socket:
        """Listen on all addresses, IPv4 too."""

        def make() -> socket.socket:
            listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", port))
            listener.listen(16)
            listener.settimeout(TIMEOUT_S)
            return listener

        return self.inside(make)

    def connect(self, address: str, port: int) -> socket.socket:
        return self.inside(lambda: socket.create_connection((address, port), TIMEOUT_S))

    def rules(self) -> str:
        """Everything of ours in the kernel, by either backend, both families."""
        saves = [self.run(f"{tool}-legacy-save", "-t", "nat").stdout for tool in ("iptables", "ip6tables")]
        nft = self.run("nft", "list", "ruleset").stdout
        kept = [line for text in saves for line in text.splitlines() if "tulle" in line.lower()]
        return "\n".join([*kept, *(nft.splitlines() if "tulle" in nft else [])])

    def close(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


@dataclass(frozen=True)
class World:
    """The topology of this module's docstring, with listeners where connections may arrive."""

    pod: Namespace
    peer: Namespace
    inner: Namespace

    def arrival(self, source: Namespace, address: str, port: int, at: list[tuple[Namespace, int]]) -> Seen:
        """Connect, and see which of the listeners (namespace, port) takes it."""
        listeners = [namespace.listen(number) for namespace, number in at]
        try:
            with closing(source.connect(address, port)):
                return _accepted(listeners)
        finally:
            for listener in listeners:
                listener.close()

    def arrival_through(self, device: str, address: str, port: int, at: list[tuple[Namespace, int]]) -> Seen:
        """The same from the pod, by a socket that is bound to an interface."""
        listeners = [namespace.listen(number) for namespace, number in at]

        def connect() -> socket.socket:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            sock.settimeout(TIMEOUT_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            try:
                sock.connect((address, port))
            except OSError:
                sock.close()
                raise
            return sock

        try:
            with closing(self.pod.inside(connect)):
                return _accepted(listeners)
        finally:
            for listener in listeners:
                listener.close()

    def arrival_as(self, uid: int, address: str, port: int, at: list[tuple[Namespace, int]]) -> Seen:
        """The same from the pod, as a user."""
        listeners = [namespace.listen(number) for namespace, number in at]
        script = f"import socket; socket.create_connection(({address!r}, {port}), {TIMEOUT_S})"
        try:
            self.pod.run("setpriv", f"--reuid={uid}", "--clear-groups", "/usr/bin/python3", "-c", script, check=True)
            return _accepted(listeners)
        finally:
            for listener in listeners:
                listener.close()


def _accepted(listeners: list[socket.socket]) -> Seen:
    import select

    ready, _, _ = select.select(listeners, [], [], TIMEOUT_S)
    assert ready, "no listener was reached"
    assert len(ready) == 1, "one connection reached several listeners: it went in circles"
    connection, _ = ready[0].accept()
    with closing(connection):
        return Seen(ready[0].getsockname()[1], original_destination(connection))


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Where the client meant to go (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h)."""
    host, port = connection.getsockname()[:2]
    try:
        if host.startswith("::ffff:"):
            port, packed = struct.unpack_from("!2xH4s", connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
            return socket.inet_ntop(socket.AF_INET, packed), port
        port, packed = struct.unpack_from("!2xH4x16s", connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28))
    except FileNotFoundError:
        # A namespace without any rule does not track connections: nobody has changed the address.
        return host.removeprefix("::ffff:"), port
    return socket.inet_ntop(socket.AF_INET6, packed), port


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A bare namespace."""
    made = Namespace("bare")
    yield made
    made.close()


def make_world() -> World:
    world = World(Namespace("pod"), Namespace("peer"), Namespace("inner"))
    _join(world.pod, "eth0", world.peer, "10.77.0.2/24", "fd77::2/64", "10.77.0.1/24", "fd77::1/64")
    _join(world.pod, "bridge0", world.inner, "10.78.0.1/24", "fd78::1/64", "10.78.0.2/24", "fd78::2/64")
    for namespace, four, six in ((world.pod, "10.77.0.1", "fd77::1"), (world.inner, "10.78.0.1", "fd78::1")):
        namespace.run("ip", "route", "add", "default", "via", four)
        namespace.run("ip", "-6", "route", "add", "default", "via", six)
    world.peer.run("ip", "route", "add", "10.78.0.0/24", "via", "10.77.0.2")
    world.peer.run("ip", "-6", "route", "add", "fd78::/64", "via", "fd77::2")
    for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
        world.pod.run("sysctl", "-q", "-w", setting)
    return world


def close_world(world: World) -> None:
    for namespace in (world.pod, world.peer, world.inner):
        namespace.close()


def _join(left: Namespace, device: str, right: Namespace, *addresses: str) -> None:
    left.run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", right.name)
    for namespace, name, four, six in (
        (left, device, addresses[0], addresses[1]),
        (right, "eth0", addresses[2], addresses[3]),
    ):
        namespace.run("ip", "address", "add", four, "dev", name)
        namespace.run("ip", "address", "add", six, "dev", name, "nodad")
        namespace.run("ip", "link", "set", name, "up")
