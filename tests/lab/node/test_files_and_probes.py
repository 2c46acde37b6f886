"""What the node writes and reads on this machine: volumes' files, logs, probes, statuses, a lab's folder."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab import state
from lab.node.container import Backoff
from lab.node.logs import LINE_BYTES, Log
from lab.node.probes import Outcome, Probe, Prober, port_number, read, repeat
from lab.node.status import ContainerView, PodView, Run, container_status, pod_status, quality
from lab.node.volume_content import VolumeFile
from lab.node.volume_files import sub_path, write_files

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def shown(folder: Path) -> dict[str, str]:
    names = [path for path in folder.iterdir() if not path.name.startswith("..")]
    return {path.name: path.read_text() for path in names if path.is_file()}


def test_a_volume_changes_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    old = [VolumeFile("a", b"1", 0o644), VolumeFile("b", b"1", 0o600), VolumeFile("d/e", b"1", 0o644)]
    assert write_files(str(folder), old, None)
    data = (folder / "..data").resolve()
    assert not write_files(str(folder), old, None)  # nothing changed, nothing is touched
    assert (folder / "..data").resolve() == data
    assert write_files(str(folder), [VolumeFile("a", b"2", 0o644), VolumeFile("c", b"2", 0o644)], None)
    assert shown(folder) == {"a": "2", "c": "2"}
    assert not data.exists()
    assert not (folder / "d").is_symlink()
    assert os.readlink(folder / "a") == "..data/a"


def test_files_have_their_modes_and_the_pods_group(tmp_path: Path) -> None:
    write_files(str(tmp_path / "v"), [VolumeFile("a", b"1", 0o400)], os.getgid())
    found = (tmp_path / "v" / "a").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o440, os.getgid())


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc"])
def test_a_sub_path_stays_inside_of_its_volume(tmp_path: Path, path: str) -> None:
    (tmp_path / "v").mkdir()
    with pytest.raises(ValueError, match="leads out"):
        sub_path(str(tmp_path / "v"), path)
    assert sub_path(str(tmp_path / "v"), "new/folder") == str(tmp_path / "v" / "new" / "folder")


async def lines(log: Log, **options: Any) -> list[bytes]:
    chosen: dict[str, Any] = {"follow": False, "tail_lines": None, "since": None, "timestamps": False, **options}
    return [line async for line in log.read(**chosen)]


def test_a_log_keeps_lines_with_their_moments(tmp_path: Path) -> None:
    async def work() -> None:
        clock = [NOW]
        log = Log(str(tmp_path / "l"), lambda: clock[0])
        log.write("stdout", b"one\ntw")
        clock[0] += timedelta(seconds=5)
        log.write("stdout", b"o\nthree\n")
        assert await lines(log) == [b"one\n", b"two\n", b"three\n"]
        assert await lines(log, tail_lines=1) == [b"three\n"]
        assert await lines(log, since=NOW + timedelta(seconds=1)) == [b"two\n", b"three\n"]
        assert (await lines(log, timestamps=True))[0] == b"2026-01-31T12:00:00.000000Z one\n"
        log.close()

    asyncio.run(work())


def test_a_line_that_is_too_long_comes_back_whole(tmp_path: Path) -> None:
    async def work() -> None:
        log = Log(str(tmp_path / "l"), lambda: NOW)
        log.write("stdout", b"x" * (LINE_BYTES * 2 + 5) + b"\n")
        assert b"".join(await lines(log)) == b"x" * (LINE_BYTES * 2 + 5) + b"\n"
        log.close()

    asyncio.run(work())


def test_a_log_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    async def work() -> None:
        log = Log(str(tmp_path / "l"), lambda: NOW, half_bytes=1000)
        for number in range(200):
            log.write("stdout", b"%d\n" % number)
        kept = await lines(log)
        assert kept[-1] == b"199\n"
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
        log.close()

    asyncio.run(work())


def test_a_reader_that_follows_sees_all_of_it_over_rotations_until_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        log = Log(str(tmp_path / "l"), lambda: NOW, half_bytes=400)
        write = log.pipe("stdout")
        following = asyncio.create_task(lines(log, follow=True))
        for number in range(60):
            os.write(write, b"%d\n" % number)
            await asyncio.sleep(0.001)
        os.write(write, b"no newline")
        os.close(write)
        seen = await asyncio.wait_for(following, 5)
        assert seen == [b"%d\n" % number for number in range(60)] + [b"no newline\n"]

    asyncio.run(work())


@pytest.fixture
def answering() -> Callable[[bytes], Any]:
    """A loopback server that gives every connection the same bytes; its port."""

    async def start(reply: bytes) -> AsyncIterator[int]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()

    return start


@pytest.mark.parametrize(
    ("reply", "success", "words"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, "204"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://other.example/\r\ncontent-length: 0\r\n\r\n", True, "302"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", False, "HTTP probe failed with statuscode: 404"),
        (b"nonsense\r\n\r\n", False, "Get "),
    ],
)
def test_an_http_probe_judges_by_the_code(answering: Any, reply: bytes, success: bool, words: str) -> None:
    async def work() -> Outcome:
        prober = Prober.create()
        async for port in answering(reply):
            spec = {"httpGet": {"path": "/", "port": "web"}}
            container = {"name": "c", "ports": [{"name": "web", "containerPort": port}]}
            outcome = await prober.once(spec, container, "127.0.0.1", 2, _never)
        await prober.client.aclose()
        return outcome

    outcome = asyncio.run(work())
    assert outcome.success is success
    assert words in outcome.message


async def _never(argv: list[str], timeout_s: float) -> tuple[int, str]:
    raise AssertionError(argv, timeout_s)


def test_a_tcp_probe_and_a_command_are_judged(answering: Any) -> None:
    async def work() -> list[bool]:
        prober, found = Prober.create(), []
        async for port in answering(b""):
            for wanted in (port, 1):
                spec = {"tcpSocket": {"port": wanted}}
                found.append((await prober.once(spec, {"name": "c"}, "127.0.0.1", 2, _never)).success)

        async def run(argv: list[str], timeout_s: float) -> tuple[int, str]:
            if argv == ["slow"]:
                raise TimeoutError
            return len(argv) - 1, "said"

        commands = (["ok"], ["not", "ok"], ["slow"])
        found += [(await prober.once({"exec": {"command": c}}, {}, "", 1, run)).success for c in commands]
        await prober.client.aclose()
        return found

    assert asyncio.run(work()) == [True, False, True, False, False]


def test_a_port_name_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no port named 'web'"):
        port_number("web", {"name": "c"})


@pytest.mark.parametrize(
    ("results", "heard"),
    [
        ([True], [True]),
        ([False, False, True], [True]),
        ([False, False, False], [False]),
        ([True, False, False, True, False, False, False], [True, False]),
    ],
)
def test_thresholds_decide_when_a_probe_turns(results: list[bool], heard: list[bool]) -> None:
    async def work() -> list[bool]:
        left, turns = list(results), []

        async def attempt() -> Outcome:
            if not left:
                raise EOFError
            return Outcome(left.pop(0), "")

        async def on_change(success: bool, _outcome: Outcome) -> bool:
            turns.append(success)
            return True

        async def on_failure(_outcome: Outcome) -> None:
            pass

        with pytest.raises(EOFError):
            await repeat(Probe("Readiness", {}, 0, 0, 1, 1, 3, None), attempt, on_change, on_failure)
        return turns

    assert asyncio.run(work()) == heard


def test_a_probe_has_the_defaults_of_kubernetes() -> None:
    probe = read({"livenessProbe": {"tcpSocket": {"port": 1}}}, "Liveness")
    assert probe is not None
    assert (probe.delay_s, probe.period_s, probe.timeout_s, probe.successes_count, probe.failures_count) == (
        0,
        10,
        1,
        1,
        3,
    )
    assert read({}, "Readiness") is None


def test_restarts_wait_longer_each_time_up_to_a_bound() -> None:
    backoff = Backoff(base_s=10, max_s=300)
    assert [backoff.wait_s(n) for n in (0, 1, 2, 3, 6, 50)] == [0, 10, 20, 40, 300, 300]


def view(name: str, **changes: Any) -> ContainerView:
    return ContainerView(name, "image", **changes)


RUNNING = {"run": Run("r", NOW), "is_started": True, "is_ready": True, "reason": ""}
DONE = {"run": Run("r", NOW, NOW, 0), "reason": ""}
DEAD = {"run": Run("r", NOW, NOW, 143), "reason": ""}
POD: dict[str, Any] = {"spec": {"containers": [{"name": "m"}]}}


@pytest.mark.parametrize(
    ("seen", "phase", "conditions"),
    [
        (PodView(main=(view("m"),)), "Pending", {"Initialized": "True", "Ready": "False"}),
        (PodView(init=(view("i"),), main=(view("m"),)), "Pending", {"Initialized": "False", "Ready": "False"}),
        (PodView(init=(view("i", **DONE),), main=(view("m", **RUNNING),)), "Running", {"Ready": "True"}),
        (
            PodView(init=(view("s", **DEAD),), main=(view("m", **RUNNING),), sidecars=frozenset({"s"})),
            "Running",
            {"Initialized": "True", "Ready": "False"},
        ),
        (PodView(main=(view("m", **DONE),), phase="Succeeded"), "Succeeded", {"Initialized": "True", "Ready": "False"}),
        (PodView(main=(view("m", **DEAD),), phase="Failed"), "Failed", {"Ready": "False"}),
    ],
)
def test_a_pods_phase_and_conditions_follow_its_containers(seen: PodView, phase: str, conditions: Any) -> None:
    status = pod_status(POD, seen, ("10.244.0.1", "fd00::1"), NOW)
    found = {entry["type"]: entry["status"] for entry in status["conditions"]}
    assert status["phase"] == phase
    assert {name: found[name] for name in conditions} == conditions


def test_a_condition_keeps_its_time_until_it_turns_and_others_conditions_stay() -> None:
    first = pod_status(POD, PodView(main=(view("m", **RUNNING),)), ("a", "b"), NOW)
    gate = {"type": "example.com/gate", "status": "True", "lastTransitionTime": "x"}
    stored = {**POD, "status": {**first, "conditions": [*first["conditions"], gate]}}
    later = NOW + timedelta(hours=1)
    second = pod_status(stored, PodView(main=(view("m", **RUNNING, restarts_count=1),)), ("a", "b"), later)
    assert second["conditions"] == stored["status"]["conditions"]
    third = pod_status(stored, PodView(main=(view("m"),)), ("a", "b"), later)
    times = {entry["type"]: entry["lastTransitionTime"] for entry in third["conditions"]}
    assert (times["Ready"], times["PodScheduled"]) == ("2026-01-31T13:00:00Z", "2026-01-31T12:00:00Z")


def test_a_readiness_gate_holds_the_pod_back() -> None:
    gated = {"spec": {**POD["spec"], "readinessGates": [{"conditionType": "g"}]}}
    status = pod_status(gated, PodView(main=(view("m", **RUNNING),)), ("a", "b"), NOW)
    found = {entry["type"]: entry for entry in status["conditions"]}
    assert (found["Ready"]["status"], found["ContainersReady"]["status"]) == ("False", "True")
    assert found["Ready"]["reason"] == "ReadinessGatesNotReady"


def test_a_container_that_waits_to_be_started_again_shows_both_states() -> None:
    waiting = view(
        "c", run=Run("r", NOW, NOW, 3), reason="CrashLoopBackOff", message="back-off", last=Run("q", NOW, NOW, 1)
    )
    status = container_status(waiting)
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert status["lastState"]["terminated"]["exitCode"] == 1


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service_follows_requests_and_limits(resources: Any, expected: str) -> None:
    assert quality({"spec": {"containers": [{"name": "c", "resources": resources}]}}) == expected


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 33, "../x"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    assert "--name" in state.fault_of_name(name)
    assert state.fault_of_name("demo-2") == ""


def test_a_process_is_known_by_its_start_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STATE", str(tmp_path))
    paths = state.Paths("x")
    os.makedirs(paths.folder)
    started = state.start_ticks(os.getpid())
    assert started is not None
    assert state.read_running(paths) is None
    state.write_running(paths, state.Running(os.getpid(), started, 1))
    assert state.read_running(paths) == state.Running(os.getpid(), started, 1)
    state.write_running(paths, state.Running(os.getpid(), started - 1, 1))  # its number was given to another one
    assert state.read_running(paths) is None
    assert state.labs() == ["x"]
