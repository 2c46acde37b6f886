"""List and watch against a server that speaks them, through the official client."""

import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from controller import watcher as module
from controller.cluster import Change, Replace
from controller.kinds import PODS, STATEFULSETS, Kind
from controller.kube import Api, ApiFault, ConfigurationFault, connect
from controller.objects import Key
from controller.watcher import Watcher
from tests.controller.scripted_api import ScriptedApi, kubeconfig

PATH = PODS.path
WAIT_S = 5.0


@pytest.fixture
def server() -> Iterator[ScriptedApi]:
    found = ScriptedApi()
    yield found
    found.close()


@pytest.fixture
def api(server: ScriptedApi, tmp_path: Path) -> Api:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(server.url))
    return connect(str(file))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.05)


class Seen:
    """What a watcher delivered and complained of."""

    def __init__(self, api: Api, kind: Kind = PODS) -> None:
        self.changes: queue.Queue[Change | Replace] = queue.Queue()
        self.faults: queue.Queue[str] = queue.Queue()
        self._watcher = Watcher(
            api,
            kind,
            lambda change, read_s: self.changes.put(change),
            lambda kind, why: self.faults.put(why),
            chance=Random(1),
        )
        self._thread = self._watcher.start()

    def next(self) -> Change | Replace:
        return self.changes.get(timeout=WAIT_S)

    def names(self) -> list[str]:
        """Names in the next delivery, which is a list."""
        found = self.next()
        assert isinstance(found, Replace)
        return [record.key.name for record in found.records]

    def name(self) -> str:
        """Name in the next delivery, which is a change: `-name` for a deletion."""
        found = self.next()
        assert isinstance(found, Change)
        return found.key.name if found.record is not None else f"-{found.key.name}"

    def stop(self) -> None:
        self._watcher.stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


@pytest.fixture
def seen(api: Api) -> Iterator[Seen]:
    found = Seen(api)
    yield found
    found.stop()


def pod(name: str, **metadata: object) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "shop", **metadata}, "status": {"phase": "Running"}}


def wait_for_watch(server: ScriptedApi, path: str = PATH) -> None:
    deadline_s = monotonic() + WAIT_S
    while not server.watches_count(path):
        assert monotonic() < deadline_s


def requests_count(server: ScriptedApi, *, watch: bool) -> int:
    return sum(("watch=true" in url) == watch for method, url in server.requests if url.startswith(PATH))


def test_objects_are_listed_and_then_watched(server: ScriptedApi, seen: Seen):
    assert seen.names() == []
    server.put(PATH, pod("web-1"))
    server.put(PATH, pod("web-1", labels={"a": "b"}))
    server.drop(PATH, "shop", "web-1")
    assert [seen.name() for _ in range(3)] == ["web-1", "web-1", "-web-1"]


def test_requests_carry_the_token_of_the_kubeconfig_and_ask_for_bookmarks(server: ScriptedApi, seen: Seen):
    seen.names()
    wait_for_watch(server)
    watch = next(url for _, url in server.requests if "watch=true" in url)
    assert "allowWatchBookmarks=true" in watch
    assert "timeoutSeconds=" in watch
    assert "resourceVersion=100" in watch


def test_long_lists_are_read_in_pages(server: ScriptedApi, api: Api):
    server.page_count = 2
    for number in range(5):
        server.put(PATH, pod(f"web-{number}"))
    seen = Seen(api)
    assert seen.names() == [f"web-{number}" for number in range(5)]
    assert requests_count(server, watch=False) == 3
    seen.stop()


def test_watch_that_ends_is_resumed_where_it_stood(server: ScriptedApi, seen: Seen):
    seen.names()
    server.put(PATH, pod("web-1"))
    assert seen.name() == "web-1"
    wait_for_watch(server)
    server.end_watches()
    server.put(PATH, pod("web-2"))
    assert seen.name() == "web-2"
    assert requests_count(server, watch=False) == 1


def test_bookmark_moves_the_position(server: ScriptedApi, seen: Seen):
    seen.names()
    wait_for_watch(server)
    server.version = 500
    server.send(PATH, b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"500"}}}\n')
    server.end_watches()
    wait_for_watch(server)
    assert any("resourceVersion=500" in url for _, url in server.requests)


