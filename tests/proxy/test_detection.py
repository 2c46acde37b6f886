"""Detection at work: what passes unread, what is refused where HTTP is declared, and how long a client may take."""

import socket
from collections.abc import Iterator

import pytest
from turnhouse import TurnHouse

from contract.discovery import Destination
from contract.policy import Rate, RateLimit, ServicePolicy
from proxy.model import Address
from proxy.policy.route import standing
from proxy.targets import Targets

PORT = Address("127.0.0.1", 9000)
"""Where the application listens."""

NO_HTTP = [
    b"*1\r\n$4\r\nPING\r\n",
    b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"X" * 40 + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS rtsp://cam/1 RTSP/1.0\r\n\r\n",
    b"\n" * 20 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x00\x05\x02\x00\x00",
]


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    made = TurnHouse()
    yield made
    made.close()


def inbound(house: TurnHouse, protocol: str = "detect", policy: ServicePolicy | None = None, told: bool = True) -> None:
    """Make the house a server's: a controller is there, and says what stands on the port (or does not yet)."""
    house.targets = Targets("inbound", house.pump, house.meter, 10, 1.0, lambda: 0.0)
    house.targets.is_connected = True
    if told:
        house.targets.take(PORT)
        tell(house, protocol, policy)


def tell(house: TurnHouse, protocol: str, policy: ServicePolicy | None = None) -> None:
    told = Destination(str(PORT), "1", "pod", protocol=protocol, policy=policy)  # type: ignore[arg-type]
    house.pump.enter(house.targets.apply, [told])


def serve(house: TurnHouse) -> socket.socket:
    """Let the first dial succeed; give the server's end."""
    server = house.door.dials[0].connect()
    house.sockets.append(server)
    return server


LIMIT = ServicePolicy(rate_limit=RateLimit(service=Rate(100.0, 100)))


@pytest.mark.parametrize("data", NO_HTTP)
@pytest.mark.parametrize(("protocol", "policy"), [("http/1", None), ("http/2", None), ("detect", LIMIT)])
def test_bytes_that_are_no_http_are_refused_where_http_is_declared_or_limited(
    house: TurnHouse, data: bytes, protocol: str, policy: ServicePolicy | None
) -> None:
    inbound(house, protocol, policy)
    client = house.accept(PORT)
    client.sendall(data)
    house.spin()

    answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-tulle-error: not-http\r\n" in answer
    assert house.door.dials == []
    assert [told[:2] for told in house.notices] == [("inbound", "not-http")]
    assert house.meter.counters["http1_faults_total", (("direction", "inbound"), ("reason", "not-http"))] == 1


@pytest.mark.parametrize("data", NO_HTTP)
def test_the_same_bytes_pass_unread_where_nothing_is_declared(house: TurnHouse, data: bytes) -> None:
    inbound(house)
    client = house.accept(PORT)
    client.sendall(data)
    house.spin()

    server = serve(house)
    house.spin()
    assert server.recv(4096) == data


def test_a_line_feed_before_a_request_hides_it_from_nothing(house: TurnHouse) -> None:
    inbound(house)
    client = house.accept(PORT)
    client.sendall(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    house.spin()
    server = serve(house)
    house.spin()

    assert server.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
    labels = (("direction", "inbound"), ("protocol", "http/1"))
    assert house.meter.counters["tcp_protocol_connections_total", labels] == 1


@pytest.mark.parametrize(
    "data", [b"ruok", b"CP2", b"0032git-upload-pack /p.git\0host=h\0", b"GET foo\r\n", b"CONNECT alice\n", b"GET /\r\n"]
)
def test_short_words_of_other_protocols_pass_without_a_wait(house: TurnHouse, data: bytes) -> None:
    client = house.accept(PORT)
    client.sendall(data)
    house.spin()
    server = serve(house)
    house.spin()

    assert server.recv(100) == data


def test_the_first_bytes_that_are_no_http_wait_until_it_is_known_what_the_port_is(house: TurnHouse) -> None:
    inbound(house, told=False)
    refused, passed = house.accept(PORT), house.accept(Address("127.0.0.1", 9001))
    for client in (refused, passed):
        client.sendall(b"ruok")
    house.spin()
    assert house.door.dials == []

    tell(house, "http/1")
    house.spin()
    assert b"not-http" in refused.recv(4096)
    assert house.door.dials == []

    house.spin(1.01)  # about the other port nobody says anything in time
    server = serve(house)
    house.spin()
    assert server.recv(100) == b"ruok"


def test_a_request_does_not_wait_until_it_is_known_what_the_port_is(house: TurnHouse) -> None:
    inbound(house, told=False)
    client = house.accept(PORT)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    house.spin()

    assert len(house.door.dials) == 1


def test_a_server_that_may_speak_first_is_dialled_once_it_is_known_that_the_port_is_no_http(house: TurnHouse) -> None:
    inbound(house, told=False)
    house.accept(PORT)
    house.spin(0.02)
    assert house.door.dials == []

    tell(house, "detect")

    assert len(house.door.dials) == 1


def test_a_silent_client_of_a_declared_port_costs_its_server_nothing(house: TurnHouse) -> None:
    inbound(house, "http/1")
    client = house.accept(PORT)
    house.spin(5.0)
    assert house.door.dials == []

    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    house.spin()

    assert len(house.door.dials) == 1


def test_undecided_bytes_are_judged_a_second_after_the_first_of_them_however_slowly_more_come(house: TurnHouse) -> None:
    client = house.accept(PORT)
    for piece in (b"\r\n", b"\r\n", b"\r\n"):
        client.sendall(piece)
        house.spin(0.4)
    house.spin()

    assert len(house.door.dials) == 1  # it is opaque: an empty line asks for nothing over HTTP


def test_a_trickle_of_empty_lines_between_requests_is_ended_by_the_head_timeout(house: TurnHouse) -> None:
    client = house.accept(PORT)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    house.spin()
    server = serve(house)
    house.spin()
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    house.spin()
    client.recv(4096)
    for _ in range(7):
        client.sendall(b"\r\n")
        house.spin(10.0)
        for session in list(house.parts.sessions):
            house.pump.enter(session.check, house.now_s)

    assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("inbound", "protocol", "listed", "limited", "expected"),
    [
        (True, "detect", False, False, "detect"),
        (True, "opaque", False, True, "opaque"),
        (True, "http/1", True, False, "http"),
        (False, "http/1", True, False, "opaque"),
        (False, "http/2", False, False, "http"),
        (True, "detect", True, True, "opaque"),
        (True, "detect", False, True, "http"),
        (False, "detect", False, True, "detect"),
    ],
)
def test_what_a_connection_must_speak_follows_from_declaration_list_and_limit(
    inbound: bool, protocol: str, listed: bool, limited: bool, expected: str
) -> None:
    assert standing(inbound, protocol, listed, limited) == expected
