"""The voting application as its users see it: real processes, real sockets on loopback."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


class Process:
    """One of the servers, on a port that the kernel chose."""

    def __init__(self, name, **environment):
        given = {**os.environ, "PORT": "0", "PYTHONUNBUFFERED": "1", **environment}
        command = [sys.executable, "-m", f"samples.{name}"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r"port (\d+)", self.process.stdout.readline())[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def connect(self, host="127.0.0.1"):
        return http.client.HTTPConnection(host, self.port, timeout=10)

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
    web = Process("web", CATALOG_URL=catalog.url, TALLY_URL=tally.url)
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


def test_the_one_route_always_fails_and_says_so(poll):
    assert 500 == poll["tally"].call("POST", "/votes/moth-holes")[0]
    status, body, _headers = poll["web"].call("POST", "/api/votes/moth-holes")
    assert 502 == status
    assert "tally did not take the vote for moth-holes" in body
    assert "/?lost=moth-holes" == poll["web"].call("POST", "/vote/moth-holes")[2]["Location"]
    assert "was lost" in poll["web"].call("GET", "/?lost=moth-holes")[1]


def test_a_ballot_that_comes_twice_counts_once(poll):
    for _ in range(2):
        assert 201 == poll["tally"].call("POST", "/votes/argyle", b"ballot-1")[0]
    assert '"argyle": 1' in poll["tally"].call("GET", "/votes")[1]


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("POST", "/api/votes/burlap", {}, 404),
        ("GET", "/api/votes", {}, 404),
        ("GET", "/?voted=%3Cscript%3E", {}, 200),
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
    assert "<script>" not in body


def test_a_front_without_its_services_says_which_is_missing():
    web = Process("web", CATALOG_URL="http://127.0.0.1:9", TALLY_URL="http://127.0.0.1:9")
    status, body, _headers = web.call("GET", "/api/patterns")
    assert 502 == status
    assert "http://127.0.0.1:9 gave no answer: " in body
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


def test_a_stopped_server_answers_on_for_a_while_and_loses_no_request():
    tally = Process("tally")
    kept = tally.connect()
    kept.request("GET", "/votes")
    kept.getresponse().read()
    tally.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 1.5
    answers = []
    while time.monotonic() < end:
        answers.append(tally.call("GET", "/votes"))
    assert {200} == {status for status, _body, _headers in answers}
    closing = ["close" == headers.get("Connection") for _status, _body, headers in answers]
    assert closing == sorted(closing), "from the moment it knows, it closes with every answer"
    assert closing[-1]
    kept.request("GET", "/ready")
    assert 503 == kept.getresponse().status, "a probe takes it out of its service"
    kept.close()
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
