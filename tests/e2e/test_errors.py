"""What the mesh answers when there is nothing good to answer: each with its reason, nothing lost, nothing silent."""

import json
import time

import pytest

from tests.e2e.conftest import Cluster

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def services(cluster: Cluster, namespace: str) -> None:
    cluster.apply(namespace, "errors")
    cluster.rollout(namespace, "refuses")


def _curl(cluster: Cluster, namespace: str, client: str, *arguments: str) -> tuple[str, str, str]:
    """Status, x-tulle-error and body of one answer."""
    output = cluster.exec(
        namespace, client, "curl", "-sS", "-m", "30", "-w", "\n%{http_code} %header{x-tulle-error}", *arguments
    )
    body, _, last = output.rpartition("\n")
    status, _, reason = last.partition(" ")
    return status, reason, body


def test_a_service_without_endpoints_is_503_with_its_reason(cluster: Cluster, namespace: str, client: str) -> None:
    status, reason, body = _curl(cluster, namespace, client, "http://nobody/")

    assert "503" == status
    assert reason
    assert "nobody" in body


def test_a_server_that_refuses_is_502_with_its_reason(cluster: Cluster, namespace: str, client: str) -> None:
    status, reason, body = _curl(cluster, namespace, client, "http://refuses:9999/")

    assert "502" == status
    assert reason
    assert body.strip()


def test_a_server_that_does_not_answer_the_connect_is_timed_out(cluster: Cluster, namespace: str, client: str) -> None:
    begin = time.monotonic()

    # TEST-NET-1 (RFC 5737): on the lab's node nothing answers for it, and nothing refuses.
    status, reason, _ = _curl(cluster, namespace, client, "http://silent/")

    assert status in {"502", "504"}
    assert reason
    assert time.monotonic() - begin < 25


def test_a_head_of_one_mebibyte_is_refused(cluster: Cluster, namespace: str, client: str) -> None:
    # curl refuses to send so much; whoever does it means harm.
    script = (
        "import socket; s = socket.create_connection(('nobody', 80));"
        "s.sendall(b'GET / HTTP/1.1\\r\\nhost: nobody\\r\\nx-big: ' + b'a' * 2**20 + b'\\r\\n\\r\\n');"
        "print(s.makefile().read())"
    )

    answer = cluster.exec(namespace, client, "python3", "-c", script)

    assert "431" in answer.splitlines()[0]
    assert "x-tulle-error: head-too-large" in answer


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("namespaces/default/deployments/web/stat?window=0s", 4),
        ("namespaces/default/deployments/web/stat?window=soon", 4),
        ("namespaces/default/elephants/web/stat?window=1m", 404),
        ("namespaces/default/deployments/nobody/stat?window=1m", 404),
    ],
)
def test_a_wrong_question_is_a_problem_document(
    cluster: Cluster, namespace: str, client: str, path: str, code: int
) -> None:
    url = f"http://tulle-controller.tulle:8085/api/v1/{path}"

    output = cluster.exec(namespace, client, "curl", "-sS", "-w", "\n%{content_type}", url)

    text, _, content_type = output.rpartition("\n")
    problem = json.loads(text)
    assert "application/problem+json" == content_type
    assert code in (problem["status"], problem["status"] // 100)
    assert problem["title"]
    assert problem["detail"]


def test_a_report_with_a_wrong_schema_is_refused_by_field(cluster: Cluster, namespace: str, client: str) -> None:
    url = "http://tulle-controller.tulle:8085/proxy/v1/reports"

    body = cluster.exec(namespace, client, "curl", "-sS", "-d", '{"namespace": 7}', url)

    assert 422 == json.loads(body)["status"]
    assert "namespace" in json.loads(body)["detail"]


def test_a_pod_cannot_report_or_ask_for_another(cluster: Cluster, namespace: str, client: str) -> None:
    (own,) = cluster.pods(namespace, "app=client")
    report = {"instance": "forged", "sequence": 1, "interval_s": 10, "http": [], "tcp": []}
    base = "http://tulle-controller.tulle:8085/proxy/v1"

    def post(path: str, body: object) -> str:
        text = json.dumps(body)
        return cluster.exec(namespace, client, "curl", "-sm2", "-w", "\n%{http_code}", "-d", text, f"{base}/{path}")

    controller = cluster.pods("tulle", "app.kubernetes.io/name=tulle-controller")[0]
    forged = post("reports", {**report, "namespace": "tulle", "pod": controller})
    assert "403" == forged.rpartition("\n")[2]
    assert f"the request speaks for pod tulle/{controller}" in forged.lower()
    assert "403" == post("discovery", {"namespace": "tulle", "pod": controller, "targets": {}}).rpartition("\n")[2]
    assert "204" == post("reports", {**report, "namespace": namespace, "pod": own}).rpartition("\n")[2]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("tulle.mesh/skip-inbound-ports", "99999"),
        ("tulle.mesh/skip-outbound-subnets", "10.0.0.0/99"),
        ("tulle.mesh/proxy-log-level", "shouting"),
        ("tulle.mesh/opaque-prots", "80"),
    ],
)
def test_a_pod_with_a_bad_annotation_is_refused_by_name(
    cluster: Cluster, namespace: str, annotation: str, value: str
) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bad", "annotations": {annotation: value}},
        "spec": {"containers": [{"name": "sleep", "image": cluster.image("e2e"), "command": ["sleep", "1"]}]},
    }

    output = cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod), check=False)

    assert annotation in output
    assert "NotFound" in cluster.kubectl("-n", namespace, "get", "pod", "bad", check=False)
