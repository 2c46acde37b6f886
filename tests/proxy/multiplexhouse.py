"""Both ends of a sidecar that speaks HTTP/2: real channels and pump (turnhouse), real HTTP/2 at clients and servers."""

import socket

from http2house import LIMIT_BYTES, Notes
from turnhouse import TurnHouse, pair

from proxy.model import Address
from proxy.multiplex import Multiplex
from proxy.session import Session
from proxy.wire.http2 import Http2
from proxy.wire.streams import Settings

SERVER = Address("10.0.0.7", 80)


class Peer:
    """A socket, an HTTP/2 connection on it, and what that heard."""

    def __init__(self, sock: socket.socket, settings: Settings) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.notes = Notes()
        self.notes.http2 = self.http2 = Http2(self.notes, settings, 0.0)
        self.reads = True
        self.has_ended = False
        self._unsent = b""

    def turn(self) -> bool:
        """Send and read what is there; tell whether anything moved."""
        moved = self._send()
        while self.reads and not self.has_ended:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                self.has_ended = True
                break
            moved = True
            self.http2.feed(data, 0.0)
        return self._send() or moved

    def _send(self) -> bool:
        self._unsent += self.http2.take_output(LIMIT_BYTES)
        if not self._unsent or self.has_ended:
            return False
        try:
            sent = self.sock.send(self._unsent)
        except BlockingIOError:
            return False
        except ConnectionError:
            self._unsent = b""
            return False
        self._unsent = self._unsent[sent:]
        return sent > 0


class MultiplexHouse(TurnHouse):
    """A turn world with HTTP/2 clients and servers."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.peers: list[Peer] = []

    def client(self, address: Address = SERVER, settings: Settings | None = None) -> tuple[Peer, Multiplex]:
        """Let a client connect that speaks HTTP/2 from the first byte."""
        theirs, multiplex = self.connect(address)
        peer = Peer(theirs, settings or Settings(False))
        self.peers.append(peer)
        self.run()
        return peer, multiplex

    def connect(self, address: Address = SERVER) -> tuple[socket.socket, Multiplex]:
        """Let a client connect; the test says what it sends."""
        ours, theirs = pair()
        self.sockets.append(theirs)
        target = self.targets.take(address)
        channel = self.parts.channel(ours, target.tcp)
        session = Session(self.parts, channel, target, self.targets)
        multiplex = Multiplex(session, channel, target)
        session.become(multiplex)
        return theirs, multiplex

    def server(self, number: int = -1, settings: Settings | None = None) -> Peer:
        """Let a dial succeed; give the server."""
        theirs = self.door.dials[number].connect()
        self.sockets.append(theirs)
        peer = Peer(theirs, settings or Settings(True))
        self.peers.append(peer)
        self.run()
        return peer

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, then carry bytes until none move."""
        self.spin(seconds)
        quiet = 0
        while quiet < 3:
            moved = [peer.turn() for peer in self.peers]
            self.spin()
            quiet = 0 if any(moved) else quiet + 1

    def check(self, seconds: float) -> None:
        """Let time pass and the sweep run."""
        self.run(seconds)
        self.pump.enter(self.parts.pool.sweep, self.now_s)
        for session in list(self.parts.sessions):
            self.pump.enter(session.check, self.now_s)
        self.run()
