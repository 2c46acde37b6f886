"""The controller's process: settings, exit codes. Edge.

Exit codes: 0 after SIGTERM or SIGINT, 1 when it cannot listen, 2 when its configuration is wrong.
"""

import asyncio
import os
import sys
from typing import NoReturn

from controller import listening
from controller.settings import SettingsError, read_settings


def main() -> None:
    """Start the controller."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as fault:
        _end(str(fault), 2)
    try:
        listener = listening.listen(settings)
    except OSError as fault:
        _end(f"cannot listen on port {settings.port}: {fault.strerror}", 1)
    # After the settings: these take most of the start, and a slip of the pen should be told at once.
    import structlog

    from controller import logs, wiring
    from controller.kube import ConfigurationFault, connect

    try:
        api = connect(os.environ.get("KUBECONFIG") or None)
    except ConfigurationFault as fault:
        _end(str(fault), 2)
    logs.set_up(settings.log_level)
    asyncio.run(wiring.serve(settings, api, listener))
    structlog.get_logger().info("stopped")


def _end(why: str, code: int) -> NoReturn:
    for line in why.splitlines():
        sys.stderr.write(f"tulle-controller: {line}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