def test_expired_position_lists_anew_and_drops_what_is_gone(server: ScriptedApi, seen: Seen):
    seen.names()
    server.put(PATH, pod("web-1"))
    server.put(PATH, pod("web-2"))
    assert [seen.name(), seen.name()] == ["web-1", "web-2"]
    wait_for_watch(server)
    server.objects[PATH].pop("shop/web-1")
    server.expire()
    assert seen.names() == ["web-2"]


def test_server_that_started_anew_with_lower_positions_is_listed_anew(server: ScriptedApi, seen: Seen):
    seen.names()
    wait_for_watch(server)
    server.version = 5
    server.end_watches()
    assert seen.names() == []
    wait_for_watch(server)
    assert "resourceVersion=5&" in server.requests[-1][1]


def test_server_that_is_down_is_tried_until_it_is_back(server: ScriptedApi, seen: Seen):
    seen.names()
    wait_for_watch(server)
    server.refused[PATH] = 500
    server.end_watches()
    assert "500 refused by the script" in seen.faults.get(timeout=WAIT_S)
    del server.refused[PATH]
    server.put(PATH, pod("web-1"))
    assert seen.name() == "web-1"


def test_kind_that_the_server_does_not_serve_is_empty_until_it_does(server: ScriptedApi, api: Api):
    kind = replace(STATEFULSETS, absent_pause_s=0.05)
    server.refused[kind.path] = 404
    seen = Seen(api, kind)
    assert seen.names() == []
    assert seen.faults.empty()
    del server.refused[kind.path]
    server.put(kind.path, pod("db"))
    while not (found := seen.names()):
        pass
    assert found == ["db"]
    seen.stop()


def test_kind_that_may_not_be_read_is_a_failure_and_not_empty(server: ScriptedApi, api: Api):
    server.refused[PATH] = 403
    seen = Seen(api)
    assert seen.faults.get(timeout=WAIT_S).startswith("403 ")
    assert seen.changes.empty()
    seen.stop()


def test_object_that_is_not_understood_is_left_out_and_the_rest_goes_on(
    server: ScriptedApi, seen: Seen, capsys: pytest.CaptureFixture[str]
):
    seen.names()
    wait_for_watch(server)
    server.put(PATH, {"metadata": {"name": "odd", "namespace": "shop"}, "status": {"podIP": "not an address"}})
    server.put(PATH, pod("web-1"))
    assert seen.name() == "web-1"
    assert "object not understood" in capsys.readouterr().out


@pytest.mark.parametrize("line", [b"no json\n", b'{"type":"ADDED"}\n', b'{"type":"ERROR","object":{"code":500}}\n'])
def test_line_that_is_no_event_ends_the_watch_and_not_the_watcher(server: ScriptedApi, seen: Seen, line: bytes):
    seen.names()
    wait_for_watch(server)
    server.send(PATH, line)
    seen.faults.get(timeout=WAIT_S)
    server.put(PATH, pod("web-1"))
    assert seen.name() == "web-1"


def test_watcher_stops_while_it_waits_for_events(server: ScriptedApi, api: Api):
    seen = Seen(api)
    seen.names()
    wait_for_watch(server)
    seen.stop()


def test_refusals_tell_status_and_message(server: ScriptedApi, api: Api):
    server.refused["/api/v1/namespaces/tulle/secrets"] = 403
    with pytest.raises(ApiFault, match="403 refused by the script") as caught:
        api.request("GET", "/api/v1/namespaces/tulle/secrets/x")
    assert caught.value.status == 403


def test_configuration_that_is_missing_or_broken_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / "broken").write_text("{")
    for kubeconfig_ in (None, str(tmp_path / "none"), str(tmp_path / "broken")):
        with pytest.raises(ConfigurationFault, match="set KUBECONFIG to a kubeconfig file"):
            connect(kubeconfig_)


def test_change_names_its_object(server: ScriptedApi, seen: Seen):
    seen.names()
    server.put(PATH, pod("web-1"))
    found = seen.next()
    assert isinstance(found, Change)
    assert (found.kind, found.key) == ("pods", Key("shop", "web-1"))
