"""Logging: one JSON object a line on standard error, or text for a terminal. Edge.

structlog.dev, which draws the console format, is imported only when it is asked for: it costs megabytes.
"""

import json
import logging
import sys
from typing import Any

import structlog
from structlog.processors import JSONRenderer, TimeStamper, add_log_level, format_exc_info

_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


def configure(level: str, log_format: str) -> None:
    """Set up structlog; libraries that use the standard logging are heard from `warn` on."""
    logging.basicConfig(stream=sys.stderr, level=max(logging.WARNING, _LEVELS[level]), format="%(message)s")
    processors: list[Any] = [add_log_level, TimeStamper(fmt="iso", utc=True)]
    if log_format == "console":
        from structlog.dev import ConsoleRenderer

        processors.append(ConsoleRenderer(colors=sys.stderr.isatty()))
    else:
        processors += [format_exc_info, JSONRenderer(serializer=json.dumps)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger() -> Any:
    """Give the program's logger."""
    return structlog.get_logger()
