"""Bodies of any size in constant memory."""

import re
from collections.abc import Iterator

import pytest
import trio
from proxyhouse import read_until
from reachhouse import Through

from proxy.model import LENGTH, RequestHead, ResponseHead
from proxy.wire.http1 import RequestReader, ResponseReader

PIECE = bytes(1 << 20)
PIECES_COUNT = 96
GROWTH_KB = 24_000
"""What a body of a hundred megabytes may cost: buffers of five sockets and two sidecars, none of it by size."""


def resident_kb() -> int:
    with open("/proc/self/status") as file:
        return int(re.findall(r"VmRSS:\s+(\d+)", file.read())[0])


@pytest.mark.trio
@pytest.mark.parametrize("through", ["outbound", "two-discovered-v6"], indirect=True)
@pytest.mark.parametrize("framing", ["length", "chunked", "opaque"])
async def test_a_large_body_passes_both_ways_in_constant_memory(through: Through, framing: str) -> None:
    peak_kb = 0
    length = b"Content-Length: %d\r\n\r\n" % (len(PIECE) * PIECES_COUNT)
    head = length if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n"
    start, end = (b"100000\r\n", b"\r\n") if framing == "chunked" else (b"", b"")

    def pieces() -> Iterator[bytes]:
        nonlocal peak_kb
        for number in range(PIECES_COUNT):
            if number % 16 == 0:
                peak_kb = max(peak_kb, resident_kb())
            yield from (start, PIECE, end) if start else (PIECE,)
        if framing == "chunked":
            yield b"0\r\n\r\n"

    async def send(stream: trio.SocketStream) -> None:
        for piece in pieces():
            await stream.send_all(piece)

    async def take(stream: trio.SocketStream) -> int:
        """Count what comes, until all has."""
        count, total = 0, len(PIECE) * PIECES_COUNT
        total += PIECES_COUNT * len(start + end) + (5 if framing == "chunked" else 0)
        while count < total:
            piece = await stream.receive_some(1 << 20)
            assert piece
            count += len(piece)
        return total - count

    async def handle(stream: trio.SocketStream) -> None:
        await (read_until(stream, b"\x01") if framing == "opaque" else read_head(stream))
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n" if framing != "opaque" else b"\x02")
        assert await take(stream) == 0
        if framing != "opaque":
            await stream.send_all(b"HTTP/1.1 200 OK\r\n" + head)
        await send(stream)

    way = await through(handle)
    async with await way() as stream:
        if framing == "opaque":
            await stream.send_all(b"\x00\x01")
            await read_until(stream, b"\x02")
        else:
            await stream.send_all(b"PUT / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\n" + head)
            await read_head(stream)
        before_kb = resident_kb()
        with trio.fail_after(60):
            await send(stream)
            if framing != "opaque":
                await read_head(stream)
            assert await take(stream) == 0

    print(f"{framing}: {before_kb} kB before, {peak_kb} kB at most")
    assert peak_kb - before_kb < GROWTH_KB


async def read_head(stream: trio.SocketStream) -> bytes:
    """Read to the end of a head, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += bytes(await stream.receive_some(1))
    return head


class Sink:
    """Counts what a reader tells."""

    def __init__(self) -> None:
        self.heads: list[RequestHead | ResponseHead] = []
        self.count_bytes = 0
        self.ends_count = 0

    def on_request(self, head: RequestHead) -> None:
        self.heads.append(head)

    def on_response(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def on_body(self, data: bytes) -> None:
        self.count_bytes += len(data)

    def on_end(self) -> None:
        self.ends_count += 1


SIZES = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 10_000_000_000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", ["request", "response"])
def test_a_length_beyond_32_bits_is_counted_to_the_byte(size: int, direction: str) -> None:
    sink = Sink()
    piece = bytes(1 << 24)
    reader: RequestReader | ResponseReader
    if direction == "request":
        reader = RequestReader(sink, 65536)
        reader.feed(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
    else:
        reader = ResponseReader(sink, 65536)
        reader.expect(b"GET")
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    (head,) = sink.heads
    assert (head.framing, head.length_bytes) == (LENGTH, size)
    for _ in range((size - 1) // len(piece)):
        reader.feed(piece)
    left = size - sink.count_bytes
    reader.feed(piece[: left - 1])
    assert sink.ends_count == 0
    reader.feed(b"x")

    assert (sink.count_bytes, sink.ends_count) == (size, 1)
