"""For tests of memory: a server with raw frames, clients that attack, and an honest one beside them."""

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import trio
from hpack import Decoder, Encoder
from http2house import PREFACE, data_frame, head
from hyperframe.frame import SettingsFrame

BIG_BYTES = 65536
"""What the server says at once on each stream: a first window."""

_BROKEN = rb"\x00\x00\x04\x03\x00....(....)$|\x00\x00.\x07\x00\x00\x00\x00\x00"
"""RST_STREAM at the end, or GOAWAY."""

ATTACKER = "127.0.0.2"


def request(path: bytes, *more: tuple[bytes, bytes], method: bytes = b"GET") -> tuple[tuple[bytes, bytes], ...]:
    return ((b":method", method), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path), *more)


def settings_frame(**values: int) -> bytes:
    codes = {"initial_window_size": 4}
    return SettingsFrame(0, settings={codes[name]: value for name, value in values.items()}).serialize()


async def serve(stream: trio.SocketStream) -> None:
    """Answer by path: /big with a window of bytes and no end, /never with nothing, all else with `ok`."""
    data = bytes(await stream.receive_some(65536))
    if data.startswith(b"PRI"):
        while len(data) < len(PREFACE):
            data += bytes(await stream.receive_some(65536))
        await _serve_http2(stream, data[len(PREFACE) :])
        return
    while data:
        if b"\r\n\r\n" in data:
            path = data.split(b" ", 2)[1]
            if path == b"/never":
                await trio.sleep_forever()
            body = b"d" * 1_000_000 if path == b"/big" else b"ok"
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            data = b""
        data += bytes(await stream.receive_some(65536))


async def _serve_http2(stream: trio.SocketStream, data: bytes) -> None:
    decoder, encoder = Decoder(max_header_list_size=2**20), Encoder()
    await stream.send_all(SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize())
    block = b""
    while True:
        while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
            kind, flags, stream_id = data[3], data[4], int.from_bytes(data[5:9], "big")
            payload, data = data[9 : 9 + size], data[9 + size :]
            if kind not in (1, 9):
                continue
            block += payload
            if flags & 4:
                path = dict(decoder.decode(block, raw=True))[b":path"]
                block = b""
                if path == b"/big":
                    pieces = [data_frame(stream_id, b"d" * 16384) for _ in range(BIG_BYTES // 16384)]
                    await stream.send_all(head(encoder, stream_id, ((b":status", b"200"),), False) + b"".join(pieces))
                elif path != b"/never":
                    answer = head(encoder, stream_id, ((b":status", b"200"),), False)
                    await stream.send_all(answer + data_frame(stream_id, b"ok", True))
        more = bytes(await stream.receive_some(65536))
        if not more:
            return
        data += more


class Attacker:
    """Opens connections from an address of its own, sends and never reads."""

    def __init__(self, port: int, host: str = ATTACKER) -> None:
        self._port = port
        self._host = host
        self.socks: list[socket.socket] = []

    async def open(self, *pieces: bytes) -> None:
        """Connect and send, as far as the other side takes it."""
        ours = socket.socket()
        ours.setblocking(False)
        self.socks.append(ours)
        sock = trio.socket.from_stdlib_socket(ours)
        await sock.bind((self._host, 0))
        with trio.move_on_after(5):
            try:
                await sock.connect(("127.0.0.1", self._port))
                for piece in pieces:
                    sent = 0
                    while sent < len(piece):
                        sent += await sock.send(piece[sent:])
            except OSError:
                pass  # cut already

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


def closed_window_gets(streams_count: int) -> bytes:
    """Requests whose answers may not be sent."""
    encoder = Encoder()
    begin = PREFACE + settings_frame(initial_window_size=0) + SettingsFrame(0, flags=["ACK"]).serialize()
    return begin + b"".join(head(encoder, 2 * n + 1, request(b"/big")) for n in range(streams_count))


def head_bombs(streams_count: int) -> bytes:
    """Heads of 60 kB each, which are a few dozen bytes on the wire: references to a value in HPACK's table."""
    encoder = Encoder()
    bomb = [(b"x", b"y" * 3900)] * 15
    begin = PREFACE + SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize()
    return begin + b"".join(head(encoder, 2 * n + 1, request(b"/never", *bomb), False) for n in range(streams_count))


def uploads(streams_count: int) -> bytes:
    """Bodies of a first window each, for a server that reads none."""
    encoder = Encoder()
    begin = PREFACE + SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize()
    pieces = []
    for n in range(streams_count):
        pieces.append(head(encoder, 2 * n + 1, request(b"/never", method=b"POST"), False))
        pieces += [data_frame(2 * n + 1, b"u" * 16384) for _ in range(4)]
    return begin + b"".join(pieces)


def half_head(size_bytes: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"h" * size_bytes


UNREAD = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Honest:
    """A client beside: asks again and again on kept-alive connections; every answer is due."""

    port: int
    answers_count: int = 0
    faults: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    is_over: bool = False

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repeat, self._ask_http1)
            nursery.start_soon(self._repeat, self._ask_http2)

    async def _repeat(self, ask: Callable[[], object]) -> None:
        while not self.is_over:
            try:
                await ask()  # type: ignore[misc]
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                self.faults.append(repr(error))

    async def _ask_http1(self) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            while not self.is_over:
                await self._timed(stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", rb"HTTP/1.1 200 .*ok$")

    async def _ask_http2(self) -> None:
        encoder = Encoder()
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(PREFACE + SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize())
            for stream_id in count(1, 2):
                if self.is_over:
                    return
                await self._timed(stream, head(encoder, stream_id, request(b"/")), rb"ok$")

    async def _timed(self, stream: trio.SocketStream, asked: bytes, wanted: bytes) -> None:
        begun_s = trio.current_time()
        with trio.fail_after(10):
            await stream.send_all(asked)
            got = b""
            while not re.search(wanted, got, re.DOTALL):
                piece = bytes(await stream.receive_some(65536))
                got += piece
                if not piece or b"x-tulle-error" in got or re.search(_BROKEN, got, re.DOTALL):
                    raise OSError(f"ended after {got[:300]!r}")
        self.answers_count += 1
        self.latencies_s.append(trio.current_time() - begun_s)
        await trio.sleep(0.005)


def memory_of(pid: int, name: str = "VmHWM") -> int:
    """Bytes of a process: VmRSS now, VmHWM at most so far."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.findall(rf"{name}:\s+(\d+)", file.read())[0]) * 1024
