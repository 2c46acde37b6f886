"""The pump: one epoll, plain callbacks, fixed order. Turn; the only importer of select; trio in two functions.

Theory of operation. All sockets of the data path are registered with an epoll of our own: level-triggered, or, where
the handler takes all that there is, edge-triggered (EDGE). One trio task waits for that epoll's file descriptor; each
wake runs turns, which call the handler of each ready descriptor. So the cost of trio's scheduler is paid once for a
batch, not for a connection. With few connections a batch is small; so after a turn the pump lingers in its own epoll
for a moment before it goes back to trio.

The order within a turn: for each ready descriptor its handler, then what the handler deferred; at last a look for peers
that have spoken unasked (`ask`) and the flush of what all of them wrote. Sent one after another the pieces wake their
reader once, where it would fall asleep between two that are sent with work in between (bench case `http1`). A turn
handles at most MAX_EVENTS_COUNT descriptors, each of which reads one buffer, and yields to trio.

A handler never raises: an exception that reaches the pump is a bug; `on_bug` counts and logs it and the owner of the
handler is closed. Under test `on_bug` raises.

Sources: epoll(7), "What happens if you add an epoll file descriptor to another epoll set" (it is readable when one of
its own is), "Will closing a file descriptor cause it to be removed from all epoll sets" (with the last descriptor of
the open file), "Do I need to continuously read/write a file descriptor until EAGAIN when using the EPOLLET flag" (a
short read of a stream tells as much); epoll_ctl(2), EPOLLET, EPOLLPRI, EPOLLRDHUP, EPOLLONESHOT; trio's documentation
of `trio.lowlevel.wait_readable`.
"""

import heapq
import select
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

import trio

from proxy.seams import Clock, Timer

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLHUP | select.EPOLLERR
MORE: Final = select.EPOLLRDHUP | select.EPOLLPRI
"""Told under EDGE only: behind the bytes there is something else, the peer's end or its mark of urgent data."""
EDGE: Final = select.EPOLLET | MORE
"""With READ alone: tell what has come, once, and not again for as long as it has not been taken. The kernel then looks
at a descriptor once an event, not twice (bench case `http1`). Who has not taken all calls `modify`."""
ONCE: Final = select.EPOLLONESHOT
"""With other events: after one of them tell nothing more, until the descriptor is registered again."""

MAX_EVENTS_COUNT: Final = 128
"""Descriptors in one turn: about two milliseconds of work, so that the admin port and the clocks stay alive."""

LINGER_S: Final = 0.001
"""Wait for the next event after a turn, before going back to trio (epoll's granularity). The machine sleeps
meanwhile; with one to eight connections this saves a third of the CPU (bench case `http1`)."""

MAX_STAY_S: Final = 0.005
"""Longest time without going back to trio, so that timers and the admin port are late by no more."""

MAX_CANCELLED_COUNT: Final = 1000
"""Cancelled timers that may wait for their time; when they are more, and half of all, they are thrown out."""


class Handler(Protocol):
    """Hears the events of a descriptor."""

    __slots__ = ()

    def on_ready(self, events: int) -> None:
        """Take epoll's events; must not raise."""
        ...


class ScheduledCall(Timer):
    """A callback to come; `cancel` forgets it."""

    __slots__ = ("_pump", "callback")

    def __init__(self, callback: Callable[[], None], pump: "Pump") -> None:
        self.callback: Callable[[], None] | None = callback
        self._pump = pump

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._pump.cancelled_count += 1


class Flushable(Protocol):
    """What holds bytes back until the turn's end."""

    __slots__ = ()

    def flush(self) -> None: ...


class Asker(Protocol):
    """Has written what must not leave where its peer has spoken unasked, or ended."""

    __slots__ = ()

    def has_spoken(self) -> bool:
        """Ask the kernel whether there is something to read."""
        ...

    def on_spoken(self) -> None:
        """There is: take back what was written."""
        ...


class _Interceptor(Handler):
    """Takes one kind of event from the handler before it."""

    __slots__ = ("_callback", "_event", "_fd", "_handlers", "before")

    def __init__(
        self, handlers: list[Handler | None], fd: int, before: Handler, event: int, callback: Callable[[], None]
    ) -> None:
        self._handlers = handlers
        self._fd = fd
        self.before = before
        self._event = event
        self._callback = callback

    def on_ready(self, events: int) -> None:
        if events & self._event:
            self._callback()
            events &= ~(self._event | BROKEN)
        if events and self._handlers[self._fd] is not None:
            self.before.on_ready(events)


