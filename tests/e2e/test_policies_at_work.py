"""TrafficPolicy and FaultInjection at work: applied by kubectl, obeyed by sidecars, seen by a client and in metrics.

Each feature has a service of its own, with its policy; all lead to the same pods, which do what a request tells them
(workloads/policies).
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import WORKLOADS, Cluster, wait_until
from tests.e2e.policyhouse import TURNS, hinted, objects, policy, total, totals

pytestmark = pytest.mark.e2e

Outcome = dict[str, Any]
Ask = Callable[..., list[Outcome]]
Count = Callable[..., float]


@pytest.fixture(scope="module")
def ask(cluster: Cluster, namespace: str) -> Ask:
    """Run workloads/policies/client.py in the caller's pod with these wishes; what came of them."""
    cluster.kubectl("-n", namespace, "create", "configmap", "policies", f"--from-file={WORKLOADS / 'policies'}")
    cluster.apply(namespace, "policies")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects())))
    cluster.rollout(namespace, "actor", "next", "caller")

    def ask(kind: str, *wishes: Any) -> list[Outcome]:
        wish = json.dumps(wishes[0] if kind == "watch" else wishes)
        told = cluster.exec(namespace, "deployment/caller", "python3", "/etc/policies/client.py", kind, wish)
        return json.loads(told)  # type: ignore[no-any-return]

    ask("http", {"url": "http://limited/"}, {"url": "http://fair/"})  # a sidecar asks for limits at a first connection
    met: set[str] = set()
    wait_until(lambda: are_acquainted(ask, met), "the sidecars to know each other", 30)
    return ask


def are_acquainted(ask: Ask, met: set[str]) -> bool:
    """A sidecar believes the marks of another from the second request on: let each pair have had its first.

    `met` gathers the pairs: balancing by latency may give all of a few requests to one of two pods.
    """
    direct = ask("http", {"url": "http://timed/", "count": 8})
    chains = ask("http", {"url": "http://api/?call=http://db/", "count": 8})
    ask("http", {"url": "http://watched/?key=first", "method": "POST", "body": "first"})
    (seen,) = ask("http", {"url": "http://next:8000/seen?key=first"})
    told = [one["told"] for one in direct] + [one["told"]["called"]["told"] for one in chains]
    marked = all("x-tulle-timeout-ms" in one["headers"] for one in told)
    met |= {f"{way} {pod}" for way, pods in (("direct", shares(direct)), ("chain", shares(chains))) for pod in pods}
    return marked and len(met) == 4 and "x-tulle-mirror" in seen["told"][-1]


@pytest.fixture
def count(cluster: Cluster, namespace: str, ask: Ask) -> Count:
    """How much a counter of the caller's sidecar has grown since the test began (elsewhere: of the pods of `app`)."""
    begun = totals(cluster, namespace)

    def count(name: str, app: str = "caller", **labels: str) -> float:
        return total(totals(cluster, namespace), app, name, labels) - total(begun, app, name, labels)

    return count


def statuses(outcomes: list[Outcome]) -> Counter[int]:
    return Counter(one.get("status", 0) for one in outcomes)


def shares(outcomes: list[Outcome]) -> Counter[str]:
    """How many answers came from which pod."""
    return Counter(one["told"]["pod"] for one in outcomes)


def test_a_policy_is_in_force_and_gone_within_a_second(cluster: Cluster, namespace: str, ask: Ask) -> None:
    text = json.dumps(policy("FaultInjection", "tea", "plain", faults=[{"abort": {"httpStatus": 418}}]))
    with ThreadPoolExecutor(1) as threads:
        watched = threads.submit(ask, "watch", {"url": "http://plain/", "span_s": 4})
        time.sleep(1.2)
        cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=text)
        applied_s = time.time()
        time.sleep(1)
        cluster.kubectl("-n", namespace, "delete", "fi", "tea")
        deleted_s = time.time()
        changes = watched.result()

    assert [200, 418, 200] == [one["status"] for one in changes]
    assert changes[1]["at_s"] - applied_s < 1
    assert changes[2]["at_s"] - deleted_s < 1


# retries


def test_a_503_is_tried_again_and_the_server_is_told_which_try_it_is(ask: Ask, count: Count) -> None:
    (got,) = ask("http", {"url": "http://retried/?status=503&untried=1"})

    assert (200, "2") == (got["status"], got["told"]["headers"]["x-tulle-attempt"])
    assert 1 == count("outbound_retry_requests_total") == count("outbound_retry_successes_total")


