"""The door to servers: one callback for each dial, never within the call, whatever the kernel answers and when."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from proxyhouse import OK, Script, read_all
from turnhouse import Ear, Watch

from proxy.channel import SocketChannel
from proxy.config import Config
from proxy.dial import GROWN_S, TurnDoor
from proxy.meter import TcpSeries
from proxy.model import Address
from proxy.pump import Pump


class Heard:
    """Keeps what the door said. Satisfies seams.Dialler."""

    def __init__(self) -> None:
        self.socks: list[socket.socket] = []
        self.reasons: list[str] = []

    def on_connected(self, sock: socket.socket) -> None:
        self.socks.append(sock)

    def on_dial_failed(self, reason: str) -> None:
        self.reasons.append(reason)

    @property
    def count(self) -> int:
        return len(self.socks) + len(self.reasons)


class House:
    """A pump with a clock in the test's hand, and a door."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pump = Pump(lambda: self.now_s, self._on_bug)
        self.door = TurnDoor(self.pump, Config(connect_timeout_s=1.0, user_timeout_s=7.0))

    @staticmethod
    def _on_bug(_owner: object, error: Exception) -> None:
        raise error

    def spin(self, seconds: float = 0.0, wait_s: float = 0.0) -> None:
        self.now_s += seconds
        self.pump.fire_timers()
        self.pump.settle()
        while self.pump.turn(wait_s):
            self.pump.settle()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.pump.close()


@pytest.fixture
def full() -> Iterator[Address]:
    """A listener whose backlog is full: what dials it hears nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = Address(*listener.getsockname())
        crowd = []
        for _ in range(4):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.connect_ex(address)
            crowd.append(sock)
        yield address
        for sock in crowd:
            sock.close()


def is_watched(sock: socket.socket) -> bool:
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_server_of_the_same_machine_is_connected_after_the_callback(house: House, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    heard = Heard()
    with socket.create_server((host, 0), family=family) as listener:
        house.door.dial(Address(host, listener.getsockname()[1]), heard)
        assert heard.count == 0
        assert house.door.dialling_count == 1

        house.spin(wait_s=0.1)
        (sock,) = heard.socks
        assert sock.gettimeout() == 0.0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert house.door.dialling_count == 0
        sock.close()


def test_a_refusal_is_told_later_too(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
    heard = Heard()
    house.door.dial(address, heard)
    assert heard.count == 0

    house.spin(wait_s=0.1)
    assert heard.reasons == ["connect-refused"]
    house.spin(5.0)
    assert heard.count == 1


def test_what_cannot_be_dialled_at_all_is_unreachable(house: House) -> None:
    heard = Heard()
    house.door.dial(Address("255.255.255.255", 9), heard)
    assert heard.count == 0

    house.spin()
    assert heard.reasons == ["connect-unreachable"]
    assert house.door.dialling_count == 0


def test_a_server_that_says_nothing_is_given_up_after_the_timeout_and_not_before(house: House, full: Address) -> None:
    heard = Heard()
    house.door.dial(full, heard)

    house.spin(0.999)
    assert heard.count == 0
    house.spin(0.001)
    assert heard.reasons == ["connect-timeout"]
    house.spin(5.0)
    assert heard.count == 1
    assert house.door.dialling_count == 0


def test_a_cancelled_dial_is_not_heard_of(house: House, full: Address) -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dials = [house.door.dial(Address(*listener.getsockname()), heard), house.door.dial(full, heard)]
        for dial in dials:
            dial.cancel()
            dial.cancel()

        house.spin(5.0)
    assert heard.count == 0
    assert house.door.dialling_count == 0


def test_a_connection_that_takes_its_time_passes_from_the_dial_to_its_channel(house: House) -> None:
    """Both are registered by the same descriptor; the channel hears its own events only."""
    ear = Ear()

    class Owner(Heard):
        channel: SocketChannel | None = None

        def on_connected(self, sock: socket.socket) -> None:
            super().on_connected(sock)
            self.channel = SocketChannel(house.pump, sock, TcpSeries((), None), 65536, 131072, 32768)
            self.channel.user = ear

    owner = Owner()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = Address(*listener.getsockname())
        with socket.create_connection(address):  # the backlog is full with it
            house.door.dial(address, owner)
            house.spin()
            assert owner.count == 0

            listener.accept()[0].close()
            for _ in range(300):  # the kernel sends another SYN after a second
                if owner.count:
                    break
                house.spin(wait_s=0.01)
            with listener.accept()[0] as theirs:
                theirs.send(b"hello")
                house.spin(wait_s=0.1)
    assert ear.heard == [b"hello"]
    assert owner.channel is not None
    owner.channel.close()


def test_a_number_whose_last_owner_closed_it_in_silence_can_be_registered(house: House) -> None:
    """epoll has forgotten it then; the pump does not know."""
    watch = Watch()
    first, first_peer = socket.socketpair()
    number = first.fileno()
    house.pump.register(number, 1, watch)
    first.close()
    second, second_peer = socket.socketpair()
    assert second.fileno() == number

    house.pump.register(number, 1, watch)
    second_peer.send(b"x")
    house.pump.turn()
    assert watch.heard == [1]
    for sock in (first_peer, second, second_peer):
        sock.close()


def test_the_kernel_watches_over_connections_that_live(house: House) -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        house.door.dial(Address(*listener.getsockname()), heard)
        house.spin(wait_s=0.1)
        (sock,) = heard.socks
        assert not is_watched(sock)

        house.spin(GROWN_S)
        house.spin(GROWN_S)
        assert is_watched(sock)
        sock.close()


def test_the_number_of_a_connection_that_died_young_does_not_hide_the_next(house: House) -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(2):
            house.door.dial(Address(*listener.getsockname()), heard)
            house.spin(wait_s=0.1)
            if len(heard.socks) == 1:
                heard.socks[0].close()
        house.spin(GROWN_S)
        house.spin(GROWN_S)
        assert is_watched(heard.socks[1])
        heard.socks[1].close()


def test_nothing_ticks_when_nobody_dials(house: House) -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        house.door.dial(Address(*listener.getsockname()), heard)
        house.spin(wait_s=0.1)
        for _ in range(3):
            house.spin(GROWN_S)
        assert house.pump.fire_timers() == float("inf")
        heard.socks[0].close()


@pytest.mark.trio
async def test_an_exchange_goes_through_the_door(start_sidecar: Any, serve: Any) -> None:
    script = Script([OK])
    sidecar = await start_sidecar(await serve(script.handle))
    async with await sidecar.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200 ")
