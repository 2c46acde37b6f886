"""Bodies: read within bounds of length, time and room. Waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import Request

OBJECT_BYTES: Final = 3 * 1024 * 1024
"""Largest object that an API server takes: its own limit on a request's body (etcd's is half of it)."""
ENVELOPE_BYTES: Final = 256 * 1024
"""Of a review around its objects: who asks (groups, extras) and with which options."""
INJECT_BYTES: Final = OBJECT_BYTES + ENVELOPE_BYTES
VALIDATE_BYTES: Final = 2 * OBJECT_BYTES + ENVELOPE_BYTES
"""A changed policy comes with the old one."""
ROOM_BYTES: Final = 16 * 1024 * 1024
"""Bodies held at once. What a body becomes while it is read is up to thirty times as large, but one is read at a
time."""
BODY_S: Final = 5.0
"""An API server sends a review at once, and has given it up after this time."""


class Refusal(Exception):
    """A body that is not taken; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Intake:
    """The room for all bodies."""

    def __init__(self) -> None:
        self.held_bytes = 0

    @asynccontextmanager
    async def body(self, http: Request, limit_bytes: int) -> AsyncIterator[bytes]:
        """The whole body, whose room is given back when the caller is done with it.

        Raises:
            Refusal: 413, longer than the limit, said or found; 408, too slow; 503, no room.
        """
        length = http.headers.get("content-length", "")
        too_long = Refusal(413, f"the body is larger than {limit_bytes} bytes")
        if length.isdigit() and (len(length) > 18 or int(length) > limit_bytes):
            raise too_long
        pieces: list[bytes] = []
        held_bytes = 0
        try:
            try:
                async with asyncio.timeout(BODY_S):
                    async for piece in http.stream():
                        if held_bytes + len(piece) > limit_bytes:
                            raise too_long
                        if self.held_bytes + len(piece) > ROOM_BYTES:
                            raise Refusal(503, f"the bodies in work are {ROOM_BYTES} bytes large already")
                        held_bytes += len(piece)
                        self.held_bytes += len(piece)
                        pieces.append(piece)
            except TimeoutError:
                raise Refusal(408, f"the body did not come whole within {BODY_S:g} s") from None
            yield b"".join(pieces)
        finally:
            self.held_bytes -= held_bytes
