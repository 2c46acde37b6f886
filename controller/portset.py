"""Lists of ports as annotations and settings write them: `25,3306,5000-5010`, `+8443`. Pure."""

from dataclasses import dataclass

HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class PortSet:
    """Closed ranges of TCP ports."""

    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.ranges)


def parse_ports(text: str, default: PortSet) -> PortSet:
    """Read a list of ports and ranges; entries after a leading `+` add to `default` instead of replacing it.

    An empty text is the empty set. `+` may stand before the whole list or before each entry.

    Raises:
        ValueError: an entry is no port or range; the message names it.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    additive = any(entry.startswith("+") for entry in entries)
    ranges = tuple(_parse_range(entry.removeprefix("+").strip()) for entry in entries)
    return PortSet((default.ranges if additive else ()) + ranges)


def _parse_range(entry: str) -> tuple[int, int]:
    low_text, dash, high_text = entry.partition("-")
    low = _parse_port(low_text.strip(), entry)
    high = _parse_port(high_text.strip(), entry) if dash else low
    if low > high:
        raise ValueError(f"port range {entry!r} runs backwards: write {high}-{low}")
    return low, high


def _parse_port(text: str, entry: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= HIGHEST_PORT:
        raise ValueError(f"{entry!r} is no port: write numbers from 1 to {HIGHEST_PORT}, ranges as 5000-5010")
    return int(text)
