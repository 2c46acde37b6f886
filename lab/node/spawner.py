"""The process that starts containers: a small single-threaded parent, so that forking is cheap and safe. Edge.

`python -m lab.node.spawner FD`: requests and reports travel over the packet socket FD (see `launch`), files ride
along by SCM_RIGHTS. It dies with the daemon, and its children with it (PR_SET_PDEATHSIG): no container outlives its
lab.

A container is two processes: the first of its process id namespace, which passes signals on, reaps orphans and ends
with the program's code (as `docker --init` does, so that a program with no handler for SIGTERM still ends on
SIGTERM), and the program. When the first one ends the kernel ends all the others.
"""

import gc
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

import msgspec

from . import sandbox
from . import syscalls as sc
from .launch import Launch, Report, Request

_MESSAGE_BYTES = 4096
_FILES_COUNT = 6
_START_FAILED = 128  # the code that container runtimes report for a program that never ran
_PASSED_ON = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
}


class Spawner:
    """Children by id and by pid. Requests come one at a time; an id is never used twice."""

    def __init__(self, door: socket.socket) -> None:
        self.door = door
        self.pids: dict[int, int] = {}
        self.ids: dict[int, int] = {}
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def on_request(self) -> bool:
        """Serve one request; False at the end of the daemon."""
        message, files, _, _ = socket.recv_fds(self.door, _MESSAGE_BYTES, _FILES_COUNT)
        if not message:
            return False
        request = msgspec.json.decode(message, type=Request)
        if request.operation == "signal":
            pid = self.pids.get(request.id)
            if pid is not None:
                os.kill(pid, request.signal)
            return True
        try:
            self.start(request, files)
        except OSError as error:  # a container that ended between the wish to join it and now
            _tell(files[4], error)
            self.report(Report(request.id, code=_START_FAILED))
        finally:
            for file in files:
                os.close(file)
        return True

    def start(self, request: Request, files: list[int]) -> None:
        target = self.pids.get(request.target, 0)
        if request.operation == "enter":
            if not target:
                raise ProcessLookupError(3, "the container is not running")
            with open(f"/proc/{target}/ns/pid", "rb") as namespace:
                sc.setns(namespace.fileno(), sc.CLONE_NEWPID)
        else:
            sc.unshare(sc.CLONE_NEWPID)
        own = os.getpid()
        try:
            pid = os.fork()
        finally:
            if os.getpid() == own:
                sc.setns(self.own_pid_namespace, sc.CLONE_NEWPID)
        if pid == 0:
            _child(request, files, own, target)
        self.pids[request.id], self.ids[pid] = pid, request.id
        self.report(Report(request.id, pid=pid))

    def on_child(self) -> None:
        while self.ids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self.ids.pop(pid, None)
            if number is not None:
                del self.pids[number]
                self.report(Report(number, code=_code(status)))

    def report(self, report: Report) -> None:
        self.door.send(msgspec.json.encode(report))


def _code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _child(request: Request, files: list[int], parent: int, target: int) -> NoReturn:
    fault = files[4]
    try:
        sc.die_with_parent(parent)
        with os.fdopen(os.dup(files[0]), "rb") as text:
            launch = msgspec.json.decode(text.read(), type=Launch)
        if launch.root is None:
            _join(target)
        else:
            sc.setns(files[5], sc.CLONE_NEWNET)
            sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWUTS | sc.CLONE_NEWIPC)
            sandbox.enter_root(launch.root)
        for number in (0, 1, 2):
            os.dup2(files[1 + number], number)
        fault = os.dup2(fault, 3, inheritable=False) if fault != 3 else fault
        os.closerange(4, 1 << 16)
        if launch.root is not None:
            _first_process(launch)
        sandbox.become(launch)
    except BaseException as error:
        _tell(fault, error)
    os._exit(_START_FAILED)


def _tell(fault: int, error: BaseException) -> None:
    """Say why a process did not start; who asked may have given up meanwhile."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
    with suppress(BrokenPipeError):
        os.write(fault, why.encode())


def _join(target: int) -> None:
    """All of the container's namespaces but the process ids' one, which only a fork can enter."""
    names = {"ipc": sc.CLONE_NEWIPC, "uts": sc.CLONE_NEWUTS, "net": sc.CLONE_NEWNET, "mnt": sc.CLONE_NEWNS}
    opened = [(os.open(f"/proc/{target}/ns/{name}", os.O_RDONLY), kind) for name, kind in names.items()]
    for file, kind in opened:
        sc.setns(file, kind)


def _first_process(launch: Launch) -> None:
    """Fork the program; in it, return. The first process stays, and ends with the program's code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    program = os.fork()
    if program == 0:
        return
    sandbox.take_credentials(launch.credentials)
    sandbox.shrink(launch.credentials, sc.permitted_capabilities())
    sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of credentials has cleared it
    sc.set_process_name("lab-init")
    os.closerange(3, 8)  # its outputs stay open: hooks write to /proc/1/fd/1 to be heard in the log
    os.chdir("/")
    while True:
        number = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD}).si_signo
        if number != signal.SIGCHLD:
            try:
                os.kill(program, number)
            except ProcessLookupError:
                pass
            continue
        _reap(program)


def _reap(program: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            os._exit(_START_FAILED)
        if pid == program:
            os._exit(_code(status))
        if pid == 0:
            return


def main() -> None:
    """Serve until the daemon closes its end."""
    door = socket.socket(fileno=int(sys.argv[1]))
    sc.die_with_parent(int(sys.argv[2]))
    sc.set_process_name("lab-spawner")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides: it stops the pods first
    awake, bell = socket.socketpair()
    for end in (awake, bell):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    spawner = Spawner(door)
    selector = selectors.DefaultSelector()
    selector.register(door, selectors.EVENT_READ)
    selector.register(awake, selectors.EVENT_READ)
    gc.freeze()
    while True:
        for key, _ in selector.select():
            if key.fileobj is awake:
                awake.recv(4096)
                spawner.on_child()
            elif not spawner.on_request():
                return


if __name__ == "__main__":
    main()
