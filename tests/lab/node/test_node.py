"""Whole pods on a real node: namespaces, processes, probes, hooks, volumes, the order of their ends."""

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import pytest

from lab.api.errors import ApiError
from lab.node import hiding

pytestmark = pytest.mark.netns

SERVE = ["python3", "-m", "http.server", "8080", "--bind", "::"]


def shell(name: str, script: str, **extra: Any) -> dict[str, Any]:
    return {"name": name, "image": "any", "command": ["sh", "-c", script], **extra}


def ready(status: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


def state(status: dict[str, Any], name: str, field: str = "containerStatuses") -> dict[str, Any]:
    return next((entry["state"] for entry in status.get(field, []) if entry["name"] == name), {})


def test_a_pod_is_reached_from_another_one_through_its_service_by_name(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}
            families = {"clusterIPs": ["10.96.0.50", "fd00:10:96::50"], "clusterIP": "10.96.0.50"}
            families |= {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
            service = {"metadata": {"name": "web", "namespace": "default"}, "spec": spec | families}
            await b.registry.create("services", service)
            web = {"name": "web", "image": "any", "command": SERVE}
            web["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
            await b.apply("web-0", web, labels={"app": "web"})
            await b.apply("client", shell("c", "sleep 100"))
            await asyncio.gather(b.until("web-0", ready), b.until("client", ready))
            call = "curl -s -m1 -o /dev/null -w '%{remote_ip}' $0 http://web/"
            ask = f"until {call}; do sleep 0.05; done"  # the endpoint is in the rules a moment after it is ready
            assert (await b.output("client", "c", "sh", "-c", ask, "-4")).endswith("10.96.0.50")
            assert (await b.output("client", "c", "sh", "-c", ask, "-6")).endswith("fd00:10:96::50")
            assert (await b.output("web-0", "web", "sh", "-c", ask, "-4")).endswith("10.96.0.50")  # itself
            reader, writer = await b.node.connect("default", "web-0", 8080)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.0 200")
            writer.close()

    in_namespace(work)


def test_init_containers_run_in_order_and_a_sidecar_holds_the_main_ones_until_it_has_started(
    in_namespace: Any, bench: Any
) -> None:
    async def work() -> None:
        async with bench() as b:
            side = shell(
                "side", "sleep 0.3; trap 'sleep 0.1; echo side >> /v/ends; exit 0' TERM; touch /v/up; sleep 100 & wait"
            )
            side |= {
                "restartPolicy": "Always",
                "startupProbe": {"exec": {"command": ["cat", "/v/up"]}, "periodSeconds": 1},
            }
            mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
            first = shell("first", "echo first >> /v/order")
            last = shell("last", "ls /v/up; echo last >> /v/order")
            main = shell("main", "trap 'echo main >> /v/ends; exit 0' TERM; cat /v/order /v/posted; sleep 100 & wait")
            main["lifecycle"] = {"postStart": {"exec": {"command": ["touch", "/v/posted"]}}}
            main["command"][2] = "while [ ! -e /v/posted ]; do sleep 0.02; done; " + main["command"][2]
            inits = [{**c, **mount} for c in (first, side, last)]
            pod = {"initContainers": inits, "volumes": [{"name": "v", "emptyDir": {}}]}
            await b.apply("p", {**main, **mount}, terminationGracePeriodSeconds=5, **pod)
            status = await b.until("p", ready)
            assert await b.log("p", "last") == "/v/up\n"
            assert await b.until_said("p", "main", "last") == "first\nlast\n"
            assert [entry["name"] for entry in status["initContainerStatuses"]] == ["first", "side", "last"]
            assert "running" in state(status, "side", "initContainerStatuses")
            ends = asyncio.create_task(
                b.until("p", lambda s: "terminated" in state(s, "side", "initContainerStatuses"))
            )
            ends_file = Path(next(iter(b.node._workers.values())).path()) / "volumes/v/ends"
            await asyncio.sleep(0)
            await b.registry.delete("pods", "default", "p")
            status = await ends
            assert state(status, "main")["terminated"]["exitCode"] == 0
            assert ends_file.read_text() == "main\nside\n"
            await b.until_gone("p")

    in_namespace(work)


def test_a_finished_pod_takes_its_sidecars_with_it_and_succeeds(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            side = shell("side", "sleep 100", restartPolicy="Always")
            await b.apply("job", shell("main", "echo done"), initContainers=[side], restartPolicy="Never")
            status = await b.until("job", lambda s: s.get("phase") == "Succeeded")
            assert state(status, "main")["terminated"]["reason"] == "Completed"
            assert state(status, "side", "initContainerStatuses")["terminated"]["exitCode"] == 143
            assert await b.log("job", "main") == "done\n"

    in_namespace(work)


def test_a_sidecar_that_dies_is_started_again(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            side = shell("side", "sleep 0.2; exit 1", restartPolicy="Always")
            await b.apply("p", shell("main", "sleep 100"), initContainers=[side])
            await b.until("p", lambda s: any(c["restartCount"] >= 2 for c in s.get("initContainerStatuses", [])))

    in_namespace(work)


def test_a_failing_container_is_started_again_after_growing_waits_and_its_last_words_are_kept(
    in_namespace: Any, bench: Any
) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", shell("c", "echo run; echo why > /dev/termination-log; exit 3"))
            status = await b.until("p", lambda s: state(s, "c").get("waiting", {}).get("reason") == "CrashLoopBackOff")
            await b.until("p", lambda s: s["containerStatuses"][0]["restartCount"] >= 3)
            last = (await b.until("p", lambda s: s["containerStatuses"][0]["lastState"]))["containerStatuses"][0]
            assert (last["lastState"]["terminated"]["exitCode"], last["lastState"]["terminated"]["message"]) == (
                3,
                "why\n",
            )
            assert status["phase"] == "Running"
            assert await b.log("p", "c", previous=True) == "run\n"
            assert any(reason == "BackOff" for reason, _ in b.events())

    in_namespace(work)


@pytest.mark.parametrize(
    ("policy", "script", "phase"),
    [("Never", "exit 1", "Failed"), ("Never", "exit 0", "Succeeded"), ("OnFailure", "exit 0", "Succeeded")],
)
def test_a_pod_ends_as_its_restart_policy_says(
    in_namespace: Any, bench: Any, policy: str, script: str, phase: str
) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", shell("c", script), restartPolicy=policy)
            await b.until("p", lambda s: s.get("phase") == phase)

    in_namespace(work)


def test_a_failed_init_container_fails_a_pod_that_is_never_restarted(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            pod = {"initContainers": [shell("i", "exit 4")], "restartPolicy": "Never"}
            await b.apply("p", shell("c", "sleep 100"), **pod)
            status = await b.until("p", lambda s: s.get("phase") == "Failed")
            assert state(status, "i", "initContainerStatuses")["terminated"]["exitCode"] == 4
            assert state(status, "c") == {"waiting": {"reason": "PodInitializing"}}

    in_namespace(work)


def test_a_container_whose_liveness_fails_is_killed_and_started_again(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            probe = {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 1}
            await b.apply("p", shell("c", "exec sleep 100", livenessProbe=probe), terminationGracePeriodSeconds=1)
            status = await b.until("p", lambda s: s.get("containerStatuses", [{}])[0].get("restartCount"))
            assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 143
            said = dict(b.events())
            assert (
                said["Unhealthy"]
                == "Liveness probe failed: dial tcp 10.244.0.2:81: Connect call failed ('10.244.0.2', 81)"
            )
            assert said["Killing"] == "Container c failed liveness probe, will be restarted"

    in_namespace(work)


def test_a_container_that_ignores_sigterm_is_killed_when_its_grace_is_over(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", shell("c", "trap '' TERM; echo up; while :; do sleep 0.1; done"))
            await b.until("p", ready)
            await b.until_said("p", "c", "up")
            following = asyncio.create_task(b.log("p", "c", follow=True))
            gone = asyncio.create_task(b.until_gone("p"))
            await asyncio.sleep(0)
            await b.registry.delete("pods", "default", "p")
            await b.registry.delete("pods", "default", "p", grace_s=1)  # a second wish may shorten the first
            await gone
            assert await following == "up\n"

    in_namespace(work)


def test_a_pre_stop_hook_runs_before_sigterm(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            script = "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.02; done"
            hook = {"preStop": {"exec": {"command": ["sh", "-c", "sleep 0.2; echo hook > /proc/1/fd/1"]}}}
            await b.apply("p", shell("c", script, lifecycle=hook))
            await b.until("p", ready)
            await b.until_said("p", "c", "up")
            following = asyncio.create_task(b.log("p", "c", follow=True))
            await asyncio.sleep(0)
            await b.registry.delete("pods", "default", "p")
            assert await following == "up\nhook\nterm\n"

    in_namespace(work)


def test_volumes_show_their_objects_and_follow_them_when_they_change(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            config = {"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "one"}}
            secret = {"metadata": {"name": "s", "namespace": "default"}, "data": {"p": base64.b64encode(b"w").decode()}}
            config = await b.registry.create("configmaps", config)
            await b.registry.create("secrets", secret)
            token = {"serviceAccountToken": {"audience": "me", "expirationSeconds": 600, "path": "token"}}
            volumes = [
                {"name": "cm", "configMap": {"name": "cm"}},
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
                {"name": "t", "projected": {"sources": [token, {"configMap": {"name": "cm"}}]}},
                {"name": "none", "configMap": {"name": "none", "optional": True}},
            ]
            mounts = [{"name": v["name"], "mountPath": f"/v/{v['name']}"} for v in volumes]
            mounts.append({"name": "cm", "mountPath": "/etc/one.conf", "subPath": "a"})
            script = (
                "id -u; cat /v/cm/a /v/s/p /v/t/token /v/t/a /etc/one.conf; echo; ls /v/none; touch /v/cm/x; sleep 100"
            )
            security = {"runAsUser": 2102, "runAsGroup": 2102, "fsGroup": 2102}
            await b.apply("p", shell("c", script, volumeMounts=mounts), volumes=volumes, securityContext=security)
            await b.until("p", ready)
            text = await b.until_said("p", "c", "Read-only file system")
            assert "2102\nonewme:600oneone" in text
            update = {**config, "data": {"a": "two"}}
            await b.registry.update("configmaps", update)
            follow = (
                "until grep -q two /v/cm/a && grep -q two /v/t/a; do sleep 0.02; done; cat /v/cm/a /v/t/a /etc/one.conf"
            )
            assert await b.output("p", "c", "sh", "-c", follow) == "twotwoone"

    in_namespace(work)


def test_a_container_waits_for_what_it_refers_to_and_says_so(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", shell("c", "echo $K; sleep 100", envFrom=[{"configMapRef": {"name": "late"}}]))
            waiting = await b.until("p", lambda s: state(s, "c").get("waiting", {}).get("message"))
            assert state(waiting, "c")["waiting"] == {
                "reason": "CreateContainerConfigError",
                "message": 'configmap "late" not found',
            }
            late = {"metadata": {"name": "late", "namespace": "default"}, "data": {"K": "v"}}
            await b.registry.create("configmaps", late)
            await b.until("p", ready)
            assert await b.until_said("p", "c", "v") == "v\n"

    in_namespace(work)


def test_what_the_lab_cannot_do_is_said_in_the_status_and_an_event(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", {"name": "c", "image": "nginx"}, hostPID=True)
            status = await b.until("p", lambda s: state(s, "c").get("waiting", {}).get("message"))
            assert "the lab pulls no images" in state(status, "c")["waiting"]["message"]
            assert any(reason == "Failed" and "spec.hostPID" in message for reason, message in b.events())
            gone = asyncio.create_task(b.until_gone("p"))
            await asyncio.sleep(0)
            await b.registry.delete("pods", "default", "p")
            await gone

    in_namespace(work)


def test_a_program_that_is_not_there_is_a_start_error(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", {"name": "c", "image": "x", "command": ["nonesuch"]}, restartPolicy="Never")
            ended = state(await b.until("p", lambda s: s.get("phase") == "Failed"), "c")["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
            assert ended["message"].startswith('exec "nonesuch": not found in $PATH')

    in_namespace(work)


def test_a_command_in_a_container_has_its_streams_and_its_exit_code(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", shell("c", "sleep 100"))
            await b.until("p", ready)
            command = ["sh", "-c", "read line; echo out $line; echo err >&2; exit 7"]
            running = await b.node.execute("default", "p", "c", command, stdin=True, tty=False)
            running.stdin.write(b"word\n")
            assert (await running.stdout.read(), await running.stderr.read()) == (b"out word\n", b"err\n")
            assert await running.wait() == 7
            running.stdin.close()
            terminal = await b.node.execute("default", "p", "c", ["sh", "-c", "stty size"], stdin=False, tty=True)
            assert terminal.stderr is None
            terminal.resize(80, 24)
            await terminal.wait()
            missing = await b.node.execute("default", "p", "c", ["nonesuch"], stdin=False, tty=False)
            assert b"not found" in await missing.stderr.read()
            assert await missing.wait() == 126
            with pytest.raises(ApiError, match="not valid"):
                await b.node.execute("default", "p", "other", ["true"], stdin=False, tty=False)

    in_namespace(work)


def test_containers_have_their_own_processes_root_and_rights(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            security = {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}
            script = (
                "ls /proc | grep -c '^[0-9]'; touch /x 2>/dev/null || echo read-only; grep CapEff /proc/self/status"
            )
            await b.apply("p", shell("c", f"{script}; hostname; sleep 100", securityContext=security), hostname="box")
            await b.until("p", ready)
            lines = (await b.until_said("p", "c", "box")).split("\n")
            assert int(lines[0]) <= 5
            assert lines[1:4] == ["read-only", "CapEff:\t0000000000001000", "box"]

    in_namespace(work)


def test_a_container_does_not_see_what_is_the_hosts_own(in_namespace: Any, bench: Any) -> None:
    """Root in a container, which on the host could read all of it."""
    places = [entry.path for entry in os.scandir("/") if entry.is_dir(follow_symlinks=False)]
    mine = sorted(set(places) - {f"/{name}" for name in hiding.PROGRAMS} - {"/tmp", "/run"})

    aside = [word for path in hiding.SHOWN for word in ("!", "-path", path, "!", "-path", f"{path}/*")]

    async def work() -> None:
        async with bench() as b:
            await b.apply("p", shell("c", "sleep 100"))
            await b.until("p", ready)
            assert "" == await b.output("p", "c", "cat", "/etc/shadow", "/etc/gshadow")
            private = await b.output("p", "c", "find", "/etc", "-type", "f", "!", "-perm", "-o+r", "-size", "+0")
            assert "" == private
            seen = await b.output("p", "c", "find", *mine, "-xdev", *aside, "!", "-type", "d", "!", "-type", "l")
            assert "" == seen

    in_namespace(work)


@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"])
def test_a_container_cannot_open_the_kernels_switches_for_writing(in_namespace: Any, bench: Any, path: str) -> None:
    async def work() -> None:
        async with bench() as b:
            await b.apply("p", shell("c", f"(: >>{path}) && echo opened; echo asked; sleep 100"))
            await b.until("p", ready)
            assert "opened" not in await b.until_said("p", "c", "asked")

    in_namespace(work)


def test_a_device_made_in_a_volume_cannot_be_opened(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
            script = "mknod /v/null c 1 3 && echo made; cat /v/null && echo opened; echo asked; sleep 100"
            await b.apply("p", shell("c", script, **mount), volumes=[{"name": "v", "emptyDir": {}}])
            await b.until("p", ready)
            text = await b.until_said("p", "c", "asked")
            assert ("made" in text, "opened" in text) == (True, False)

    in_namespace(work)


def test_capabilities_that_reach_the_host_are_refused_before_anything_runs(in_namespace: Any, bench: Any) -> None:
    async def work() -> None:
        async with bench() as b:
            security = {"capabilities": {"add": ["SYS_ADMIN"]}}
            await b.apply("p", shell("c", "mount -o remount,rw /proc/sys; sleep 100", securityContext=security))
            status = await b.until("p", lambda found: state(found, "c").get("waiting", {}).get("message"))
            assert "SYS_ADMIN would reach the host itself" in state(status, "c")["waiting"]["message"]

    in_namespace(work)


def test_thirty_pods_start_at_once(in_namespace: Any, bench: Any) -> None:
    async def work() -> float:
        async with bench() as b:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            await asyncio.gather(*(b.apply(f"p{n}", shell("c", "sleep 100")) for n in range(30)))
            await asyncio.gather(*(b.until(f"p{n}", ready) for n in range(30)))
            addresses = {b.status(f"p{n}")["podIP"] for n in range(30)}
            assert len(addresses) == 30
            return loop.time() - begin

    assert in_namespace(work) < 10


def test_an_installation_below_tmp_is_seen_by_everybody_although_a_volume_stands_there(
    in_namespace: Any, bench: Any, tmp_path: Path
) -> None:
    installation = tmp_path / "tulle"
    installation.mkdir(mode=0o700)
    (installation / "program").write_text("it is here\n")

    async def work() -> None:
        async with bench(str(installation)) as b:
            script = f"cat {installation}/program; echo x > {installation}/new && rm {installation}/program; sleep 100"
            reads = shell("c", script, securityContext={"runAsUser": 2102})
            reads["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
            await b.apply("reader", reads, volumes=[{"name": "tmp", "emptyDir": {}}])
            await b.until("reader", ready)
            await b.until_said("reader", "c", "it is here")

    in_namespace(work)
    assert ["program"] == [entry.name for entry in installation.iterdir()]
