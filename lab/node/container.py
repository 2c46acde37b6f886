"""One container's life: configure, start, hooks, probes, end, back-off, again. Waits.

A container is supervised by one task (`supervise`) and stopped by another (`stop`). What is known of it is `view`, a
value that is replaced, never changed; `on_change` is called after each replacement.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from . import commands, probes
from .endpoints import Object
from .environment import ConfigurationFault
from .launch import Launch
from .logs import Log
from .probes import Outcome, Probe, Prober
from .runtime import Process, Runtime, StartError
from .status import ContainerView, Run

START_FAILED = 128
_CONFIGURE_AGAIN_S = 1.0
_LAST_WORDS_BYTES = 4096
_LOGGED_LAST_WORDS_BYTES, _LOGGED_LAST_WORDS_LINES = 2048, 80
_AFTER_HOOK_S = 2.0  # what is left at least for SIGTERM when a preStop hook used the grace period up
_FORGIVEN_AFTER_S = 600.0  # a run of this length starts the back-off anew


class Surroundings(Protocol):
    """What a container needs of its pod."""

    @property
    def runtime(self) -> Runtime: ...
    @property
    def prober(self) -> Prober: ...
    @property
    def pod(self) -> Object: ...
    @property
    def address(self) -> str: ...
    @property
    def netns(self) -> int: ...
    def now(self) -> datetime: ...
    def changed(self) -> None: ...
    def launch(self, container: Object, termination_log: str) -> Launch: ...
    def path(self, *parts: str) -> str: ...
    async def tell(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None: ...
    def deadline(self) -> float: ...
    async def deadline_moved(self) -> None: ...


@dataclass(frozen=True)
class Backoff:
    """Waits before the 2nd, 3rd, ... restart; the first one is at once, as a kubelet's is."""

    base_s: float
    max_s: float

    def wait_s(self, restarts_in_row: int) -> float:
        return 0.0 if restarts_in_row == 0 else min(self.max_s, self.base_s * 2 ** min(restarts_in_row - 1, 30))


