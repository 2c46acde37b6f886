"""Who asks for which destination, and what each stream still has to be told. Turn: callbacks of the event loop.

A change of the cluster marks targets in the streams that ask for them; a stream, when it can be written to, takes
its marks and gets the destinations as they are then. So changes coalesce by themselves, a stream's backlog is never
longer than its list of targets, and a destination is resolved and encoded once however many streams ask for it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from contract.discovery import Destination, Subscribe
from controller.cluster import Cluster
from controller.destinations import locality, parse_target, resolve
from controller.objects import Key
from controller.opaque import Ports
from controller.problems import unavailable

LINE_BYTES: Final = 256 * 1024
"""A longer update is cut into several lines, so that neither side holds much more than this at once."""


@dataclass(frozen=True, slots=True)
class Encoded:
    revision: str
    json: bytes


@dataclass(slots=True, eq=False)
class Stream:
    """One sidecar's subscription."""

    pod: Key
    held: dict[str, str]
    """Target -> revision that the sidecar has or was sent."""
    marked: set[str]
    """Targets to look at again."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def mark(self, target: str) -> None:
        self.marked.add(target)
        self.wake.set()


@dataclass(slots=True, eq=False)
class Hub:
    """All streams."""

    cluster: Cluster
    default_opaque: Ports
    max_streams_count: int
    is_closing: bool = False
    streams: set[Stream] = field(default_factory=set)
    _askers: dict[str, dict[str, set[Stream]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    """Address -> target -> streams."""
    _encoded: dict[str, dict[str, Encoded]] = field(default_factory=dict)
    """Target -> the client's place where it matters -> answer, until the target is marked."""

    def open(self, subscribe: Subscribe) -> Stream:
        """Begin a stream; all its targets are marked.

        Raises:
            ValueError: a target is no address and port.
            Refusal: 503, too many streams or shutting down.
        """
        addresses = {target: parse_target(target)[0] for target in subscribe.targets}
        if self.is_closing:
            raise unavailable("shutting-down", "Shutting down", "The controller is shutting down; ask another replica.")
        if len(self.streams) >= self.max_streams_count:
            raise unavailable("too-many-streams", "Too many streams", f"{self.max_streams_count} streams are open.")
        pod = Key(subscribe.namespace, subscribe.pod)
        stream = Stream(pod, dict(subscribe.targets), set(subscribe.targets))
        self.streams.add(stream)
        for target, ip in addresses.items():
            self._askers[ip][target].add(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """End a stream; what nobody asks for any more is forgotten."""
        self.streams.discard(stream)
        for target in stream.held:
            ip = parse_target(target)[0]
            askers = self._askers[ip][target]
            askers.discard(stream)
            if not askers:
                del self._askers[ip][target]
                self._encoded.pop(target, None)
            if not self._askers[ip]:
                del self._askers[ip]

    def publish(self, dirty: Iterable[str]) -> None:
        """Mark the targets at these addresses in all streams that ask for them."""
        for ip in dirty:
            for target, askers in self._askers.get(ip, {}).items():
                self._encoded.pop(target, None)
                for stream in askers:
                    stream.mark(target)

    def take(self, stream: Stream) -> list[bytes]:
        """Return the lines that tell the stream what it does not hold yet, and unmark; [] when it holds all."""
        marked, stream.marked = stream.marked, set()
        stream.wake.clear()
        lines: list[bytes] = []
        batch: list[bytes] = []
        size_bytes = 0
        pod = self.cluster.pods.get(stream.pod)
        node = "" if pod is None else pod.node
        for target in sorted(marked):
            answer = self._answer(target, node)
            if answer.revision == stream.held[target]:
                continue
            stream.held[target] = answer.revision
            batch.append(answer.json)
            size_bytes += len(answer.json)
            if size_bytes >= LINE_BYTES:
                lines.append(_line(batch))
                batch, size_bytes = [], 0
        if batch:
            lines.append(_line(batch))
        return lines

    def shut_down(self) -> None:
        """Refuse new streams and wake all others to their end."""
        self.is_closing = True
        for stream in self.streams:
            stream.wake.set()

    @property
    def targets_count(self) -> int:
        return sum(len(targets) for targets in self._askers.values())

    def _answer(self, target: str, node: str) -> Encoded:
        answers = self._encoded.setdefault(target, {})
        place = locality(self.cluster, target, node)
        found = answers.get(place)
        if found is None:
            destination: Destination = resolve(self.cluster, target, self.default_opaque, node)
            found = answers[place] = Encoded(destination.revision, msgspec.json.encode(destination))
        return found


def _line(destinations: list[bytes]) -> bytes:
    return b'{"destinations":[' + b",".join(destinations) + b"]}\n"
