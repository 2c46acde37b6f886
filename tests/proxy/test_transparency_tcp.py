"""What an application and its clients must not notice: bytes of any protocol through one sidecar, and two in a row.

The names are those of Linkerd's list of the same purpose; see test_transparency.
"""

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
from proxyhouse import Controller, read_all, read_until, wait_until
from reachhouse import INBOUND, OUTBOUND, Through
from tlshouse import tls_contexts

pytestmark = pytest.mark.trio


async def chat(stream: trio.SocketStream) -> None:
    """A server that waits for its client's word."""
    assert await read_until(stream, b"\n") == b"custom tcp hello\n"
    await stream.send_all(b"custom tcp bye")
    assert await read_all(stream) == b""


async def greet(stream: trio.SocketStream) -> None:
    """A server that speaks first."""
    await stream.send_all(b"220 mail\r\n")
    assert await read_until(stream, b"\n") == b"EHLO me\r\n"
    await stream.send_all(b"250 ok\r\n")


@pytest.mark.parametrize("through", OUTBOUND, indirect=True)
async def test_outbound_tcp(through: Through) -> None:
    way = await through(chat)

    async with await way() as stream:
        await stream.send_all(b"custom tcp hello\n")
        assert await read_until(stream, b"bye") == b"custom tcp bye"


async def test_outbound_tcp_external(start_sidecar: Any, serve: Any, controller: Controller) -> None:
    """What the controller does not know, because it lies outside of the cluster, is reached as it is."""
    server = await serve(chat)
    sidecar = await start_sidecar(server, controller_url=controller.url, discovery_timeout_s=0.05)
    async with await sidecar.connect() as stream:
        await stream.send_all(b"custom tcp hello\n")
        assert await read_until(stream, b"bye") == b"custom tcp bye"


@pytest.mark.parametrize("through", INBOUND, indirect=True)
async def test_inbound_tcp(through: Through) -> None:
    way = await through(chat)

    async with await way() as stream:
        await stream.send_all(b"custom tcp hello\n")
        assert await read_until(stream, b"bye") == b"custom tcp bye"


@pytest.mark.parametrize("through", INBOUND, indirect=True)
async def test_inbound_tcp_server_first(through: Through) -> None:
    await _greeted(await through(greet))


@pytest.mark.parametrize("through", ["outbound", "inbound"], indirect=True)
async def test_tcp_server_first_no_discovery(through: Through) -> None:
    await _greeted(await through(greet))


@pytest.mark.parametrize("through", ["outbound-discovered"], indirect=True)
async def test_outbound_opaque_tcp_server_first(through: Through) -> None:
    """A port told to be opaque is relayed with no word from the client at all."""
    await _greeted(await through(greet, protocol="opaque", detect_dial_delay_s=60.0))


async def test_tcp_server_first(through: Through) -> None:
    await _greeted(await through(greet))


async def _greeted(way: Any) -> None:
    started = trio.current_time()
    async with await way() as stream:
        assert await read_until(stream, b"\n") == b"220 mail\r\n"
        await stream.send_all(b"EHLO me\r\n")

        assert await read_all(stream) == b"250 ok\r\n"
    assert trio.current_time() - started < 0.9


async def test_tcp_server_first_tls(through: Through, tmp_path: Path) -> None:
    """STARTTLS: the server greets in the clear, then both go on in TLS of their own."""
    for_server, for_client = tls_contexts(tmp_path, "mail.example")

    async def handle(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail\r\n")
        assert await read_until(stream, b"\n") == b"STARTTLS\r\n"
        await stream.send_all(b"220 go\r\n")
        secret = trio.SSLStream(stream, for_server, server_side=True)
        assert await secret.receive_some(100) == b"EHLO me\r\n"
        await secret.send_all(b"250 ok\r\n")

    way = await through(handle)
    async with await way() as stream:
        assert await read_until(stream, b"\n") == b"220 mail\r\n"
        await stream.send_all(b"STARTTLS\r\n")
        assert await read_until(stream, b"\n") == b"220 go\r\n"
        secret = trio.SSLStream(stream, for_client, server_hostname="mail.example")
        await secret.send_all(b"EHLO me\r\n")
        with trio.fail_after(5):
            assert await secret.receive_some(100) == b"250 ok\r\n"


async def test_tls_of_the_application_ends_at_the_application(through: Through, tmp_path: Path) -> None:
    """The certificate that the client verifies is the server's own; ALPN and session pass."""
    for_server, for_client = tls_contexts(tmp_path, "web.example")
    for_server.set_alpn_protocols(["h2"])
    for_client.set_alpn_protocols(["h2", "http/1.1"])

    async def handle(stream: trio.SocketStream) -> None:
        secret = trio.SSLStream(stream, for_server, server_side=True)
        async for data in secret:
            await secret.send_all(data)

    way = await through(handle)
    with trio.fail_after(5):
        async with await way() as stream:
            secret = trio.SSLStream(stream, for_client, server_hostname="web.example")
            await secret.send_all(b"hello")
            assert await secret.receive_some(100) == b"hello"
            assert secret.selected_alpn_protocol() == "h2"
            assert secret.version() == "TLSv1.3"
        async with await way() as stream:
            wrong = trio.SSLStream(stream, for_client, server_hostname="other.example")
            with pytest.raises(trio.BrokenResourceError) as failed:
                await wrong.do_handshake()
            assert isinstance(failed.value.__cause__, ssl.SSLCertVerificationError)
    assert way.counter("tcp_protocol_connections_total", protocol="tls") == 2 * len(way.sidecars)


async def test_tcp_client_first(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, b"*1\r\n$4\r\nPING\r\n")
        await stream.send_all(b"+PONG\r\n")
        assert await read_until(stream, b"$4\r\nQUIT\r\n")

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"*1\r\n$4\r\nPING\r\n")
        assert await read_until(stream, b"\n") == b"+PONG\r\n"
        await stream.send_all(b"*1\r\n$4\r\nQUIT\r\n")

        assert await read_all(stream) == b""