@dataclass(eq=False)
class Container:
    """`spec` is the container's entry in the pod's spec."""

    spec: Object
    around: Surroundings
    backoff: Backoff
    view: ContainerView = field(init=False)
    begun: asyncio.Event = field(default_factory=asyncio.Event)  # started, and its postStart hook is done
    ready_to_go_on: asyncio.Event = field(default_factory=asyncio.Event)  # its startupProbe has passed, too
    tried: asyncio.Event = field(default_factory=asyncio.Event)  # begun, or known to fail: the next one's turn
    logs: list[Log] = field(default_factory=list)  # of the last run and the one before
    process: Process | None = None
    launched: Launch | None = None
    stopping: bool = False
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _killed_for: str = ""

    def __post_init__(self) -> None:
        self.view = ContainerView(self.name, self.spec.get("image", ""))

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def _see(self, **changes: object) -> None:
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]
        self.around.changed()

    # Running.

    async def supervise(self, runs_again: Callable[[int], bool]) -> int:
        """Run until the container is over: `runs_again(exit code)` is False, or it is being stopped. The last code."""
        in_row = 0
        while True:
            started = self.around.now()
            code = await self._run_once()
            self.begun.clear()
            if self.stopping or not runs_again(code):
                return code
            if (self.around.now() - started).total_seconds() > _FORGIVEN_AFTER_S:
                in_row = 0
            await self._back_off(self.backoff.wait_s(in_row))
            in_row += 1
            self._see(last=self.view.run, run=None, reason="", restarts_count=self.view.restarts_count + 1)

    async def _back_off(self, wait_s: float) -> None:
        if wait_s <= 0:
            return
        pod = self.around.pod["metadata"]
        whom = f"{self.name} in pod {pod['name']}_{pod['namespace']}({pod.get('uid', '')})"
        message = f"back-off {wait_s:g}s restarting failed container={whom}"
        self._see(reason="CrashLoopBackOff", message=message)
        await self.around.tell("Warning", "BackOff", f"Back-off restarting failed container {whom}")
        await asyncio.sleep(wait_s)

    async def _run_once(self) -> int:
        launch, words = await self._configured()
        log = self._new_log()
        files = {"stdout": log.pipe("stdout"), "stderr": log.pipe("stderr"), "stdin": os.open("/dev/null", os.O_RDONLY)}
        started_at = self.around.now()
        run = Run(f"{self.around.pod['metadata'].get('uid', '')}-{self.name}-{next(self._numbers)}", started_at)
        try:
            self.process = await self.around.runtime.run(launch, netns=self.around.netns, **files)
        except StartError as error:
            await self.around.tell("Warning", "Failed", f"Error: failed to start container {self.name}: {error}")
            return self._over(run, START_FAILED, "StartError", str(error))
        finally:
            for file in files.values():
                os.close(file)
        self.launched, self._killed_for = launch, ""
        self._see(run=run, reason="", message="", is_started=False, is_ready=False)
        attending = asyncio.create_task(self._attend(self.process), name=f"attend {self.name}")
        try:
            code = await asyncio.shield(self.process.ended)
            await log.ended.wait()
        finally:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)
        return self._over(run, code, "", self._last_words(words, log, code))

    async def _configured(self) -> tuple[Launch, str]:
        """The launch, once everything that the spec refers to is there."""
        words = self.around.path("termination", f"{self.name}-{self.view.restarts_count}")
        told = ""
        while True:
            try:
                launch = self.around.launch(self.spec, words)
                break
            except ConfigurationFault as fault:
                if str(fault) != told:
                    told = str(fault)
                    self._see(reason="CreateContainerConfigError", message=told)
                    self.tried.set()
                    await self.around.tell("Warning", "Failed", f"Error: {told}")
            await asyncio.sleep(_CONFIGURE_AGAIN_S)
        os.makedirs(os.path.dirname(words), exist_ok=True)
        with open(words, "wb") as file:  # noqa: ASYNC230 - a local file in memory
            os.fchmod(file.fileno(), 0o666)
        return launch, words

    def _new_log(self) -> Log:
        folder = self.around.path("logs", self.name)
        os.makedirs(folder, exist_ok=True)
        self.logs.append(Log(f"{folder}/{self.view.restarts_count}.log", self.around.now))
        for old in self.logs[:-2]:
            old.remove()
        self.logs = self.logs[-2:]
        return self.logs[-1]

    def _over(self, run: Run, code: int, reason: str, message: str) -> int:
        ended = replace(run, ended_at=self.around.now(), exit_code=code, reason=reason, message=message)
        self.process = None
        self.tried.set()
        self._see(run=ended, reason="", message="", is_started=False, is_ready=False)
        return code

    def _last_words(self, path: str, log: Log, code: int) -> str:
        with open(path, "rb") as file:
            said = file.read(_LAST_WORDS_BYTES).decode(errors="replace")
        os.unlink(path)
        if not said and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            return log.tail(_LOGGED_LAST_WORDS_BYTES, _LOGGED_LAST_WORDS_LINES)
        return said

    # While it runs.

    async def _attend(self, process: Process) -> None:
        """Events, the postStart hook, then the probes for as long as the process runs."""
        image = f'"{self.view.image}" is recorded, not pulled: the lab runs programs of this machine'
        await self.around.tell("Normal", "Pulled", f"Container image {image}")
        await self.around.tell("Normal", "Created", f"Created container: {self.name}")
        await self.around.tell("Normal", "Started", f"Started container {self.name}")
        hook = (self.spec.get("lifecycle") or {}).get("postStart")
        if hook:
            outcome = await self._hook(hook, None)
            if not outcome.success:
                await self.around.tell("Warning", "FailedPostStartHook", f"PostStartHook failed: {outcome.message}")
                await self.kill("FailedPostStartHook", None)
                return
        self.begun.set()
        self.tried.set()
        startup = probes.read(self.spec, "Startup")
        if startup is not None and not await self._passes_startup(startup):
            return
        self.ready_to_go_on.set()
        readiness, liveness = probes.read(self.spec, "Readiness"), probes.read(self.spec, "Liveness")
        self._see(is_started=True, is_ready=readiness is None)
        async with asyncio.TaskGroup() as tasks:
            for probe in (readiness, liveness):
                if probe is not None:
                    change = self._on_readiness if probe is readiness else self._on_liveness(probe)
                    tasks.create_task(probes.repeat(probe, self._attempt(probe), change, self._on_failure(probe)))

    async def _passes_startup(self, probe: Probe) -> bool:
        passed = False

        async def on_change(success: bool, _outcome: Outcome) -> bool:
            nonlocal passed
            passed = success
            if not success:
                await self.kill("failed startup probe", probe.grace_s)
            return False

        await probes.repeat(probe, self._attempt(probe), on_change, self._on_failure(probe))
        return passed

    async def _on_readiness(self, success: bool, _outcome: Outcome) -> bool:
        self._see(is_ready=success)
        return True

    def _on_liveness(self, probe: Probe) -> Callable[[bool, Outcome], Awaitable[bool]]:
        async def on_change(success: bool, _outcome: Outcome) -> bool:
            if not success:
                await self.kill("failed liveness probe", probe.grace_s)
            return success

        return on_change

    def _attempt(self, probe: Probe) -> Callable[[], Awaitable[Outcome]]:
        return lambda: self.around.prober.once(
            probe.action, self.spec, self.around.address, probe.timeout_s, self.execute
        )

    def _on_failure(self, probe: Probe) -> Callable[[Outcome], Awaitable[None]]:
        return lambda outcome: self.around.tell("Warning", "Unhealthy", f"{probe.kind} probe failed: {outcome.message}")

    async def _hook(self, hook: Object, timeout_s: float | None) -> Outcome:
        if "sleep" in hook:
            await asyncio.sleep(min(hook["sleep"].get("seconds", 0), timeout_s or float("inf")))
            return Outcome(True, "")
        limit = timeout_s if timeout_s is not None else 1e9
        return await self.around.prober.once(hook, self.spec, self.around.address, limit, self.execute)

    async def execute(self, argv: list[str], timeout_s: float) -> tuple[int, str]:
        """Run a command in the container to its end: (exit code, output)."""
        if self.process is None or self.launched is None:
            return 126, f"container {self.name} is not running"
        return await commands.run(self.around.runtime, self.process, self.launched, argv, timeout_s)

    # Ending.

    async def kill(self, why: str, grace_s: float | None) -> None:
        """End this run, not the container: it is started again where its pod's restartPolicy says so."""
        process = self.process
        if process is None or self._killed_for:
            return
        self._killed_for = why
        again = "will be restarted" if not self.stopping else "is stopping"
        await self.around.tell("Normal", "Killing", f"Container {self.name} {why}, {again}")
        limit = grace_s if grace_s is not None else self.around.pod["spec"].get("terminationGracePeriodSeconds", 30)
        asyncio.get_running_loop().create_task(self._end(process, limit)).add_done_callback(_quiet)

    async def _end(self, process: Process, limit_s: float) -> None:
        """SIGTERM, then SIGKILL after the limit, or sooner when the pod's deadline is moved to before it."""
        runtime, loop = self.around.runtime, asyncio.get_running_loop()
        end = loop.time() + limit_s
        if limit_s > 0:
            runtime.signal(process, signal.SIGTERM)
        while not process.ended.done():
            left = end - loop.time()
            if left <= 0:
                runtime.signal(process, signal.SIGKILL)
                await asyncio.wait([process.ended])
                return
            moved = asyncio.ensure_future(self.around.deadline_moved())
            either: list[asyncio.Future[Any]] = [process.ended, moved]
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if moved.done():
                end = min(end, self.around.deadline())
            moved.cancel()

    async def stop(self) -> None:
        """End the container for good within the pod's deadline: preStop hook, SIGTERM, SIGKILL."""
        self.stopping = True
        process = self.process
        if process is None:
            return
        loop = asyncio.get_running_loop()
        await self.around.tell("Normal", "Killing", f"Stopping container {self.name}")
        left_s = self.around.deadline() - loop.time()
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        if hook and left_s > 0:
            outcome = await self._hook(hook, left_s)
            if not outcome.success:
                await self.around.tell("Warning", "FailedPreStopHook", f"PreStopHook failed: {outcome.message}")
            left_s = max(_AFTER_HOOK_S, self.around.deadline() - loop.time())
        await self._end(process, left_s)


def _quiet(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()
