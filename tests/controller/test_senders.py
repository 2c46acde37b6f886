"""Only a pod's own address speaks for it, and no address gets more than its share."""

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from contract.metrics import LATENCY_BUCKETS_MS
from controller import hub as hub_module
from controller import senders
from controller.objects import Key
from controller.problems import Refusal
from controller.senders import BODIES_BYTES, GUESTS_COUNT, IN_FLIGHT_COUNT, Door, judge, sender_ip
from controller.settings import Settings
from tests.controller.builders import cluster_of, namespace, piece, pod, service
from tests.controller.running import Running, calling_from, running, subscribe

WEB, OTHER = "127.0.0.2", "127.0.0.3"
RECORDS = (namespace("shop"), service(), piece(), pod("web-1", WEB), pod("other", OTHER))


def report(name: str = "web-1", sequence: int = 1, **changes: object) -> dict[str, object]:
    series = {
        "direction": "inbound", "peer": {}, "success": 7, "failure": 0,
        "latency_ms": [7] + [0] * len(LATENCY_BUCKETS_MS), "latency_sum_ms": 7.0,
    }  # fmt: skip
    whole = {"namespace": "shop", "pod": name, "instance": "i", "sequence": sequence, "interval_s": 10.0}
    return {**whole, "http": [series], "tcp": [], **changes}


@pytest.fixture
def controller() -> Iterator[Running]:
    with running(Settings(address="127.0.0.1", port=0, max_streams_count=3)) as found:
        found.sync(*RECORDS)
        yield found


@pytest.fixture
def web() -> Iterator[httpx.Client]:
    with calling_from(WEB) as client:
        yield client


@pytest.fixture
def other() -> Iterator[httpx.Client]:
    with calling_from(OTHER) as client:
        yield client


@pytest.fixture
def stranger() -> Iterator[httpx.Client]:
    with calling_from("127.0.0.66") as client:
        yield client


def post(client: httpx.Client, controller: Running, body: object) -> httpx.Response:
    return client.post(f"{controller.url}/proxy/v1/reports", json=body)


# --- who it is


@pytest.mark.parametrize(
    ("host", "ip"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("FD00::0:5", "fd00::5"), ("fe80::1%eth0", "fe80::1"),
     (None, ""), ("unix", "")],
)  # fmt: skip
def test_address_of_a_sender_is_written_as_pods_addresses_are(host: str | None, ip: str):
    assert ip == sender_ip(host)


def test_pod_speaks_for_itself_from_its_own_addresses_only():
    node = pod("agent", "192.0.2.1", host_network=True)
    cluster = cluster_of(pod("web-1", "10.0.0.1"), pod("new", ""), node, pod("done", "10.0.0.7", phase="Failed"))

    assert judge(cluster, Key("shop", "web-1"), "10.0.0.1") == "own"
    assert judge(cluster, Key("shop", "web-1"), "10.0.0.9") == "foreign"
    assert judge(cluster, Key("shop", "web-1"), "192.0.2.1") == "foreign"
    assert judge(cluster, Key("shop", "agent"), "192.0.2.1") == "foreign"
    assert judge(cluster, Key("shop", "done"), "10.0.0.7") == "foreign"
    assert judge(cluster, Key("shop", "new"), "10.0.0.5") == "unknown"
    assert judge(cluster, Key("shop", "invented"), "10.0.0.5") == "unknown"
    assert judge(cluster, Key("shop", "new"), "10.0.0.1") == "foreign"  # that is web-1's


# --- reports


def test_report_for_another_pod_is_refused_and_counts_nothing(controller: Running, other: httpx.Client):
    answer = post(other, controller, report("web-1"))

    assert answer.status_code == 403
    assert "shop/web-1 and comes from 127.0.0.3, which is not that pod's address" in answer.json()["detail"]
    assert controller.truth.traffic.sources == {}
    assert controller.metric('tulle_controller_requests_refused_total{asked="reports",reason="foreign-sender"}') == 1


def test_report_from_the_pods_own_address_is_counted(controller: Running, web: httpx.Client):
    assert post(web, controller, report("web-1")).status_code == 204
    assert set(controller.truth.traffic.sources) == {Key("shop", "web-1")}


def test_forwarded_for_does_not_make_another_sender(controller: Running):
    with calling_from("127.0.0.1") as client:
        answer = client.post(
            f"{controller.url}/proxy/v1/reports", json=report("web-1"), headers={"x-forwarded-for": WEB}
        )
    assert answer.status_code == 503


