"""The voting application as its users see it: real processes, real sockets on loopback."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
import yaml

from samples.poll_pb2 import Ballot, CountRequest, GetRequest, WatchRequest
from samples.poll_pb2_grpc import CatalogStub, TallyStub

ROOT = Path(__file__).parents[2]


class Process:
    """One of the servers, on ports that the kernel chose; those that speak gRPC have one for probes beside it."""

    def __init__(self, name, **environment):
        given = {**os.environ, "PORT": "0", "PROBE_PORT": "0", "PYTHONUNBUFFERED": "1", **environment}
        command = [sys.executable, "-m", f"samples.{name}"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, text=True)
        ports = [int(port) for port in re.findall(r"port (\d+)", self.process.stdout.readline())]
        self.port, self.http_port = ports[0], ports[-1]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.address}"

    def connect(self, host="127.0.0.1"):
        return http.client.HTTPConnection(host, self.http_port, timeout=10)

    def stub(self, kind):
        return kind(grpc.insecure_channel(self.address))

    def call(self, method, path, body=None, headers=None):
        connection = self.connect()
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        answer = response.status, response.read().decode(), dict(response.getheaders())
        connection.close()
        return answer

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def poll():
    catalog, tally = Process("catalog"), Process("tally")
    web = Process("web", CATALOG=catalog.address, TALLY=tally.address)
    yield {"catalog": catalog, "tally": tally, "web": web}
    stopping = [threading.Thread(target=one.stop) for one in (web, catalog, tally)]
    for one in stopping:
        one.start()
    for one in stopping:
        one.join()


def test_a_vote_shows_on_the_page_and_in_the_results(poll):
    status, _body, headers = poll["web"].call("POST", "/vote/breton")
    assert (303, "/?voted=breton") == (status, headers["Location"])
    status, page, _headers = poll["web"].call("GET", "/?voted=breton")
    assert 200 == status
    assert "Breton Stripe has your vote" in page
    assert '"id": "breton"' in poll["web"].call("GET", "/api/results")[1].split("}")[0], "most votes first"


def test_the_one_call_always_fails_and_says_so(poll):
    with pytest.raises(grpc.RpcError) as caught:
        poll["tally"].stub(TallyStub).Cast(Ballot(pattern="moth-holes"), timeout=5)
    assert grpc.StatusCode.INTERNAL == caught.value.code()
    status, body, _headers = poll["web"].call("POST", "/api/votes/moth-holes")
    assert 502 == status
    assert "tally answered INTERNAL: something has eaten the ballot box" in body
    assert "/?lost=moth-holes" == poll["web"].call("POST", "/vote/moth-holes")[2]["Location"]
    assert "was lost" in poll["web"].call("GET", "/?lost=moth-holes")[1]


def test_a_ballot_that_comes_twice_counts_once(poll):
    tally = poll["tally"].stub(TallyStub)
    for _ in range(2):
        assert 1 == tally.Cast(Ballot(pattern="argyle", number="ballot-1"), timeout=5).votes
    assert 1 == tally.Count(CountRequest(), timeout=5).votes["argyle"]


@pytest.mark.parametrize("ballot", [Ballot(), Ballot(pattern="x" * 41), Ballot(pattern="polka", number="1" * 41)])
def test_a_ballot_that_is_wrong_is_refused(poll, ballot):
    with pytest.raises(grpc.RpcError) as caught:
        poll["tally"].stub(TallyStub).Cast(ballot, timeout=5)
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()


def test_what_does_not_stand_for_election_is_not_found(poll):
    with pytest.raises(grpc.RpcError) as caught:
        poll["catalog"].stub(CatalogStub).Get(GetRequest(id="burlap"), timeout=5)
    assert (grpc.StatusCode.NOT_FOUND, "no pattern is called burlap") == (caught.value.code(), caught.value.details())


def test_a_watcher_hears_of_each_change_and_the_stream_ends_by_itself(poll):
    tally = poll["tally"].stub(TallyStub)
    watching = tally.Watch(WatchRequest(seconds=1), timeout=10)
    before = next(watching).votes["tartan"]
    tally.Cast(Ballot(pattern="tartan"), timeout=5)
    assert before + 1 == next(watching).votes["tartan"]
    assert [] == list(watching)
    assert grpc.StatusCode.OK == watching.code()


def test_the_page_is_told_the_live_results(poll):
    connection = poll["web"].connect()
    connection.request("GET", "/api/live")
    response = connection.getresponse()
    assert "text/event-stream" == response.headers["Content-Type"]
    assert b"retry: 500\n" == response.readline()
    before = json.loads(response.readline().removeprefix(b"data: ")).get("polka", 0)
    assert 201 == poll["web"].call("POST", "/api/votes/polka")[0]
    assert b"\n" == response.readline()
    assert before + 1 == json.loads(response.readline().removeprefix(b"data: "))["polka"]
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("POST", "/api/votes/burlap", {}, 404),
        ("GET", "/api/votes", {}, 404),
        ("GET", "/?voted=%3Cblink%3E", {}, 200),
        ("POST", "/api/votes/argyle", {"Content-Length": "99999999"}, 413),
        ("POST", "/api/votes/argyle", {"Content-Length": "many"}, 413),
        ("BREW", "/", {}, 501),
        ("GET", "/live", {}, 200),
        ("GET", "/ready", {}, 200),
    ],
)
def test_what_is_wrong_gets_its_status(poll, method, path, headers, expected):
    status, body, _headers = poll["web"].call(method, path, None, headers)
    assert expected == status
    assert "<blink>" not in body


@pytest.mark.parametrize("path", ["/api/patterns", "/api/live"])
def test_a_front_without_its_services_says_which_is_missing(path):
    web = Process("web", CATALOG="127.0.0.1:9", TALLY="127.0.0.1:9")
    status, body, _headers = web.call("GET", path)
    assert 502 == status
    assert ("tally" if path.endswith("live") else "catalog") + " answered UNAVAILABLE: " in body
    assert 0 == web.stop()


def test_a_service_that_does_not_answer_in_time_is_a_gateway_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        web = Process("web", CATALOG=address, TALLY=address)
        status, body, _headers = web.call("GET", "/api/patterns")
        assert 504 == status
        assert "catalog answered DEADLINE_EXCEEDED" in body
        assert 0 == web.stop()


def test_connections_are_kept_and_both_families_are_served(poll):
    connection = poll["web"].connect("::1")
    sources = set()
    for _ in range(3):
        connection.request("GET", "/api/patterns")
        assert b"Gingham" in connection.getresponse().read()
        sources.add(connection.sock.getsockname()[1])
    connection.close()
    assert 1 == len(sources)


def test_a_stopped_front_answers_on_for_a_while_and_loses_no_request(poll):
    web = Process("web", CATALOG=poll["catalog"].address, TALLY=poll["tally"].address)
    kept = web.connect()
    kept.request("GET", "/api/results")
    kept.getresponse().read()
    web.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 1.5
    answers = []
    while time.monotonic() < end:
        answers.append(web.call("GET", "/api/patterns"))
    assert {200} == {status for status, _body, _headers in answers}
    closing = ["close" == headers.get("Connection") for _status, _body, headers in answers]
    assert closing == sorted(closing), "from the moment it knows, it closes with every answer"
    assert closing[-1]
    kept.request("GET", "/ready")
    assert 503 == kept.getresponse().status, "a probe takes it out of its service"
    kept.close()
    assert 0 == web.process.wait(10)
    web.process.stdout.close()


def test_a_stopped_service_answers_on_for_a_while_and_ends_its_streams():
    tally = Process("tally")
    stub = tally.stub(TallyStub)
    watching = stub.Watch(WatchRequest(seconds=60), timeout=60)
    next(watching)
    assert 200 == tally.call("GET", "/ready")[0]
    tally.process.send_signal(signal.SIGTERM)
    assert [] == list(watching)
    assert grpc.StatusCode.OK == watching.code()
    assert 503 == tally.call("GET", "/ready")[0], "a probe takes it out of its service"
    end = time.monotonic() + 1
    while time.monotonic() < end:
        stub.Cast(Ballot(pattern="polka"), timeout=5)
    assert 0 == tally.process.wait(10)
    tally.process.stdout.close()


def test_the_generator_asks_as_often_and_as_long_as_it_is_told(poll):
    settings = {"WEB_URL": poll["web"].url, "TRAFFIC_RATE": "100", "TRAFFIC_DURATION_S": "1"}
    command = [sys.executable, "-m", "samples.traffic"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=20)
    counts = dict(re.findall(r"(\dxx|unreachable)=(\d+)", done.stdout))
    assert 90 <= sum(map(int, counts.values())) <= 101
    assert "unreachable" not in counts


def test_the_generator_goes_on_while_nobody_answers():
    settings = {"WEB_URL": "http://127.0.0.1:9", "TRAFFIC_RATE": "100", "TRAFFIC_DURATION_S": "0.5"}
    command = [sys.executable, "-m", "samples.traffic"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=20)
    assert (0, "") == (done.returncode, done.stderr)
    assert re.fullmatch(r"total unreachable=\d+\n", done.stdout)


@pytest.mark.parametrize(("name", "text"), [("TRAFFIC_RATE", "often"), ("TRAFFIC_RATE", "9999"), ("WEB_URL", "web:80")])
def test_the_generator_refuses_a_setting_it_cannot_follow(name, text):
    command = [sys.executable, "-m", "samples.traffic"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, name: text}, capture_output=True, text=True, timeout=20)
    assert 1 == done.returncode
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_the_generated_code_is_that_of_the_proto_file(tmp_path):
    """Whatever versions made it: those stand in lines of their own."""
    protoc = pytest.importorskip("grpc_tools.protoc")
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python")]
    assert 0 == protoc.main(["protoc", f"-I{ROOT}", *outs, "samples/poll.proto"])
    kept = re.compile(r"^(?:DESCRIPTOR =|class |def |.*'/poll).*", re.MULTILINE)
    for name in ("poll_pb2.py", "poll_pb2_grpc.py"):
        made, checked_in = ((folder / "samples" / name).read_text() for folder in (tmp_path, ROOT))
        assert kept.findall(made)
        assert kept.findall(made) == kept.findall(checked_in)


def manifests():
    return list(yaml.safe_load_all((ROOT / "samples" / "vote.yaml").read_text()))


def test_the_manifests_are_valid_and_do_not_know_the_mesh():
    validate = pytest.importorskip("kubernetes_validate").validate
    for manifest in manifests():
        validate(manifest, "1.32", strict=True)
    assert "tulle.mesh" not in (ROOT / "samples" / "vote.yaml").read_text()


def test_every_container_runs_without_root_with_probes_and_bounds():
    for deployment in (one for one in manifests() if one["kind"] == "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        container = spec["containers"][0]
        assert spec["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert ["python3", "-m", f"samples.{deployment['metadata']['name']}"] == container["command"]
        assert {"readinessProbe", "livenessProbe", "resources"} <= container.keys()
