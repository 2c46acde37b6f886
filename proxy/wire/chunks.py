"""The payload of a chunked body, for who wants to know it beside passing it on. Pure.

The reader has found the chunks valid before; here they are only taken apart.

Sources: RFC 9112 section 7.1.
"""


class Unchunker:
    """Fed with a body as it came, in any pieces, gives its payload; trailers are no part of it."""

    __slots__ = ("_is_over", "_left_bytes", "_line")

    def __init__(self) -> None:
        self._left_bytes = 0
        """Of the current chunk, with the line end behind it."""
        self._line = b""
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        payload: list[bytes] = []
        while data and not self._is_over:
            if self._left_bytes:
                piece, data = data[: self._left_bytes], data[self._left_bytes :]
                payload.append(piece[: max(0, self._left_bytes - 2)])
                self._left_bytes -= len(piece)
                continue
            end = data.find(b"\n")
            if end < 0:
                self._line += data
                break
            line, data, self._line = self._line + data[:end], data[end + 1 :], b""
            size_bytes = int(line.partition(b";")[0].strip(), 16)
            self._is_over = size_bytes == 0
            self._left_bytes = size_bytes + 2
        return b"".join(payload)