async def test_tcp_half_close_both_ways(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        data = await read_all(stream)
        await stream.send_all(b"%d bytes" % len(data))

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"\x00" * 100000)
        await stream.send_eof()

        assert await read_all(stream) == b"100000 bytes"


async def test_tcp_bulk_is_whole_in_both_directions(through: Through) -> None:
    chunk = bytes(range(251)) * 40

    async def handle(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    way = await through(handle)
    async with await way() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(b"\x00")
            for _ in range(300):
                await stream.send_all(chunk)
            await stream.send_eof()

        nursery.start_soon(send)

        assert await read_all(stream) == b"\x00" + chunk * 300


async def test_tcp_connections_close_if_client_closes(through: Through) -> None:
    ended = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_all(stream)
        ended.set()

    way = await through(handle)
    stream = await way()
    await stream.send_all(b"\x01\x02")
    await stream.aclose()
    with trio.fail_after(3):
        await ended.wait()


async def test_tls_passes_untouched(through: Through) -> None:
    hello = b"\x16\x03\x01\x00\x05hello"

    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, hello) == hello
        await stream.send_all(b"\x16\x03\x03")

    way = await through(handle)

    assert await way.ask(hello) == b"\x16\x03\x03"


async def test_tcp_waits_for_the_other_direction_after_an_end(through: Through) -> None:
    """The server's end comes first: what the client says after it still arrives."""
    heard = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\x00bye")
        await stream.send_eof()
        assert await read_all(stream) == b"\x01late"
        heard.set()

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"\x01")
        assert await read_all(stream) == b"\x00bye"
        await trio.sleep(0.02)
        await stream.send_all(b"late")
        await stream.send_eof()
        with trio.fail_after(3):
            await heard.wait()


async def test_tcp_half_close_in_the_middle_of_bulk(through: Through) -> None:
    """One direction has long ended when the kernel moves the other."""
    piece = bytes(range(256)) * 1024

    async def handle(stream: trio.SocketStream) -> None:
        assert await read_all(stream) == b"\x00send"
        for _ in range(16):
            await stream.send_all(piece)

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"\x00send")
        await stream.send_eof()

        assert await read_all(stream) == piece * 16


async def test_tcp_bulk_that_waits_in_a_pipe_outlives_both_ends(through: Through) -> None:
    """Server and client have ended their directions while the client has not read yet: it still gets every byte."""
    piece = bytes(range(256)) * 4096
    ended = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.send_all(piece[: 512 * 1024])
        await stream.receive_some(1)
        await stream.send_all(piece[512 * 1024 :])
        await stream.send_eof()
        ended.set()
        assert await read_all(stream) == b""

    way = await through(handle)
    sock = trio.socket.socket(socket.AF_INET6 if ":" in way.entry.ip else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    await sock.connect(way.entry)
    async with trio.SocketStream(sock) as stream:
        await stream.send_all(b"\x00")
        data = b""
        while len(data) < 512 * 1024:
            data += bytes(await stream.receive_some(65536))
        await stream.send_all(b"\x00")
        with trio.fail_after(5):
            await ended.wait()
        await trio.sleep(0.05)
        await stream.send_eof()
        await trio.sleep(0.05)

        assert data + await read_all(stream) == piece


async def test_a_reset_passes_as_a_reset(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        stream.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER 0: close with RST

    way = await through(handle)
    async with await way() as stream:
        await stream.send_all(b"\x00")

        assert await read_all(stream) == b"<reset>"


async def test_nothing_is_left_after_tcp_connections(through: Through) -> None:
    way = await through(chat)
    for _ in range(20):
        async with await way() as stream:
            await stream.send_all(b"custom tcp hello\n")
            assert await read_until(stream, b"bye") == b"custom tcp bye"

    for sidecar in way.sidecars:
        await wait_until(lambda: not sidecar.app.parts.sessions)  # noqa: B023
        for series in sidecar.app.meter.tcp.values():
            assert series.open_now == 0
            assert sum(series.closed.values()) == series.opened
