"""Who asks for which destination, and what each stream still has to be told. Turn: callbacks of the event loop.

A change of the cluster marks targets in the streams that ask for them; a stream, when it can be written to, takes
its marks and gets the destinations as they are then. So changes coalesce by themselves, a stream's backlog is never
longer than its list of targets, and a destination is resolved and encoded once however many streams ask for it.

A process of a sidecar has one stream: the newest. A sender that is not known yet (controller/senders.py) has one for
its address. Where streams or targets are too many, unknown senders go first, then the pod that asks for most.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from contract.discovery import Destination, Subscribe
from controller.cluster import Cluster
from controller.destinations import locality, parse_target, resolve
from controller.indices import Index
from controller.objects import Key
from controller.opaque import Ports
from controller.problems import unavailable

LINE_BYTES: Final = 256 * 1024
"""A longer update is cut into several lines, so that neither side holds much more than this at once."""


TAKE_COUNT: Final = 256
"""Targets that are looked at in one turn of the loop; the rest follows after others had theirs."""

POD_STREAMS_COUNT: Final = 32
"""Streams of one pod: one for each process of its sidecar."""

UNKNOWN_STREAMS_COUNT: Final = 256
"""Streams of senders that are not known: one for each address, while its pod starts."""

UNKNOWN_S: Final = 30.0
"""How long a stream may stay unknown: a kubelet tells a new pod's address within some seconds."""


@dataclass(frozen=True, slots=True)
class Encoded:
    revision: str
    json: bytes


class Place(NamedTuple):
    """What has one stream."""

    ip: str
    """Of an unknown sender; "" when the pod is known to be the sender."""
    pod: Key
    instance: str
    """Of the sidecar's process; "" for an unknown sender."""

    @property
    def owner(self) -> tuple[str, Key]:
        """Who answers for it: all processes of a pod together."""
        return self.ip, self.pod


NO_POD: Final = Key("", "")