def test_invented_pods_take_no_place_and_are_asked_to_come_again(controller: Running, stranger: httpx.Client):
    for number in range(20):
        answer = post(stranger, controller, report(f"invented-{number}"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert controller.truth.traffic.sources == {}


def test_new_pod_is_counted_once_its_address_is_known(controller: Running):
    with calling_from("127.0.0.9") as young:
        assert post(young, controller, report("young")).status_code == 503
        controller.put(pod("young", "127.0.0.9"))
        assert post(young, controller, report("young")).status_code == 204


def test_with_senders_not_verified_the_word_of_a_sidecar_is_taken(stranger: httpx.Client):
    with running(Settings(address="127.0.0.1", port=0, verify_senders=False)) as controller:
        controller.sync(*RECORDS)
        assert post(stranger, controller, report("web-1")).status_code == 204


def test_kept_report_is_dated_to_when_it_was_made(controller: Running, web: httpx.Client):
    controller.truth.clock = lambda: 10_000.0
    kept = {**report()["http"][0], "success": 100}  # type: ignore[index]  # the outage began after these
    since = {**kept, "success": 600}
    assert post(web, controller, report(sequence=1, age_s=60.0, http=[kept])).status_code == 204
    assert post(web, controller, report(sequence=2, interval_s=60.0, http=[since])).status_code == 204
    row = web.get(f"{controller.url}/api/v1/namespaces/shop/pods/web-1/stat?window=1m").json()["rows"][0]
    assert row["rps"] == pytest.approx(10.0)


# --- work


def test_longest_report_costs_little_and_lets_others_in_between(controller: Running, web: httpx.Client):
    """2000 series over an hour, every bucket filled: 12 s of processor time where each count was spread by itself."""
    latency = [2**40] * (len(LATENCY_BUCKETS_MS) + 1)
    series = [
        {"direction": "outbound", "peer": {"service": f"s{n}"}, "success": 2**40, "failure": 0, "latency_ms": latency,
         "latency_sum_ms": 1.0}
        for n in range(1400)
    ]  # fmt: skip
    began_s = time.thread_time()
    slowest_s = 0.0
    stop = threading.Event()

    def ask() -> None:
        nonlocal slowest_s
        with calling_from("127.0.0.1") as client:
            while not stop.is_set():
                asked_s = time.monotonic()
                client.get(f"{controller.url}/healthz")
                slowest_s = max(slowest_s, time.monotonic() - asked_s)

    beside = threading.Thread(target=ask)
    beside.start()
    began_s = time.process_time()
    answer = post(web, controller, report(http=series, interval_s=3600.0))
    cost_s = time.process_time() - began_s
    stop.set()
    beside.join()

    assert answer.status_code == 204
    assert cost_s < 3.0
    assert slowest_s < 1.0
    assert controller.truth.traffic.held_bytes < 2 * controller.truth.settings.max_source_bytes


def test_one_address_gets_no_more_than_its_share_of_work():
    door = Door()
    with door.enter("10.0.0.1", 100.0) as guest:
        guest.debt_s += senders.WORK_BURST_S * 1.02
    with pytest.raises(Refusal, match="cost too much work"), door.enter("10.0.0.1", 100.1):
        pass
    with door.enter("10.0.0.2", 100.1), door.enter("10.0.0.1", 101.0):
        pass


def test_one_address_has_a_bounded_number_of_requests_in_work():
    door = Door()
    places = [door.enter("10.0.0.1", 0.0) for _ in range(IN_FLIGHT_COUNT)]
    for place in places:
        place.__enter__()
    with pytest.raises(Refusal, match="in work already"), door.enter("10.0.0.1", 0.0):
        pass
    places[0].__exit__(None, None, None)
    with door.enter("10.0.0.1", 0.0):
        pass


def test_bodies_together_are_bounded():
    door = Door()
    door.hold(BODIES_BYTES)
    with pytest.raises(Refusal, match="bodies in work"):
        door.hold(1)
    door.release(BODIES_BYTES)
    door.hold(1)


def test_addresses_accounted_for_are_bounded_and_idle_ones_forgotten():
    door = Door()
    for number in range(3 * GUESTS_COUNT):
        with door.enter(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", float(number)):
            pass
    assert len(door.guests) <= GUESTS_COUNT


def test_body_that_trickles_is_refused_and_gives_its_room_back(
    controller: Running, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("controller.sidecars.BODY_S", 0.3)

    def trickle() -> Iterator[bytes]:
        for _ in range(10):
            yield b" "
            time.sleep(0.1)

    assert web.post(f"{controller.url}/proxy/v1/reports", content=trickle()).status_code == 408
    assert controller.truth.door.held_bytes == 0


# --- streams


def test_another_pods_stream_cannot_be_taken(controller: Running, other: httpx.Client, web: httpx.Client):
    with subscribe(controller.url, {}, "web-1", client=web) as own:
        assert own.next_raw() == "{}"
        with subscribe(controller.url, {}, "web-1", client=other) as theirs:
            assert theirs.status == 403
        controller.put(pod("web-2", "10.0.0.7"))
        assert [one.end for one in controller.truth.hub.streams] == [""]


def test_newest_stream_of_a_process_stands_and_the_older_falls_silent(
    controller: Running, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("controller.sidecars.LINGER_S", 0.2)
    target = {"10.0.0.7:80": ""}
    with subscribe(controller.url, target, "web-1", "one", client=web) as older:
        older.next()
        with (
            subscribe(controller.url, target, "web-1", "one", client=web) as newer,
            subscribe(controller.url, target, "web-1", "two", client=web) as second_process,
        ):
            newer.next()
            second_process.next()
            controller.put(pod("web-2", "10.0.0.7"))
            assert newer.next()["destinations"][0]["kind"] == "pod"
            assert second_process.next()["destinations"][0]["kind"] == "pod"
            assert older.rest() == []
            assert controller.truth.hub.held_count == 2


def test_unknown_sender_has_one_stream_which_becomes_its_pods(controller: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("controller.sidecars.HEARTBEAT_S", 0.05)
    with (
        calling_from("127.0.0.9") as young,
        subscribe(controller.url, {}, "young", client=young) as first,
        subscribe(controller.url, {"10.0.0.7:80": ""}, "young", "a", client=young) as second,
    ):
        assert second.next()["destinations"][0]["kind"] == "unknown"
        assert [place.ip for place in controller.truth.hub._places] == ["127.0.0.9"]
        controller.put(pod("young", "127.0.0.9"))
        first.next_raw()
        second.next_raw()
        second.next_raw()
        (place,) = controller.truth.hub._places
        assert place == hub_module.Place("", Key("shop", "young"), "a")


def test_unknown_sender_that_stays_unknown_is_cut(controller: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("controller.sidecars.HEARTBEAT_S", 0.05)
    monkeypatch.setattr("controller.hub.UNKNOWN_S", 0.1)
    with calling_from("127.0.0.9") as nobody, subscribe(controller.url, {}, "nobody", client=nobody) as stream:
        assert set(stream.rest()) == {"{}"}
    assert controller.metric('tulle_controller_discovery_streams_closed_total{reason="unknown"}') == 1


def test_known_pod_takes_the_place_of_an_unknown_sender(controller: Running, web: httpx.Client):
    clients = [calling_from(f"127.0.1.{number}") for number in (1, 2, 3)]
    streams = [subscribe(controller.url, {}, "x", client=client) for client in clients]
    opened = [stream.__enter__() for stream in streams]
    assert [one.next_raw() for one in opened] == ["{}"] * 3
    with calling_from("127.0.1.9") as fourth, subscribe(controller.url, {}, "x", client=fourth) as refused:
        assert refused.status == 503
    with subscribe(controller.url, {}, "web-1", client=web) as own:
        assert own.next_raw() == "{}"
    for stream in streams:
        stream.__exit__(None, None, None)


def test_pod_that_asks_for_most_is_cut_when_targets_are_too_many(web: httpx.Client, other: httpx.Client):
    with running(Settings(address="127.0.0.1", port=0, max_targets_count=100)) as controller:
        controller.sync(*RECORDS)
        many = {f"10.9.0.{number}:80": "" for number in range(90)}
        few = {f"10.8.0.{number}:80": "" for number in range(20)}
        with (
            subscribe(controller.url, many, "other", client=other) as greedy,
            subscribe(controller.url, few, "web-1", client=web) as honest,
        ):
            assert len(honest.next()["destinations"]) == 20
            greedy.rest()
            assert controller.truth.hub.held_count == 20
            with subscribe(controller.url, many, "other", client=other) as again:
                assert again.status == 503


def test_long_list_of_targets_is_answered_whole_in_turns(controller: Running, web: httpx.Client):
    targets = {f"10.{number >> 8}.{number & 255}.1:80": "" for number in range(1000)}
    with subscribe(controller.url, targets, "web-1", client=web) as stream:
        told = set()
        while len(told) < 1000:
            told |= {one["target"] for one in stream.next()["destinations"]}
    assert told == set(targets)


@pytest.mark.parametrize(
    "target", ["10.0.0.1:" + "0" * 1000 + "80", "fe80::1%" + "x" * 100000], ids=["long port", "long scope"]
)
def test_targets_longer_than_any_address_are_refused(controller: Running, web: httpx.Client, target: str):
    answer = web.post(
        f"{controller.url}/proxy/v1/discovery", json={"namespace": "shop", "pod": "web-1", "targets": {target: ""}}
    )
    assert answer.status_code == 422
    assert len(answer.text) < 1000
