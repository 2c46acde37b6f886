"""An exchange under a policy leaves nothing to the garbage collector: it would stop the traffic to find it."""

import gc

from turnhouse import TurnHouse

from contract.discovery import Destination, Endpoint
from contract.policy import CircuitBreaker, Concurrency, Retries, ServicePolicy, Timeouts
from proxy.course import Course
from proxy.exchange import Exchange
from proxy.model import Address
from proxy.tries import Tries

WEB = Address("10.96.0.7", 80)
POLICY = ServicePolicy(
    timeouts=Timeouts(request_s=10.0, per_try_s=5.0),
    retries=Retries(statuses=((503, 503),)),
    circuit_breaker=CircuitBreaker(consecutive_failures_count=5),
    service_concurrency=Concurrency(100, 10),
)


def test_an_exchange_that_is_over_is_gone() -> None:
    house = TurnHouse()
    house.targets.take(WEB)
    told = Destination(str(WEB), "r", "service", endpoints=(Endpoint("10.1.0.1", 80),), policy=POLICY)
    house.targets.apply([told])
    client = house.accept(WEB)
    client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    house.spin()
    with house.door.dials[0].connect() as server:
        house.spin()
        server.recv(65536)
        house.door.dials.clear()
        gc.collect()
        gc.disable()
        try:
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            house.spin()
            client.recv(65536)
            left = [one for one in gc.get_objects() if isinstance(one, Exchange | Course | Tries)]
        finally:
            gc.enable()

    house.close()

    assert left == []
