"""Logs, exec, attach, port-forward and the proxies, as the real kubectl and the official Python client ask for them."""

import hashlib
import http.server
import json
import re
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes
import pytest
from kubernetes.stream import portforward, stream

BIG_BYTES = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def client(server):
    configuration = kubernetes.client.Configuration()
    configuration.host = server.url
    (server.folder / "ca.crt").write_bytes(server.authority_pem)
    configuration.ssl_ca_cert = str(server.folder / "ca.crt")
    configuration.api_key = {"BearerToken": f"Bearer {server.admin_token}"}
    with kubernetes.client.ApiClient(configuration) as api:
        yield kubernetes.client.CoreV1Api(api)
        api.rest_client.pool_manager.clear()  # close() leaves idle connections open


class _Serving(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def tcp_server(handle) -> Iterator[int]:
    """A TCP server on loopback that calls `handle(connection)` for each connection."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            handle(self.request)

    with _Serving(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running.server_address[1]
        running.shutdown()
        thread.join(5)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


@contextmanager
def forwarding(server, *ports: int) -> Iterator[list[int]]:
    """`kubectl port-forward pod/web :PORT ...`; the local ports, in that order."""
    command = server.command("port-forward", "pod/web", *(f":{port}" for port in ports))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        try:
            local: list[int] = []
            while len(local) < len(ports):
                line = running.stdout.readline().decode()
                assert line, "kubectl port-forward ended"
                if match := re.match(r"Forwarding from 127.0.0.1:(\d+)", line):
                    local.append(int(match[1]))
            yield local
        finally:
            running.terminate()


def read_all(connection: socket.socket) -> bytes:
    chunks = []
    while data := connection.recv(65536):
        chunks.append(data)
    return b"".join(chunks)


# exec


def test_kubectl_exec_carries_stdout_stderr_and_the_exit_code(server):
    done = server.kubectl("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3")

    assert (done.stdout, done.returncode) == (b"out\n", 3)
    assert b"err\n" in done.stderr
    assert b"exit code 3" in done.stderr


def test_kubectl_exec_carries_stdin_and_its_end_both_ways_unchanged(server):
    data = bytes(range(256)) * 8192

    done = server.kubectl("exec", "-i", "web", "--", "cat", stdin=data)

    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_a_command_that_reads_no_stdin_still_delivers_its_output(server):
    done = server.kubectl("exec", "-i", "web", "--", "sh", "-c", "exec 0<&-; echo ready", stdin=bytes(1_000_000))

    assert (done.stdout, done.returncode) == (b"ready\n", 0)


def test_kubectl_exec_with_a_terminal_knows_its_size(server):
    command = " ".join(server.command("exec", "-it", "web", "--", "sh", "-c", "'sleep 0.3; stty size; exit 5'"))

    done = subprocess.run(
        ["script", "-qec", f"stty rows 33 cols 77; {command}", "/dev/null"],
        capture_output=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
        check=False,
    )

    assert b"33 77" in done.stdout
    assert done.returncode == 5


def test_kubectl_exec_of_an_unknown_container_or_pod_says_so(server):
    container = server.kubectl("exec", "web", "-c", "nope", "--", "true")
    pod = server.kubectl("exec", "nope", "--", "true")

    assert b"container" in container.stderr
    assert b"nope" in container.stderr
    assert b'pods "nope" not found' in pod.stderr
    assert container.returncode == pod.returncode == 1


def test_the_python_client_runs_commands(client):
    answer = stream(
        client.connect_get_namespaced_pod_exec,
        "web",
        "default",
        command=["sh", "-c", "read line; echo got $line; exit 4"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    answer.write_stdin("hello\n")
    answer.run_forever(timeout=10)
    answer.close()
    answer.sock.shutdown()  # close() leaves the socket itself open when the server was first

    assert answer.read_stdout() == "got hello\n"
    assert answer.returncode == 4


def test_a_client_that_leaves_takes_its_command_with_it(server, client):
    answer = stream(
        client.connect_get_namespaced_pod_exec,
        "web",
        "default",
        command=["sh", "-c", "echo $$; exec sleep 60"],
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    while not (text := answer.readline_stdout(timeout=10)):
        pass
    answer.close()

    _wait_gone(int(text))


def _wait_gone(pid: int) -> None:
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


# logs and attach


def test_kubectl_logs_prints_all_or_the_tail_and_stamps_when_asked(server):
    server.kubelet.lines["web"] = [b"one\n", b"two\n", b"three\n"]

    assert server.kubectl("logs", "web").stdout == b"one\ntwo\nthree\n"
    assert server.kubectl("logs", "web", "--tail=1").stdout == b"three\n"
    assert server.kubectl("logs", "web", "--limit-bytes=5").stdout == b"one\nt"
    assert server.kubectl("logs", "web", "--timestamps", "--tail=1").stdout == b"2026-01-01T00:00:00.000000000Z three\n"
    assert b"previous terminated container" in server.kubectl("logs", "web", "--previous").stderr


def test_kubectl_logs_follows_until_the_container_ends(server):
    server.kubelet.lines["web"], server.kubelet.ended["web"] = [b"one\n"], False
    with subprocess.Popen(server.command("logs", "-f", "web"), stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"one\n"
        server.kubelet.lines["web"].append(b"two\n")
        assert running.stdout.readline() == b"two\n"
        server.kubelet.ended["web"] = True
        assert running.wait(10) == 0


def test_kubectl_attach_shows_the_containers_output_until_it_ends(server):
    server.kubelet.lines["web"], server.kubelet.ended["web"] = [b"one\n", b"two\n"], True

    done = server.kubectl("attach", "web")

    assert (done.stdout, done.returncode) == (b"one\ntwo\n", 0)


def test_attach_to_stdin_is_refused_with_a_sentence(server):
    done = server.kubectl("attach", "-i", "web")

    assert b"the lab does not implement attach to a container's stdin" in done.stderr


@pytest.mark.parametrize("query", ["tailLines=x", "sinceSeconds=-1", "sinceTime=yesterday", "container=nope"])
def test_a_malformed_log_request_names_its_parameter(server, query):
    done = server.kubectl("get", "--raw", f"/api/v1/namespaces/default/pods/web/log?{query}")

    assert done.returncode == 1
    assert query.split("=")[0].encode() in done.stderr or b"nope" in done.stderr


# port-forward


def test_kubectl_port_forward_carries_large_transfers_both_ways_at_once(server):
    sent = bytes(range(256)) * (BIG_BYTES // 256)
    received: list[bytes] = []
    with (
        tcp_server(echo) as port,
        forwarding(server, port) as [local],
        socket.create_connection(("127.0.0.1", local)) as connection,
    ):
        reading = threading.Thread(target=lambda: received.append(read_all(connection)))
        reading.start()
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        reading.join(60)

    assert hashlib.sha256(received[0]).digest() == hashlib.sha256(sent).digest()


def test_kubectl_port_forward_serves_many_connections_and_ports(server):
    with (
        tcp_server(echo) as first,
        tcp_server(lambda connection: connection.sendall(b"server speaks first")) as second,
        forwarding(server, first, second) as locals_,
    ):
        connections = [socket.create_connection(("127.0.0.1", locals_[0])) for _ in range(20)]
        for index, connection in enumerate(connections):
            connection.sendall(b"%d" % index)
        answers = [connection.recv(10) for connection in connections]
        for connection in connections:
            connection.close()
        with socket.create_connection(("127.0.0.1", locals_[1])) as connection:
            greeting = read_all(connection)

    assert answers == [b"%d" % index for index in range(20)]
    assert greeting == b"server speaks first"


def test_kubectl_port_forward_says_when_nothing_listens(server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    command = server.command("port-forward", "pod/web", f":{free}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        local = int(re.search(rb"127.0.0.1:(\d+)", running.stdout.readline())[1])
        with socket.create_connection(("127.0.0.1", local)) as connection:
            assert read_all(connection) == b""
        _out, told = running.communicate(timeout=10)

    assert b"an error occurred forwarding" in told
    assert b"Connect call failed" in told


def test_a_forwarded_connection_that_is_dropped_is_dropped_in_the_pod_as_well(server):
    ended = threading.Semaphore(0)

    def hold(connection: socket.socket) -> None:
        connection.sendall(b"x")
        try:
            while connection.recv(65536):
                pass
        except OSError:
            pass
        ended.release()

    with tcp_server(hold) as port:
        with forwarding(server, port) as [local]:
            dropped = socket.create_connection(("127.0.0.1", local))
            kept = socket.create_connection(("127.0.0.1", local))
            assert (dropped.recv(1), kept.recv(1)) == (b"x", b"x")
            dropped.close()
            assert ended.acquire(timeout=10)
            assert not ended.acquire(blocking=False)
        kept.close()
        assert ended.acquire(timeout=10)  # the end of kubectl ends the rest


def test_a_pod_that_does_not_read_holds_its_client_back_and_not_the_others(server):
    release = threading.Event()
    sizes: list[int] = []

    def stubborn(connection: socket.socket) -> None:
        release.wait(20)
        sizes.append(len(read_all(connection)))

    with (
        tcp_server(stubborn) as slow,
        tcp_server(echo) as quick,
        forwarding(server, slow, quick) as locals_,
        socket.create_connection(("127.0.0.1", locals_[0])) as held,
        socket.create_connection(("127.0.0.1", locals_[1])) as other,
    ):
        other.sendall(b"before")
        assert other.recv(10) == b"before"
        held.sendall(bytes(100_000))  # less than what is queued for one connection
        other.sendall(b"after")
        assert other.recv(10) == b"after"
        release.set()
        held.sendall(bytes(8_000_000))
        held.shutdown(socket.SHUT_WR)
        wait_for(lambda: sizes == [8_100_000])


def wait_for(condition) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.005)


def test_the_python_client_forwards_ports(client):
    sent = bytes(range(256)) * 8192
    with tcp_server(echo) as port:
        forwarded = portforward(client.connect_get_namespaced_pod_portforward, "web", "default", ports=str(port))
        connection = forwarded.socket(port)
        connection.setblocking(True)
        received: list[bytes] = []

        def read() -> None:
            size_bytes = 0
            while size_bytes < len(sent):
                received.append(connection.recv(65536))
                size_bytes += len(received[-1])

        reading = threading.Thread(target=read)
        reading.start()
        connection.sendall(sent)
        reading.join(30)
        connection.close()

    assert b"".join(received) == sent
    assert forwarded.error(port) is None


def test_the_python_client_is_told_when_nothing_listens(client):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    forwarded = portforward(client.connect_get_namespaced_pod_portforward, "web", "default", ports=str(free))
    connection = forwarded.socket(free)
    connection.setblocking(True)

    assert connection.recv(10) == b""
    assert "an error occurred forwarding" in forwarded.error(free)
    connection.close()


# proxies


class _Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = {
            "method": self.command,
            "path": self.path,
            "body": body.decode(),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        answer = json.dumps(told).encode()
        self.send_response(418)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

    def log_message(self, *_arguments: object) -> None:
        return


@pytest.fixture(scope="module")
def mirror(server) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Mirror) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        port = running.server_address[1]
        _service(server, "mirror", port)
        yield port
        running.shutdown()
        thread.join(5)


def _service(server, name: str, port: int, ready: bool = True) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": port}, {"name": "other", "port": 81, "targetPort": 1}]
    server.create("services", {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": ports}})
    labels = {"kubernetes.io/service-name": name}
    slice_ = {
        "metadata": {"name": f"{name}-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}, {"name": "other", "port": 1, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
    }
    server.create("endpointslices", slice_)


def ask(server, method: str, path: str, body: bytes | None = None):
    request = urllib.request.Request(f"{server.url}{path}", body, method=method)
    request.add_header("Authorization", f"Bearer {server.admin_token}")
    context = ssl.create_default_context(cadata=server.authority_pem.decode())
    try:
        return urllib.request.urlopen(request, context=context, timeout=10)
    except urllib.error.HTTPError as error:
        return error


PROXY = "/api/v1/namespaces/default"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("name", ["mirror:80", "mirror:http", "http:mirror:80"])
def test_a_service_proxy_passes_any_method_path_query_and_body(server, mirror, method, name):
    body = None if method == "GET" else b'{"a": 1}'

    with ask(server, method, f"{PROXY}/services/{name}/proxy/a%2Fb/proxy/c?x=1&y=%20", body) as answer:
        told = json.loads(answer.read())

    assert answer.status == 418
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert told["method"] == method
    assert told["path"] == "/a%2Fb/proxy/c?x=1&y=%20"
    assert told["body"] == (body or b"").decode()
    assert "authorization" not in told["headers"]


def test_a_pod_proxy_goes_to_the_pods_own_address(server, mirror):
    with ask(server, "GET", f"{PROXY}/pods/web:{mirror}/proxy/metrics") as answer:
        assert json.loads(answer.read())["path"] == "/metrics"
    with ask(server, "GET", f"{PROXY}/pods/web:{mirror}/proxy") as answer:
        assert json.loads(answer.read())["path"] == "/"


def test_kubectl_get_raw_reaches_a_service(server):
    with tcp_server(
        lambda connection: (connection.recv(999), connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhi"))
    ) as port:
        _service(server, "raw", port)
        done = server.kubectl("get", "--raw", f"{PROXY}/services/raw:http/proxy/")

    assert done.stdout == b"hi"


@pytest.mark.parametrize(
    ("path", "code", "why"),
    [
        ("services/nope/proxy/", 404, "not found"),
        ("services/mirror/proxy/", 400, "its ports are http:80, other:81"),
        ("services/mirror:9/proxy/", 400, "its ports are"),
        ("services/ftp:mirror:80/proxy/", 400, "is not [http:|https:]NAME[:PORT]"),
        ("services/mirror:other/proxy/", 503, "error trying to reach service"),
        ("services/empty:80/proxy/", 503, "no endpoints available"),
        ("pods/web:nope/proxy/", 400, "has no port"),
    ],
)
def test_a_proxy_that_cannot_says_why(server, mirror, path, code, why):
    if path.startswith("services/empty"):
        _service(server, "empty", 1, ready=False)

    with ask(server, "GET", f"{PROXY}/{path}") as answer:
        status = json.loads(answer.read())

    assert (answer.status, status["kind"]) == (code, "Status")
    assert why in status["message"]


# who may


@pytest.mark.parametrize(
    "command",
    [
        ("exec", "web", "--", "true"),
        ("logs", "web"),
        ("port-forward", "pod/web", ":80"),
        ("get", "--raw", f"{PROXY}/services/mirror:80/proxy/"),
        ("get", "--raw", f"{PROXY}/pods/web/proxy/"),
    ],
)
def test_a_stranger_may_not_stream(server, command):
    done = server.kubectl("--as", "stranger", *command)

    assert done.returncode == 1
    assert b"forbidden" in done.stderr.lower()


def test_a_wrong_token_is_401_on_a_websocket_too(server):
    assert handshake(server, "/pods/web/exec?command=true", "wrong").startswith(b"HTTP/1.1 401")


def test_an_upgrade_through_a_proxy_is_refused_with_advice(server):
    answer = handshake(server, "/services/mirror:80/proxy/chat", server.admin_token)

    assert answer.startswith(b"HTTP/1.1 501")


def test_a_subprotocol_that_is_not_spoken_is_refused(server):
    answer = handshake(server, "/pods/web/exec?command=true", server.admin_token, "v1.channel.k8s.io")

    assert answer.startswith(b"HTTP/1.1 400")


def handshake(server, path: str, token: str, protocol: str = "v5.channel.k8s.io") -> bytes:
    """The start of the answer to a WebSocket handshake."""
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        context = ssl.create_default_context(cadata=server.authority_pem.decode())
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(
                f"GET {PROXY}{path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                f"Sec-WebSocket-Protocol: {protocol}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )
            return connection.recv(100)


def test_the_spdy_upgrade_of_old_kubectls_is_refused_with_advice(server):
    with ask(server, "POST", f"{PROXY}/pods/web/exec?command=true") as answer:
        assert answer.status == 400
        assert "use kubectl 1.30 or newer" in json.loads(answer.read())["message"]
