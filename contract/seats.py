"""Connections in a bounded place, by source, and which of them gives way when all are taken. Pure.

Every program of the mesh listens to strangers, and a stranger's silent connections must not keep others out. So a
newcomer to a full place is let in at the cost of the source that holds the most: first a connection of it that is
idle, the one that was let in or looked at the longest ago. Only where no idle one is found does one at work give way,
and only to a source that holds fewer. Who holds the most and finds none of its own idle is itself turned away.

The work for one newcomer is bounded, however many connections and sources there are: places are kept by how many
their source holds, and LOOKS_COUNT of them are looked at.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final, Generic, TypeVar

LOOKS_COUNT: Final = 256
"""Connections asked whether they are idle, for one newcomer."""

LOOKS_PER_SOURCE_COUNT: Final = 8
"""Of one source; then the next smaller one is asked. Who was asked and is at work goes to the end of its line."""

S = TypeVar("S")


class Seats(Generic[S]):
    """Who is in, the longest first, for each source."""

    def __init__(self, limit_count: int) -> None:
        self.limit_count = limit_count
        self._sources: dict[S, str] = {}
        self._lines: dict[str, dict[S, None]] = {}
        self._by_count: dict[int, dict[str, None]] = {}
        """How many a source holds -> those sources."""
        self._most_count = 0

    def __len__(self) -> int:
        return len(self._sources)

    def all(self) -> list[S]:
        """Who is in, in no order."""
        return list(self._sources)

    @property
    def is_full(self) -> bool:
        return len(self._sources) >= self.limit_count

    @property
    def sources_count(self) -> int:
        return len(self._lines)

    def count_of(self, source: str) -> int:
        line = self._lines.get(source)
        return len(line) if line is not None else 0

    def take(self, seat: S, source: str) -> None:
        """Let in, also above the limit: that is the caller's to heed."""
        self._sources[seat] = source
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = {}
        line[seat] = None
        count = len(line)
        self._move(source, count - 1, count)
        self._most_count = max(self._most_count, count)

    def give(self, seat: S) -> None:
        """Let out a connection; does nothing for one that is not in."""
        source = self._sources.pop(seat, None)
        if source is None:
            return
        line = self._lines[source]
        del line[seat]
        count = len(line)
        if not count:
            del self._lines[source]
        self._move(source, count + 1, count)
        if self._most_count > count and self._most_count not in self._by_count:
            self._most_count -= 1

    def _move(self, source: str, old_count: int, new_count: int) -> None:
        old = self._by_count.get(old_count)
        if old is not None:
            del old[source]
            if not old:
                del self._by_count[old_count]
        if new_count:
            new = self._by_count.get(new_count)
            if new is None:
                new = self._by_count[new_count] = {}
            new[source] = None

    def yielding(self, source: str, is_idle: Callable[[S], bool]) -> S | None:
        """Choose who gives way to a newcomer from `source`; None: nobody, the newcomer is turned away."""
        found: S | None = None
        left_count = LOOKS_COUNT
        for count in sorted(self._by_count, reverse=True):
            sources = self._by_count[count]
            for other in list(islice(sources, left_count)):
                line = self._lines[other]
                for _ in range(min(LOOKS_PER_SOURCE_COUNT, count, left_count)):
                    seat = next(iter(line))
                    if is_idle(seat):
                        return seat
                    found = seat if found is None else found
                    del line[seat]
                    line[seat] = None
                    left_count -= 1
                del sources[other]
                sources[other] = None
                if not left_count:
                    break
            if not left_count:
                break
        return found if self.count_of(source) + 1 < self._most_count else None
