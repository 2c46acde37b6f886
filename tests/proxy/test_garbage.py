"""What is over leaves nothing to the garbage collector: it would stop the traffic to find it, and till then a burst's
memory would not be free for what comes next."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from turnhouse import TurnHouse

from contract.discovery import Destination, Endpoint
from contract.policy import CircuitBreaker, Concurrency, Retries, ServicePolicy, Timeouts
from proxy.channel import SocketChannel
from proxy.conversation import Conversation
from proxy.course import Course
from proxy.exchange import Exchange
from proxy.model import Address
from proxy.server import Server
from proxy.session import Session
from proxy.tries import Tries
from proxy.tunnel import Tunnel
from proxy.wire.http1 import RequestReader, ResponseReader

WEB = Address("10.96.0.7", 80)
POLICY = ServicePolicy(
    timeouts=Timeouts(request_s=10.0, per_try_s=5.0),
    retries=Retries(statuses=((503, 503),)),
    circuit_breaker=CircuitBreaker(consecutive_failures_count=5),
    service_concurrency=Concurrency(100, 10),
)
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
OF_CONNECTIONS = (Session, Conversation, Tunnel, Server, RequestReader, ResponseReader, SocketChannel, Exchange)


def serving(policy: ServicePolicy | None = None) -> TurnHouse:
    house = TurnHouse()
    house.targets.take(WEB)
    told = Destination(str(WEB), "r", "service", endpoints=(Endpoint("10.1.0.1", 80),), policy=policy)
    house.targets.apply([told])
    return house


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_an_exchange_that_is_over_is_gone() -> None:
    house = serving(POLICY)
    client = house.accept(WEB)
    client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    house.spin()
    with house.door.dials[0].connect() as server:
        house.spin()
        server.recv(65536)
        house.door.dials.clear()
        with without_collector():
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            house.spin()
            client.recv(65536)
            left = [one for one in gc.get_objects() if isinstance(one, Exchange | Course | Tries)]

    house.close()

    assert left == []


@pytest.mark.parametrize(
    ("asked", "answered", "spoken"),
    [
        (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (_UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\n" + _UPGRADE + b"\r\n", b"frame"),
    ],
    ids=["HTTP", "a tunnel that was HTTP"],
)
def test_connections_that_are_over_are_gone(asked: bytes, answered: bytes, spoken: bytes) -> None:
    house = serving()
    with without_collector():
        client = house.accept(WEB)
        client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n" + asked + b"\r\n")
        house.spin()
        with house.door.dials.pop().connect() as server:
            house.spin()
            server.recv(65536)
            server.sendall(answered)
            house.spin()
            client.recv(65536)
            if spoken:
                client.sendall(spoken)
                house.spin()
                assert server.recv(65536) == spoken
            client.close()
            house.spin()
        house.spin()
        left = [one for one in gc.get_objects() if isinstance(one, OF_CONNECTIONS)]

    house.close()

    assert left == []
