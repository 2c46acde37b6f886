"""A real browser in a meshed pod: WebSocket and event stream of a page, through a sidecar on each side.

Needs Chromium, half a gigabyte that no other test asks for: where it is missing, this module alone is left out.
"""

import shutil

import pytest

from tests.e2e.conftest import WORKLOADS, Cluster

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium (Debian's package) on this machine"),
]

BROWSER = (
    "timeout -k 1 30 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run"
    " --user-data-dir=$(mktemp -d) --dump-dom http://sockets:8000/ 2>/dev/null"
)


@pytest.fixture(scope="module", autouse=True)
def server(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "configmap", "sockets", f"--from-file={WORKLOADS / 'sockets'}")
    cluster.apply(namespace, "sockets")
    cluster.rollout(namespace, "sockets")


def test_a_browsers_websocket_and_events_work_and_are_counted(cluster: Cluster, namespace: str, client: str) -> None:
    page = cluster.exec(namespace, client, "sh", "-c", BROWSER)

    seen = page.partition('<p id="seen">')[2].partition("</p>")[0].split("; ")
    assert {"message hellohello", "closed 4321 chat", "event 1", "heard", "event 2"} == set(seen)
    assert seen.index("event 1") < seen.index("heard") < seen.index("event 2")
    for selector, direction in (("app=client", "outbound"), ("app=sockets", "inbound")):
        assert 1 == cluster.total(namespace, selector, "response_total", direction=direction, status_code="101")
