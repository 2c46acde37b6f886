"""The parent of several workers: forks them, answers the admin port for all, reports for all. Waits.

Theory of operation. The parent makes one set of listening sockets for each worker (SO_REUSEPORT: the kernel spreads
new connections over them) and keeps them open itself, so that what waits in the backlog of a worker that died is
served by the one that replaces it. It imports what a worker needs and forks: the pages of code and modules are shared,
and a replacement is ready in milliseconds. A process with a running trio must not fork, so the parent leaves its run
for the moment of a fork and comes back; what waits (the admin port, reports) is begun anew, what is known stays.

Each worker has a discovery stream of its own, for the destinations that its clients call: no worker waits for another
or dies with it. Reports come from the parent alone, made of the merged meter: the controller hears one sidecar.

Sources: socket(7), SO_REUSEPORT; fork(2).
"""

import gc
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import trio

from proxy import render
from proxy.admin import METRICS, TEXT, Admin, Answer, process_metrics
from proxy.app import LAST_REPORT_S, OUTBOUND_HOSTS, App, admin_refusals, controller_client, serve_admin
from proxy.binding import ANY_HOSTS, listen
from proxy.config import Config
from proxy.drain import AppListens, kernel_app_listens
from proxy.merge import Merged, News, resident_bytes
from proxy.meter import Meter
from proxy.notices import Notices
from proxy.probes import probe_pages
from proxy.slot import Slot, has_ended
from proxy.worker import AskNews, AskPage, Drain, Elsewhere, Page, State, ToParent, ToWorker, Worker, frames

ANSWER_S: Final = 1.0
"""Seconds that a worker may take to answer a question; then its last news stand."""

READY_PATIENCE_S: Final = 0.8
READY_AGAIN_S: Final = 0.02
"""How long /ready waits for workers on their way (a readiness probe's timeout is 1 s): a failed one is a Warning."""

LATE_S: Final = 3.0
"""Seconds beyond the drain's own limits after which a worker that has not ended is killed."""

EXPIRE_S: Final = 10.0

_MAX_READ_BYTES: Final = 262144

_FROM_WORKER: Final = msgspec.msgpack.Decoder(ToParent)


