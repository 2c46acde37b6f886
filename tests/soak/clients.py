"""The clients of the soak: they run for some seconds, then print what became of everything they did, as JSON.

What a client can tell of a request whose head it has sent whole (`sent`), by port:
- `heads`: it has the head of a response, by status; `errors`: the first sidecar gave it in its own name, by reason;
- `cut`: of those, the responses that broke off;
- `unanswered`: the connection or the stream ended without a head;
- for gRPC `grpc` instead of `heads`: the response is whole, by its status ("" without one);
- `left`: the client itself went away first, with or without a response's head (on ports of their own);
- `seen`: of those, the ones that had begun to be answered, or for gRPC were answered to the end.
"""

import json
import random
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from itertools import count as numbers

import calls
import h11
import streams
import trio
from network import SERVER_IP, WORKERS_COUNT

OWN_IP = "10.254.10.1"
"""Not the sidecar's: connection tracking remembers connections that were reset under it, and would take a new one of
the sidecar for an old one of ours that had the same ports, or ours for its: captured twice, or not at all."""
RESET = struct.pack("ii", 1, 0)
TALLY: Counter[str] = Counter()
NUMBERS = numbers()

HANG_S = 40.0
"""Seconds until a request, or a relayed connection, counts as hung; all limits of the sidecars are shorter."""

BURST_COUNT = 150 * WORKERS_COUNT

PATHS = (
    *("/plain", "/plain", "/plain", "/plain", "/slow", "/big/20000", "/big/400000", "/until-close"),
    *(
        "/status/404",
        "/status/503",
        "/status/204",
        "/status/304",
        "/reset",
        "/close",
        "/cut/0",
        "/cut/1",
        "/cut-chunked",
    ),
)


def count(what: str, port: int, number: int = 1) -> None:
    TALLY[f"{what}:{port}"] += number


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[trio.SocketStream]:
    sock = trio.socket.socket()
    try:
        await sock.bind((OWN_IP, 0))
        await sock.connect((SERVER_IP, port))
    except ConnectionResetError:  # accepted, and reset before we looked
        count("connected", port)
        sock.close()
        raise
    except OSError as error:
        count(f"refused:{error.errno}", port)
        sock.close()
        raise
    count("connected", port)
    async with trio.SocketStream(sock) as stream:
        yield stream


@contextmanager
def unless_hung(what: str) -> Iterator[None]:
    """Give up after HANG_S; tell on stderr what the sockets were doing."""
    with trio.move_on_after(HANG_S) as scope:
        yield
        return
    if scope.cancelled_caught:
        count("hung", 0)
        sockets = subprocess.run(("ss", "-tnpie"), capture_output=True, text=True, check=False).stdout
        print(f"hung: {what}\n{sockets}", file=sys.stderr, flush=True)
        raise trio.BrokenResourceError(f"hung: {what}")


class Client:
    """One connection that speaks HTTP/1."""

    def __init__(self, stream: trio.SocketStream, port: int) -> None:
        self.stream = stream
        self.port = port
        self.connection = h11.Connection(h11.CLIENT)

    async def request(
        self, method: str, path: str, body: bytes = b"", chunked: bool = False, close: bool = False
    ) -> bool:
        """Ask and read the whole answer; tell whether the connection can be used again."""
        number = f"{random.getrandbits(32):08x}-{next(NUMBERS)}"
        headers = [("Host", "soak"), ("X-Number", number), *([("Connection", "close")] if close else [])]
        if body:
            headers.append(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body))))
        connection = self.connection
        head = connection.send(h11.Request(method=method, target=path, headers=headers)) or b""
        pieces = [connection.send(h11.Data(data=body[at : at + 50000])) or b"" for at in range(0, len(body), 50000)]
        pieces.append(connection.send(h11.EndOfMessage()) or b"")
        with unless_hung(f"{method} {path} {len(body)} from {self.stream.socket.getsockname()}"):
            await self.stream.send_all(head)
            count("sent", self.port)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, pieces)
                is_whole = await self._read()
                nursery.cancel_scope.cancel()
        if not is_whole or connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return False
        connection.start_next_cycle()
        return True

    async def _send(self, pieces: list[bytes]) -> None:
        try:
            for piece in pieces:
                await self.stream.send_all(piece)
        except trio.BrokenResourceError:
            pass  # the answer tells

    async def _read(self) -> bool:
        response, body = None, b""
        try:
            while True:
                event = self.connection.next_event()
                if event is h11.NEED_DATA:
                    self.connection.receive_data(await self.stream.receive_some(65536))
                elif isinstance(event, h11.Response):
                    response = event
                    count(f"heads:{event.status_code}", self.port)
                elif isinstance(event, h11.Data):
                    body = body or bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif isinstance(event, h11.ConnectionClosed):
                    raise h11.RemoteProtocolError("closed")
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            count("unanswered" if response is None else "cut", self.port)
            return False
        reason = dict(response.headers).get(b"x-tulle-error") if response is not None else None
        if reason is not None and body.startswith(b"outbound"):
            count(f"errors:{reason.decode()}", self.port)
        return True


async def steady() -> None:
    """Keep-alive: one request after the other."""
    async with connection(8081) as stream:
        client = Client(stream, 8081)
        for _ in range(random.randint(1, 50)):
            if not await client.request("GET", random.choice(PATHS)):
                break
            await trio.sleep(random.expovariate(50))


async def closing() -> None:
    async with connection(8081) as stream:
        await Client(stream, 8081).request("GET", random.choice(PATHS), close=True)


async def uploading() -> None:
    async with connection(8081) as stream:
        client = Client(stream, 8081)
        path = random.choice(("/post", "/post", "/post", "/reset", "/close", "/plain"))
        for _ in range(random.randint(1, 20)):
            body = bytes(random.choice((10, 10_000, 300_000, 2_000_000)))
            if not await client.request("POST", path, body, random.random() < 0.5):
                break
            await trio.sleep(random.expovariate(20))


