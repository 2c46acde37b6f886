"""Calls to another service over kept connections, one a thread."""

import threading
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

TIMEOUT_S = 5.0


class Unreachable(Exception):
    """The other service gave no answer; the text says why."""


class Caller:
    """Calls one service.

    A kept connection may be closed by the other side just when it is used again, with no byte of an answer: then the
    call is made once more on a new one. Whoever is called so must bear to hear the same twice.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise SystemExit(f"{url!r}: write it as http://HOST[:PORT]")
        self.url = url
        self._host, self._port = parts.hostname, parts.port or 80
        self._kept = threading.local()

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer. Raises Unreachable."""
        held: HTTPConnection | None = getattr(self._kept, "connection", None)
        if held is not None:
            try:
                return self._once(held, method, path, body)
            except (ConnectionError, HTTPException):
                held.close()
        connection = HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            answer = self._once(connection, method, path, body)
        except (OSError, HTTPException) as error:
            connection.close()
            self._kept.connection = None
            raise Unreachable(f"{self.url} gave no answer: {error or type(error).__name__}") from error
        self._kept.connection = connection
        return answer

    def _once(self, connection: HTTPConnection, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        connection.request(method, path, body=body or None)
        response = connection.getresponse()
        return response.status, response.read()
