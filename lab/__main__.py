"""`python -m lab NAME LISTENER TELL`: the daemon's process. Edge. `tulle lab up` starts it; nobody else needs to.

LISTENER is the open socket on the host's loopback, TELL the writing end of a pipe that hears "ready" or what went
wrong.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys

import structlog

from lab import state
from lab.node import network
from lab.node import syscalls as sc


def main() -> None:
    """Enter the namespaces, then run until told to stop."""
    paths = state.Paths(sys.argv[1])
    listener = socket.socket(fileno=int(sys.argv[2]))
    tell = os.fdopen(int(sys.argv[3]), "w", buffering=1)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        _enter(paths)
        from lab import daemon  # after the namespaces: what it imports may open sockets

        asyncio.run(daemon.run(daemon.Options(paths, listener, lambda word: print(word, file=tell))))
    except BaseException as error:
        with contextlib.suppress(BrokenPipeError):  # the launcher has heard "ready", and gone
            print(f"failed: {_plain(error)}", file=tell)
        raise


def _plain(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _enter(paths: state.Paths) -> None:
    """The node's network namespace, and a mount namespace whose mounts nobody else sees."""
    with open(f"{network.NETNS_FOLDER}/{paths.namespace}", "rb") as namespace:
        sc.setns(namespace.fileno(), sc.CLONE_NEWNET)
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount("none", "/", flags=sc.MS_REC | sc.MS_PRIVATE)
    os.makedirs(paths.pods, exist_ok=True)
    sc.mount("tmpfs", paths.pods, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=755,size=50%")
    network.set_up_node()


if __name__ == "__main__":
    main()
