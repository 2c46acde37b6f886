"""What a broken server says unasked is nobody's answer: not the next client's, and not that of a second try."""

import socket
from collections.abc import Iterator

import pytest
from turnhouse import TurnHouse

from proxy.model import Address

WEB = Address("10.0.0.7", 80)
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    made = TurnHouse()
    yield made
    made.close()


def kept_alive(house: TurnHouse) -> tuple[socket.socket, socket.socket]:
    """Give a client, and the server's end of a connection that waits for the next request."""
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin()
    server = house.door.dials[-1].connect()
    house.sockets.append(server)
    house.spin()
    assert server.recv(1000) == GET
    server.sendall(OK)
    house.spin()
    assert client.recv(1000) == OK
    return client, server


def answer_elsewhere(house: TurnHouse, request: bytes) -> None:
    """Answer on a new connection, which the sidecar must have asked for."""
    assert len(house.door.dials) == 2
    server = house.door.dials[-1].connect()
    house.sockets.append(server)
    house.spin()
    assert server.recv(1000) == request
    server.sendall(OK)
    house.spin()


def is_closed(server: socket.socket) -> bool:
    try:
        return server.recv(1000) == b""
    except ConnectionResetError:
        return True


class Meanwhile:
    """Does something in the middle of a turn, behind what came before it."""

    def __init__(self, house: TurnHouse, act: object) -> None:
        self._act = act
        self._ours, self._theirs = socket.socketpair()
        house.sockets += [self._ours, self._theirs]
        house.pump.register(self._ours.fileno(), 1, self)
        self._pump = house.pump

    def tell(self) -> None:
        self._theirs.send(b"x")

    def on_ready(self, _events: int) -> None:
        self._pump.unregister(self._ours.fileno())
        self._act()  # type: ignore[operator]


REQUESTS = pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])


@REQUESTS
def test_a_stray_answer_in_the_turn_that_takes_its_connection_is_not_passed_on(
    house: TurnHouse, request_bytes: bytes
) -> None:
    """The client's event stands before the server's: the connection is taken before its bytes are seen."""
    client, server = kept_alive(house)
    client.sendall(request_bytes)
    server.sendall(STRAY)
    house.spin()

    answer_elsewhere(house, request_bytes)
    assert client.recv(1000) == OK
    assert is_closed(server)


@REQUESTS
def test_a_stray_answer_that_comes_while_a_turn_lasts_is_not_passed_on(house: TurnHouse, request_bytes: bytes) -> None:
    """The kernel has it when the request is about to be sent, and no event has told of it."""
    client, server = kept_alive(house)
    meanwhile = Meanwhile(house, lambda: server.sendall(STRAY))
    client.sendall(request_bytes)
    meanwhile.tell()
    house.spin()

    answer_elsewhere(house, request_bytes)
    assert client.recv(1000) == OK
    assert is_closed(server)


@REQUESTS
def test_an_end_that_comes_while_a_turn_lasts_costs_no_request(house: TurnHouse, request_bytes: bytes) -> None:
    """Nothing was sent, so that a request of any method can go elsewhere."""
    client, server = kept_alive(house)
    meanwhile = Meanwhile(house, lambda: server.shutdown(socket.SHUT_WR))
    client.sendall(request_bytes)
    meanwhile.tell()
    house.spin()

    answer_elsewhere(house, request_bytes)
    assert client.recv(1000) == OK


def test_a_second_try_is_not_answered_by_a_stray_answer(house: TurnHouse) -> None:
    """A connection dies under a request; the one that is taken instead has spoken unasked."""
    first, one = kept_alive(house)
    second = house.accept(WEB)
    first.sendall(GET)
    house.spin()
    second.sendall(GET)
    house.spin()
    other = house.door.dials[-1].connect()
    house.sockets.append(other)
    house.spin()
    for client, server in ((first, one), (second, other)):
        assert server.recv(1000) == GET
        server.sendall(OK)
        house.spin()
        assert client.recv(1000) == OK
    first.sendall(GET)
    house.spin()  # it goes by the connection that was used last
    assert other.recv(1000) == GET
    other.shutdown(socket.SHUT_WR)
    one.sendall(STRAY)
    house.spin()
    assert len(house.door.dials) == 3
    third = house.door.dials[-1].connect()
    house.sockets.append(third)
    house.spin()
    assert third.recv(1000) == GET
    third.sendall(OK)
    house.spin()

    assert first.recv(1000) == OK


@REQUESTS
def test_a_server_that_restarts_costs_no_request(house: TurnHouse, request_bytes: bytes) -> None:
    """All connections to it end at once, in the turn in which the next request comes."""
    clients = [house.accept(WEB) for _ in range(5)]
    for client in clients:
        client.sendall(GET)
    house.spin()
    servers = [dial.connect() for dial in house.door.dials]
    house.sockets += servers
    house.spin()
    for server in servers:
        server.sendall(OK)
    house.spin()
    clients[0].recv(1000)
    clients[0].sendall(request_bytes)
    for server in servers:
        server.shutdown(socket.SHUT_WR)
    house.spin()

    assert len(house.door.dials) == 6
    restarted = house.door.dials[-1].connect()
    house.sockets.append(restarted)
    house.spin()
    assert restarted.recv(1000) == request_bytes
    restarted.sendall(OK)
    house.spin()
    assert clients[0].recv(1000) == OK


def test_an_event_that_was_seen_before_a_turn_has_sent_is_served_in_the_next(house: TurnHouse) -> None:
    """Looking at all descriptors before a request leaves takes their news: none may get lost."""
    client, server = kept_alive(house)
    other = house.accept(WEB)
    meanwhile = Meanwhile(house, lambda: other.sendall(GET))
    client.sendall(GET)
    meanwhile.tell()
    house.spin()

    assert server.recv(1000) == GET
    assert len(house.door.dials) == 2


def test_a_quick_answer_in_the_next_turn_is_the_answer(house: TurnHouse) -> None:
    client, server = kept_alive(house)
    for _ in range(3):
        client.sendall(GET)
        house.pump.turn()
        assert server.recv(1000) == GET
        server.sendall(OK)
        house.pump.turn()
        assert client.recv(1000) == OK
    assert len(house.door.dials) == 1
