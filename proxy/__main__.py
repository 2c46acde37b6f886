"""`tulle-proxy`: environment to settings, settings to a running sidecar. Waits."""

import os
import socket
import sys
from typing import Any

from proxy import binding, config
from proxy.errors import ConfigFault


def main() -> int:
    """Run the sidecar; return the exit code: 0 after a drain, 1 when it cannot listen, 2 for bad settings."""
    try:
        settings = config.read(os.environ)
    except ConfigFault as error:
        for fault in error.faults:
            print(f"tulle-proxy: {fault}", file=sys.stderr)
        return 2
    admin_socks = _open_admin_port(settings)
    import trio

    from proxy import logs
    from proxy.app import App, raise_descriptor_limit

    logs.configure(settings.log_level, settings.log_format)
    log = logs.logger()
    for name in config.unknown(os.environ):
        log.warning("there is no such setting", name=name)
    raise_descriptor_limit()
    if settings.workers_count > 1:
        return _run_workers(settings, log, admin_socks)
    try:
        app = App(settings, log)
        app.admin_socks = admin_socks
        trio.run(app.run)
    except* OSError as group:
        log.error("cannot go on", errors=[str(error) for error in group.exceptions])
        sys.exit(1)
    return 0


def _open_admin_port(settings: config.Config) -> list[socket.socket]:
    """Open it first of all: a startup probe that comes early waits in the backlog, and is not refused (a Warning)."""
    try:
        return binding.listen(binding.ANY_HOSTS, settings.admin_port, settings.backlog_count)
    except OSError:
        return []  # told by those who need it, once there is a log


def _run_workers(settings: config.Config, log: Any, admin_socks: list[socket.socket]) -> int:
    from proxy import workers

    try:
        return workers.run(settings, log, admin_socks)
    except OSError as error:
        log.error("cannot go on", errors=[str(error)])
        return 1


if __name__ == "__main__":
    sys.exit(main())
