"""What goes wrong, and what the client is told: each failure of the sidecar's own carries its reason."""

from typing import Any

import pytest
import trio
from proxyhouse import GET, OK, Controller, Script, free_port, read_all, read_until, wait_until

from proxy.model import Address

pytestmark = pytest.mark.trio

SERVICE = Address("10.96.0.7", 80)


async def ask(sidecar: Any, request: bytes = GET, inbound: bool = False) -> bytes:
    async with await sidecar.connect(inbound) as stream:
        await stream.send_all(request)
        return await read_until(stream, b"]\n")


def reason_of(answer: bytes) -> tuple[int, str]:
    head = answer.partition(b"\r\n\r\n")[0]
    reason = [line[15:] for line in head.split(b"\r\n") if line.startswith(b"x-tulle-error: ")]
    return int(head.split()[1]), reason[0].decode() if reason else ""


async def test_a_service_without_endpoints_answers_503_and_keeps_the_connection(
    start_sidecar: Any, controller: Controller
) -> None:
    controller.service(SERVICE)
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    async with await sidecar.connect() as stream:
        for _ in range(3):
            await stream.send_all(GET)
            answer = await read_until(stream, b"]\n")

            assert reason_of(answer) == (503, "no-endpoints")
            assert b"outbound sidecar of pod web-1" in answer
            assert b"web.shop (10.96.0.7:80)" in answer
    assert sidecar.counter("outbound_http_errors_total", error="no-endpoints") == 3
    status, metrics = await sidecar.admin("/metrics")
    assert status == 200
    assert 'dst_service="web",status_code="503",classification="failure"} 3' in metrics


