"""An API server that answers from a table, and the command line as its user runs it."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from cli import __main__ as command_line


@dataclass
class Api:
    """Answers by path: a JSON value, or (status, value). What is not there is 404 as Kubernetes says it."""

    url: str
    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """`GET /path?query`, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    field_lines: list[list[tuple[str, str]]] = field(default_factory=list)
    """Each request's headers as they came, repeated ones too."""
    bodies: list[Any] = field(default_factory=list)


def status(code: int, reason: str, message: str) -> tuple[int, Any]:
    """A refusal in Kubernetes' form."""
    return code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


def items(*objects: dict[str, Any]) -> dict[str, Any]:
    """A list answer."""
    return {"kind": "List", "metadata": {}, "items": list(objects)}


class Handler(BaseHTTPRequestHandler):
    """Looks the path up in the server's Api."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    """Head and body in one segment: else each answer waits 40 ms for a delayed ACK."""

    def do_GET(self) -> None:
        api: Api = self.server.api  # type: ignore[attr-defined]
        api.requests.append(f"{self.command} {self.path}")
        api.headers.append({name.lower(): value for name, value in self.headers.items()})
        api.field_lines.append([(name.lower(), value) for name, value in self.headers.items()])
        length = int(self.headers.get("content-length", 0))
        if length:
            api.bodies.append(json.loads(self.rfile.read(length)))
        path = urlsplit(self.path).path
        answer = api.answers.get(self.path, api.answers.get(path))
        if callable(answer):
            answer = answer()
        if answer is None:
            answer = status(404, "NotFound", f"{path.rpartition('/')[2]} not found")
        code, value = answer if isinstance(answer, tuple) else (200, answer)
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A server on loopback, and KUBECONFIG leading to it with a token and the namespace `shop`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = Api(f"http://127.0.0.1:{server.server_port}")
    server.api = api  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    context = {"cluster": "here", "user": "me", "namespace": "shop"}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": context}],
        "clusters": [{"name": "here", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {"token": "secret-token"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(path))
    # The official client fixes the default path when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def tulle(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process, through the same door as the script's."""

    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        code = command_line.run(list(arguments))
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def agreed() -> Callable[[Path, str], None]:
    """Compare text with a golden file; TULLE_UPDATE_GOLDENS=1 writes it first."""

    def compare(golden: Path, text: str) -> None:
        if os.environ.get("TULLE_UPDATE_GOLDENS"):
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(text)
        assert golden.read_text() == text

    return compare
