"""Settings: defaults, faults all at once, and Kubernetes' own variables."""

import pytest

from contract import ports
from controller.opaque import BUILT_IN, has_port
from controller.settings import Settings, SettingsError, read_settings


def test_nothing_set_is_the_default():
    found = read_settings({"PATH": "/bin", "TULLE_PROXY_LOG_LEVEL": "x"})
    assert found == Settings()
    assert found.port == ports.CONTROLLER_PORT
    assert found.default_opaque == BUILT_IN


def test_values_are_read():
    found = read_settings(
        {
            "TULLE_CONTROLLER_PORT": "9000",
            "TULLE_CONTROLLER_ADDRESS": "::1",
            "TULLE_CONTROLLER_NAMESPACE": "mesh",
            "TULLE_CONTROLLER_CLUSTER_DOMAIN": "example.org",
            "TULLE_CONTROLLER_LOG_LEVEL": "debug",
            "TULLE_CONTROLLER_OPAQUE_PORTS": "+9999",
            "TULLE_CONTROLLER_MAX_SERIES_COUNT": "5",
        }
    )
    assert (found.port, found.address, found.namespace, found.log_level) == (9000, "::1", "mesh", "debug")
    assert found.max_series_count == 5
    assert has_port(found.default_opaque, 9999)
    assert has_port(found.default_opaque, 3306)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "99999", "whole number from 0 to 65535"),
        ("PORT", "http", "whole number"),
        ("PORT", "", "whole number"),
        ("ADDRESS", "localhost", "write an IP address"),
        ("LOG_LEVEL", "loud", "error, warn, info, debug"),
        ("NAMESPACE", "Mesh", "namespace's name"),
        ("CLUSTER_DOMAIN", "cluster.local.", "without a final dot"),
        ("OPAQUE_PORTS", "25,99999", "99999"),
        ("MAX_STREAMS_COUNT", "0", "from 1"),
        ("MAX_REPORT_BYTES", "10", "from 1024"),
        ("LOGLEVEL", "info", "did you mean TULLE_CONTROLLER_LOG_LEVEL"),
        ("port", "1", "no such setting"),
    ],
)
def test_wrong_values_and_names_say_what_to_write(name: str, value: str, words: str):
    with pytest.raises(SettingsError, match=words) as caught:
        read_settings({f"TULLE_CONTROLLER_{name}": value})
    assert f"TULLE_CONTROLLER_{name}" in str(caught.value)


def test_all_faults_come_at_once():
    with pytest.raises(SettingsError) as caught:
        read_settings({"TULLE_CONTROLLER_PORT": "x", "TULLE_CONTROLLER_LOG_LEVEL": "y", "TULLE_CONTROLLER_Z": "z"})
    assert len(str(caught.value).splitlines()) == 3


def test_service_links_of_kubernetes_are_no_settings():
    """In pods beside a Service named tulle-controller these appear by themselves."""
    links = {
        "TULLE_CONTROLLER_PORT": "tcp://10.96.0.7:8085",
        "TULLE_CONTROLLER_PORT_8085_TCP": "tcp://10.96.0.7:8085",
        "TULLE_CONTROLLER_PORT_8085_TCP_ADDR": "10.96.0.7",
        "TULLE_CONTROLLER_PORT_8085_TCP_PORT": "8085",
        "TULLE_CONTROLLER_PORT_8085_TCP_PROTO": "tcp",
        "TULLE_CONTROLLER_SERVICE_HOST": "10.96.0.7",
        "TULLE_CONTROLLER_SERVICE_PORT": "8085",
        "TULLE_CONTROLLER_SERVICE_PORT_HTTP": "8085",
    }
    assert read_settings(links) == Settings()
