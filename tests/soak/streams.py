"""HTTP/2 for the soak: a server that misbehaves by path, and a client that sends requests by the handful."""

import random
from collections.abc import Callable

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

INTERNAL_ERROR = 2
PATHS = ("/plain", "/plain", "/plain", "/slow", "/big", "/big", "/status", "/reset", "/cut")
Count = Callable[[str, int], None]


class Server:
    """Answers the streams of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.connection = H2Connection(H2Configuration(client_side=False))
        self.paths: dict[int, str] = {}
        self.pending: dict[int, bytes] = {}
        self.sending = trio.Lock()

    async def serve(self) -> None:
        self.connection.initiate_connection()
        async with trio.open_nursery() as nursery:
            await self._flush()
            while data := await self.stream.receive_some(65536):
                try:
                    events = self.connection.receive_data(data)
                except ProtocolError:
                    break
                for event in events:
                    if isinstance(event, RequestReceived):
                        self.paths[event.stream_id] = dict(event.headers)[b":path"].decode()
                    elif isinstance(event, DataReceived):
                        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded):
                        nursery.start_soon(self._answer, event.stream_id)
                    elif isinstance(event, StreamReset):
                        self.pending.pop(event.stream_id, None)
                await self._flush()
            nursery.cancel_scope.cancel()

    async def _answer(self, number: int) -> None:
        path = self.paths.pop(number)
        if path == "/slow":
            await trio.sleep(random.uniform(0.01, 0.2))
        try:
            if path == "/reset":
                self.connection.reset_stream(number, INTERNAL_ERROR)
            else:
                status = "503" if path == "/status" else "200"
                self.connection.send_headers(number, [(":status", status)])
                self.pending[number] = b"x" * (100_000 if path == "/big" else 200)
                if path == "/cut":
                    del self.pending[number]
                    self.connection.send_data(number, b"half")
                    self.connection.reset_stream(number, INTERNAL_ERROR)
        except ProtocolError:
            pass  # the client has gone away from this stream
        await self._flush()

    async def _flush(self) -> None:
        connection = self.connection
        for number, data in list(self.pending.items()):
            try:
                room = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size)
                while data and room > 0:
                    connection.send_data(number, data[:room], end_stream=len(data) <= room)
                    data = data[room:]
                    room = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size)
            except ProtocolError:
                data = b""
            if data:
                self.pending[number] = data
            else:
                self.pending.pop(number, None)
        async with self.sending:
            if out := connection.data_to_send():
                await self.stream.send_all(out)


async def serve(stream: trio.SocketStream) -> None:
    try:
        await Server(stream).serve()
    except* trio.BrokenResourceError:
        pass


async def ask(stream: trio.SocketStream, count: Count, port: int) -> None:
    """Send some handfuls of requests; count what becomes of each, as HTTP/1's clients do."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    for _ in range(random.randint(1, 8)):
        answered = dict.fromkeys(_send_requests(connection), False)
        await stream.send_all(connection.data_to_send())
        for _number in answered:
            count("sent", port)
        while answered:
            data = await _receive(stream)
            if not data:
                for has_head in answered.values():
                    count("cut" if has_head else "unanswered", port)
                return
            for event in connection.receive_data(data):
                _on_event(connection, event, answered, count, port)
            if out := connection.data_to_send():
                await stream.send_all(out)
        await trio.sleep(random.expovariate(20))


def _send_requests(connection: H2Connection) -> list[int]:
    numbers = []
    for _ in range(random.randint(1, 8)):
        number = connection.get_next_available_stream_id()
        body = bytes(random.choice((0, 0, 10, 5000)))
        method = "POST" if body else "GET"
        head = [(":method", method), (":path", random.choice(PATHS)), (":scheme", "http"), (":authority", "soak")]
        connection.send_headers(number, head, end_stream=not body)
        if body:
            connection.send_data(number, body, end_stream=True)
        numbers.append(number)
    return numbers


async def _receive(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some(65536))
    except trio.BrokenResourceError:
        return b""


def _on_event(connection: H2Connection, event: object, answered: dict[int, bool], count: Count, port: int) -> None:
    if isinstance(event, ResponseReceived):
        status = dict(event.headers)[b":status"].decode()
        count(f"heads:{status}", port)
        answered[event.stream_id] = True
    elif isinstance(event, DataReceived):
        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, StreamEnded):
        answered.pop(event.stream_id, None)
    elif isinstance(event, StreamReset) and event.stream_id in answered:
        count("cut" if answered.pop(event.stream_id) else "unanswered", port)
    elif isinstance(event, ConnectionTerminated):
        count("goaway", port)
