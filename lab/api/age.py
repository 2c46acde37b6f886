"""Durations as people read them: "5m30s", "3d4h". Pure.

Source: HumanDuration of apimachinery's util/duration, so that ages look as they do on every cluster.
"""

from __future__ import annotations

from datetime import UTC, datetime

UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 86400 * 365


def parsed(text: str | None) -> datetime | None:
    """The moment that an RFC 3339 text names, None for a missing or malformed one."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None


def since(text: str | None, now: datetime) -> str:
    """How long ago a timestamp is."""
    moment = parsed(text)
    return human((now - moment).total_seconds()) if moment else UNKNOWN


def human(duration_s: float) -> str:
    """A duration in at most two units; the finer one only while it matters."""
    seconds = int(duration_s)
    if seconds < -1:
        return "<invalid>"
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 0)}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, _MINUTE, "m", 1, "s")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, _HOUR, "h", _MINUTE, "m")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, _DAY, "d", _HOUR, "h")
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    return _two(seconds, _YEAR, "y", _DAY, "d") if seconds < 8 * _YEAR else f"{seconds // _YEAR}y"


def _two(seconds: int, coarse_s: int, coarse: str, fine_s: int, fine: str) -> str:
    whole, rest = divmod(seconds, coarse_s)
    return f"{whole}{coarse}{rest // fine_s}{fine}" if rest // fine_s else f"{whole}{coarse}"
