"""Failures that the sidecar itself made: counted by reason, logged at most once a second for each. Turn."""

import traceback
from collections.abc import Callable
from typing import Any, Final

from proxy.meter import Meter

LOG_INTERVAL_S: Final = 1.0
"""Seconds between two log lines of one direction and reason; what came between is told as `suppressed`."""


class Notices:
    """Counts every failure; tells the log about some."""

    def __init__(self, meter: Meter, log: Any, clock: Callable[[], float]) -> None:
        self._meter = meter
        self._log = log
        self._clock = clock
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def failure(self, direction: str, reason: str, detail: str, kind: str = "http") -> None:
        """Take note of one failed request or opaque connection; reasons are the words of errors.REASONS.

        A `kind` of "" is worth a word in the log and no failure of anybody's traffic.
        """
        if kind:
            self._meter.count(f"{direction}_{kind}_errors_total", (("error", reason),))
        suppressed = self._may_log(direction, reason)
        if suppressed is not None:
            self._log.warning("failure", direction=direction, reason=reason, detail=detail, suppressed=suppressed)

    def bug(self, owner: object, error: Exception) -> None:
        """Take note of an exception that nobody expected; the log gets its traceback."""
        self._meter.count("bugs_total")
        place = traceback.extract_tb(error.__traceback__)[-1]
        suppressed = self._may_log("bug", f"{place.filename}:{place.lineno}")
        if suppressed is not None:
            trace = "".join(traceback.format_exception(error))
            self._log.error("bug", owner=type(owner).__name__, error=repr(error), trace=trace, suppressed=suppressed)

    def _may_log(self, *key: str) -> int | None:
        now_s = self._clock()
        last_s, suppressed = self._last.get((key[0], key[1]), (-LOG_INTERVAL_S, 0))
        if now_s - last_s < LOG_INTERVAL_S:
            self._last[key[0], key[1]] = (last_s, suppressed + 1)
            return None
        self._last[key[0], key[1]] = (now_s, 0)
        return suppressed
