"""The work queue: each key once, by one worker at a time, later after a failure."""

import asyncio

import pytest

from lab.ctl.queue import Key, Queue, retry_delay_s

A, B = Key("Pod", "default", "a"), Key("Pod", "default", "b")


def played(scenario):
    asyncio.run(scenario())


def test_a_key_waits_once_however_often_it_is_added():
    async def scenario():
        queue = Queue()
        for key in (A, B, A, A):
            queue.add(key)
        assert [A, B] == [await queue.take(), await queue.take()]
        assert 0 == len(queue)

    played(scenario)


def test_a_key_that_changes_while_it_is_worked_on_comes_again_afterwards():
    async def scenario():
        queue = Queue()
        queue.add(A)
        await queue.take()
        queue.add(A)
        queue.add(A)
        assert 0 == len(queue), "not to a second worker"
        queue.done(A)
        assert A == await queue.take()
        queue.done(A)
        assert 0 == len(queue)

    played(scenario)


def test_a_worker_waits_for_work():
    async def scenario():
        queue = Queue()
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.add(A)
        assert A == await waiting

    played(scenario)


def test_of_two_wishes_for_later_the_earlier_counts():
    async def scenario():
        queue = Queue()
        queue.add_after(A, 3600)
        queue.add_after(A, 0)
        queue.add_after(A, 3600)
        assert A == await queue.take()
        queue.close()
        assert "later=0" in repr(queue)

    played(scenario)


def test_a_success_forgets_the_failures():
    async def scenario():
        queue = Queue()
        for _ in range(3):
            queue.retry(A)
        assert {A: 3} == queue._failures
        queue.forget(A)
        assert {} == queue._failures
        queue.close()

    played(scenario)


@pytest.mark.parametrize(("count", "delay_s"), [(1, 0.05), (2, 0.1), (5, 0.8), (9, 10.0), (4000, 10.0)])
def test_retries_come_later_each_time_up_to_a_bound(count, delay_s):
    assert pytest.approx(delay_s) == retry_delay_s(count)
