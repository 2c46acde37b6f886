"""The process as an operator meets it: start, signals, exit codes, words."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from controller.kinds import NAMESPACES, SERVICES, SLICES
from tests.controller.running import HTTP, subscribe
from tests.controller.scripted_api import ScriptedApi, kubeconfig


@pytest.fixture
def server() -> Iterator[ScriptedApi]:
    found = ScriptedApi()
    found.put(NAMESPACES.path, {"metadata": {"name": "shop", "labels": {"tulle.mesh/inject": "enabled"}}})
    spec = {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "name": "http"}]}
    found.put(SERVICES.path, {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    yield found
    found.close()


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TULLE_", "KUBE"))}
    return kept | settings


def start(server: ScriptedApi, tmp_path: Path, **settings: str) -> "subprocess.Popen[str]":
    (tmp_path / "kubeconfig").write_text(kubeconfig(server.url))
    env = environment(KUBECONFIG=str(tmp_path / "kubeconfig"), TULLE_CONTROLLER_PORT="0", **settings)
    return subprocess.Popen([sys.executable, "-m", "controller"], env=env, stdout=subprocess.PIPE, text=True)


def url_of(process: "subprocess.Popen[str]") -> str:
    """Wait until it listens and has read the cluster."""
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    url = f"http://127.0.0.1:{port}"
    deadline_s = monotonic() + 10
    while HTTP.get(f"{url}/readyz").status_code != 200:
        assert monotonic() < deadline_s
        sleep(0.01)
    return url


def slice_of(*ips: str) -> dict[str, object]:
    return {
        "metadata": {"name": "web-a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips],
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_streams_cleanly_and_exits_with_zero(server: ScriptedApi, tmp_path: Path, number: int):
    with start(server, tmp_path) as process:
        try:
            with subscribe(url_of(process), {"10.96.0.7:80": ""}) as stream:
                assert stream.next()["destinations"][0]["name"] == "web"
                server.put(SLICES.path, slice_of("10.244.0.1"))
                assert stream.next()["destinations"][0]["endpoints"] == [{"ip": "10.244.0.1", "port": 8080}]
                process.send_signal(number)
                assert [line for line in stream.rest() if line != "{}"] == []
            assert process.wait(5) == 0
            assert process.stdout is not None
            events = [json.loads(line)["event"] for line in process.stdout]
            # A write that was under way may still be told between the two.
            assert [event for event in events if event.startswith("stop")] == ["stopping", "stopped"]
            assert events[-1] == "stopped"
        finally:
            process.kill()


def test_restarted_controller_sends_only_what_changed_meanwhile(server: ScriptedApi, tmp_path: Path):
    server.put(SLICES.path, slice_of("10.244.0.1"))
    held = {"10.96.0.7:80": "", "203.0.113.1:1": ""}
    with start(server, tmp_path) as process:
        try:
            with subscribe(url_of(process), held) as stream:
                held = {item["target"]: item["revision"] for item in stream.next()["destinations"]}
        finally:
            process.kill()
    server.put(SLICES.path, slice_of("10.244.0.2"))
    with start(server, tmp_path) as process:
        try:
            with subscribe(url_of(process), held) as stream:
                (only,) = stream.next()["destinations"]
                assert only["target"] == "10.96.0.7:80"
        finally:
            process.kill()


def run(**settings: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "controller"]
    return subprocess.run(command, env=environment(**settings), capture_output=True, text=True, timeout=20)


def test_wrong_settings_exit_with_two_and_name_all_faults():
    found = run(TULLE_CONTROLLER_PORT="99999", TULLE_CONTROLLER_LOG_LEVEL="loud")
    assert found.returncode == 2
    assert "TULLE_CONTROLLER_PORT='99999': write a whole number from 0 to 65535" in found.stderr
    assert "TULLE_CONTROLLER_LOG_LEVEL='loud': write one of" in found.stderr
    assert "Traceback" not in found.stderr


def test_no_api_server_to_be_found_exits_with_two():
    found = run()
    assert found.returncode == 2
    assert "set KUBECONFIG to a kubeconfig file" in found.stderr


def test_port_that_is_taken_exits_with_one_and_says_so(server: ScriptedApi, tmp_path: Path):
    (tmp_path / "kubeconfig").write_text(kubeconfig(server.url))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = run(
            KUBECONFIG=str(tmp_path / "kubeconfig"), TULLE_CONTROLLER_PORT=port, TULLE_CONTROLLER_ADDRESS="127.0.0.1"
        )
    assert found.returncode == 1
    assert f"cannot listen on port {port}: Address already in use" in found.stderr
