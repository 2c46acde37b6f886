"""Conversations in the turn world: what a session asks of the door, and when, with the clock in the test's hand."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from turnhouse import Ear, TurnHouse, pair

from contract.discovery import Destination, Endpoint
from proxy.channel import SocketChannel
from proxy.meter import Meter
from proxy.model import Address

WEB = Address("10.0.0.7", 80)
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    made = TurnHouse()
    yield made
    made.close()


def test_a_client_that_speaks_http_at_once_causes_one_dial(house: TurnHouse) -> None:
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin()
    (dial,) = house.door.dials
    with dial.connect() as server:
        house.spin()
        assert server.recv(1000) == GET
        server.sendall(OK)
        house.spin()

        assert client.recv(1000) == OK
    assert dial.address == WEB


def test_a_server_is_dialled_for_a_silent_client_and_heard_first(house: TurnHouse) -> None:
    client = house.accept(WEB)
    house.spin(0.009)
    assert house.door.dials == []
    house.spin(0.002)
    (dial,) = house.door.dials
    with dial.connect() as server:
        server.sendall(b"220 hello\r\n")
        house.spin()

        assert client.recv(100) == b"220 hello\r\n"
        client.sendall(b"GET / HTTP/1.1\r\n")
        house.spin()
        assert server.recv(100) == b"GET / HTTP/1.1\r\n"


def test_a_connection_dialled_for_a_client_that_speaks_http_after_all_serves_it(house: TurnHouse) -> None:
    client = house.accept(WEB)
    house.spin(0.02)
    with house.door.dials[0].connect() as server:
        client.sendall(GET)
        house.spin()

        assert server.recv(1000) == GET
    assert len(house.door.dials) == 1


def test_a_client_that_speaks_http_while_its_server_is_being_dialled_gives_that_dial_up(house: TurnHouse) -> None:
    client = house.accept(WEB)
    house.spin(0.02)
    client.sendall(GET)
    house.spin()

    assert [dial.is_cancelled for dial in house.door.dials] == [True, False]


@pytest.mark.parametrize(("first", "protocol"), [(b"GE", "http/1"), (b"LOCK key", "opaque")])
def test_first_bytes_that_tell_nothing_are_judged_after_the_detect_timeout(
    house: TurnHouse, first: bytes, protocol: str
) -> None:
    client = house.accept(WEB)
    client.sendall(first)
    house.spin()
    house.spin(0.9)
    counted = [dict(pairs)["protocol"] for (name, pairs) in house.meter.counters if name.startswith("tcp_protocol")]
    assert counted == []
    house.spin(0.2)
    counted = [dict(pairs)["protocol"] for (name, pairs) in house.meter.counters if name.startswith("tcp_protocol")]

    assert counted == [protocol]


def test_a_silent_client_of_a_dead_server_is_reset_but_an_http_client_gets_an_answer(house: TurnHouse) -> None:
    silent, speaking = house.accept(WEB), house.accept(WEB)
    house.spin(0.02)
    for dial in list(house.door.dials):
        dial.fail("connect-refused")
    speaking.sendall(GET)
    house.spin(0.5)
    house.door.dials[-1].fail("connect-refused")
    house.spin()
    assert b"x-tulle-error: connect-refused" in speaking.recv(1000)
    house.spin(0.6)

    with pytest.raises(ConnectionResetError):
        silent.recv(1)


def test_a_client_that_leaves_cancels_its_dial(house: TurnHouse) -> None:
    client = house.accept(WEB)
    client.sendall(b"\x00")
    house.spin()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
    house.spin()

    assert house.door.dials[0].is_cancelled
    assert not house.parts.sessions


def test_a_new_target_waits_for_discovery_no_longer_than_its_timeout(house: TurnHouse) -> None:
    house.targets.is_connected = True
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin(0.9)
    assert house.door.dials == []
    house.spin(0.2)

    assert [dial.address for dial in house.door.dials] == [WEB]


def test_a_controller_that_goes_away_releases_those_who_wait(house: TurnHouse) -> None:
    house.targets.is_connected = True
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin()
    house.pump.enter(house.targets.disconnect)

    assert [dial.address for dial in house.door.dials] == [WEB]


def test_a_failed_dial_goes_to_another_endpoint_and_bars_the_first(house: TurnHouse) -> None:
    house.targets.is_connected = True
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin()
    endpoints = tuple(Endpoint(ip=f"10.1.0.{n}", port=8080, pod=f"web-{n}") for n in range(3))
    told = Destination(str(WEB), "1", "service", "shop", "web", 80, endpoints=endpoints)
    house.pump.enter(house.targets.apply, [told])
    house.door.dials[0].fail("connect-refused")
    house.door.dials[1].fail("connect-timeout")
    house.door.dials[2].fail("connect-refused")
    house.spin()

    assert len({dial.address for dial in house.door.dials}) == 3
    assert b"HTTP/1.1 502" in client.recv(1000)
    assert house.notices[-1][:2] == ("outbound", "connect-refused")
    target = house.targets.take(WEB)
    assert [endpoint.in_flight for endpoint in target.known] == [0, 0, 0]
    assert all(endpoint.barred_until_s > house.now_s for endpoint in target.known)


def test_a_target_that_nobody_uses_is_dropped_with_its_series(house: TurnHouse) -> None:
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin()
    with house.door.dials[0].connect() as server:
        house.spin()
        server.sendall(OK)
        house.spin()
    client.close()
    house.spin()
    assert house.targets.sweep(house.now_s + 599, 600.0) == 0
    assert house.targets.sweep(house.now_s + 601, 600.0) == 1
    house.spin()
    house.meter.expire(house.now_s, 600.0)
    house.meter.expire(house.now_s + 601, 600.0)

    assert house.meter.http == {}
    assert house.meter.tcp == {}


def test_a_bug_surfaces_in_tests(house: TurnHouse) -> None:
    client = house.accept(WEB)
    house.targets.take(WEB).direct = 5  # type: ignore[assignment]
    client.sendall(GET)

    with pytest.raises(TypeError):
        house.spin()


# Channels


def channel_of(house: TurnHouse) -> tuple[SocketChannel, socket.socket]:
    ours, theirs = pair()
    house.sockets.append(theirs)
    return SocketChannel(house.pump, ours, Meter(100).take_tcp((), None), 65536, 1000, 100), theirs


def test_a_channel_sends_everything_in_order_whatever_the_kernel_takes(house: TurnHouse) -> None:
    channel, theirs = channel_of(house)
    channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pieces = [bytes([n % 256]) * (n % 700 + 1) for n in range(2000)]
    for piece in pieces:
        channel.write(piece)
    channel.write_eof()
    house.pump.settle()
    received = b""
    while piece := theirs.recv(65536):
        received += piece
        house.spin()

    assert received == b"".join(pieces)
    assert channel.series.write_bytes == len(received)
    channel.close()


def test_a_congested_channel_pauses_its_source_until_it_has_drained(house: TurnHouse) -> None:
    channel, theirs = channel_of(house)
    source, feeder = channel_of(house)
    source.user = ear = Ear()
    channel.feed_from(source)
    channel.write(b"x" * 20_000_000)
    house.pump.settle()
    feeder.sendall(b"while congested")
    house.spin()
    assert ear.heard == []

    while channel.queued_bytes:
        theirs.recv(1 << 20)
        house.spin()
    house.spin()
    assert ear.heard == [b"while congested"]
    channel.close()
    source.close()


@pytest.mark.parametrize(
    ("send", "expected"),
    [
        (lambda far: far.sendall(b"a" * 200_000), b"a" * 200_000),
        (lambda far: (far.sendall(b"abc"), far.send(b"!", socket.MSG_OOB), far.sendall(b"def")), b"abcdef"),
        (lambda far: (far.sendall(b"last words"), far.shutdown(socket.SHUT_WR)), b"last words<end>"),
        (lambda far: far.shutdown(socket.SHUT_WR), b"<end>"),
    ],
    ids=["more than one buffer", "a mark of urgent data between", "the end behind it", "the end alone"],
)
def test_a_channel_takes_all_that_came_without_being_told_again(
    house: TurnHouse, send: Callable[[socket.socket], object], expected: bytes
) -> None:
    """A mark stops a read short, and an end that came with the bytes is no news: neither may be left behind."""
    channel, far = channel_of(house)
    channel.user = ear = Ear()
    send(far)
    house.spin()
    at_once = b"".join(ear.heard)
    far.close()
    house.spin()

    assert at_once == expected
    assert b"".join(ear.heard) == expected.removesuffix(b"<end>") + b"<end>"
    channel.close()


def test_what_a_turn_writes_leaves_at_its_end_and_not_before(house: TurnHouse) -> None:
    one, far_one = channel_of(house)
    two, far_two = channel_of(house)
    seen: list[bytes] = []

    class Answerer(Ear):
        def __init__(self, channel: SocketChannel) -> None:
            super().__init__()
            self.channel = channel

        def on_data(self, data: bytes) -> None:
            self.channel.write(b"answer")
            for far in (far_one, far_two):
                far.setblocking(False)
                with suppress(BlockingIOError):
                    seen.append(far.recv(100))
                far.settimeout(1.0)

    one.user = Answerer(one)
    two.user = Answerer(two)
    far_one.sendall(b"x")
    far_two.sendall(b"x")
    assert house.pump.turn() == 2

    assert seen == []
    assert [far_one.recv(100), far_two.recv(100)] == [b"answer", b"answer"]
    one.close()
    two.close()


def test_a_channel_that_closes_sends_what_the_turn_has_written(house: TurnHouse) -> None:
    channel, far = channel_of(house)
    house.pump.enter(lambda: (channel.write(b"last "), channel.write(b"words"), channel.close()))

    assert (far.recv(100), far.recv(100)) == (b"last words", b"")
    assert channel.series.write_bytes == 10


def test_a_channel_that_closes_with_more_than_the_kernel_takes_breaks_off(house: TurnHouse) -> None:
    channel, far = channel_of(house)
    house.pump.enter(lambda: (channel.write(bytes(50_000_000)), channel.close()))
    received = [0]
    with pytest.raises(ConnectionResetError):
        received += iter(lambda: len(far.recv(1_000_000)), 0)
    assert 0 < sum(received) < 50_000_000


def test_a_client_that_has_ended_still_gets_what_was_written_in_the_same_turn(house: TurnHouse) -> None:
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin()
    with house.door.dials[0].connect() as server:
        house.spin()
        server.recv(1000)
        server.sendall(OK)  # told first: it was ready first
        client.shutdown(socket.SHUT_WR)
        assert house.pump.turn() == 2

        assert (client.recv(1000), client.recv(1000)) == (OK, b"")


def test_a_channel_tells_end_and_reset_apart(house: TurnHouse) -> None:
    ear = Ear()
    for linger in (False, True):
        channel, theirs = channel_of(house)
        channel.user = ear
        if linger:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        theirs.close()
        house.spin()
        channel.close()

    assert ear.heard == [b"<end>", b"ECONNRESET"]


@pytest.mark.parametrize(
    ("method", "idle_s", "dials_count"),
    [("GET", 2.0, 1), ("POST", 0.5, 1), ("POST", 2.0, 2)],
    ids=["a request that may be sent again", "a server that surely waits", "a server that may close now"],
)
def test_what_must_not_be_sent_twice_takes_no_connection_that_may_be_closing(
    house: TurnHouse, method: str, idle_s: float, dials_count: int
) -> None:
    """A POST that meets a closing connection could not be sent again: it takes a new one instead."""
    client = house.accept(WEB)
    client.sendall(GET)
    house.spin()
    with house.door.dials[0].connect() as server:
        house.spin()
        server.recv(1000)
        server.sendall(OK)
        house.spin()
        client.recv(1000)
        house.spin(idle_s)
        client.sendall(GET.replace(b"GET", method.encode()))
        house.spin()

        assert len(house.door.dials) == dials_count
