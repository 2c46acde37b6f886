"""Run a piece of work in a forked child, and learn why it failed. Edge."""

import os
from collections.abc import Callable

FAILURE_LIMIT_BYTES = 4096
"""Longest failure that is passed on; a line or two is usual."""

STANDARD_ERROR = 2
"""Where C libraries write, whatever Python's sys.stderr is by now."""


def run_in_child(work: Callable[[], None]) -> str | None:
    """Run `work` in a child process; return None, or one line that says why it failed.

    What the child's C libraries write to standard error belongs to the failure, and is dropped when there is none.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _work_and_exit(work, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read(FAILURE_LIMIT_BYTES)
        # The pipe may hold more than is kept: read on, or the child never ends.
        while pipe.read(FAILURE_LIMIT_BYTES):
            pass
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status == 0:
        return None
    return "; ".join(said.decode(errors="replace").split("\n")).strip("; ") or f"ended with status {status}"


def _work_and_exit(work: Callable[[], None], writer: int) -> None:
    status = 1
    try:
        os.dup2(writer, STANDARD_ERROR)
        work()
        status = 0
    except BaseException as error:  # whatever it is, the parent reports it
        os.write(writer, f"{error}\n".encode())
    finally:
        # Not sys.exit: nothing of the parent's (buffers, exit handlers) may happen twice.
        os._exit(status)
