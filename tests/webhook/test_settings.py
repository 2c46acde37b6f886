"""Settings from the environment, quantities, and the hold of a plain sidecar."""

import http.server
import subprocess
import sys
import threading
from decimal import Decimal

import pytest

from contract.lists import parse_ports, parse_subnets
from webhook.containers import HOLD
from webhook.environment import EnvironmentFault, read_environment
from webhook.quantities import parse_cpu, parse_memory
from webhook.settings import Resources, Serving, Settings

GIVEN = {
    "TULLE_WEBHOOK_IMAGE_REGISTRY": "registry.example/mesh",
    "TULLE_WEBHOOK_IMAGE_TAG": "9",
    "TULLE_WEBHOOK_IMAGE_PULL_POLICY": "Never",
    "TULLE_WEBHOOK_NAMESPACE": "mesh",
    "TULLE_WEBHOOK_CLUSTER_DOMAIN": "example.local",
    "TULLE_WEBHOOK_PROXY_LOG_LEVEL": "warn",
    "TULLE_WEBHOOK_PROXY_UID": "77",
    "TULLE_WEBHOOK_OPAQUE_PORTS": "1-3",
    "TULLE_WEBHOOK_SKIP_INBOUND_PORTS": "",
    "TULLE_WEBHOOK_SKIP_OUTBOUND_SUBNETS": "10.0.0.0/8",
    "TULLE_WEBHOOK_PROXY_CPU_REQUEST": "",
    "TULLE_WEBHOOK_PROXY_MEMORY_LIMIT": "1Gi",
    "TULLE_WEBHOOK_LISTEN_HOST": "127.0.0.1",
    "TULLE_WEBHOOK_LISTEN_PORT": "9443",
    "TULLE_WEBHOOK_LOG_LEVEL": "debug",
    "TULLE_WEBHOOK_SERVING_NAMES": "a.example, 127.0.0.1",
    "TULLE_WEBHOOK_DRAIN_DELAY_S": "0.5",
    "TULLE_WEBHOOK_CLIENT_CA_FILE": "/ca.crt",
    "TULLE_WEBHOOK_CLIENT_NAMES": "api",
}


def test_an_empty_environment_gives_the_defaults() -> None:
    assert (Settings(), Serving()) == read_environment({"PATH": "/bin"})


def test_every_variable_has_its_effect() -> None:
    settings, serving = read_environment(GIVEN)

    assert (
        Settings(
            image_registry="registry.example/mesh",
            image_tag="9",
            image_pull_policy="Never",
            control_plane_namespace="mesh",
            cluster_domain="example.local",
            proxy_log_level="warn",
            proxy_uid=77,
            opaque_ports=parse_ports("1-3"),
            skip_inbound_ports=(),
            skip_outbound_subnets=parse_subnets("10.0.0.0/8"),
            resources=Resources(cpu_request="", memory_request="40Mi", memory_limit="1Gi"),
        )
        == settings
    )
    assert Serving("127.0.0.1", 9443, "debug", "", ("a.example", "127.0.0.1"), 0.5, "/ca.crt", ("api",)) == serving


def test_images_and_controller_follow_from_registry_tag_namespace_and_domain() -> None:
    settings, _ = read_environment(GIVEN)

    assert "registry.example/mesh/proxy:9" == settings.proxy_image_name
    assert "registry.example/mesh/init:9" == settings.init_image_name
    assert "http://tulle-controller.mesh.svc.example.local:8085" == settings.controller_address


def test_images_and_controller_can_be_named_outright() -> None:
    settings, _ = read_environment(
        {
            "TULLE_WEBHOOK_PROXY_IMAGE": "a/p:1",
            "TULLE_WEBHOOK_INIT_IMAGE": "a/i:1",
            "TULLE_WEBHOOK_CONTROLLER_URL": "http://c:1/",
        }
    )

    assert ("a/p:1", "a/i:1", "http://c:1") == (
        settings.proxy_image_name,
        settings.init_image_name,
        settings.controller_address,
    )


def test_variables_that_kubernetes_sets_for_the_service_are_no_settings() -> None:
    links = {
        "TULLE_WEBHOOK_SERVICE_HOST": "10.0.0.1",
        "TULLE_WEBHOOK_SERVICE_PORT_HTTPS": "443",
        "TULLE_WEBHOOK_PORT": "tcp://10.0.0.1:443",
        "TULLE_WEBHOOK_PORT_443_TCP_ADDR": "10.0.0.1",
    }

    assert (Settings(), Serving()) == read_environment(links)


def test_all_faults_are_told_at_once() -> None:
    faulty = {
        "TULLE_WEBHOOK_PROXY_UID": "0",
        "TULLE_WEBHOOK_OPAQUE_PORTS": "x",
        "TULLE_WEBHOOK_SKIP_INBOUND_SUBNETS": "10.0.0.0/99",
        "TULLE_WEBHOOK_IMAGE_PULL_POLICY": "Sometimes",
        "TULLE_WEBHOOK_CONTROLLER_URL": "controller:8085",
        "TULLE_WEBHOOK_LOG_LEVEL": "loud",
        "TULLE_WEBHOOK_LISTEN_PORT": "1-2",
        "TULLE_WEBHOOK_DRAIN_DELAY_S": "soon",
        "TULLE_WEBHOOK_CLUSTER_DOMAIN": "",
        "TULLE_WEBHOOK_PROXY_MEMORY_LIMIT": "2Mi",
        "TULLE_WEBHOOK_LOGLEVEL": "info",
    }

    with pytest.raises(EnvironmentFault) as fault:
        read_environment(faulty)

    lines = str(fault.value).splitlines()
    assert len(faulty) == len(lines)
    assert "TULLE_WEBHOOK_LOGLEVEL is unknown; did you mean TULLE_WEBHOOK_LOG_LEVEL?" == lines[-1]


@pytest.mark.parametrize(
    ("text", "cores"), [("1", "1"), ("100m", "0.1"), ("0.5", "0.5"), (".5", "0.5"), ("2k", "2000"), ("1e1", "10")]
)
def test_cpu_is_read_in_cores(text: str, cores: str) -> None:
    assert Decimal(cores) == parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("1Mi", 2**20), ("64Mi", 2**26), ("1Gi", 2**30), ("2M", 2_000_000), ("2e6", 2_000_000)]
)
def test_memory_is_read_in_bytes(text: str, size_bytes: int) -> None:
    assert size_bytes == parse_memory(text)


@pytest.mark.parametrize("text", ["", "-1", "1 ", "1mi", "1Kii", "m", "1e", "٣", "0", "1e999", "NaN", "1" * 30])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    for parse in (parse_cpu, parse_memory):
        with pytest.raises(ValueError, match="; write"):
            parse(text)


class _Ready(http.server.BaseHTTPRequestHandler):
    """Unready at first, then ready: what a sidecar answers while it starts."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200 if self.path == "/ready" and type(self).asked > 2 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_hold_of_a_plain_sidecar_ends_when_it_is_ready() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Ready) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        script = HOLD.replace("4191", str(server.server_port))

        done = subprocess.run([sys.executable, "-S", "-c", script], timeout=30, check=False)

        server.shutdown()
        thread.join()
    assert (0, 3) == (done.returncode, _Ready.asked)


def test_the_hold_of_a_plain_sidecar_gives_up_with_a_reason() -> None:
    script = HOLD.replace("4191", "1").replace("120", "0.2")

    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert (1, "tulle-proxy was not ready in 0.2 s\n") == (done.returncode, done.stderr)
