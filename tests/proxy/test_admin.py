"""The admin port among strangers: probes are answered however many others are connected."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from proxyhouse import Sidecar, read_all, wait_until

from proxy import admin
from proxy.admin import CLIENTS_LIMIT_COUNT, PAGES_LIMIT_COUNT, TEXT, Answer
from proxy.model import Address

pytestmark = pytest.mark.trio

NOWHERE = Address("127.0.0.1", 9)
LIVE = b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def connect(sidecar: Sidecar, source: str, stack: AsyncExitStack) -> trio.SocketStream:
    """Connect to the admin port from an address of our choice."""
    port = sidecar.app.config.admin_port
    stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=source)
    return await stack.enter_async_context(stream)


async def crowd(sidecar: Sidecar, sources: Iterable[str], stack: AsyncExitStack) -> list[trio.SocketStream]:
    """Connect from each of the addresses and say nothing."""
    return [await connect(sidecar, source, stack) for source in sources]


@pytest.mark.parametrize("sources_count", [1, 16, 200])
async def test_probes_are_answered_beside_200_silent_connections(start_sidecar: Any, sources_count: int) -> None:
    sidecar = await start_sidecar(NOWHERE)
    async with AsyncExitStack() as stack:
        await crowd(sidecar, (f"127.0.1.{number % sources_count}" for number in range(1, 201)), stack)
        for _ in range(3):
            with trio.fail_after(1.0):
                assert await sidecar.admin("/live") == (200, "live\n")
                assert await sidecar.admin("/ready") == (200, "ready\n")

    assert sidecar.counter("admin_refusals_total", what="client") >= 200 - CLIENTS_LIMIT_COUNT


async def test_of_silent_connections_those_of_the_address_that_holds_the_most_give_way(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(NOWHERE)
    async with AsyncExitStack() as stack:
        (scraper,) = await crowd(sidecar, ["127.0.1.1"], stack)
        strangers = await crowd(sidecar, ["127.0.1.2"] * (CLIENTS_LIMIT_COUNT + 10), stack)

        assert await read_all(strangers[0]) == b""
        await scraper.send_all(LIVE)
        assert (await read_all(scraper)).endswith(b"live\n")


async def test_who_sends_no_request_in_time_is_closed(start_sidecar: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "HEAD_TIMEOUT_S", 0.1)
    sidecar = await start_sidecar(NOWHERE)
    async with AsyncExitStack() as stack:
        silent = await connect(sidecar, "127.0.1.1", stack)
        slow = await connect(sidecar, "127.0.1.1", stack)
        await slow.send_all(b"GET /live HTTP/1.1\r\n")

        assert await read_all(silent) == b""
        assert await read_all(slow) == b""


async def test_a_head_that_is_too_large_is_refused(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(NOWHERE)
    async with AsyncExitStack() as stack:
        stream = await connect(sidecar, "127.0.1.1", stack)
        await stream.send_all(b"GET /live HTTP/1.1\r\nX: " + b"x" * 9000)

        assert (await read_all(stream)).startswith(b"HTTP/1.1 400 ")


async def test_slow_readers_of_large_pages_hold_few_of_them_and_no_probe(
    start_sidecar: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "SLOW_READER_S", 0.2)
    sidecar = await start_sidecar(NOWHERE)
    made = []

    def large() -> Answer:
        made.append(1)
        return Answer(200, TEXT, ["x" * 2**20] * 20)

    sidecar.app.admin._pages["/large"] = large
    request = b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with AsyncExitStack() as stack:
        strangers = await crowd(sidecar, ["127.0.1.2"] * PAGES_LIMIT_COUNT, stack)
        for stranger in strangers:
            await stranger.send_all(request)
        await wait_until(lambda: len(made) == PAGES_LIMIT_COUNT)
        with trio.fail_after(1.0):
            assert await sidecar.admin("/live") == (200, "live\n")

        (another,) = await crowd(sidecar, ["127.0.1.2"], stack)
        await another.send_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.3)
        scraper = await connect(sidecar, "127.0.1.1", stack)
        await scraper.send_all(request)
        whole = b""
        with trio.fail_after(5):
            async for piece in scraper:
                whole += bytes(piece)

        assert whole.endswith(b"x" * 20 * 2**20)
    assert sidecar.counter("admin_refusals_total", what="page") >= 1


async def test_pages_leave_the_processor_most_of_its_time(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(NOWHERE)

    async def dear() -> Answer:
        await trio.sleep(0.05)
        return Answer(200, TEXT, ["dear\n"])

    sidecar.app.admin._pages["/dear"] = dear
    began_s = trio.current_time()
    for _ in range(3):
        assert await sidecar.admin("/dear") == (200, "dear\n")

    assert trio.current_time() - began_s > 3 * 0.05 + 2 * 3 * 0.05
