"""Descriptor numbers are used again at once: an event never reaches the one that came after."""

import os
import socket
import time

from proxy.pump import BROKEN, READ, Pump


def raise_bug(_owner: object, error: Exception) -> None:
    raise error


def test_an_event_of_a_closed_connection_does_not_reach_the_next_one_with_its_number() -> None:
    """It would take the other's hang-up for its own, and never be read again."""
    pump = Pump(time.perf_counter, raise_bug)
    first, first_peer = socket.socketpair()
    doomed, doomed_peer = socket.socketpair()
    later, later_peer = socket.socketpair()
    number = doomed.fileno()
    heard: list[int] = []
    closed: list[int] = []

    def on_first(_events: int) -> None:
        pump.unregister(first.fileno())
        pump.unregister(number)
        closed.append(number)
        os.dup2(later.fileno(), number)  # as accept would, when that is the lowest free number
        pump.register(number, READ, heard.append)

    pump.register(first.fileno(), READ, on_first)
    pump.register(number, 0, heard.append)
    first_peer.send(b"x")
    doomed_peer.close()
    pump.turn()
    assert closed == [number]
    assert heard == []

    later_peer.send(b"y")
    pump.turn()
    assert heard == [READ]
    assert not heard[0] & BROKEN
    pump.close()
    for sock in (first, first_peer, doomed, later, later_peer):
        sock.close()
