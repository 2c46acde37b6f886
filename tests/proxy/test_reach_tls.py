"""TLS of applications: its name is counted, its bytes are nobody's business."""

from pathlib import Path
from typing import Any

import pytest
import trio
from proxyhouse import Sidecar, free_port, read_all, read_until, wait_until
from reachhouse import Through
from tlshouse import tls_contexts
from turnhouse import TurnHouse

from proxy import naming
from proxy.model import Address
from proxy.wire.detect import serves_http2


def series(sidecar: Sidecar, **labels: str) -> list[Any]:
    return [found for found in sidecar.app.meter.tcp.values() if labels.items() <= dict(found.labels).items()]


@pytest.mark.trio
async def test_the_name_that_a_client_asks_for_is_a_label_of_its_connections_and_bytes(
    through: Through, tmp_path: Path
) -> None:
    for_server, for_client = tls_contexts(tmp_path, "api.example")

    async def handle(stream: trio.SocketStream) -> None:
        secret = trio.SSLStream(stream, for_server, server_side=True)
        await secret.send_all(await secret.receive_some(100))

    way = await through(handle)
    for _ in range(3):
        async with await way() as stream:
            secret = trio.SSLStream(stream, for_client, server_hostname="API.example")
            with trio.fail_after(5):
                await secret.send_all(b"hello")
                assert await secret.receive_some(100) == b"hello"

    for sidecar in way.sidecars:
        await wait_until(lambda: not sidecar.app.parts.sessions)  # noqa: B023
        (named,) = series(sidecar, peer="src", tls="opaque", sni="api.example")
        assert (named.opened, named.open_now) == (3, 0)
        assert named.read_bytes > 300
        assert named.write_bytes > 1000
        assert sum(found.opened for found in series(sidecar, peer="src") if found is not named) == 0
        _, text = await sidecar.admin("/metrics")
        (line,) = [line for line in text.splitlines() if line.startswith("tcp_open_total") and "sni=" in line]
        assert 'tls="opaque",sni="api.example"} 3' in line
        assert "no_tls_reason" not in line


@pytest.mark.trio
async def test_tls_without_a_name_is_told_apart_all_the_same(through: Through) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.send_all(await read_until(stream, b"x"))

    way = await through(handle)
    hello = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00x"
    assert await way.ask(hello) == hello

    for sidecar in way.sidecars:
        assert [found.opened for found in series(sidecar, peer="src", tls="opaque")] == [1]


@pytest.mark.trio
async def test_a_hello_that_never_ends_passes_after_the_detect_timeout(through: Through) -> None:
    half = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfcx"

    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, b"x") == half
        await stream.send_all(b"heard")

    way = await through(handle, detect_timeout_s=0.05)
    async with await way() as stream:
        await stream.send_all(half)

        assert await read_all(stream) == b"heard"


def test_names_beyond_the_bound_are_counted_together() -> None:
    house = TurnHouse()
    target = house.targets.take(Address("10.0.0.7", 443))
    for number in range(naming.MAX_NAMES_COUNT + 50):
        client = house.accept(target.address)
        (session,) = house.parts.sessions
        channel = session._channel  # type: ignore[attr-defined]
        channel.series.opened += 1
        naming.name_tls(house.meter, channel, f"host-{number}.example")
        house.pump.enter(session.abort, "draining")
        client.close()
        house.sockets.remove(client)
    names = {labels[-1][1]: found for labels, found in house.meter.tcp.items() if labels[-1][0] == "sni"}

    assert len(names) == naming.MAX_NAMES_COUNT + 1
    assert names[naming.OTHER].closed == {"": 50}
    house.meter.expire(house.now_s, 600)
    house.meter.expire(house.now_s + 601, 600)
    assert house.meter.names_count == 0
    house.close()


@pytest.mark.trio
async def test_connections_that_fail_before_they_are_http_are_tcp_errors(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(Address("127.0.0.1", free_port()))
    for inbound in (False, True):
        async with await sidecar.connect(inbound) as stream:
            await stream.send_all(b"\x00\x01")
            assert await read_all(stream) == b"<reset>"

    assert sidecar.counter("outbound_tcp_errors_total", error="connect-refused") == 1
    assert sidecar.counter("inbound_tcp_errors_total", error="connect-refused") == 1
    assert sidecar.counter("outbound_http_errors_total") == 0


@pytest.mark.trio
async def test_an_idle_tunnel_that_is_ended_is_a_tcp_error(start_sidecar: Any, serve: Any) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_all(stream)

    sidecar = await start_sidecar(await serve(handle), tunnel_idle_timeout_s=0.05)
    async with await sidecar.connect() as stream:
        await stream.send_all(b"\x00\x01")
        assert await read_all(stream) == b"<reset>"

    assert sidecar.counter("outbound_tcp_errors_total", error="idle-timeout") == 1


def test_a_server_that_begins_with_http2_settings_does_not_decide_for_its_client() -> None:
    """It says the same to every client; what the client speaks is still to be heard."""
    house = TurnHouse()
    settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
    assert serves_http2(settings)
    assert not any(serves_http2(settings[:n]) for n in range(9))
    client = house.accept(Address("10.0.0.7", 80))
    house.spin(0.02)
    with house.door.dials[0].connect() as server:
        server.sendall(settings)
        house.spin()
        assert server.recv(10) == b""
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    house.spin()

    counted = {dict(labels).get("protocol") for _, labels in house.meter.counters}
    assert counted == {"http/2"}
    house.close()


def test_a_client_that_stays_silent_to_an_http2_server_is_closed_in_the_end() -> None:
    house = TurnHouse()
    client = house.accept(Address("10.0.0.7", 80))
    house.spin(0.02)
    with house.door.dials[0].connect() as server:
        server.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        house.spin()
    (session,) = house.parts.sessions
    session.check(house.now_s + house.parts.config.client_idle_timeout_s + 1)

    assert client.recv(1) == b""
    assert not house.parts.sessions
    house.close()
