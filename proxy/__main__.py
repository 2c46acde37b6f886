"""`tulle-proxy`: environment to settings, settings to a running sidecar. Waits."""

import os
import sys
from typing import Any

from proxy import config, logs
from proxy.errors import ConfigFault


def main() -> int:
    """Run the sidecar; return the exit code: 0 after a drain, 1 when it cannot listen, 2 for bad settings."""
    try:
        settings = config.read(os.environ)
    except ConfigFault as error:
        for fault in error.faults:
            print(f"tulle-proxy: {fault}", file=sys.stderr)
        return 2
    import trio

    from proxy.app import App, raise_descriptor_limit

    logs.configure(settings.log_level, settings.log_format)
    log = logs.logger()
    for name in config.unknown(os.environ):
        log.warning("there is no such setting", name=name)
    raise_descriptor_limit()
    if settings.workers_count > 1:
        return _run_workers(settings, log)
    try:
        trio.run(App(settings, log).run)
    except* OSError as group:
        log.error("cannot go on", errors=[str(error) for error in group.exceptions])
        sys.exit(1)
    return 0


def _run_workers(settings: config.Config, log: Any) -> int:
    from proxy import workers

    try:
        return workers.run(settings, log)
    except OSError as error:
        log.error("cannot go on", errors=[str(error)])
        return 1


if __name__ == "__main__":
    sys.exit(main())
