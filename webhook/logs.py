"""One JSON object a line on standard output. Edge."""

import logging
import sys

import structlog

LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


def configure_logs(level: str) -> None:
    """Set up structlog for the process; the level is error, warn, info or debug."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    # uvicorn and urllib3 speak through the standard library; what they warn of is worth a line, the rest is not.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forwarder()])


class _Forwarder(logging.Handler):
    """Makes the standard library's records lines of the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().warning("library", source=record.name, message=record.getMessage())
