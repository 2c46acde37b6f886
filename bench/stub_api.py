"""The few answers of a Kubernetes API server that the webhook asks for, held in memory. For tests and benchmarks.

It keeps the promises that matter to the webhook: versions and conflicts, JSON patches with `test`, a watch that tells
of every change, 410 for a version it has forgotten. It serves plain HTTP on loopback.
"""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonpatch

Json = dict[str, Any]

REGISTRATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/tulle-webhook"
NAMESPACES = "/api/v1/namespaces"


class StubApi:
    """Objects by path; `events` is what was told, `minor` the version that /version answers."""

    def __init__(self, minor: str = "31") -> None:
        self.minor = minor
        self.objects: dict[str, Json] = {}
        self.events: list[Json] = []
        self.changes: list[Json] = []
        self.asked: list[str] = []
        """Paths of all GET requests."""
        self.is_down = False
        self.is_forgetful = False
        self.changed = threading.Condition()
        self._version = 100
        self.put(REGISTRATION, {"webhooks": [{"name": "a", "clientConfig": {}}, {"name": "b", "clientConfig": {}}]})

    def put(self, path: str, item: Json) -> Json:
        """Store an object under a new version, and tell the watches when it is a namespace."""
        with self.changed:
            self._version += 1
            kind = "MODIFIED" if path in self.objects else "ADDED"
            metadata = {**item.get("metadata", {}), "resourceVersion": str(self._version)}
            self.objects[path] = {**item, "metadata": metadata}
            if path.startswith(NAMESPACES) and path.count("/") == 4:
                self.changes.append({"type": kind, "object": self.objects[path]})
            self.changed.notify_all()
            return self.objects[path]

    def namespace(
        self, name: str, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
    ) -> None:
        metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
        self.put(f"{NAMESPACES}/{name}", {"metadata": metadata})

    def replicaset(self, namespace: str, name: str, uid: str) -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/replicasets/{name}"
        self.put(path, {"metadata": {"name": name, "namespace": namespace, "uid": uid}})

    def bundles(self) -> list[str]:
        return [hook["clientConfig"].get("caBundle", "") for hook in self.objects[REGISTRATION]["webhooks"]]

    @property
    def version(self) -> str:
        return str(self._version)

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Listen on a free port of loopback; yield the base URL."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.api = self
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.is_stopping = True
            with self.changed:
                self.changed.notify_all()
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: StubApi
    is_stopping = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        api = self.server.api
        api.asked.append(self.path)
        if api.is_down:
            self._answer(500, {"message": "etcd is away"})
        elif url.path == "/version":
            self._answer(200, {"major": "1", "minor": api.minor})
        elif url.path == NAMESPACES and "watch" in parse_qs(url.query):
            self._watch(int(parse_qs(url.query)["resourceVersion"][0]))
        elif url.path == NAMESPACES:
            items = [one for path, one in api.objects.items() if path.startswith(NAMESPACES) and path.count("/") == 4]
            self._answer(200, {"items": items, "metadata": {"resourceVersion": api.version}})
        elif url.path in api.objects:
            self._answer(200, api.objects[url.path])
        else:
            self._answer(404, {"message": f"{url.path} not found"})

    def do_POST(self) -> None:
        api, body = self.server.api, self._body()
        if self.path.endswith("/events"):
            api.events.append(body)
            self._answer(201, body)
            return
        path = f"{self.path}/{body['metadata']['name']}"
        if path in api.objects:
            self._answer(409, {"message": "already exists"})
        else:
            self._answer(201, api.put(path, body))

    def do_PUT(self) -> None:
        api, body = self.server.api, self._body()
        held = api.objects.get(self.path)
        if held is None or held["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            self._answer(409, {"message": "the object has been modified"})
        else:
            self._answer(200, api.put(self.path, body))

    def do_PATCH(self) -> None:
        api, body = self.server.api, self._body()
        try:
            patched = jsonpatch.apply_patch(api.objects[self.path], body)
        except jsonpatch.JsonPatchException as error:
            self._answer(422, {"message": str(error)})
            return
        self._answer(200, api.put(self.path, patched))

    def _watch(self, since: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        api = self.server.api
        if api.is_forgetful:
            api.is_forgetful = False
            self._line({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
            self.wfile.write(b"0\r\n\r\n")
            return
        sent = 0
        try:
            while not self.server.is_stopping and not api.is_down:
                with api.changed:
                    fresh = api.changes[sent:]
                    sent += len(fresh)
                    if not fresh:
                        api.changed.wait(0.2)
                for change in fresh:
                    if int(change["object"]["metadata"]["resourceVersion"]) > since:
                        self._line(change)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass

    def _line(self, event: Json) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, code: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def write_kubeconfig(path: Path, url: str) -> None:
    """Write a kubeconfig without credentials for the stub."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "stub", "cluster": {"server": url}}],
                "users": [{"name": "stub", "user": {"token": b64encode(b"stub").decode()}}],
                "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
                "current-context": "stub",
            }
        )
    )