def test_tries_end_at_the_limit_and_what_is_not_listed_has_one(ask: Ask, count: Count) -> None:
    url = "http://retried/?key=limit&status="
    outcomes = ask(
        "http", {"url": f"{url}503"}, {"url": f"{url}500"}, {"url": f"{url}503", "method": "POST", "body": "once"}
    )

    assert [503, 500, 503] == [one["status"] for one in outcomes]
    assert "3" == outcomes[0]["told"]["headers"]["x-tulle-attempt"]
    assert all("x-tulle-attempt" not in one["told"]["headers"] for one in outcomes[1:])
    assert 2 == count("outbound_retry_requests_total")
    assert 1 == count("outbound_retry_skipped_total", reason="limit")
    assert 1 == count("outbound_retry_skipped_total", reason="method")


def test_retries_end_with_their_budget(ask: Ask, count: Count) -> None:
    outcomes = ask("http", {"url": "http://thrifty/?status=503&untried=1", "count": 100})

    assert 5 <= statuses(outcomes)[200] <= 10
    assert 100 == statuses(outcomes)[200] + count("outbound_retry_skipped_total", reason="budget")


def test_a_try_whose_time_is_up_is_followed_by_another(ask: Ask, count: Count) -> None:
    (got,) = ask("http", {"url": "http://impatient/?delay_s=2&untried=1"})

    assert (200, "2") == (got["status"], got["told"]["headers"]["x-tulle-attempt"])
    assert 0.25 < got["took_s"] < 1
    assert 1 == count("timeouts_total", kind="per-try")


@pytest.mark.parametrize("opens", [False, True], ids=["trailers only", "trailers after headers"])
def test_a_grpc_call_that_is_unavailable_is_tried_again(ask: Ask, count: Count, opens: bool) -> None:
    wish = {"status": 14, "untried": True, "opens": opens}
    (got,) = ask("grpc", {"target": "calls-retried:9000", "wish": wish})

    assert ("OK", "2") == (got["code"], got["told"]["headers"]["x-tulle-attempt"])
    assert 1 == count("outbound_retry_requests_total")


# time


def test_a_request_whose_time_is_up_gets_504_with_the_reason(ask: Ask, count: Count) -> None:
    (got,) = ask("http", {"url": "http://timed/?delay_s=2"})

    assert (504, "request-timeout") == (got["status"], got["headers"]["x-tulle-error"])
    assert "outbound sidecar of pod caller-" in got["text"]
    assert 0.3 <= got["took_s"] < 0.6
    assert 1 == count("timeouts_total", direction="outbound", kind="request")


def test_a_deadline_shrinks_along_a_chain_of_calls(ask: Ask) -> None:
    (got,) = ask("http", {"url": "http://api/?delay_s=0.3&call=http://db/"})

    api = got["told"]["headers"]
    db = got["told"]["called"]["told"]["headers"]
    assert 900 < int(api["x-tulle-timeout-ms"]) <= 1000
    assert 500 < int(db["x-tulle-timeout-ms"]) <= 700
    assert abs(int(api["x-tulle-deadline"]) - int(db["x-tulle-deadline"])) < 100


def test_the_end_of_a_chain_stops_when_nobody_waits_any_more(ask: Ask, count: Count) -> None:
    (got,) = ask("http", {"url": "http://api/?rest_s=0.3&call=http://db/%3Fdelay_s=3"})

    assert 504 == got["status"]
    assert 1 <= got["took_s"] < 1.3
    wait_until(lambda: count("timeouts_total", "actor", direction="outbound", kind="caller") == 1, "the inner 504", 5)


def test_a_grpc_deadline_is_passed_on_reduced(ask: Ask, count: Count) -> None:
    quick, slow = ask("grpc", *({"target": "calls-timed:9000", "wish": {"delay_s": delay_s}} for delay_s in (0, 2)))

    assert 0.2 < quick["told"]["remaining_s"] <= 0.5
    assert "DEADLINE_EXCEEDED" == slow["code"]
    assert slow["took_s"] < 1
    assert 1 == count("timeouts_total", direction="outbound", kind="request")


# hedging, breaking, limits


def test_a_hedge_wins_against_a_slow_replica(cluster: Cluster, namespace: str, ask: Ask, count: Count) -> None:
    slow, quick = cluster.pods(namespace, "app=actor")

    outcomes = ask("http", {"url": f"http://hedged/?delay_s=2&pod={slow}", "count": 20})

    assert {quick: 20} == shares(outcomes)
    assert max(one["took_s"] for one in outcomes) < 1
    assert 5 <= count("outbound_hedge_wins_total") <= 20  # a hedge takes a turn too


