"""Policies before the sidecar's own application, the clock in the test's hand: rates, clients, probes, deadlines."""

import socket
from collections.abc import Iterator

import pytest
from turnhouse import TurnHouse

from contract.discovery import Destination, Endpoint
from contract.policy import Rate, RateLimit, ServicePolicy
from proxy.model import Address
from proxy.peers import Peers
from proxy.targets import Targets

ADDRESS = Address("10.1.0.5", 8080)
CLIENT = "127.0.0.1"
GET = b"GET /a HTTP/1.1\r\nHost: web\r\n%s\r\n"
PROBE = GET % b"User-Agent: kube-probe/1.33\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    """A sidecar that serves its own pod."""
    made = TurnHouse()
    made.targets = Targets("inbound", made.pump, made.meter, 100, 0.0, lambda: 0.0)
    made.parts.peers = Peers(made.pump)
    made.parts.unix_s = lambda: 1_700_000_000.0
    yield made
    made.close()


def limit(house: TurnHouse, service: Rate = Rate(), client: Rate = Rate()) -> None:  # noqa: B008
    house.targets.take(ADDRESS)
    policy = ServicePolicy(rate_limit=RateLimit(service, client), name="shop/web")
    assert [] == house.targets.apply([Destination(str(ADDRESS), "r", "pod", "shop", "web", 8080, policy=policy)])


def send(house: TurnHouse, request: bytes = GET % b"") -> socket.socket:
    client = house.accept(ADDRESS)
    client.sendall(request)
    house.spin()
    return client


def asked(house: TurnHouse, request: bytes = GET % b"") -> str:
    """Send a request: whether it passed to the application, or what the answer said."""
    dials_count = len(house.door.dials)
    client = send(house, request)
    if len(house.door.dials) > dials_count:
        return "passed"
    head = client.recv(65536).replace(b"Retry-After", b"retry-after")
    return head.split(b"\r\n")[0].decode() + " " + (head.split(b"retry-after: ")[1].split(b"\r\n")[0].decode())


def test_a_rate_of_the_service_refuses_what_is_too_much_until_there_is_room(house: TurnHouse) -> None:
    limit(house, service=Rate(0.5, 2))

    assert ["passed", "passed"] == [asked(house), asked(house)]
    assert "HTTP/1.1 429 Too Many Requests 2" == asked(house)
    house.spin(2.0)
    assert "passed" == asked(house)
    assert {("by", "service")} < {label for (_, labels) in house.meter.counters for label in labels}


def test_pods_of_one_service_account_are_one_client(house: TurnHouse) -> None:
    limit(house, client=Rate(0.1, 2))
    peers = house.parts.peers
    assert peers is not None
    assert "passed" == asked(house), "known by its address"
    peers.apply([Destination(f"{CLIENT}:1", "r", "pod", endpoints=(Endpoint(CLIENT, 1, "p", "shop"),))])

    assert "passed" == asked(house)
    assert "429" in asked(house)
    peers.apply(
        [Destination(f"{CLIENT}:1", "s", "pod", endpoints=(Endpoint(CLIENT, 1, "q", "shop", service_account="bob"),))]
    )
    assert "passed" == asked(house), "another workload's pod has the address now"
    assert 2 == house.targets.limited_clients_count


def test_a_probe_of_the_kubelet_is_no_client(house: TurnHouse) -> None:
    limit(house, Rate(0.1, 1), Rate(0.1, 1))

    assert ["passed"] * 5 == [asked(house, PROBE) for _ in range(5)]
    assert "passed" == asked(house)


def test_a_pod_that_says_that_it_is_the_kubelet_is_limited_nevertheless(house: TurnHouse) -> None:
    limit(house, service=Rate(0.1, 1))
    assert "passed" == asked(house, PROBE)
    assert house.parts.peers is not None
    house.parts.peers.apply([Destination(f"{CLIENT}:1", "r", "pod", endpoints=(Endpoint(CLIENT, 1, "p", "shop"),))])

    assert "passed" == asked(house, PROBE)
    assert "429" in asked(house, PROBE)


def test_the_application_hears_the_deadline_and_the_clients_sidecar_ends_the_exchange(house: TurnHouse) -> None:
    client = send(house, GET % b"X-Tulle-Timeout-Ms: 250\r\n")
    server = house.door.dials[0].connect()
    house.sockets.append(server)
    house.spin()
    assert b"\r\nx-tulle-deadline: 1700000000250\r\n" in server.recv(65536)
    client.settimeout(0.1)

    house.spin(0.3)
    with pytest.raises(TimeoutError):
        client.recv(1)
    house.spin(0.06)
    assert b"x-tulle-error: request-timeout" in client.recv(65536)
