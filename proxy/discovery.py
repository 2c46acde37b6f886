"""Keeps one stream to the controller open and brings its messages to the targets. Waits.

The stream asks for all targets in use, each with the revision that is held. A new target makes a new stream; the old
one is closed when the new one has answered, so that no message is missed between. A stream that is silent for three
heartbeats is dead. When the controller is gone, the last snapshot stays, and streams are tried again with growing,
jittered pauses.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import trio

from contract.discovery import DISCOVERY_PATH, HEARTBEAT_S, MAX_TARGETS_COUNT, Destination, Subscribe, Update
from proxy.pump import Pump

if TYPE_CHECKING:
    import httpx

SILENCE_S: Final = 3 * HEARTBEAT_S
CONNECT_TIMEOUT_S: Final = 2.0
BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 10.0
"""Pauses between tries, doubled each time, with full jitter, so that sidecars do not come back all at once."""

GATHER_S: Final = 0.005
"""Pause after a new target before it is asked for: a pod that starts wants several at once."""

MAX_LINE_BYTES: Final = 16 * 2**20
"""Longest message; a destination of 10,000 endpoints takes about 3 MB."""

_DECODER: Final = msgspec.json.Decoder(Update)


class Asker(Protocol):
    """Who wants to be told of destinations: the targets of a direction, for one."""

    is_connected: bool
    """Whether a controller answers."""
    on_wanted: Callable[[], None]
    """Called by the asker when it wants one more."""

    def wanted(self) -> dict[str, str]:
        """Target -> revision already held."""
        ...

    def apply(self, destinations: Sequence[Destination]) -> list[str]:
        """Take what was told, asked for or not; return what is wrong with it, for the log."""
        ...

    def disconnect(self) -> None: ...


class Discovery:
    """Runs until cancelled."""

    def __init__(
        self,
        client: "httpx.AsyncClient",
        identity: tuple[str, str],
        pump: Pump,
        targets: Sequence[Asker],
        random: Callable[[], float],
        log: Any,
        instance: str = "",
    ) -> None:
        """`identity` is (namespace, pod); `client` has the controller's base URL; `targets`: most important first.

        `instance` names this process among those of the sidecar: the controller keeps one stream of each.
        """
        self._instance = instance
        self._client = client
        self._namespace, self._pod = identity
        self._pump = pump
        self._targets = targets
        self._random = random
        self._log = log
        self._wanted = trio.Event()
        self._streams: list[trio.CancelScope] = []
        """Of the streams that are open or tried, the oldest first."""
        self._failures_count = 0
        self.updates_count = 0
        self.updated_s = 0.0
        """When the controller was last heard (the pump's clock)."""
        for some in targets:
            some.is_connected = True  # until it is known to be otherwise: the first targets wait for an answer
            some.on_wanted = self._on_wanted

    def _on_wanted(self) -> None:
        self._wanted.set()

    def _all_wanted(self) -> dict[str, str]:
        wanted: dict[str, str] = {}
        for targets in self._targets:
            for target, revision in targets.wanted().items():
                if wanted.get(target, revision) != revision:
                    wanted[target] = ""  # two ask and hold different things: both are told
                elif len(wanted) < MAX_TARGETS_COUNT:
                    wanted[target] = revision
        return wanted

    async def run(self) -> None:
        """Keep a stream open for ever: one task a stream, the next begins when another target is wanted."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wanted = trio.Event()
                scope = trio.CancelScope()
                self._streams.append(scope)
                nursery.start_soon(self._follow, self._all_wanted(), scope)
                await self._wanted.wait()
                await trio.sleep(GATHER_S)

    async def _follow(self, wanted: dict[str, str], scope: trio.CancelScope) -> None:
        """Stream, and again after each failure, until a newer stream has taken over."""
        with scope:
            while True:
                try:
                    await self._stream(wanted, scope)
                except Exception as error:  # all that httpx, msgspec and trio can raise: the data path must not care
                    self._on_failure(error)
                await trio.sleep(self._pause_s())
                wanted = self._all_wanted()

    async def _stream(self, wanted: dict[str, str], scope: trio.CancelScope) -> None:
        body = msgspec.json.encode(Subscribe(self._namespace, self._pod, wanted, self._instance))
        deadline = trio.current_time() + CONNECT_TIMEOUT_S
        with trio.fail_at(deadline) as watchdog:
            async with self._client.stream("POST", DISCOVERY_PATH, content=body) as response:
                if response.status_code != 200:
                    raise OSError(await _refusal(response))
                self._on_connected(scope)
                held = b""
                watchdog.deadline = trio.current_time() + SILENCE_S
                async for data in response.aiter_raw():
                    watchdog.deadline = trio.current_time() + SILENCE_S
                    held = self._on_bytes(held + data)
        raise OSError("the controller ended the stream")

    def _on_bytes(self, data: bytes) -> bytes:
        """Take the whole lines; return the rest."""
        *lines, rest = data.split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise OSError(f"a message is longer than {MAX_LINE_BYTES} bytes")
        for line in lines:
            if line:
                self._on_update(_DECODER.decode(line))
        return rest

    def _on_update(self, update: Update) -> None:
        self.updates_count += 1
        self.updated_s = self._pump.now_s
        if update.destinations:
            self._pump.enter(self._apply, update)

    def _apply(self, update: Update) -> None:
        for targets in self._targets:
            for fault in targets.apply(update.destinations):
                self._log.warning("discovery told a bad destination", fault=fault)

    def _on_connected(self, scope: trio.CancelScope) -> None:
        if scope.cancel_called:
            return  # a newer stream has taken over while this one's answer was on its way
        position = self._streams.index(scope)
        for older in self._streams[:position]:
            older.cancel()
        del self._streams[:position]
        if self._failures_count:
            self._log.info("discovery is back", failures=self._failures_count)
        self._failures_count = 0
        for targets in self._targets:
            targets.is_connected = True

    def _on_failure(self, error: Exception) -> None:
        if self._targets[0].is_connected or not self._failures_count:
            self._log.warning("discovery is away; the last snapshot stays in use", error=repr(error))
        self._failures_count += 1
        for targets in self._targets:
            self._pump.enter(targets.disconnect)

    def _pause_s(self) -> float:
        limit_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(self._failures_count, 10))
        return limit_s * (0.5 + 0.5 * self._random())

    def statistics(self) -> dict[str, float]:
        """For metrics: whether connected, the age of what is known in seconds."""
        age_s: float = self._pump.now_s - self.updated_s if self.updates_count else float("inf")
        return {"connected": float(self._targets[0].is_connected), "age_s": age_s}


async def _refusal(response: "httpx.Response") -> str:
    """Say what the controller answered, with the beginning of its reasons."""
    async for data in response.aiter_raw():
        return f"the controller answered {response.status_code}: {data[:500].decode(errors='replace')}"
    return f"the controller answered {response.status_code}"
