"""HTTP/2 and gRPC for the soak: a server that misbehaves by path, and a client that sends requests by the handful."""

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
    TrailersReceived,
)
from h2.exceptions import ProtocolError

INTERNAL_ERROR = 2
GRPC_FAILURE = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14")]
PATHS = ("/plain", "/plain", "/plain", "/slow", "/big", "/big", "/status", "/reset", "/cut")
Count = Callable[[str, int], None]
Note = Callable[[str, bytes], None]


class Server:
    """Answers the streams of one connection."""

    def __init__(self, stream: trio.SocketStream, note: Note) -> None:
        self.stream = stream
        self.note = note
        self.connection = H2Connection(H2Configuration(client_side=False))
        self.paths: dict[int, str] = {}
        self.grpc: set[int] = set()
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
                        self._on_request(event.stream_id, dict(event.headers))
                    elif isinstance(event, DataReceived):
                        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded):
                        nursery.start_soon(self._answer, event.stream_id)
                    elif isinstance(event, StreamReset):
                        self.pending.pop(event.stream_id, None)
                        self.grpc.discard(event.stream_id)
                await self._flush()
            nursery.cancel_scope.cancel()

    def _on_request(self, number: int, fields: dict[bytes, bytes]) -> None:
        self.note(fields[b":method"].decode(), fields[b"x-number"])
        self.paths[number] = fields[b":path"].decode()
        if fields.get(b"content-type") == b"application/grpc":
            self.grpc.add(number)

    async def _answer(self, number: int) -> None:
        path = self.paths.pop(number)
        if path == "/slow":
            await trio.sleep(random.uniform(0.01, 0.2))
        try:
            self._begin(number, path)
        except ProtocolError:
            pass  # the client has gone away from this stream
        await self._flush()

    def _begin(self, number: int, path: str) -> None:
        connection = self.connection
        is_grpc = number in self.grpc
        if path == "/reset":
            connection.reset_stream(number, INTERNAL_ERROR)
        elif path == "/status" and is_grpc:
            self.grpc.discard(number)
            connection.send_headers(number, GRPC_FAILURE, end_stream=True)
        else:
            kind = [("content-type", "application/grpc")] if is_grpc else []
            connection.send_headers(number, [(":status", "503" if path == "/status" else "200"), *kind])
            if path == "/cut":
                connection.send_data(number, b"half")
                connection.reset_stream(number, INTERNAL_ERROR)
            else:
                self.pending[number] = b"x" * (100_000 if path == "/big" else 200)

    async def _flush(self) -> None:
        connection = self.connection
        for number, data in list(self.pending.items()):
            try:
                room = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size)
                while data and room > 0:
                    is_grpc = number in self.grpc
                    connection.send_data(number, data[:room], end_stream=len(data) <= room and not is_grpc)
                    data = data[room:]
                    if is_grpc and not data:
                        connection.send_headers(number, [("grpc-status", "0")], end_stream=True)
                    room = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size)
            except ProtocolError:
                data = b""
            if data:
                self.pending[number] = data
            else:
                self.pending.pop(number, None)
                self.grpc.discard(number)
        async with self.sending:
            if out := connection.data_to_send():
                await self.stream.send_all(out)


async def serve(stream: trio.SocketStream, note: Note) -> None:
    try:
        await Server(stream, note).serve()
    except* trio.BrokenResourceError:
        pass


class Asker:
    """A client's connection: sends requests by the handful, and counts what becomes of each."""

    def __init__(self, stream: trio.SocketStream, count: Count, port: int, is_grpc: bool) -> None:
        self.stream = stream
        self.port = port
        self.is_grpc = is_grpc
        self.connection = H2Connection(H2Configuration(client_side=True))
        self.connection.initiate_connection()
        self._count = count
        self._open: dict[int, Answer] = {}

    async def ask(self) -> bool:
        """Send a handful and read the answers; tell whether the connection can be used again."""
        numbers = [self._request() for _ in range(random.randint(1, 8))]
        await self.stream.send_all(self.connection.data_to_send())
        for number in numbers:
            self._open[number] = Answer()
            self._count("sent", self.port)
        while self._open:
            data = await _receive(self.stream)
            if not data:
                for answer in self._open.values():
                    self._count("cut" if answer.has_head else "unanswered", self.port)
                return False
            for event in self.connection.receive_data(data):
                self._on_event(event)
            if out := self.connection.data_to_send():
                await self.stream.send_all(out)
        return True

    def _request(self) -> int:
        connection = self.connection
        number = connection.get_next_available_stream_id()
        body = bytes(random.choice((0, 0, 10, 5000)))
        method = "POST" if body or self.is_grpc else "GET"
        head = [(":method", method), (":path", random.choice(PATHS)), (":scheme", "http"), (":authority", "soak")]
        head.append(("x-number", f"{random.getrandbits(64):x}"))
        if self.is_grpc:
            head += [("content-type", "application/grpc"), ("te", "trailers")]
            body = b"\0" + len(body).to_bytes(4, "big") + body
        connection.send_headers(number, head, end_stream=not body)
        if body:
            connection.send_data(number, body, end_stream=True)
        return number

    def _on_event(self, event: object) -> None:
        if isinstance(event, ConnectionTerminated):
            self._count("goaway", self.port)
            return
        answer = self._open.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, DataReceived):
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if answer is None:
            return
        if isinstance(event, ResponseReceived):
            answer.on_head(dict(event.headers))
            if not self.is_grpc:
                self._count(f"heads:{answer.status}", self.port)
        elif isinstance(event, DataReceived):
            answer.first = answer.first or bytes(event.data)
        elif isinstance(event, TrailersReceived):
            answer.on_trailers(dict(event.headers))
        elif isinstance(event, StreamEnded):
            self._on_whole(self._open.pop(event.stream_id))
        elif isinstance(event, StreamReset):
            del self._open[event.stream_id]
            self._count("cut" if answer.has_head else "unanswered", self.port)

    def _on_whole(self, answer: "Answer") -> None:
        if self.is_grpc:
            self._count(f"grpc:{answer.grpc_status}", self.port)
        if answer.reason and answer.first.startswith(b"outbound"):
            self._count(f"errors:{answer.reason}", self.port)


class Answer:
    """What has come of a response."""

    def __init__(self) -> None:
        self.has_head = False
        self.status = self.reason = self.grpc_status = ""
        self.first = b""
        """Of the body, or gRPC's message."""

    def on_head(self, fields: dict[bytes, bytes]) -> None:
        self.has_head = True
        self.status = fields[b":status"].decode()
        self.reason = fields.get(b"x-tulle-error", b"").decode()
        self.grpc_status = fields.get(b"grpc-status", b"").decode()
        self.first = fields.get(b"grpc-message", b"")

    def on_trailers(self, fields: dict[bytes, bytes]) -> None:
        self.grpc_status = fields.get(b"grpc-status", b"").decode()
        if b"x-tulle-error" in fields:  # it broke off, and a sidecar says so to gRPC in its own words
            self.reason = "response-cut"
            self.first = fields.get(b"grpc-message", b"")


async def _receive(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some(65536))
    except trio.BrokenResourceError:
        return b""
