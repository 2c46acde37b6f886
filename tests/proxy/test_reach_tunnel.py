"""Tunnels in the turn world: bytes in a pipe, ends in any order, and what the kernel refuses."""

import os
import socket
from collections.abc import Iterator

import pytest
from turnhouse import TurnHouse

from proxy.model import Address
from proxy.tunnel import Tunnel

DATABASE = Address("10.0.0.7", 5000)


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    made = TurnHouse(splice_after_bytes=1)
    yield made
    made.close()


def bulk(house: TurnHouse) -> tuple[socket.socket, socket.socket, Tunnel]:
    """Give a client, its server, and the tunnel between them, whose direction to the client is spliced."""
    client = house.accept(DATABASE)
    client.sendall(b"\x00")
    house.spin()
    server = house.door.dials[-1].connect()
    house.sockets.append(server)
    server.sendall(b"hello")
    house.spin()
    assert client.recv(100) == b"hello"
    (tunnel,) = house.parts.sessions
    assert isinstance(tunnel, Tunnel)
    tunnel._client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    return client, server, tunnel


def fill(house: TurnHouse, server: socket.socket, count_bytes: int) -> bytes:
    data = os.urandom(count_bytes)
    server.setblocking(False)
    left = memoryview(data)
    while left:
        try:
            left = left[server.send(left) :]
        except BlockingIOError:
            pass
        house.spin()
    return data


def drain(house: TurnHouse, client: socket.socket) -> bytes:
    data = b""
    client.settimeout(0.001)
    for _ in range(3000):
        house.spin()
        try:
            piece = client.recv(65536)
        except TimeoutError:
            continue
        if not piece:
            break
        data += piece
    return data


def is_reset(house: TurnHouse, peer: socket.socket) -> bool:
    """Read what is left; tell whether it ended in a reset."""
    peer.settimeout(0.5)
    try:
        while peer.recv(65536):
            house.spin()
    except ConnectionResetError:
        return True
    return False


def test_bytes_that_wait_in_a_pipe_outlive_both_ends(house: TurnHouse) -> None:
    client, server, tunnel = bulk(house)
    data = fill(house, server, 400_000)
    server.shutdown(socket.SHUT_WR)
    house.spin()
    assert tunnel._splices[0]._held_bytes
    client.shutdown(socket.SHUT_WR)
    house.spin()

    assert drain(house, client) == data
    assert not house.parts.sessions


def test_bytes_that_wait_in_a_pipe_outlive_the_clients_end_that_came_first(house: TurnHouse) -> None:
    client, server, _ = bulk(house)
    client.shutdown(socket.SHUT_WR)
    house.spin()
    server.setblocking(True)
    assert server.recv(10) == b"\x00"
    assert server.recv(10) == b""
    data = fill(house, server, 400_000)
    server.shutdown(socket.SHUT_WR)

    assert drain(house, client) == data
    assert not house.parts.sessions


def test_a_reset_takes_the_other_side_along_and_gives_the_pipe_back(house: TurnHouse) -> None:
    descriptors_before = len(os.listdir("/proc/self/fd"))
    client, server, _ = bulk(house)
    fill(house, server, 400_000)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    server.close()
    house.spin()
    assert is_reset(house, client)
    house.sockets.remove(client)
    client.close()

    assert not house.parts.sessions
    assert len(os.listdir("/proc/self/fd")) <= descriptors_before


def test_a_half_closed_tunnel_ends_after_its_own_limit(house: TurnHouse) -> None:
    client, _, _ = bulk(house)
    client.shutdown(socket.SHUT_WR)
    house.spin()
    (tunnel,) = house.parts.sessions
    tunnel.check(house.now_s + house.parts.config.half_closed_timeout_s - 1)
    assert house.parts.sessions
    tunnel.check(house.now_s + house.parts.config.half_closed_timeout_s + 1)

    assert not house.parts.sessions
    assert is_reset(house, client)


def test_a_byte_after_a_long_silence_keeps_a_tunnel(house: TurnHouse) -> None:
    client, server, _ = bulk(house)
    house.spin(house.parts.config.tunnel_idle_timeout_s - 1)
    server.sendall(b"still here")
    house.spin()
    house.spin(house.parts.config.tunnel_idle_timeout_s - 1)
    (tunnel,) = house.parts.sessions
    tunnel.check(house.now_s)

    assert client.recv(100) == b"still here"
    assert house.parts.sessions


@pytest.mark.parametrize("speaks_first", ["client", "server"])
def test_the_time_that_a_connection_takes_weighs_on_an_opaque_endpoint(house: TurnHouse, speaks_first: str) -> None:
    (endpoint,) = house.targets.take(DATABASE).direct
    client = house.accept(DATABASE)
    if speaks_first == "client":
        client.sendall(b"\x00")
    house.spin(0.02)
    house.spin(0.5)
    with house.door.dials[0].connect() as server:
        if speaks_first == "server":
            server.sendall(b"hello")
        house.spin()

        assert 0.5 <= endpoint.cost_s < 0.6
        assert endpoint.in_flight == 1
    house.spin()
    client.close()
    house.spin()
    assert endpoint.in_flight == 0
