"""Sidecars that nobody hears: who counts as silent, and the three ways in which it is told."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from contract.silence import ROWS_LIMIT_COUNT, SILENT_AFTER_S, SILENT_PATH, SilentAnswer
from controller.cluster import Replace
from controller.kinds import KINDS
from controller.kube import connect
from controller.objects import Key, Pod
from controller.settings import Settings
from controller.silence import Silence, event, expected
from controller.truth import Truth
from controller.watchman import AGAIN_S, EVENTS_COUNT, Watchman
from tests.controller.builders import kind_of, pod
from tests.controller.running import HTTP, running, subscribe
from tests.controller.scripted_api import ScriptedApi, kubeconfig

WEB, OTHER = Key("shop", "web-1"), Key("shop", "web-2")


def heard(*keys: Key) -> frozenset[Key]:
    return frozenset(keys)


def silent(silence: Silence, now_s: float) -> list[Key]:
    return [key for _, key in silence.silent(now_s)]


def test_a_sidecar_without_a_stream_is_silent_after_thirty_seconds_and_not_sooner() -> None:
    silence = Silence()
    silence.look([WEB, OTHER], heard(OTHER), 100.0)
    silence.look([WEB, OTHER], heard(OTHER), 120.0)

    assert [] == silent(silence, 100.0 + SILENT_AFTER_S - 0.1)
    assert [WEB] == silent(silence, 100.0 + SILENT_AFTER_S)


def test_a_sidecar_that_is_heard_again_begins_anew() -> None:
    silence = Silence()
    silence.look([WEB], heard(), 0.0)
    silence.look([WEB], heard(WEB), 20.0)
    silence.look([WEB], heard(), 25.0)

    assert [] == silent(silence, 50.0)
    assert [WEB] == silent(silence, 55.0)


def test_a_pod_that_is_gone_is_forgotten() -> None:
    silence = Silence()
    silence.look([WEB], heard(), 0.0)
    silence.look([], heard(), 20.0)

    assert [] == silent(silence, 100.0)


@pytest.mark.parametrize(
    ("found", "is_expected"),
    [
        (pod(), True),
        (pod(meshed=False), False),
        (pod(phase="Pending"), False),
        (pod(phase="Succeeded"), False),
        (pod(ip=""), False),
        (msgspec.structs.replace(pod(), leaving=True), False),
    ],
)
def test_running_pods_with_a_sidecar_are_expected_to_hold_a_stream(found: Pod, is_expected: bool) -> None:
    assert is_expected == (found.key in expected({found.key: found}))


def test_the_event_stands_on_the_pod_and_says_what_to_look_at() -> None:
    found = event(msgspec.structs.replace(pod(), uid="u1"), datetime(2026, 1, 1, tzinfo=UTC))

    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u1"}
    assert (involved, "Warning", "SidecarSilent") == (found["involvedObject"], found["type"], found["reason"])
    assert "dnsPolicy" in str(found["message"])
    assert "NetworkPolicy" in str(found["message"])


def test_an_answer_has_an_end() -> None:
    silence = Silence()
    silence.look([Key("shop", f"p{number}") for number in range(ROWS_LIMIT_COUNT + 5)], heard(), 0.0)

    answer = silence.answer(60.0)

    assert (ROWS_LIMIT_COUNT + 5, ROWS_LIMIT_COUNT) == (answer.count, len(answer.sidecars))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_each_silent_sidecar_gets_one_event_in_half_an_hour_and_a_gauge_counts_them(tmp_path: Path) -> None:
    server, clock = ScriptedApi(), Clock()
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(server.url))
    truth = Truth(Settings(), clock=clock)
    pods = tuple(pod(f"p{number}", f"10.0.0.{number}") for number in range(1, EVENTS_COUNT + 4))
    for kind in KINDS:
        truth.on_changes([(Replace(kind.name, tuple(one for one in pods if kind_of(one) == kind.name)), 0.0)])
    watchman = Watchman(connect(str(file)), truth)

    def told() -> int:
        return sum(method == "POST" and path.endswith("/events") for method, path in server.requests)

    async def look(later_s: float) -> int:
        clock.now_s += later_s
        await watchman.look(clock.now_s)
        return told()

    async def work() -> list[int]:
        return [await look(after_s) for after_s in (0.0, 29.0, 2.0, 5.0, 5.0, AGAIN_S)]

    counts = asyncio.run(work())
    server.close()

    assert [0, 0, EVENTS_COUNT, len(pods), len(pods), len(pods) + EVENTS_COUNT] == counts
    assert len(pods) == truth.meters.silent._value.get()


def test_the_rest_api_tells_who_is_silent_and_a_stream_ends_it() -> None:
    with running(Settings(address="127.0.0.1", port=0)) as found:
        found.sync(pod(), pod("web-2", "127.0.0.1"))
        truth = found.truth

        def look(before_s: float) -> None:
            truth.silence.look(expected(truth.cluster.pods), truth.hub.heard(), truth.clock() - before_s)

        def ask() -> SilentAnswer:
            return msgspec.json.decode(HTTP.get(found.url + SILENT_PATH).content, type=SilentAnswer)

        found.do(lambda: look(60.0))
        before = ask()
        with subscribe(found.url, {}, pod="web-2"):
            found.do(lambda: look(0.0))
            after = ask()

    assert (2, ["web-1", "web-2"]) == (before.count, [one.pod for one in before.sidecars])
    assert (1, ["web-1"]) == (after.count, [one.pod for one in after.sidecars])
    assert SILENT_AFTER_S == after.after_s < after.sidecars[0].silent_s
