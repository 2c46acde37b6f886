"""A small API server for tests: lists, watches, gets, creates and updates over real HTTP, as the test scripts it.

It runs in a thread of its own on loopback. `put` and `drop` change objects and feed the open watches; `expire`
makes every earlier position answer 410.
"""

import json
import queue
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]


class ScriptedApi:
    """Objects by collection path (`/api/v1/pods`, `/api/v1/namespaces/tulle/secrets`)."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Json]] = defaultdict(dict)
        self.refused: dict[str, int] = {}
        """Collection path -> status to answer with."""
        self.requests: list[tuple[str, str]] = []
        self.patches: list[Json] = []
        """Bodies, which change nothing."""
        self.version = 100
        self.oldest = 0
        self.page_count = 0
        """Objects a page, 0: all in one."""
        self._log: list[tuple[int, str, str, Json]] = []
        self._watches: list[tuple[str, queue.Queue[bytes | None]]] = []
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.end_watches()
        self._server.shutdown()
        self._server.server_close()

    def put(self, path: str, item: Json) -> None:
        """Create or change an object; `item` needs metadata.name."""
        with self._lock:
            name = f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
            known = name in self.objects[path]
            self._store(path, name, item, "MODIFIED" if known else "ADDED")

    def put_named(self, path: str, item: Json) -> None:
        """Create or change an object of a collection within a namespace."""
        with self._lock:
            name = item["metadata"]["name"]
            self._store(path, name, item, "MODIFIED" if name in self.objects[path] else "ADDED")

    def drop(self, path: str, namespace: str, name: str) -> None:
        with self._lock:
            item = self.objects[path].pop(f"{namespace}/{name}")
            self._announce(path, "DELETED", item)

    def expire(self) -> None:
        """End all watches; positions from before are too old."""
        with self._lock:
            self.version += 1
            self.oldest = self.version
            self.end_watches()

    def end_watches(self) -> None:
        with self._lock:
            for _, events in self._watches:
                events.put(None)
            self._watches.clear()

    def send(self, path: str, line: bytes) -> None:
        """Put raw bytes on the open watches of a collection."""
        with self._lock:
            for watched, events in self._watches:
                if watched == path:
                    events.put(line)

    def watches_count(self, path: str) -> int:
        with self._lock:
            return sum(watched == path for watched, _ in self._watches)

    def _store(self, path: str, name: str, item: Json, event: str) -> Json:
        stored = json.loads(json.dumps(item))
        self.objects[path][name] = stored
        self._announce(path, event, stored)
        return stored

    def _announce(self, path: str, event: str, item: Json) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self._log.append((self.version, path, event, json.loads(json.dumps(item))))
        self.send(path, _event(event, item))

    # --- answers, on the server's threads

    def list(self, path: str, query: dict[str, str]) -> Json:
        with self._lock:
            items = list(self.objects[path].values())
            metadata: Json = {"resourceVersion": str(self.version)}
            start = int(query.get("continue", "0"))
            if self.page_count and start + self.page_count < len(items):
                metadata["continue"] = str(start + self.page_count)
                items = items[start : start + self.page_count]
            else:
                items = items[start:]
            return {"kind": "List", "metadata": metadata, "items": items}

    def watch(self, path: str, since: int) -> "queue.Queue[bytes | None]":
        events: queue.Queue[bytes | None] = queue.Queue()
        with self._lock:
            if since < self.oldest or since > self.version:
                events.put(_event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}))
                events.put(None)
                return events
            for version, logged_path, event, item in self._log:
                if logged_path == path and version > since:
                    events.put(_event(event, item))
            self._watches.append((path, events))
        return events

    def create(self, path: str, item: Json) -> tuple[int, Json]:
        with self._lock:
            name = item["metadata"]["name"]
            if name in self.objects[path]:
                return _status(409, f"{name} already exists")
            return 201, self._store(path, name, item, "ADDED")

    def update(self, path: str, name: str, item: Json) -> tuple[int, Json]:
        with self._lock:
            found = self.objects[path].get(name)
            if found is None:
                return _status(404, f"{name} not found")
            if item["metadata"].get("resourceVersion") != found["metadata"]["resourceVersion"]:
                return _status(409, f"{name} was changed")
            return 200, self._store(path, name, item, "MODIFIED")

    def get(self, path: str, name: str) -> tuple[int, Json]:
        with self._lock:
            found = self.objects[path].get(name)
            return _status(404, f"{name} not found") if found is None else (200, found)


def _status(code: int, message: str) -> tuple[int, Json]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message}


def _event(event: str, item: Json) -> bytes:
    return json.dumps({"type": event, "object": item}).encode() + b"\n"


NAMED = ("secrets", "configmaps")


def _handler(api: ScriptedApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            path, _, name = url.path.rpartition("/")
            api.requests.append(("GET", self.path))
            refused = api.refused.get(url.path) or api.refused.get(path)
            if refused:
                self._answer(*_status(refused, "refused by the script"))
            elif path.rpartition("/")[2] in NAMED:
                self._answer(*api.get(path, name))
            elif query.get("watch") == "true":
                self._watch(url.path, int(query["resourceVersion"]))
            else:
                self._answer(200, api.list(url.path, query))

        def do_POST(self) -> None:
            api.requests.append(("POST", self.path))
            self._answer(*api.create(self.path, self._body()))

        def do_PUT(self) -> None:
            api.requests.append(("PUT", self.path))
            path, _, name = self.path.rpartition("/")
            self._answer(*api.update(path, name, self._body()))

        def do_PATCH(self) -> None:
            api.requests.append(("PATCH", self.path))
            api.patches.append(self._body())
            refused = api.refused.get(self.path)
            self._answer(*(_status(refused, "refused by the script") if refused else (200, {})))

        def _body(self) -> Json:
            body: Json = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            return body

        def _answer(self, code: int, body: Json) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _watch(self, path: str, since: int) -> None:
            events = api.watch(path, since)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while (line := events.get()) is not None:
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                self.close_connection = True

    return Handler


def kubeconfig(url: str) -> str:
    """The text of a kubeconfig file for the server."""
    return f"""\
apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
clusters: [{{name: test, cluster: {{server: "{url}"}}}}]
users: [{{name: test, user: {{token: secret}}}}]
"""
