"""Changes come over from threads in order, together, and never more than there is room for."""

import asyncio
import threading

import pytest

from controller import inbox as module
from controller.inbox import Inbox


class Sink:
    """Collects what is drained; `full` is set when all of it came."""

    def __init__(self, count: int) -> None:
        self.items: list[object] = []
        self.full = asyncio.Event()
        self._count = count

    def take(self, batch: list[object]) -> None:
        self.items += batch
        if len(self.items) >= self._count:
            self.full.set()


def test_items_put_together_are_drained_together_and_in_order():
    async def check() -> None:
        sink = Sink(50)
        inbox: Inbox[object] = Inbox(asyncio.get_running_loop(), sink.take)
        await asyncio.to_thread(lambda: [inbox.put(number) for number in range(50)])
        await asyncio.wait_for(sink.full.wait(), 5)
        assert sink.items == list(range(50))

    asyncio.run(check())


def test_many_threads_lose_nothing_and_keep_their_own_order():
    async def check() -> None:
        sink = Sink(2000)
        inbox: Inbox[object] = Inbox(asyncio.get_running_loop(), sink.take)
        work = [asyncio.to_thread(lambda who=who: [inbox.put((who, n)) for n in range(500)]) for who in range(4)]
        await asyncio.gather(*work)
        await asyncio.wait_for(sink.full.wait(), 5)
        for who in range(4):
            assert [number for other, number in sink.items if other == who] == list(range(500))

    asyncio.run(check())


def test_full_inbox_holds_the_threads_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CAPACITY_COUNT", 3)
    loop, sink = asyncio.new_event_loop(), Sink(10)
    inbox: Inbox[object] = Inbox(loop, sink.take)
    thread = threading.Thread(target=lambda: [inbox.put(number) for number in range(10)])
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()  # three are in, the fourth waits for the loop, which does not run yet
    loop.run_until_complete(asyncio.wait_for(sink.full.wait(), 5))
    thread.join(5)
    loop.close()
    assert sink.items == list(range(10))


def test_inbox_of_a_loop_that_has_ended_takes_and_drops():
    loop = asyncio.new_event_loop()
    inbox: Inbox[int] = Inbox(loop, lambda batch: None)
    loop.close()
    inbox.put(1)
    inbox.put(2)
