"""No connection falls out of the epoll while there is something to read."""

import os
import socket
import time

from turnhouse import Ear, Watch

from proxy.channel import PAUSED_BY_PEER, SocketChannel
from proxy.meter import TcpSeries
from proxy.pump import BROKEN, READ, WRITE, Pump


def raise_bug(_owner: object, error: Exception) -> None:
    raise error


def test_an_event_of_a_closed_connection_does_not_reach_the_next_one_with_its_number() -> None:
    """It would take the other's hang-up for its own, and never be read again."""
    pump = Pump(time.perf_counter, raise_bug)
    first, first_peer = socket.socketpair()
    doomed, doomed_peer = socket.socketpair()
    later, later_peer = socket.socketpair()
    number = doomed.fileno()
    watch = Watch()
    closed: list[int] = []

    class Closer:
        def on_ready(self, events: int) -> None:
            pump.unregister(first.fileno())
            pump.unregister(number)
            closed.append(number)
            os.dup2(later.fileno(), number)  # as accept would, when that is the lowest free number
            pump.register(number, READ, watch)

    pump.register(first.fileno(), READ, Closer())
    pump.register(number, 0, watch)
    first_peer.send(b"x")
    doomed_peer.close()
    pump.turn()
    assert closed == [number]
    assert watch.heard == []

    later_peer.send(b"y")
    pump.turn()
    assert watch.heard == [READ]
    assert not watch.heard[0] & BROKEN
    pump.close()
    for sock in (first, first_peer, doomed, later, later_peer):
        sock.close()


def test_who_forgets_a_socket_that_is_closed_already_makes_no_other_deaf() -> None:
    """A closed socket's number is -1, which a list takes for its last place."""
    pump = Pump(time.perf_counter, raise_bug)
    near, far = socket.socketpair()
    closed, peer = socket.socketpair()
    watch = Watch()
    pump.register(near.fileno(), READ, watch)
    closed.close()
    pump.unregister(closed.fileno())
    pump.leave(closed.fileno())
    pump.leave(1_000_000)
    far.send(b"x")
    pump.turn()

    assert watch.heard == [READ]
    pump.close()
    for sock in (near, far, peer):
        sock.close()


def test_a_connection_that_was_resumed_is_read_whatever_was_said_while_it_was_paused() -> None:
    """It is told of a hang-up that was collected while it did not read; there is still something to be read."""
    pump = Pump(time.perf_counter, raise_bug)
    first, first_peer = socket.socketpair()
    near, far = socket.socketpair()
    near.setblocking(False)
    channel = SocketChannel(pump, near, TcpSeries((), None), 65536, 131072, 32768)
    channel.user = ear = Ear()
    channel.pause(PAUSED_BY_PEER)

    class Resumer:
        def on_ready(self, events: int) -> None:
            pump.unregister(first.fileno())
            channel.resume(PAUSED_BY_PEER)

    pump.register(first.fileno(), READ, Resumer())
    first_peer.send(b"x")
    far.send(b"the rest")
    channel.write_eof()
    pump.settle()
    far.shutdown(socket.SHUT_WR)
    pump.turn()
    pump.turn()

    assert ear.heard == [b"the rest"]
    channel.close()
    pump.close()
    for sock in (first, first_peer, far):
        sock.close()


def test_a_bug_in_what_intercepts_events_is_told_of_who_heard_them_before() -> None:
    """Its owner is the one that must end."""
    told: list[object] = []
    pump = Pump(time.perf_counter, lambda owner, _error: told.append(owner))
    near, far = socket.socketpair()
    watch = Watch()

    def stumble() -> None:
        raise RuntimeError("a bug")

    pump.register(near.fileno(), READ, watch)
    pump.intercept(near.fileno(), READ, stumble)
    pump.intercept(near.fileno(), WRITE, stumble)
    far.send(b"x")
    pump.turn()

    assert told == [watch]
    pump.close()
    near.close()
    far.close()