async def leaving() -> None:
    """Go away in the middle: of the head, of the body, while waiting, of the answer; by FIN or by RST."""
    async with connection(8082) as stream:
        stage = random.choice(("head", "waiting", "answer", "body"))
        is_rude = random.random() < 0.5
        head = (
            b"GET /big/400000 HTTP/1.1\r\nHost: soak\r\n\r\n"
            if stage == "answer"
            else b"GET /slow HTTP/1.1\r\nHost: s\r\n\r\n"
        )
        if stage == "body":
            head = b"POST /post HTTP/1.1\r\nHost: soak\r\nContent-Length: 500000\r\n\r\n" + b"x" * 1000
        if stage == "head":
            head = head[:20]
        else:
            count("sent", 8082)
        count(f"left-{stage}-{'reset' if is_rude else 'end'}", 8082)
        await stream.send_all(head)
        if stage == "answer":
            with unless_hung("an answer to leave"):
                if await _is_answered(stream):
                    count("seen", 8082)
        else:
            await trio.sleep(random.uniform(0, 0.1))
        if is_rude:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def _is_answered(stream: trio.SocketStream) -> bool:
    try:
        return bool(await stream.receive_some(1000))
    except trio.BrokenResourceError:
        return False


async def relaying(port: int) -> None:
    """Send, end, read to the end; on 8084 some go away by RST in the middle."""
    async with connection(port) as stream:
        data = b"\x00" + random.randbytes(random.choice((10, 5_000, 200_000, 1_500_000)))
        is_rude = port == 8084 and random.random() < 0.3

        async def send() -> None:
            try:
                await stream.send_all(data)
                count("bytes-sent", port, len(data))
                if not is_rude:
                    await stream.send_eof()
            except trio.BrokenResourceError:
                pass

        received = bytearray()
        with unless_hung(f"{len(data)} bytes to {port} from {stream.socket.getsockname()}"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                try:
                    while piece := await stream.receive_some(65536):
                        received += piece
                        if is_rude and len(received) >= len(data) // 2:
                            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                            break
                except trio.BrokenResourceError:
                    count("broken", port)
                nursery.cancel_scope.cancel()
        count("bytes-received", port, len(received))
        if received != (data if port == 8083 else data[: len(received)]):
            count("spoiled", port)


async def multiplexing(port: int) -> None:
    async with connection(port) as stream:
        asker = streams.Asker(stream, count, port, is_grpc=port == 8086)
        for _ in range(random.randint(1, 8)):
            with unless_hung(f"HTTP/2 to {port} from {stream.socket.getsockname()}"):
                if not await asker.ask():
                    break
            await trio.sleep(random.expovariate(20))


async def calling(port: int) -> None:
    """Ask by the real gRPC library, in a thread."""
    caller = calls.Caller(door(port), port, partial(trio.from_thread.run_sync, count), HANG_S)
    for _ in range(random.randint(1, 8)):
        await trio.to_thread.run_sync(caller.ask, port == 8088)
        await trio.sleep(random.expovariate(20))
    await trio.to_thread.run_sync(caller.channel.close)


def door(port: int) -> str:
    """Name the socket where gRPC's connections to a port are taken over: the library cannot choose their address."""
    return f"unix-abstract:soak-{port}"


async def carrying(port: int, *, task_status: trio.TaskStatus[None]) -> None:
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind("\0" + door(port).partition(":")[2])
    sock.listen()
    await trio.serve_listeners(partial(carry, port), [trio.SocketListener(sock)], task_status=task_status)


async def carry(port: int, stream: trio.SocketStream) -> None:
    """Carry a connection on, both ways to their ends."""

    async def pour(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    try:
        async with stream, connection(port) as onward, trio.open_nursery() as nursery:
            nursery.start_soon(pour, stream, onward)
            nursery.start_soon(pour, onward, stream)
    except* (trio.BrokenResourceError, OSError):
        pass


async def bursting(seconds: float) -> None:
    """Be many, then gone: what the sidecars take as the time to give memory back."""
    async with AsyncExitStack() as stack:
        for _ in range(BURST_COUNT):
            await stack.enter_async_context(connection(8084))
        await trio.sleep(seconds)


async def again(actor: Callable[..., object], deadline_s: float, *arguments: object) -> None:
    while trio.current_time() < deadline_s:
        try:
            await actor(*arguments)  # type: ignore[misc]
        except (trio.BrokenResourceError, OSError):
            count("broken", 0)  # a request that could not be sent is none
        await trio.sleep(random.expovariate(50))


async def main(seconds: float, seed: int, who: str) -> None:
    random.seed(seed)
    if who == "burst":
        await bursting(seconds)
        return
    async with trio.open_nursery() as doors:
        for port in (8087, 8088):
            await doors.start(carrying, port)
        await bustling(trio.current_time() + seconds, who)
        doors.cancel_scope.cancel()
    print(json.dumps(TALLY))


async def bustling(deadline_s: float, who: str) -> None:
    crowd = (
        (steady, 12, ()),
        (multiplexing, 4, (8085,)),
        (multiplexing, 3, (8086,)),
        (calling, 3, (8087,)),
        (calling, 2 if who == "all" else 0, (8088,)),
        (closing, 6, ()),
        (uploading, 4, ()),
        (leaving, 6 if who == "all" else 0, ()),
        (relaying, 4, (8083,)),
        (relaying, 4, (8084,)),
    )
    async with trio.open_nursery() as nursery:
        for actor, number, arguments in crowd:
            for _ in range(number):
                nursery.start_soon(again, actor, deadline_s, *arguments)


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