@dataclass(slots=True, eq=False)
class Stream:
    """One sidecar's subscription."""

    pod: Key
    instance: str
    place: Place
    opened_s: float
    held: dict[str, str]
    """Target -> revision that the sidecar has or was sent."""
    marked: set[str]
    """Targets to look at again."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    end: str = ""
    """Why it ends; "" while it lives."""
    before: "Stream | None" = None
    """The one whose place it took, until the next takes its own."""

    def mark(self, target: str) -> None:
        self.marked.add(target)
        self.wake.set()


@dataclass(slots=True, eq=False)
class Hub:
    """All streams."""

    cluster: Cluster
    default_opaque: Ports
    max_streams_count: int
    max_targets_count: int = 131072
    is_closing: bool = False
    streams: set[Stream] = field(default_factory=set)
    """Those that are still connected, the ended ones too."""
    held_count: int = 0
    """Targets of all streams together, one that several ask for counted for each."""
    _places: dict[Place, Stream] = field(default_factory=dict)
    """Those that live, the oldest first."""
    _targets: Index[str, str] = field(default_factory=Index)
    """Address -> targets."""
    _askers: Index[str, Stream] = field(default_factory=Index)
    """Target -> streams."""
    _encoded: dict[str, dict[str, Encoded]] = field(default_factory=dict)
    """Target -> the client's place where it matters -> answer, until the target is marked."""

    def open(self, subscribe: Subscribe, ip: str, now_s: float) -> Stream:
        """Begin a stream; all its targets are marked. `ip` is "" for a sender known to be the pod.

        Raises:
            ValueError: a target is no address and port.
            Refusal: 503, too many streams or targets, or shutting down.
        """
        addresses = {target: parse_target(target)[0] for target in subscribe.targets}
        if self.is_closing:
            raise unavailable("shutting-down", "Shutting down", "The controller is shutting down; ask another replica.")
        pod = Key(subscribe.namespace, subscribe.pod)
        place = Place(ip, NO_POD, "") if ip else Place("", pod, subscribe.instance)
        before = self._places.get(place)
        if before is not None:
            self._end(before, "superseded")
            if before.before is not None:
                before.before.end = "replaced"  # it had its time to go by itself
                before.before.wake.set()
                before.before = None
        self._check_streams(place)
        self._check_targets(place, len(addresses))
        stream = Stream(pod, subscribe.instance, place, now_s, dict(subscribe.targets), set(subscribe.targets))
        stream.before = before
        self.streams.add(stream)
        self._places[place] = stream
        self.held_count += len(addresses)
        for target, address in addresses.items():
            self._targets.add(address, target)
            self._askers.add(target, stream)
        return stream

    def _check_streams(self, place: Place) -> None:
        unknown = [one for one in self._places if one.ip]
        if place.ip and len(unknown) >= UNKNOWN_STREAMS_COUNT:
            raise unavailable("too-many-streams", "Too many streams", "Too many unknown senders have a stream.")
        if len(self._places) >= self.max_streams_count:
            if place.ip or not unknown:
                count = self.max_streams_count
                raise unavailable("too-many-streams", "Too many streams", f"{count} streams are open.")
            self._end(self._places[unknown[0]], "shed")
        if not place.ip and len(self._places) >= POD_STREAMS_COUNT:
            own = [one for one in self._places if one.owner == place.owner]
            if len(own) >= POD_STREAMS_COUNT:
                self._end(self._places[own[0]], "superseded")

    def _check_targets(self, place: Place, more_count: int) -> None:
        """Cut the streams of the pod that asks for the most, maybe the newcomer, until the targets fit the bound."""
        while self.held_count + more_count > self.max_targets_count:
            asked: Counter[tuple[str, Key]] = Counter()
            for one, stream in self._places.items():
                asked[one.owner] += len(stream.held)
            asked[place.owner] += more_count
            largest = max(asked, key=lambda owner: (bool(owner[0]), asked[owner]))
            if largest == place.owner:
                count = self.max_targets_count
                raise unavailable("too-many-targets", "Too many targets", f"All streams together ask for {count}.")
            for one in [one for one in self._places if one.owner == largest]:
                self._end(self._places[one], "shed")

    def settle(self, stream: Stream, standing: str, now_s: float) -> None:
        """Look at an unknown sender's stream again: it is its pod's by now, or another's, or stays unknown too long."""
        if not stream.place.ip or stream.end:
            return
        if standing == "own":
            place = Place("", stream.pod, stream.instance)
            older = self._places.get(place)
            if older is not None:
                self._end(older, "superseded")
            del self._places[stream.place]
            stream.place = place
            self._places[place] = stream
        elif standing == "foreign" or now_s - stream.opened_s > UNKNOWN_S:
            self._end(stream, standing)

    def close(self, stream: Stream) -> None:
        """The connection is gone."""
        self.streams.discard(stream)
        self._end(stream, "client")

    def _end(self, stream: Stream, why: str) -> None:
        """Let a stream go; what nobody asks for any more is forgotten."""
        if self._places.get(stream.place) is not stream:
            return  # it has ended before
        del self._places[stream.place]
        stream.end = why
        stream.wake.set()
        self.held_count -= len(stream.held)
        for target in stream.held:
            if self._askers.discard(target, stream):
                self._encoded.pop(target, None)
                self._targets.discard(parse_target(target)[0], target)
        stream.held, stream.marked = {}, set()

    def publish(self, dirty: Iterable[str]) -> None:
        """Mark the targets at these addresses in all streams that ask for them."""
        for ip in dirty:
            for target in self._targets.at(ip):
                self._encoded.pop(target, None)
                for stream in self._askers.at(target):
                    stream.mark(target)

    def take(self, stream: Stream) -> list[bytes]:
        """Return lines that tell the stream what it does not hold yet, and unmark; [] when it holds all that was looked
        at, which is no more than TAKE_COUNT targets at a time."""
        chosen = sorted(islice(stream.marked, TAKE_COUNT))
        stream.marked.difference_update(chosen)
        if not stream.marked and not stream.end:
            stream.wake.clear()
        lines: list[bytes] = []
        batch: list[bytes] = []
        size_bytes = 0
        pod = self.cluster.pods.get(stream.pod)
        node = "" if pod is None else pod.node
        for target in chosen:
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

    def heard(self) -> frozenset[Key]:
        """The pods that hold a stream; what an unknown sender says of itself does not count."""
        return frozenset(place.pod for place in self._places if not place.ip)

    @property
    def targets_count(self) -> int:
        return len(self._askers)

    def _answer(self, target: str, node: str) -> Encoded:
        place = locality(self.cluster, target, node)
        found = self._encoded.get(target, {}).get(place)
        if found is None:
            destination: Destination = resolve(self.cluster, target, self.default_opaque, node)
            found = Encoded(destination.revision, msgspec.json.encode(destination))
            if destination.kind != "unknown":  # those are as quickly made again, and anybody can ask for many
                self._encoded.setdefault(target, {})[place] = found
        return found


def _line(destinations: list[bytes]) -> bytes:
    return b'{"destinations":[' + b",".join(destinations) + b"]}\n"
