"""Strangers' connections: they take neither the application's own calls nor each other's place."""

from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import trio
from proxyhouse import GET, OK, Script, Sidecar, read_all, read_until, wait_until

from proxy.app import inbound_limit
from proxy.tunnel import QUIET_S, Tunnel

pytestmark = pytest.mark.trio

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Crowd:
    """Clients from addresses of our choice; all are closed at the end."""

    def __init__(self, sidecar: Sidecar, stack: AsyncExitStack) -> None:
        self._sidecar = sidecar
        self._stack = stack

    async def connect(self, source: str) -> trio.SocketStream:
        port = self._sidecar.app.config.inbound_port
        stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=source)
        return await self._stack.enter_async_context(stream)

    async def sit(self, source: str, count: int) -> list[trio.SocketStream]:
        """Connect and say nothing."""
        return [await self.connect(source) for _ in range(count)]


async def answers(stream: trio.SocketStream) -> bool:
    """Ask, and tell whether the application answers."""
    await stream.send_all(ASK)
    return await read_until(stream, b"ok") == OK


async def hang(stream: trio.SocketStream) -> None:
    """An application that never answers."""
    await read_until(stream, b"\r\n\r\n")
    await trio.sleep_forever()


async def test_silent_clients_from_outside_leave_the_applications_own_calls_alone(
    start_sidecar: Any, serve: Any
) -> None:
    sidecar = await start_sidecar(await serve(Script([OK]).handle), max_sessions_count=10)
    async with AsyncExitStack() as stack:
        crowd = Crowd(sidecar, stack)
        for number in range(3):
            await crowd.sit(f"127.0.1.{number + 1}", 30)

        async with await sidecar.connect() as own:
            await own.send_all(GET)
            assert await read_until(own, b"ok") == OK


@pytest.mark.parametrize("sources_count", [1, 7])
async def test_silent_clients_leave_other_addresses_their_place(
    start_sidecar: Any, serve: Any, sources_count: int
) -> None:
    sidecar = await start_sidecar(await serve(Script([OK]).handle), max_sessions_count=10)
    async with AsyncExitStack() as stack:
        crowd = Crowd(sidecar, stack)
        honest = await crowd.connect("127.0.1.99")
        assert await answers(honest)
        for number in range(60):
            await crowd.sit(f"127.0.1.{number % sources_count + 1}", 1)

        assert await answers(honest)
        assert await answers(await crowd.connect("127.0.1.98"))
    assert sidecar.counter("inbound_crowded_out_total", what="idle") >= 50
    assert sidecar.counter("inbound_crowded_out_total", what="busy") == 0


async def test_a_request_at_work_keeps_its_place_while_others_are_idle(start_sidecar: Any, serve: Any) -> None:
    done = trio.Event()

    async def slow(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await done.wait()
        await stream.send_all(OK)

    sidecar = await start_sidecar(await serve(slow), max_sessions_count=5)
    async with AsyncExitStack() as stack:
        crowd = Crowd(sidecar, stack)
        (busy,) = await crowd.sit("127.0.1.1", 1)
        await busy.send_all(ASK)
        await wait_until(lambda: sum(series.requests for series in sidecar.app.meter.http.values()) == 1)
        await crowd.sit("127.0.1.1", 20)
        await trio.sleep(0.1)
        done.set()

        assert await read_until(busy, b"ok") == OK


async def test_one_address_with_all_places_at_work_yields_one_to_another_and_none_to_itself(
    start_sidecar: Any, serve: Any
) -> None:
    sidecar = await start_sidecar(await serve(hang), max_sessions_count=5)
    async with AsyncExitStack() as stack:
        crowd = Crowd(sidecar, stack)
        held = await crowd.sit("127.0.1.1", 5)
        for stream in held:
            await stream.send_all(ASK)
        await wait_until(lambda: sum(series.requests for series in sidecar.app.meter.http.values()) == 5)

        with suppress(OSError):  # the reset may come before the connection is known to be there
            assert await read_all(await crowd.connect("127.0.1.1")) == b"<reset>"
        assert sidecar.counter("inbound_crowded_out_total", what="newcomer") == 1
        assert sidecar.counter("inbound_tcp_errors_total", error="crowded-out") == 1

        (other,) = await crowd.sit("127.0.1.2", 1)
        await other.send_all(ASK)
        answer = await read_all(held[0])
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"x-tulle-error: crowded-out\r\n" in answer
        assert sidecar.counter("inbound_crowded_out_total", what="busy") == 1
        assert sidecar.counter("inbound_http_errors_total", error="crowded-out") == 1


async def test_idle_http2_connections_and_quiet_relays_give_way_too(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(hang), max_sessions_count=4)
    async with AsyncExitStack() as stack:
        crowd = Crowd(sidecar, stack)
        first, second, third, fourth = await crowd.sit("127.0.1.1", 4)
        for stream in (first, second):
            await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        for stream in (third, fourth):
            await stream.send_all(b"ruok")
        await wait_until(lambda: sum(isinstance(one, Tunnel) for one in sidecar.app.parts.sessions) == 2)
        for relay in sidecar.app.parts.sessions:
            if isinstance(relay, Tunnel) and relay._server is not None:
                relay._client.active_s -= QUIET_S + 1.0
                relay._server.active_s -= QUIET_S + 1.0
        await crowd.sit("127.0.1.2", 2)
        await wait_until(lambda: sidecar.counter("inbound_crowded_out_total", what="idle") == 2)

        assert (await read_all(first))[3:4] == b"\4"  # SETTINGS, and then the end
        await crowd.sit("127.0.1.3", 1)
        assert await read_all(third) == b"<reset>"
    assert sidecar.counter("inbound_crowded_out_total") == 3


async def test_places_are_given_back(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(Script([OK]).handle))
    async with AsyncExitStack() as stack:
        crowd = Crowd(sidecar, stack)
        (speaking, relayed, silent) = await crowd.sit("127.0.1.1", 3)
        assert await answers(speaking)
        await relayed.send_all(b"ruok")
        await wait_until(lambda: len(sidecar.app.parts.inbound_seats) == 3)
        for stream in (speaking, relayed, silent):
            await stream.aclose()
        await wait_until(lambda: not sidecar.app.parts.sessions)

    assert len(sidecar.app.parts.inbound_seats) == len(sidecar.app.parts.outbound_seats) == 0


async def test_strangers_cannot_take_the_last_quarter_of_the_descriptors() -> None:
    assert inbound_limit(10000, 2**20) == 10000
    assert inbound_limit(10000, 1024) == 384
    assert inbound_limit(10000, 1) == 1
