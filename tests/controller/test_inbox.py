"""Changes come over from threads in order, together, and never more than there is room for."""

import asyncio
import threading

import pytest

from controller import inbox as module
from controller.inbox import Inbox


def test_items_put_together_are_drained_together_and_in_order():
    async def check() -> None:
        batches: list[list[int]] = []
        inbox: Inbox[int] = Inbox(asyncio.get_running_loop(), batches.append)
        await asyncio.to_thread(lambda: [inbox.put(number) for number in range(50)])
        while sum(map(len, batches)) < 50:
            await asyncio.sleep(0.001)
        assert [number for batch in batches for number in batch] == list(range(50))

    asyncio.run(check())


def test_many_threads_lose_nothing_and_keep_their_own_order():
    async def check() -> None:
        seen: list[tuple[int, int]] = []
        inbox: Inbox[tuple[int, int]] = Inbox(asyncio.get_running_loop(), seen.extend)
        work = [asyncio.to_thread(lambda who=who: [inbox.put((who, n)) for n in range(500)]) for who in range(4)]
        await asyncio.gather(*work)
        while len(seen) < 2000:
            await asyncio.sleep(0.001)
        for who in range(4):
            assert [number for other, number in seen if other == who] == list(range(500))

    asyncio.run(check())


def test_full_inbox_holds_the_threads_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CAPACITY_COUNT", 3)
    loop, seen = asyncio.new_event_loop(), []
    inbox: Inbox[int] = Inbox(loop, seen.extend)
    thread = threading.Thread(target=lambda: [inbox.put(number) for number in range(10)])
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()  # three are in, the fourth waits for the loop, which does not run yet

    async def drain() -> None:
        while len(seen) < 10:
            await asyncio.sleep(0.001)

    loop.run_until_complete(drain())
    thread.join(5)
    loop.close()
    assert seen == list(range(10))


def test_inbox_of_a_loop_that_has_ended_takes_and_drops():
    loop = asyncio.new_event_loop()
    inbox: Inbox[int] = Inbox(loop, lambda batch: None)
    loop.close()
    inbox.put(1)
    inbox.put(2)
