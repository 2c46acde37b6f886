"""For the tests of HTTP/1: a sink that notes what it hears, and readers fed to the end."""

from collections.abc import Iterable

from proxy.errors import REASONS, WireFault
from proxy.model import RequestHead, ResponseHead
from proxy.wire.http1 import RequestReader

Event = tuple[str, bytes]


class Notes:
    """Both sinks: keeps what it hears, bodies joined."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.heads: list[RequestHead | ResponseHead] = []

    def on_request(self, head: RequestHead) -> None:
        self.heads.append(head)
        self.events.append(("head", head.raw))

    def on_response(self, head: ResponseHead) -> None:
        self.heads.append(head)
        self.events.append(("head", head.raw))

    def on_body(self, data: bytes) -> None:
        if self.events[-1][0] == "body":
            self.events[-1] = ("body", self.events[-1][1] + data)
        else:
            self.events.append(("body", data))

    def on_end(self) -> None:
        self.events.append(("end", b""))


def read_requests(pieces: Iterable[bytes], max_head_bytes: int = 65536) -> list[Event]:
    """Read all requests in the pieces; a fault is the last event."""
    notes = Notes()
    reader = RequestReader(notes, max_head_bytes)
    try:
        for piece in pieces:
            reader.feed(piece)
            while reader.is_done:
                rest = reader.rest
                reader.next_message()
                if not rest:
                    break
    except WireFault as fault:
        notes.events.append((REASONS[fault.reason].word, b""))
    return notes.events


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]
