"""The servers of the soak: HTTP/1 on 8081 and 8082, an echo on 8083 and 8084, HTTP/2 on 8085, gRPC in frames of our
own on 8086, by the real library on 8087 and 8088. Some paths misbehave. On 8090 they tell how many requests they heard,
and how many POST twice.
"""

import json
import random
import socket
import struct
from collections import Counter
from functools import partial

import calls
import h11
import streams
import trio

RESET = struct.pack("ii", 1, 0)
TALLY: Counter[str] = Counter()
POSTS: set[bytes] = set()


def note(method: str, number: bytes) -> None:
    """A request has come: only one that may be repeated safely may come twice."""
    TALLY["heard"] += 1
    if method == "POST" and number:
        TALLY["repeated"] += number in POSTS
        POSTS.add(number)


def reset(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def http(stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    while True:
        request, size = None, 0
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                request = event
                note(request.method.decode(), dict(request.headers).get(b"x-number", b""))
            elif isinstance(event, h11.Data):
                size += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return
        if request is None or not await answer(stream, connection, request.target.decode(), size):
            return
        if connection.our_state is h11.MUST_CLOSE:
            return
        connection.start_next_cycle()


async def answer(stream: trio.SocketStream, connection: h11.Connection, path: str, size: int) -> bool:
    """Answer by path; False when the connection shall end."""
    word, _, number = path.strip("/").partition("/")
    if word == "reset":
        reset(stream)
        return False
    if word == "close":
        return False
    if word == "cut":
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 40000)
        if int(number or 0):
            reset(stream)
        return False
    if word == "cut-chunked":
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        return False
    if word == "until-close":
        await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"y" * 30000)
        return False
    status, body = 200, b"x" * 100
    if word == "slow":
        await trio.sleep(random.uniform(0.01, 0.2))
    elif word == "status":
        status = int(number)
    elif word == "big":
        body = b"z" * int(number)
    elif word == "post":
        body = b"%d" % size
    headers = [("Content-Length", str(len(body)))] if random.random() < 0.7 else [("Transfer-Encoding", "chunked")]
    if status in (204, 304):
        headers, body = [], b""
    for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
        await stream.send_all(connection.send(event) or b"")
    return True


async def echo(stream: trio.SocketStream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)
    await stream.send_eof()


async def http2(stream: trio.SocketStream) -> None:
    await streams.serve(stream, note)


async def tell(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    body = json.dumps(TALLY).encode()
    await stream.send_all(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def tolerant(handler: object, stream: trio.SocketStream) -> None:
    try:
        async with stream:
            await handler(stream)  # type: ignore[operator]
    except (trio.BrokenResourceError, h11.RemoteProtocolError):
        pass


HANDLERS = {8081: http, 8082: http, 8083: echo, 8084: echo, 8085: http2, 8086: http2, 8090: tell}


async def main() -> None:
    in_our_thread = partial(trio.from_thread.run_sync, note, trio_token=trio.lowlevel.current_trio_token())
    grpc_servers = [calls.serve(port, in_our_thread) for port in (8087, 8088)]  # a server is gone with its object
    async with trio.open_nursery() as nursery:
        for port, handler in HANDLERS.items():
            listeners = await trio.open_tcp_listeners(port, host="0.0.0.0", backlog=1024)

            async def serve(stream: trio.SocketStream, handler: object = handler) -> None:
                await tolerant(handler, stream)

            nursery.start_soon(trio.serve_listeners, serve, listeners)
        print("serving, gRPC on", len(grpc_servers), "ports", flush=True)


if __name__ == "__main__":
    trio.run(main)
