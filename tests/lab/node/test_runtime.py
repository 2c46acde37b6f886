"""The daemon's hand on the spawner: what happens to it when one of the two does not wait for the other."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab.node.launch import Launch
from lab.node.runtime import Process, Runtime, StartError

NOTHING = Launch(("true",), {})


@asynccontextmanager
async def runtime() -> AsyncIterator[Runtime]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    one = Runtime()
    one.open()
    try:
        yield one
    finally:
        one.close()


async def enter_what_is_gone(one: Runtime) -> None:
    loop = asyncio.get_running_loop()
    gone = Process(99, loop.create_future(), loop.create_future())
    null = os.open(os.devnull, os.O_RDWR)
    try:
        await one.enter(gone, NOTHING, stdin=null, stdout=null, stderr=null)
    finally:
        os.close(null)


def test_who_gives_up_on_a_process_that_cannot_start_ends_no_other() -> None:
    async def work() -> None:
        async with runtime() as one:
            for _ in range(50):  # each time the spawner may have spoken before
                asked = asyncio.create_task(enter_what_is_gone(one))
                await asyncio.sleep(0)
                asked.cancel()
                await asyncio.wait((asked,))
            with pytest.raises(StartError, match=r"^the container is not running$"):
                await enter_what_is_gone(one)

    asyncio.run(asyncio.wait_for(work(), 20))
