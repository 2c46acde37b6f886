"""A controller that knows one service, for benchmarks: `python -m bench.discovery IP PORT`. Waits."""

import sys

import msgspec
import trio

from contract.discovery import DISCOVERY_PATH, HEARTBEAT_S, Destination, Endpoint, Update
from contract.ports import CONTROLLER_PORT


def answer(ip: str, port: int) -> Update:
    """The one update: the address is a service, and its one endpoint is the address itself."""
    endpoint = Endpoint(ip=ip, port=port, pod="web-1", namespace="bench", owner_kind="deployment", owner="web")
    destination = Destination(f"{ip}:{port}", "1", "service", "bench", "web", port, "detect", (endpoint,))
    return Update((destination,))


async def serve(stream: trio.SocketStream, update: Update) -> None:
    """Answer one request: discovery with a stream of heartbeats, anything else (reports) with 204."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some()
        if not data:
            return
        head += data
    if DISCOVERY_PATH.encode() not in head.split(b"\r\n", 1)[0]:
        await stream.send_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        return
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n")
    while True:
        await stream.send_all(msgspec.json.encode(update) + b"\n")
        update = Update()
        await trio.sleep(HEARTBEAT_S)


async def main() -> None:
    """Serve on loopback until ended."""
    update = answer(sys.argv[1], int(sys.argv[2]))

    async def handler(stream: trio.SocketStream) -> None:
        try:
            await serve(stream, update)
        except trio.BrokenResourceError:
            pass

    await trio.serve_tcp(handler, CONTROLLER_PORT, host="127.0.0.1")


if __name__ == "__main__":
    trio.run(main)