class Parent:
    """Owns the slots and the merged meter; `run` forks and watches until all workers have drained."""

    def __init__(
        self,
        config: Config,
        log: Any,
        admin_socks: Sequence[socket.socket],
        make_app: Callable[..., App] = App,
        app_listens: AppListens = kernel_app_listens,
    ) -> None:
        self.config = config
        self._log = log
        self._make_app = make_app
        self._app_listens = app_listens
        self._meter = Meter(config.max_series_count)
        self._merged = Merged(self._meter)
        self._notices = Notices(self._meter, log, time.monotonic)
        self._numbers = 0
        self._asked = 0
        self._answers: dict[int, dict[int, Page | News]] = {}
        """Question -> worker -> answer."""
        self._leave = trio.Event()
        self._heard = trio.Event()
        self._is_draining = False
        self._is_drain_told = False
        self._reporter: Any = None
        self._admin_socks = admin_socks or listen(ANY_HOSTS, config.admin_port, config.backlog_count)
        self._slots = [Slot(self._listen()) for _ in range(config.workers_count)]
        self._add_gauges()

    def _listen(self) -> dict[int, list[socket.socket]]:
        config = self.config
        return {
            port: listen(hosts, port, config.backlog_count, shared=True)
            for port, hosts in ((config.outbound_port, OUTBOUND_HOSTS), (config.inbound_port, ANY_HOSTS))
        }

    def _add_gauges(self) -> None:
        for name, (read, meaning) in process_metrics(time.time()).items():
            self._merged.join(name, read, meaning)
        self._merged.join("tasks_running", _tasks_count, "Tasks of the waiting world.")
        self._merged.add(
            "process_resident_memory_bytes",
            lambda: resident_bytes((os.getpid(), *(slot.pid for slot in self._slots if slot.pid))),
            "Resident memory in bytes; what processes share is counted once.",
        )
        self._merged.add("workers_running", lambda: sum(slot.pid > 0 for slot in self._slots), "Worker processes.")
        self._merged.add("workers_limit", lambda: len(self._slots), "Worker processes that there should be.")

    # forking, outside of trio

    def run(self) -> int:
        """Fork and watch until drained; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if self.config.controller_url:
            import httpx  # noqa: F401 - here, so that the workers share its pages
        gc.collect()
        gc.freeze()  # no collection writes to the pages that are shared
        while True:
            now_s = time.monotonic()
            for slot in self._slots:
                if not slot.pid and not self._is_draining and slot.due_s <= now_s:
                    self._fork(slot)
            if trio.run(self._watch):
                return 0

    def _on_signal(self, *_arguments: object) -> None:
        self._is_draining = True

    def _fork(self, slot: Slot) -> None:
        self._numbers += 1
        theirs = slot.fork(self._numbers, time.monotonic())
        if theirs is not None:
            self._be_worker(slot, theirs)

    def _be_worker(self, slot: Slot, sock: socket.socket) -> None:
        """Run the sidecar in this process, which a fork has just made, and end it."""
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)  # until the sidecar listens to them
            for other in self._slots:
                if other is not slot:
                    other.forget()
            for admin_sock in self._admin_socks:
                admin_sock.close()
            worker = Worker(sock, self._app_listens)
            app = self._make_app(self.config, self._log, app_listens=worker.app_listens)
            app.listening = slot.listening
            trio.run(worker.run, app)
            code = 0
        except Exception as error:
            self._notices.bug(self, error)
        finally:
            sys.stderr.flush()
            os._exit(code)

    # watching, inside trio

    async def _watch(self) -> bool:
        """Serve until a worker must be forked, or until all have drained (True)."""
        self._leave = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_signals)
            admin = Admin(
                {
                    "/live": lambda: Answer(200, TEXT, ["live\n"]),
                    "/ready": self._ready,
                    "/metrics": self._metrics,
                    **probe_pages(self.config.probe_ports, self.config.pod_ips),
                },
                self._notices.bug,
                admin_refusals(self._meter),
                self._elsewhere,
            )
            nursery.start_soon(serve_admin, admin, [sock.dup() for sock in self._admin_socks])
            nursery.start_soon(self._expire)
            for slot in self._slots:
                if slot.pid:
                    nursery.start_soon(self._follow, slot)
                elif not self._is_draining:
                    nursery.start_soon(self._await_due, slot)
            if self.config.controller_url:
                nursery.start_soon(self._report)
            await self._leave.wait()
            nursery.cancel_scope.cancel()
        is_over = self._is_draining and not any(slot.pid for slot in self._slots)
        if is_over and self._reporter is not None:
            with trio.move_on_after(LAST_REPORT_S):
                async with controller_client(self.config) as self._reporter.client:
                    await self._reporter.send()
        return is_over

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            if not self._is_draining:
                async for _ in signals:
                    break
            await self._drain()

    async def _drain(self) -> None:
        self._is_draining = True
        if not self._is_drain_told:
            self._is_drain_told = True
            self._log.info("draining", workers=len(self._slots))
            for slot in self._slots:
                slot.close_listening()  # the workers' own are the last now: to close them is to refuse
                slot.state = State(False, True)
                slot.send(Drain())
        if not any(slot.pid for slot in self._slots):
            self._leave.set()
        await trio.sleep(self.config.drain_timeout_s + self.config.drain_quiet_s + LAST_REPORT_S + LATE_S)
        for slot in self._slots:
            if slot.pid:
                self._log.error("a worker did not end in time", pid=slot.pid)
                os.kill(slot.pid, signal.SIGKILL)
        await trio.sleep_forever()

    async def _await_due(self, slot: Slot) -> None:
        await trio.sleep(max(0.0, slot.due_s - time.monotonic()))
        self._leave.set()

    async def _follow(self, slot: Slot) -> None:
        """Hear a worker until it ends."""
        sock = slot.sock
        while sock is not None:
            await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(_MAX_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                break
            slot.held += data
            try:
                for body in frames(slot.held):
                    self._on_message(slot, _FROM_WORKER.decode(body))
            except (msgspec.MsgspecError, LookupError) as error:  # it cannot be understood any more
                self._notices.bug(slot, error)
                os.kill(slot.pid, signal.SIGKILL)
        await self._reap(slot)
        if not self._is_draining:
            await self._await_due(slot)
        elif not any(other.pid for other in self._slots):
            self._leave.set()
        else:
            self._tell_elsewhere()

    async def _reap(self, slot: Slot) -> None:
        """Take leave of a worker whose socket has ended: what it counted stays, its place is free."""
        with trio.move_on_after(LATE_S):
            while not has_ended(slot.pid):  # noqa: ASYNC110 - a moment: it has closed its socket
                await trio.sleep(0.002)
        pid, number = slot.pid, slot.number
        cause = slot.clear()
        self._merged.lose(number)
        self._heard.set()
        if not self._is_draining:
            self._meter.count("worker_exits_total", (("cause", cause),))
            slot.wait(time.monotonic())
            self._log.error("a worker has ended; another takes its place", pid=pid, cause=cause, pause_s=slot.pause_s)

    def _on_message(self, slot: Slot, message: ToParent) -> None:
        if isinstance(message, State):
            slot.state = message
            if message.is_ready:
                self._log.info("a worker is ready", pid=slot.pid)
            if self._is_draining:
                self._tell_elsewhere()
            return
        if isinstance(message, News):
            self._merged.apply(slot.number, message)
        answers = self._answers.get(message.asked)
        if answers is not None:
            answers[slot.number] = message
            self._heard.set()

    def _tell_elsewhere(self) -> None:
        for slot in self._slots:
            others = (other.state.is_busy for other in self._slots if other is not slot and other.pid)
            slot.send(Elsewhere(any(others)))

    # asking

    async def _ask(self, slots: Sequence[Slot], make: Callable[[int], ToWorker]) -> dict[int, Page | News]:
        """Ask workers, wait for those that answer in time."""
        self._asked += 1
        asked = self._asked
        answers = self._answers[asked] = {}
        try:
            for slot in slots:
                slot.send(make(asked))
            with trio.move_on_after(ANSWER_S):
                while any(slot.pid and slot.number not in answers for slot in slots):
                    self._heard = trio.Event() if self._heard.is_set() else self._heard
                    await self._heard.wait()
        finally:
            del self._answers[asked]
        return answers

    async def _metrics(self) -> Answer:
        await self._ask([slot for slot in self._slots if slot.pid], AskNews)
        return Answer(200, METRICS, render.render(self._meter))

    async def _ready(self) -> Answer:
        end_s = time.monotonic() + READY_PATIENCE_S
        while True:
            ready_count = sum(slot.state.is_ready for slot in self._slots)
            if self._is_draining:
                return Answer(503, TEXT, ["draining\n"])
            if ready_count == len(self._slots) or time.monotonic() > end_s:
                break
            await trio.sleep(READY_AGAIN_S)
        if ready_count < len(self._slots):
            return Answer(503, TEXT, [f"{ready_count} of {len(self._slots)} workers are ready\n"])
        return Answer(200, TEXT, ["ready\n"])

    async def _elsewhere(self, target: bytes) -> Answer:
        """A page that is not the parent's: any worker knows it."""
        ready = [slot for slot in self._slots if slot.state.is_ready][:1]
        answers = await self._ask(ready, lambda asked: AskPage(asked, target.decode("latin-1")))
        for page in answers.values():
            if isinstance(page, Page):
                return Answer(page.status, page.content_type, [page.body])
        return Answer(503, TEXT, ["no worker is ready\n"])

    # for all

    async def _expire(self) -> None:
        while True:
            await trio.sleep(EXPIRE_S)
            self._meter.expire(time.monotonic(), self.config.metrics_idle_timeout_s)

    async def _report(self) -> None:
        import random

        from proxy.report import Reporter

        async with controller_client(self.config) as client:
            if self._reporter is None:
                identity = (self.config.pod_namespace, self.config.pod_name)
                self._reporter = Reporter(
                    client, identity, secrets.token_hex(8), self._meter, time.monotonic, self._log
                )
            self._reporter.client = client
            await self._reporter.run(self.config.report_interval_s, random.random)


def _tasks_count() -> float:
    return trio.lowlevel.current_statistics().tasks_living


def run(config: Config, log: Any, admin_socks: list[socket.socket]) -> int:
    """Run the sidecar as several workers; return the exit code. Raises OSError when a port is taken.

    `admin_socks`: of the admin port, where they are open already.
    """
    return Parent(config, log, admin_socks).run()
