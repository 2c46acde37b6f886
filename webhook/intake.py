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
BODY_S: Final = 10.0
"""An API server sends a review at once; what takes longer holds room that others need."""
DRAIN_BYTES: Final = 16 * 1024 * 1024
"""Of a body that is too long, this much is read and thrown away, so that its sender hears why it was refused."""


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
        if length.isdigit() and (len(length) > 18 or int(length) > DRAIN_BYTES):
            raise too_long
        pieces: list[bytes] = []
        held_bytes = 0
        try:
            try:
                async with asyncio.timeout(BODY_S):
                    if length.isdigit() and int(length) > limit_bytes:
                        await _drain(http.stream())
                        raise too_long
                    stream = http.stream()
                    async for piece in stream:
                        if held_bytes + len(piece) > limit_bytes:
                            await _drain(stream)
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


async def _drain(stream: AsyncIterator[bytes]) -> None:
    left_bytes = DRAIN_BYTES
    async for piece in stream:
        left_bytes -= len(piece)
        if left_bytes < 0:
            return
