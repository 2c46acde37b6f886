"""A real browser in a meshed pod: WebSocket and event stream of a page, through a sidecar on each side.

Needs Chromium, half a gigabyte that no other test asks for: in an image of its own on a cluster, and in a lab the
machine's; where it is missing, this module alone is left out.
"""

import pytest

from tests.e2e.conftest import PULL_S, WORKLOADS, Cluster

# A browser's image is large, and this test the only one that pulls it.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(PULL_S + 120)]

BROWSER = (
    "timeout -k 1 30 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run"
    " --user-data-dir=$(mktemp -d) --dump-dom http://sockets:8000/ 2>/dev/null"
)


@pytest.fixture(scope="module", autouse=True)
def server(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "configmap", "sockets", f"--from-file={WORKLOADS / 'sockets'}")
    cluster.apply(namespace, "sockets")
    cluster.rollout(namespace, "sockets")


@pytest.fixture(scope="module")
def browser(cluster: Cluster, namespace: str) -> str:
    """A meshed pod that has Chromium, asked of the pod itself: it may run on another machine than this test."""
    cluster.apply(namespace, "browser")
    cluster.rollout(namespace, "browser", timeout_s=PULL_S)
    if not cluster.exec(namespace, "deployment/browser", "sh", "-c", "command -v chromium || true").strip():
        pytest.skip("no chromium (Debian's package) in the browser's pod")
    return "deployment/browser"


def test_a_browsers_websocket_and_events_work_and_are_counted(cluster: Cluster, namespace: str, browser: str) -> None:
    page = cluster.exec(namespace, browser, "sh", "-c", BROWSER)

    seen = page.partition('<p id="seen">')[2].partition("</p>")[0].split("; ")
    assert {"message hellohello", "closed 4321 chat", "event 1", "heard", "event 2"} == set(seen)
    assert seen.index("event 1") < seen.index("heard") < seen.index("event 2")
    for selector, direction in (("app=browser", "outbound"), ("app=sockets", "inbound")):
        assert 1 == cluster.total(namespace, selector, "response_total", direction=direction, status_code="101")