def test_a_replica_that_answers_500_is_ejected_and_taken_back(
    cluster: Cluster, namespace: str, ask: Ask, count: Count
) -> None:
    bad, _ = cluster.pods(namespace, "app=actor")

    outcomes = ask("http", {"url": f"http://broken/?status=500&pod={bad}", "count": 30})

    assert {500: 3, 200: 27} == statuses(outcomes)
    assert 1 == count("outbound_ejections_total", cause="consecutive-failures")
    assert 1 == count("outbound_endpoints_ejected")
    wait_until(lambda: len(shares(ask("http", {"url": "http://broken/", "count": 10}))) == 2, "its return", 10)
    assert 0 == count("outbound_endpoints_ejected")
    assert 1 == count("outbound_recoveries_total")


def test_more_requests_than_allowed_at_once_wait_then_are_shed(ask: Ask, count: Count) -> None:
    outcomes = ask("http", {"url": "http://narrow/?delay_s=0.6", "count": 6, "at_once": True})

    assert {200: 1, 503: 5} == statuses(outcomes)
    shed = [one for one in outcomes if one["status"] == 503]
    assert {"overloaded"} == {one["headers"]["x-tulle-error"] for one in shed}
    assert 4 == count("outbound_shed_total", reason="queue-full")
    assert 1 == count("outbound_shed_total", reason="queue-timeout")


def test_the_servers_sidecar_limits_the_rate_of_a_service(ask: Ask, count: Count) -> None:
    outcomes = ask("http", {"url": "http://limited/", "count": 8})

    assert [200] * 3 + [429] * 5 == [one["status"] for one in outcomes]
    refused = outcomes[-1]
    assert "rate-limited" == refused["headers"]["x-tulle-error"]
    assert 8 <= int(refused["headers"]["retry-after"]) <= 10
    assert "inbound sidecar of pod next-" in refused["text"]
    assert 5 == count("inbound_http_local_ratelimit_total", "next", by="service")


def test_each_client_has_its_own_rate(ask: Ask, count: Count) -> None:
    ask("http", {"url": "http://turns/?call=http://db/", "count": 4})  # so the server's sidecar asks who they are
    direct = ask("http", {"url": "http://fair/", "count": 5})
    others = ask("http", {"url": "http://turns/?call=http://fair/", "count": 8})

    assert [200] * 3 + [429] * 2 == [one["status"] for one in direct]
    assert 2 == len(shares(others)), "two pods of one service account are one client"
    assert [200] * 3 + [429] * 5 == [one["told"]["called"]["status"] for one in others]
    assert 7 == count("inbound_http_local_ratelimit_total", "next", by="client")


# mirroring


def test_a_copy_is_marked_and_its_answer_compared(cluster: Cluster, namespace: str, ask: Ask, count: Count) -> None:
    (got,) = ask("http", {"url": "http://watched/?key=copy", "method": "POST", "body": "both"})
    wait_until(lambda: count("outbound_mirror_differences_total") > 0, "the comparison", 5)
    (seen,) = ask("http", {"url": "http://next:8000/seen?key=copy"})

    assert "actor-" in got["told"]["pod"]
    assert "x-tulle-mirror" not in got["told"]["headers"]
    assert ["1"] == [headers.get("x-tulle-mirror") for headers in seen["told"]]
    assert 1 == count("outbound_mirror_requests_total", mirror=f"next.{namespace}")
    assert 1 == count("outbound_mirror_differences_total", part="length")
    log = cluster.kubectl("-n", namespace, "logs", "deployment/caller", "-c", "tulle-proxy")
    assert "mirror-differs" in log


# faults


def test_faults_happen_to_the_requests_that_they_match(
    cluster: Cluster, namespace: str, ask: Ask, count: Count
) -> None:
    names = ("none", "delay", "abort", "reset", "truncate", "bandwidth")
    url = "http://chaos/?size_bytes=10000"
    outcomes = ask("http", *({"url": url, "headers": {"x-fault": name}} for name in names))

    none, delay, abort, reset, truncate, bandwidth = outcomes
    assert (200, 10000) == (none["status"], none["size_bytes"])
    assert none["took_s"] < 0.3 <= delay["took_s"]
    assert (200, 10000) == (delay["status"], delay["size_bytes"])
    assert (418, "fault-injected") == (abort["status"], abort["headers"]["x-tulle-error"])
    assert "/chaos" in abort["text"]
    assert "ConnectionResetError" == reset["broken"]
    assert (200, 1000) == (truncate["status"], truncate["size_bytes"])
    assert "broken" in truncate
    assert (200, 10000) == (bandwidth["status"], bandwidth["size_bytes"])
    assert 0.4 < bandwidth["took_s"] < 1
    found = totals(cluster, namespace)
    assert all(total(found, "caller", "outbound_faults_total", {"kind": name}) for name in names[1:])
    assert 5 == count("outbound_faults_total")


