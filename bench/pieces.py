"""A server that writes a response in two pieces, as Python's own does: the head, then the body. Edge.

python -m bench.pieces PORT
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BODY = b"hello world\n"


class _Handler(BaseHTTPRequestHandler):
    """Leaves Nagle's algorithm on, as the class does unless told otherwise."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(_BODY)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(_BODY)

    def log_message(self, format: str, *_arguments: object) -> None:
        """Nothing: a benchmark of logs says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


if __name__ == "__main__":
    _Server(("", int(sys.argv[1])), _Handler).serve_forever()
