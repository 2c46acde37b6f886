"""A server that does what its requests say: HTTP/1.1 on 8000 to 8002, gRPC on 9000; its answers tell what it was sent.

A request says in its query (gRPC: as JSON) what to do: `status` to answer with, `delay_s` before, `size_bytes` of the
body, `call` another URL first, passing the deadline on, then wait for `rest_s`. `untried` limits status and delay to
first tries, `pod` to the pod of that name. `/seen?key=K` gives the headers of all requests that had `key=K`.
"""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import grpc

READY = Path("/tmp/ready")
POD = os.environ.get("HOSTNAME", "")
DEADLINE = "x-tulle-deadline"
seen = defaultdict(list)


def concerned(wish, headers):
    """Whether the request means this pod and this try."""
    is_first = "x-tulle-attempt" not in headers
    return wish.get("pod", POD) == POD and (is_first or "untried" not in wish)


def call(url, headers):
    """Ask another service, passing on the one header; its status and what it told."""
    passed = {DEADLINE: headers[DEADLINE]} if DEADLINE in headers else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=passed), timeout=10) as answer:
            return {"status": answer.status, "told": json.load(answer)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "error": error.headers.get("x-tulle-error")}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave together

    def do_GET(self):
        url = urlsplit(self.path)
        wish = dict(parse_qsl(url.query))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0))).decode()
        if url.path == "/seen":
            self.reply(200, seen[wish["key"]])
            return
        seen[wish.get("key")].append(headers)
        is_concerned = concerned(wish, headers)
        if is_concerned:
            time.sleep(float(wish.get("delay_s", 0)))
        told = {"pod": POD, "peer": self.client_address[0], "headers": headers, "body": body}
        if "call" in wish:
            told["called"] = call(wish["call"], headers)
            time.sleep(float(wish.get("rest_s", 0)))
        if "size_bytes" in wish:
            told = "x" * (int(wish["size_bytes"]) - 2)
        self.reply(int(wish.get("status", 200)) if is_concerned else 200, told)

    do_POST = do_GET

    def reply(self, status, told):
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def do(request, context):
    """gRPC: a status comes alone (trailers only), or with `opens` after the response's headers."""
    wish = json.loads(request)
    headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    seen[wish.get("key")].append(headers)
    if wish.get("opens"):
        context.send_initial_metadata([("opened", "yes")])
    if concerned(wish, headers):
        time.sleep(wish.get("delay_s", 0))
        if wish.get("status"):
            context.abort(next(one for one in grpc.StatusCode if one.value[0] == wish["status"]), "as told")
    remaining_s = context.time_remaining()
    return json.dumps({"pod": POD, "headers": headers, "remaining_s": remaining_s}).encode()


def main():
    for port in (8000, 8001, 8002):
        Thread(target=ThreadingHTTPServer(("", port), Handler).serve_forever, daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    handlers = {"Do": grpc.unary_unary_rpc_method_handler(do)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Acts", handlers)])
    server.add_insecure_port("[::]:9000")
    server.start()
    READY.touch()
    signal.sigwait({signal.SIGTERM})
    server.stop(1).wait()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