def test_a_share_of_the_requests_meets_a_fault(ask: Ask, count: Count) -> None:
    outcomes = ask("http", {"url": "http://chaos/", "headers": {"x-fault": "percent"}, "count": 200})

    assert 30 <= statuses(outcomes)[418] <= 90  # 60 are expected; the deviation is 6.5
    assert statuses(outcomes)[418] == count("outbound_faults_total", kind="abort")


def test_a_fault_answers_grpc_with_its_status(ask: Ask) -> None:
    (got,) = ask("grpc", {"target": "calls-chaos:9000"})

    assert "RESOURCE_EXHAUSTED" == got["code"]
    assert "calls-chaos" in got["text"]


# balancing


def test_turns_are_even(ask: Ask) -> None:
    assert [20, 20] == list(shares(ask("http", {"url": "http://turns/", "count": 40})).values())


def test_a_user_stays_with_a_replica_by_a_header(ask: Ask) -> None:
    users = [f"user-{number}" for number in range(12)]
    outcomes = ask("http", *({"url": "http://ring/", "headers": {"x-user": user}, "count": 3} for user in users))

    homes = [shares(outcomes[start : start + 3]) for start in range(0, len(outcomes), 3)]
    assert {1} == {len(home) for home in homes}
    assert 2 == len({next(iter(home)) for home in homes})


def test_a_heavier_pod_gets_more(cluster: Cluster, namespace: str, ask: Ask) -> None:
    heavy, light = cluster.pods(namespace, "app=actor")
    cluster.kubectl("-n", namespace, "annotate", "pod", heavy, "config.tulle.mesh/weight=9")
    time.sleep(1)

    found = shares(ask("http", {"url": "http://heavy/", "count": 200}))

    cluster.kubectl("-n", namespace, "annotate", "pod", heavy, "config.tulle.mesh/weight-")
    assert found[heavy] > 3 * found[light] > 0


def test_near_endpoints_are_preferred_as_kubernetes_hints(cluster: Cluster, namespace: str, ask: Ask) -> None:
    near, far = cluster.pods(namespace, "app=actor")
    node = cluster.get("-n", namespace, "pod", near)["spec"]["nodeName"]
    cluster.kubectl("label", "node", node, "topology.kubernetes.io/zone=east")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=hinted(cluster, namespace, {near: "east", far: "west"}))
    time.sleep(0.5)

    preferred = shares(ask("http", {"url": "http://near/", "count": 20}))
    indifferent = policy("TrafficPolicy", "near", "near", loadBalancing={"preferZone": False, **TURNS})
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(indifferent))
    time.sleep(0.5)
    spread = shares(ask("http", {"url": "http://near/", "count": 20}))
    cluster.kubectl("label", "node", node, "topology.kubernetes.io/zone-")

    assert {near: 20} == preferred
    assert {near: 10, far: 10} == spread


def test_a_cookie_keeps_its_server_while_the_service_is_scaled(cluster: Cluster, namespace: str, ask: Ask) -> None:
    (first,) = ask("http", {"url": "http://sticky/"})
    cookie = first["headers"]["set-cookie"].split(";")[0]
    wish = {"url": "http://sticky/", "headers": {"cookie": cookie}, "count": 20}
    home = first["told"]["pod"]
    # Which pods go first depends on the nodes that they stand on, unless one is said to cost more.
    cluster.kubectl("-n", namespace, "annotate", "pod", home, "controller.kubernetes.io/pod-deletion-cost=100")

    cluster.kubectl("-n", namespace, "scale", "deployment/actor", "--replicas=4")
    cluster.rollout(namespace, "actor")
    assert {home: 20} == shares(ask("http", wish))
    assert 4 == len(shares(ask("http", {"url": "http://turns/", "count": 8})))
    cluster.kubectl("-n", namespace, "scale", "deployment/actor", "--replicas=2")
    wait_until(lambda: len(cluster.pods(namespace, "app=actor")) == 2, "two pods")
    assert home in cluster.pods(namespace, "app=actor"), "the others go first"

    outcomes = ask("http", wish)

    assert {home: 20} == shares(outcomes)
    assert all("set-cookie" not in one["headers"] for one in outcomes)