class Pump(Clock):
    """Owns the epoll, the handlers, the turn's time and the timers."""

    def __init__(self, clock: Callable[[], float], on_bug: Callable[[object, Exception], None]) -> None:
        self._clock = clock
        self._on_bug = on_bug
        self.fresh_bytes = 0
        """Read, or unpacked, since memory was last looked at."""
        self.full_at_bytes = 2**62
        self.on_full: Callable[[], None] = self.settle
        self._epoll = select.epoll()
        self._new: set[int] = set()
        """Registered in this turn: events that were collected before are of others, closed since."""
        self._handlers: list[Handler | None] = []
        """By descriptor: the kernel gives the lowest free one, so the list is as long as there were ever connections at
        once. A dictionary would hold a boxed number for each, and its memory would not go back (proxy.memory)."""
        self._suspended: set[int] = set()
        self._kept: list[tuple[int, int]] = []
        """Events for the next turn, collected when the last one looked before it sent."""
        self._asking: dict[int, Asker] = {}
        self._is_turning = False
        self.ready_count = 0
        """Descriptors that were ready in this turn: many mean that peers wait for us."""
        self.looks_count = 0
        """How often it was looked who has spoken: what was written before the last time is being sent, or was."""
        self._dirty: list[Flushable] = []
        self._deferred: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, ScheduledCall]] = []
        self._order = count()
        self._sleep: trio.CancelScope | None = None
        self.now_s: float = clock()
        self.cancelled_count = 0
        """Timers that wait in the heap for nothing."""
        self.turns_count = 0
        self.events_count = 0

    # descriptors

    def register(self, fd: int, events: int, handler: Handler) -> None:
        """Tell `handler` whenever `fd` is ready for one of `events`, or broken; no other from now on."""
        handlers = self._handlers
        while fd >= len(handlers):
            handlers.append(None)
        if handlers[fd] is not None:
            self._change_hands(fd, events)
        else:
            self._epoll.register(fd, events)
        handlers[fd] = handler
        self._new.add(fd)

    def _change_hands(self, fd: int, events: int) -> None:
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:  # who had it closed it without a word, and the number is another's
            self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def intercept(self, fd: int, event: int, callback: Callable[[], None]) -> None:
        """Call back for one kind of event; all others go where they went before.

        That a descriptor is broken is told only when it is not ready for `event` too: the callback finds out by itself,
        after it has taken what is still to be had.
        """
        before = self._handlers[fd]
        if before is None:
            raise AssertionError("nobody hears of this descriptor")
        self._handlers[fd] = _Interceptor(self._handlers, fd, before, event, callback)

    def suspend(self, fd: int) -> None:
        """Hear nothing of `fd`, not even that it is broken; its handler stays."""
        self._epoll.unregister(fd)
        self._suspended.add(fd)

    def rejoin(self, fd: int, events: int) -> None:
        """Hear of a suspended `fd` again."""
        self._suspended.remove(fd)
        self._epoll.register(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget `fd`; to be called before it is closed."""
        if self._forget(fd) and fd not in self._suspended:
            self._epoll.unregister(fd)
        self._suspended.discard(fd)

    def leave(self, fd: int) -> None:
        """Forget `fd`, which is closed in the next breath, and nobody else has it open: so epoll forgets it unasked."""
        self._forget(fd)
        self._suspended.discard(fd)

    def _forget(self, fd: int) -> bool:
        """Have no handler for `fd`; tell whether there was one. A socket that is closed already has no descriptor."""
        handlers = self._handlers
        if not 0 <= fd < len(handlers) or handlers[fd] is None:
            return False
        handlers[fd] = None
        return True

    # the turn

    def turn(self, wait_s: float = 0.0) -> int:
        """Serve what is ready now, or within `wait_s`; tell how many descriptors that were."""
        self._is_turning = True
        kept, self._kept = self._kept, []
        self.ready_count = len(kept)
        if kept:
            self._serve(kept)
            wait_s = 0.0
        if len(kept) < MAX_EVENTS_COUNT:  # what was kept is a part of what is ready by now (bench case `http1`)
            self._new.clear()
            ready = self._epoll.poll(wait_s, MAX_EVENTS_COUNT - len(kept))
            self.ready_count += len(ready)
            self._serve(ready)
        if self._dirty:
            self.settle()
        self._is_turning = False
        self.turns_count += 1
        self.events_count += self.ready_count
        return self.ready_count

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        handlers = self._handlers
        deferred = self._deferred
        clock = self._clock
        new = self._new
        for fd, events in ready:
            handler = handlers[fd]
            if handler is None or (new and fd in new):
                continue  # closed by an earlier handler of this turn, which may have given its number to another
            self.now_s = clock()
            try:
                handler.on_ready(events)
            except Exception as error:
                self._fail(handler, error)
            if deferred:
                self._run_deferred()

    def settle(self) -> None:
        """Run what was deferred and flush what was written, until neither is left."""
        while self._deferred or self._dirty:
            self._run_deferred()
            while self._dirty:
                if self._asking:
                    self._look()
                channel = self._dirty.pop()
                try:
                    channel.flush()
                except Exception as error:
                    self._fail(channel.flush, error)

    def ask(self, fd: int, asker: Asker) -> None:
        """Look, before anything more is sent, whether the peer of `fd` has spoken."""
        self._asking[fd] = asker

    def _look(self) -> None:
        """Tell those who ask and whose peers have spoken; one system call answers all who ask in a turn.

        It takes the news of all descriptors, of which edges come only once: they are kept for the next turn. Between
        turns nobody would serve them, and a full list may not name all.
        """
        asking, self._asking = self._asking, {}
        self.looks_count += 1
        spoken: list[Asker] = []
        if self._is_turning and not self._kept:
            self._new.clear()
            self._kept = self._epoll.poll(0, MAX_EVENTS_COUNT)
            for fd, _ in self._kept:
                if fd in asking:
                    spoken.append(asking.pop(fd))
            if len(self._kept) < MAX_EVENTS_COUNT:
                asking.clear()
        spoken += [asker for asker in asking.values() if asker.has_spoken()]
        for asker in spoken:
            try:
                asker.on_spoken()
            except Exception as error:
                self._fail(asker.on_spoken, error)

    def _run_deferred(self) -> None:
        while self._deferred:
            callback = self._deferred.pop(0)
            try:
                callback()
            except Exception as error:
                self._fail(callback, error)

    def enter(self, callback: Callable[..., None], *arguments: object) -> None:
        """Run a callback that comes from the waiting world, as if it were an event."""
        self.now_s = self._clock()
        try:
            callback(*arguments)
        except Exception as error:
            self._fail(callback, error)
        self.settle()

    def defer(self, callback: Callable[[], None]) -> None:
        self._deferred.append(callback)

    def look_at_clock(self) -> None:
        """Bring `now_s` up to date within a callback that has taken time which somebody measures."""
        self.now_s = self._clock()

    def look_after(self, size_bytes: int) -> None:
        """Call `on_full` when so many more bytes have come (see holdings)."""
        self.fresh_bytes = 0
        self.full_at_bytes = size_bytes

    def mark_dirty(self, channel: Flushable) -> None:
        """Flush the channel at the end of the turn."""
        self._dirty.append(channel)

    def _fail(self, callback: object, error: Exception) -> None:
        while isinstance(callback, _Interceptor):
            callback = callback.before
        self._on_bug(getattr(callback, "__self__", callback), error)

    # time

    def call_at(self, when_s: float, callback: Callable[[], None]) -> ScheduledCall:
        """Call back at a time of the clock, not before."""
        call = ScheduledCall(callback, self)
        if self.cancelled_count > MAX_CANCELLED_COUNT and self.cancelled_count * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if timer[2].callback is not None]
            heapq.heapify(self._timers)
            self.cancelled_count = 0
        heapq.heappush(self._timers, (when_s, next(self._order), call))
        if self._sleep is not None and self._timers[0][2] is call:
            self._sleep.deadline = trio.current_time() + max(0.0, when_s - self._clock())
        return call

    def fire_timers(self) -> float:
        """Run the timers that are due; return the seconds until the next one, or infinity."""
        self.now_s = now_s = self._clock()
        while self._timers and self._timers[0][0] <= now_s:
            call = heapq.heappop(self._timers)[2]
            callback, call.callback = call.callback, None
            if callback is None:
                self.cancelled_count -= 1
            else:
                self.enter(callback)
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else float("inf")

    # the two functions that wait

    async def run(self) -> None:
        """Turn whenever a descriptor is ready, for ever."""
        fd = self._epoll.fileno()
        while True:
            if self._kept:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(fd)
            until_s = self._clock() + MAX_STAY_S
            while self.turn(LINGER_S) and self.now_s < until_s:
                pass

    async def run_timers(self) -> None:
        """Fire timers whenever they are due, for ever."""
        while True:
            wait_s = self.fire_timers()
            with trio.CancelScope(deadline=trio.current_time() + wait_s) as self._sleep:
                await trio.sleep_forever()

    def close(self) -> None:
        self._epoll.close()
