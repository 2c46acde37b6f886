"""Connections to servers are kept by need: as many as were in use at once; the longest unused go first."""

import resource
from typing import Any

import pytest
import trio
from proxyhouse import GET, OK, read_until
from reachhouse import Through
from turnhouse import TurnHouse

from proxy.model import Address
from proxy.pool import pool_limit

CLIENTS_COUNT = 512
WEB = Address("10.0.0.7", 80)
ROUNDS_COUNT = 6
CONNECT = b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n"


@pytest.mark.trio
async def test_hundreds_of_connections_to_one_endpoint_are_used_again(serve: Any, start_sidecar: Any) -> None:
    """All clients ask, all are answered, and so on: no round but the first needs a connect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * CLIENTS_COUNT)), hard))
    connects_count = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connects_count
        connects_count += 1
        while await read_until(stream, b"\r\n\r\n"):
            await stream.send_all(OK)

    sidecar = await start_sidecar(await serve(handle), pool_idle_timeout_s=60.0)
    streams = [await sidecar.connect() for _ in range(CLIENTS_COUNT)]

    async def ask(stream: trio.SocketStream) -> None:
        await stream.send_all(GET)
        assert await read_until(stream, OK) == OK

    for _ in range(ROUNDS_COUNT):
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(ask, stream)
    for stream in streams:
        await stream.aclose()

    assert connects_count <= CLIENTS_COUNT


def use_at_once(house: TurnHouse, count: int, address: Address = WEB) -> None:
    """Let so many clients ask at once; the server answers them all."""
    clients = [house.accept(address) for _ in range(count)]
    dialled_count = len(house.door.dials)
    for client in clients:
        client.sendall(GET)
    house.spin()
    servers = [dial.connect() for dial in house.door.dials[dialled_count:]]
    house.sockets += servers
    house.spin()
    for server in servers:
        server.sendall(OK)
    house.spin()
    for client in clients:
        client.close()
    house.spin()


def test_the_longest_unused_connections_of_any_endpoint_go_first_when_there_are_too_many() -> None:
    house = TurnHouse(pool_idle_count=32)
    one, other = WEB, Address("10.0.0.8", 80)
    use_at_once(house, 20, one)
    use_at_once(house, 20, other)
    idle_of = {address: len(house.targets.take(address).direct[0].idle) for address in (one, other)}
    house.close()

    assert idle_of[other] == 20
    assert 8 <= idle_of[one] <= 12
    assert house.meter.counters[("pool_shed_total", ())] == 20 - idle_of[one]


def test_what_a_burst_has_left_in_the_pool_goes_when_it_is_not_needed() -> None:
    house = TurnHouse()
    use_at_once(house, 40)
    assert house.parts.pool.size_count == 40
    house.now_s += house.parts.config.pool_idle_timeout_s + 1
    house.pump.enter(house.parts.pool.sweep, house.now_s)
    left_count = house.parts.pool.size_count
    house.close()

    assert left_count == 0


def test_a_pool_of_no_connections_keeps_none() -> None:
    house = TurnHouse(pool_idle_count=0)
    use_at_once(house, 2)
    left_count = house.parts.pool.size_count
    house.close()

    assert left_count == 0


def test_the_pool_leaves_descriptors_for_clients() -> None:
    assert pool_limit(10_000, 1024) == 256
    assert pool_limit(10_000, 1_048_576) == 10_000
    assert pool_limit(0, 1024) == 0


@pytest.mark.trio
@pytest.mark.parametrize(
    "refusal", [b"405 Method Not Allowed", b"400 Bad Request", b"407 Proxy Authentication Required"]
)
async def test_a_connection_that_carried_a_refused_connect_serves_nobody_else(through: Through, refusal: bytes) -> None:
    """A server may have taken what came behind its refusal for a tunnel's bytes, or still wait for a body."""
    connections: list[list[bytes]] = []

    async def handle(stream: trio.SocketStream) -> None:
        heard: list[bytes] = []
        connections.append(heard)
        while head := await read_until(stream, b"\r\n\r\n"):
            heard.append(head.partition(b" ")[0])
            await stream.send_all(b"HTTP/1.1 " + (refusal if b"CONNECT" in head else b"200 OK"))
            await stream.send_all(b"\r\nContent-Length: 2\r\n\r\nok")

    way = await through(handle)
    async with await way() as one, await way() as other:
        for stream, request in ((one, CONNECT), (other, GET), (one, GET)):
            await stream.send_all(request)
            assert (await read_until(stream, b"ok")).endswith(b"ok")

    assert [heard for heard in connections if b"CONNECT" in heard] == [[b"CONNECT"]]


@pytest.mark.trio
async def test_a_connection_that_became_a_tunnel_by_connect_ends_with_it(through: Through) -> None:
    connections_count = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connections_count
        connections_count += 1
        head = await read_until(stream, b"\r\n\r\n")
        if not head.startswith(b"CONNECT"):
            await stream.send_all(OK)
            return
        await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        assert await read_until(stream, b"!") == b"hello!"
        await stream.send_all(b"you!")

    way = await through(handle)
    async with await way() as one, await way() as other:
        await one.send_all(CONNECT)
        assert (await read_until(one, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await one.send_all(b"hello!")
        assert await read_until(one, b"!") == b"you!"
        await other.send_all(GET)
        assert (await read_until(other, b"ok")).endswith(b"ok")

    assert connections_count == 2