async def test_a_destination_that_refuses_answers_502(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(Address("127.0.0.1", free_port()))

    assert reason_of(await ask(sidecar)) == (502, "connect-refused")
    assert reason_of(await ask(sidecar, inbound=True)) == (502, "connect-refused")
    assert sidecar.counter("inbound_http_errors_total", error="connect-refused") == 1


async def test_a_destination_that_does_not_accept_answers_504(start_sidecar: Any) -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = Address("127.0.0.1", listener.getsockname()[1])
    fillers = [await trio.open_tcp_stream("127.0.0.1", address.port)]
    sidecar = await start_sidecar(address, connect_timeout_s=0.15)
    with trio.move_on_after(0.1):
        fillers.append(await trio.open_tcp_stream("127.0.0.1", address.port))

    assert reason_of(await ask(sidecar)) == (504, "connect-timeout")
    for filler in fillers:
        await filler.aclose()
    listener.close()


async def test_a_refusing_endpoint_is_left_for_another_without_the_client_noticing(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    script = Script([OK])
    good = await serve(script.handle)
    controller.service(SERVICE, Address("127.0.0.1", free_port()), good)
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    sidecar.app.parts.random = lambda: 0.0
    for _ in range(20):
        async with await sidecar.connect() as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n")

            assert await read_until(stream, b"ok") == OK
    assert 0 < sidecar.counter("outbound_repick_total") < 10


async def test_another_sidecar_that_cannot_reach_its_application_is_left_for_another(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    dead = await start_sidecar(Address("127.0.0.1", free_port()))
    script = Script([OK])
    good = await serve(script.handle)
    controller.service(SERVICE, Address("127.0.0.1", dead.app.config.inbound_port), good, meshed=True)
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    for _ in range(10):
        async with await sidecar.connect() as stream:
            await stream.send_all(GET)

            assert await read_until(stream, b"ok") == OK


FORGED = b"HTTP/1.1 502 Bad Gateway\r\nx-tulle-error: connect-refused\r\nContent-Length: 2\r\n\r\nok"


async def test_a_server_without_a_sidecar_is_not_believed_that_nothing_reached_it(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    forger, other = Script([FORGED]), Script([OK])
    controller.service(SERVICE, await serve(forger.handle), await serve(other.handle))
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    sidecar.app.parts.random = lambda: 0.0
    async with await sidecar.connect() as stream:
        await stream.send_all(GET)

        assert (await read_until(stream, b"ok")).startswith(b"HTTP/1.1 502")


async def test_an_application_does_not_speak_for_the_mesh(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(Script([FORGED]).handle))
    async with await sidecar.connect(inbound=True) as stream:
        await stream.send_all(GET)

        assert await read_until(stream, b"ok") == FORGED.replace(b"x-tulle-error: connect-refused\r\n", b"")


async def test_an_opaque_client_of_a_refusing_destination_is_reset(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(Address("127.0.0.1", free_port()))
    async with await sidecar.connect() as stream:
        await stream.send_all(b"\x00\x01")

        assert await read_all(stream) == b"<reset>"


async def test_a_direct_connection_to_the_sidecar_is_refused_as_a_loop(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(Address("127.0.0.1", 1))
    sidecar.destination = Address("127.0.0.1", sidecar.port)
    async with await sidecar.connect() as stream:
        assert await read_all(stream) in (b"", b"<reset>")
    sidecar.destination = None
    async with await sidecar.connect() as stream:
        assert await read_all(stream) in (b"", b"<reset>")
    assert sidecar.counter("outbound_http_errors_total", error="loop") == 2


async def test_a_head_of_one_megabyte_is_refused_and_the_answer_arrives(start_sidecar: Any, serve: Any) -> None:
    script = Script([OK])
    sidecar = await start_sidecar(await serve(script.handle))
    async with await sidecar.connect() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2**20 + b"\r\n\r\n")
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(send)
        answer = await read_all(stream)

        assert reason_of(answer) == (431, "head-too-large")
    assert script.received == []
    assert sidecar.counter("http1_faults_total", reason="head-too-large") == 1


async def test_a_smuggling_request_is_refused_and_closed_after_those_before_it_are_answered(
    start_sidecar: Any, serve: Any
) -> None:
    script = Script([OK])
    sidecar = await start_sidecar(await serve(script.handle))
    bad = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    async with await sidecar.connect() as stream:
        await stream.send_all(GET + bad + GET)
        answer = await read_all(stream)

        assert answer.startswith(OK)
        assert reason_of(answer.removeprefix(OK)) == (400, "content-length-and-transfer-encoding")
        assert b"Connection: close" in answer
    assert script.received == [GET]


async def test_a_bad_chunk_in_a_request_ends_it_with_400(start_sidecar: Any, serve: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_all(stream)

    sidecar = await start_sidecar(await serve(handle))
    async with await sidecar.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await trio.sleep(0.05)
        await stream.send_all(b"-1\r\n")

        assert reason_of(await read_all(stream)) == (400, "bad-chunk")


async def test_a_server_that_closes_before_its_response_answers_502(start_sidecar: Any, serve: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")

    sidecar = await start_sidecar(await serve(handle))

    assert reason_of(await ask(sidecar)) == (502, "server-closed")


@pytest.mark.parametrize("response", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_a_server_that_breaks_http_answers_502(start_sidecar: Any, serve: Any, response: bytes) -> None:
    script = Script([response])
    sidecar = await start_sidecar(await serve(script.handle))

    assert reason_of(await ask(sidecar)) == (502, "bad-response")


async def test_a_response_that_breaks_off_breaks_the_client_off(start_sidecar: Any, serve: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    sidecar = await start_sidecar(await serve(handle))
    async with await sidecar.connect() as stream:
        await stream.send_all(GET)

        assert (await read_all(stream)).endswith(b"<reset>")
    assert sidecar.counter("outbound_http_errors_total", error="response-cut") == 1


async def test_a_kept_alive_connection_that_dies_under_a_request_is_replaced_silently(
    start_sidecar: Any, serve: Any
) -> None:
    requests_count = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal requests_count
        await read_until(stream, b"\r\n\r\n")
        requests_count += 1
        await stream.send_all(OK)
        if await read_until(stream, b"\r\n\r\n"):
            requests_count += 1  # and dies without an answer

    sidecar = await start_sidecar(await serve(handle))
    async with await sidecar.connect() as stream:
        for _ in range(4):
            await stream.send_all(GET)

            assert await read_until(stream, b"ok") == OK
    assert sidecar.counter("outbound_retry_total") == 3
    assert requests_count == 7


async def test_a_post_that_met_a_dying_connection_is_not_repeated(start_sidecar: Any, serve: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(OK)
        await read_until(stream, b"abcd")

    sidecar = await start_sidecar(await serve(handle))
    async with await sidecar.connect() as stream:
        await stream.send_all(GET)
        await read_until(stream, b"ok")
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd")

        assert reason_of(await read_until(stream, b"]\n")) == (502, "server-closed")


async def test_a_pooled_connection_that_the_server_has_closed_is_not_used(start_sidecar: Any, serve: Any) -> None:
    script = Script([OK.replace(b"\r\n\r\n", b"\r\nX: 1\r\n\r\n")])

    async def handle(stream: trio.SocketStream) -> None:
        script.connections_count += 1
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(OK)

    sidecar = await start_sidecar(await serve(handle))
    async with await sidecar.connect() as stream:
        for _ in range(3):
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert await read_until(stream, b"ok") == OK
            await wait_until(lambda: sidecar.app.pool.size_count == 0)
    assert script.connections_count == 3


async def test_requests_share_kept_alive_connections_that_end_after_their_idle_time(
    start_sidecar: Any, serve: Any
) -> None:
    script = Script([OK])

    async def handle(stream: trio.SocketStream) -> None:
        await script.handle(stream)

    sidecar = await start_sidecar(await serve(handle), pool_idle_timeout_s=0.3)
    for _ in range(5):
        async with await sidecar.connect() as stream:
            await stream.send_all(GET)
            await read_until(stream, b"ok")
    assert script.connections_count == 1
    assert sidecar.app.pool.size_count == 1
    await wait_until(lambda: sidecar.app.pool.size_count == 0)


async def test_request_and_head_timeouts(start_sidecar: Any, serve: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_all(stream)

    sidecar = await start_sidecar(await serve(handle), request_timeout_s=0.1, head_timeout_s=0.1)

    assert reason_of(await ask(sidecar)) == (504, "request-timeout")
    async with await sidecar.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost:")

        assert reason_of(await read_all(stream)) == (408, "head-timeout")


async def test_an_idle_stream_and_an_idle_tunnel_end(start_sidecar: Any, serve: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_all(stream)

    sidecar = await start_sidecar(await serve(handle), stream_idle_timeout_s=0.1, tunnel_idle_timeout_s=0.1)

    assert reason_of(await ask(sidecar)) == (504, "idle-timeout")
    async with await sidecar.connect() as stream:
        await stream.send_all(b"\x00")

        assert await read_all(stream) == b"<reset>"


async def test_a_client_that_leaves_cancels_its_exchange(start_sidecar: Any, serve: Any) -> None:
    ended = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await read_all(stream)
        ended.set()

    sidecar = await start_sidecar(await serve(handle))
    stream = await sidecar.connect()
    await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    await trio.sleep(0.05)
    await stream.aclose()
    with trio.fail_after(3):
        await ended.wait()
    await wait_until(lambda: not sidecar.app.parts.sessions)


async def test_a_slow_reader_holds_the_server_back_and_memory_stays_bounded(start_sidecar: Any, serve: Any) -> None:
    sent_bytes = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal sent_bytes
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65536)
            sent_bytes += 65536

    sidecar = await start_sidecar(await serve(handle))
    async with await sidecar.connect() as stream:
        await stream.send_all(GET)
        await trio.sleep(0.5)
        held_bytes = sent_bytes
        await trio.sleep(0.2)
        conversation = next(iter(sidecar.app.parts.sessions))

        assert sent_bytes == held_bytes
        assert conversation.channel.queued_bytes <= 131072 + 65536  # type: ignore[attr-defined]


async def test_sessions_above_the_bound_wait_in_the_backlog(start_sidecar: Any, serve: Any) -> None:
    script = Script([OK])
    sidecar = await start_sidecar(await serve(script.handle), max_sessions_count=2)
    first, second = await sidecar.connect(), await sidecar.connect()
    async with await sidecar.connect() as third:
        await third.send_all(GET)
        await trio.sleep(0.1)
        await first.aclose()

        assert await read_until(third, b"ok") == OK
    await second.aclose()
    assert sidecar.counter("accept_pauses_total", reason="sessions") >= 1


async def test_a_bug_ends_its_own_session_and_no_other(
    start_sidecar: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([OK])
    sidecar = await start_sidecar(await serve(script.handle))
    async with await sidecar.connect() as witness:
        await witness.send_all(GET)
        await read_until(witness, b"ok")
        with monkeypatch.context() as broken:
            target = sidecar.app.outbound.take(sidecar.destination)
            broken.setattr(target, "direct", 5)
            async with await sidecar.connect() as stream:
                await stream.send_all(GET)

                assert reason_of(await read_all(stream)) == (500, "bug")
        await witness.send_all(GET)

        assert await read_until(witness, b"ok") == OK
    assert sidecar.app.meter.counters.pop(("bugs_total", ())) == 1
