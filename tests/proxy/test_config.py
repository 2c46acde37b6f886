"""Settings: defaults, all faults at once, and a process that refuses to start on any of them."""

import os
import subprocess
import sys

import pytest

from proxy import config
from proxy.config import SETTINGS, Config
from proxy.errors import ConfigFault


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Config() == config.read({})
    assert Config() == config.read({setting.name: "" for setting in SETTINGS})


def test_rendered_defaults_read_back_as_themselves() -> None:
    assert Config() == config.read({setting.name: setting.default for setting in SETTINGS})


def test_every_setting_has_a_meaning_and_numbers_have_a_unit_in_their_name() -> None:
    for setting in SETTINGS:
        assert setting.meaning
        assert setting.name.endswith("_S") == (setting.unit == "seconds")
        assert setting.name.endswith("_BYTES") == (setting.unit == "bytes")


def test_values_are_read() -> None:
    read = config.read(
        {
            "TULLE_PROXY_CONNECT_TIMEOUT_S": "0.25",
            "TULLE_PROXY_OPAQUE_PORTS": "25, 5000-5002",
            "TULLE_POD_IPS": "10.0.0.7,FD00::7",
            "TULLE_PROXY_CONTROLLER_URL": "http://c:8085/",
        }
    )

    assert (0.25, {25, 5000, 5001, 5002}) == (read.connect_timeout_s, read.opaque_ports)
    assert (("10.0.0.7", "fd00::7"), "http://c:8085") == (read.pod_ips, read.controller_url)


BAD = {
    "TULLE_PROXY_CONNECT_TIMEOUT_S": "soon",
    "TULLE_PROXY_INBOUND_PORT": "99999",
    "TULLE_PROXY_MAX_HEAD_BYTES": "1.5",
    "TULLE_PROXY_OPAQUE_PORTS": "25,99999",
    "TULLE_POD_IPS": "10.0.0.300",
    "TULLE_PROXY_CONTROLLER_URL": "controller:8085",
    "TULLE_PROXY_LOG_LEVEL": "loud",
    "TULLE_PROXY_LOG_FORMAT": "xml",
    "TULLE_PROXY_ON_CLIENT_END": "abort",
}


def test_all_faults_are_told_at_once_each_with_its_variable() -> None:
    with pytest.raises(ConfigFault) as raised:
        config.read(BAD)

    assert len(BAD) == len(raised.value.faults)
    assert set(BAD) == {fault.partition("=")[0] for fault in raised.value.faults}


@pytest.mark.parametrize("text", ["0", "70000", "5-", "-5", "9-5", "a", "1-2-3", "٣"])
def test_bad_ports_are_refused(text: str) -> None:
    with pytest.raises(ConfigFault):
        config.read({"TULLE_PROXY_OPAQUE_PORTS": text})


def test_contradictions_are_refused() -> None:
    for environ in (
        {"TULLE_PROXY_BUFFER_LOW_BYTES": "9000", "TULLE_PROXY_BUFFER_HIGH_BYTES": "9000"},
        {"TULLE_PROXY_ADMIN_PORT": "4143"},
    ):
        with pytest.raises(ConfigFault):
            config.read(environ)


def test_unknown_variables_are_noticed() -> None:
    assert config.unknown({"TULLE_PROXY_CONECT_TIMEOUT_S": "1", "TULLE_PROXY_LOG_LEVEL": "warn", "X": ""}) == [
        "TULLE_PROXY_CONECT_TIMEOUT_S"
    ]


def test_the_process_exits_2_before_it_listens_when_a_setting_is_bad() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy"], env={**os.environ, **BAD}, capture_output=True, text=True, timeout=20
    )

    assert done.returncode == 2
    assert len(BAD) == len(done.stderr.splitlines())


def test_memory_that_the_sidecar_alone_would_fill_is_a_fault() -> None:
    assert config.read({"TULLE_PROXY_MEMORY_BYTES": "0"}).memory_bytes == 0
    assert config.read({"TULLE_PROXY_MEMORY_BYTES": "104857600"}).memory_bytes == 104857600
    with pytest.raises(ConfigFault, match="TULLE_PROXY_MEMORY_BYTES must be 0"):
        config.read({"TULLE_PROXY_MEMORY_BYTES": "1000"})
