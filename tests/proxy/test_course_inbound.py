"""Policies before the sidecar's own application, the clock in the test's hand: rates, clients, probes, deadlines."""

import socket
from collections.abc import Iterator

import pytest
from turnhouse import TurnHouse

from contract.discovery import Destination, Endpoint
from contract.policy import Rate, RateLimit, ServicePolicy
from proxy.model import Address
from proxy.nearby import Nearby
from proxy.peers import Peers
from proxy.policy.probe import parse
from proxy.targets import Targets

ADDRESS = Address("10.1.0.5", 8080)
CLIENT = "127.0.0.1"
NODE = ("127.0.0.1",)
GET = b"GET /a HTTP/1.1\r\nHost: web\r\n%s\r\n"
PROBES = parse("8080:/ready 8080:/live?full=1 9090:/live 9091:grpc")
PROBE = b"GET /ready HTTP/1.1\r\nHost: 10.1.0.5:8080\r\nUser-Agent: kube-probe/1.33\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    """A sidecar that serves its own pod."""
    made = TurnHouse()
    made.targets = Targets("inbound", made.pump, made.meter, 100, 0.0, lambda: 0.0, PROBES)
    made.parts.peers = Peers(made.pump, Nearby())
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


def told(house: TurnHouse, *endpoints: Endpoint) -> None:
    """Let discovery answer who the client's address is: a pod, or none."""
    assert house.parts.peers is not None
    kind = "pod" if endpoints else "unknown"
    house.parts.peers.apply([Destination(f"{CLIENT}:1", f"r{endpoints}", kind, endpoints=endpoints)])  # type: ignore[arg-type]


def test_a_probe_from_the_node_is_no_client_and_counts_apart(house: TurnHouse) -> None:
    house.parts.peers = Peers(house.pump, Nearby(NODE))
    limit(house, Rate(0.1, 1), Rate(0.1, 1))
    target = house.targets.take(ADDRESS)
    assert target.probes is not None

    assert ["passed"] * 5 == [asked(house, PROBE) for _ in range(5)]
    assert "passed" == asked(house, PROBE.replace(b"/ready", b"/live?full=1").replace(b"kube-probe", b"anything"))
    assert "passed" == asked(house)
    for dial in house.door.dials:
        house.sockets.append(dial.connect())
        house.spin()
    assert (6, 1) == (target.probes.requests, target.direct[0].http.requests)


@pytest.mark.parametrize(
    "request_",
    [
        PROBE.replace(b"/ready", b"/readyz"),
        PROBE.replace(b"/ready", b"/ready?x=1"),
        PROBE.replace(b"/ready", b"/live"),
        PROBE.replace(b"/ready", b"//ready"),
        PROBE.replace(b"/ready", b"http://a/ready"),
        PROBE.replace(b"GET", b"POST"),
        PROBE.replace(b"GET", b"HEAD"),
        PROBE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
    ],
)
def test_what_no_probe_of_the_spec_asks_is_no_probe_whatever_it_calls_itself(house: TurnHouse, request_: bytes) -> None:
    house.parts.peers = Peers(house.pump, Nearby(NODE))
    limit(house, Rate(0.1, 1))

    assert "passed" == asked(house, request_)
    assert "429" in asked(house, request_)


def test_a_probe_is_the_spec_of_its_port_alone(house: TurnHouse) -> None:
    house.parts.peers = Peers(house.pump, Nearby(NODE))
    other = Address("10.1.0.5", 8081)

    assert house.targets.take(other).probes is None
    assert (b"/live",) == house.targets.take(Address("10.1.0.5", 9090)).probed


def test_a_stranger_who_asks_what_a_probe_asks_is_limited_nevertheless(house: TurnHouse) -> None:
    limit(house, service=Rate(0.1, 2))
    assert "passed" == asked(house, PROBE), "nobody knows yet who it is"
    told(house)
    assert "passed" == asked(house, PROBE), "no pod, and not on the pod's network"

    assert "429" in asked(house, PROBE)


def test_a_pod_that_asks_what_a_probe_asks_is_limited_nevertheless(house: TurnHouse) -> None:
    house.parts.peers = Peers(house.pump, Nearby((), [(4, 127 << 24, 0xFF << 24)]))
    limit(house, service=Rate(0.1, 1))
    assert "passed" == asked(house, PROBE)
    told(house, Endpoint(CLIENT, 1, "p", "shop", meshed=True))

    assert "429" in asked(house, PROBE)


def test_what_is_on_the_pods_network_and_no_pod_is_the_node(house: TurnHouse) -> None:
    house.parts.peers = Peers(house.pump, Nearby((), [(4, 127 << 24, 0xFF << 24)]))
    limit(house, service=Rate(0.1, 1))
    assert "passed" == asked(house, PROBE), "counted: nobody knows yet who it is"
    told(house)

    assert ["passed"] * 3 == [asked(house, PROBE) for _ in range(3)]


def know_the_client(house: TurnHouse) -> None:
    """Discovery has told that the client has a sidecar."""
    assert house.parts.peers is not None
    house.parts.peers.meet(CLIENT)
    told(house, Endpoint(CLIENT, 1, "p", "shop", meshed=True))


def test_the_application_hears_the_deadline_and_the_clients_sidecar_ends_the_exchange(house: TurnHouse) -> None:
    know_the_client(house)
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
    assert b"x-tulle-error: caller-timeout" in client.recv(65536)
