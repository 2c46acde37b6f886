"""What libnghttp2 refuses on a stream is counted and told, whichever side has sent it; limits of heads."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from hpack import Encoder
from http2house import GET, OK, POST, START, data_frame, frames, head
from hyperframe.frame import RstStreamFrame, SettingsFrame
from multiplexhouse import MultiplexHouse
from proxyhouse import OK as OK1
from proxyhouse import Script, read_all

from proxy.config import Config
from proxy.model import Headers
from proxy.wire.streams import PROTOCOL_ERROR, Settings

BARE: Headers = (GET[0], GET[1], GET[3])
ODD: dict[str, Headers] = {
    "authority with a slash": (*BARE, (b":authority", b"/run/agent.sock")),
    "authority with brackets": (*BARE, (b":authority", b"#initially=[a]")),
    "space behind a value": (*GET, (b"x-a", b"b ")),
    "upper case": (*GET, (b"X-A", b"b")),
    "connection": (*GET, (b"connection", b"close")),
    "late pseudo-header": (GET[0], GET[1], GET[2], (b"x-a", b"b"), GET[3]),
    "no path": GET[:3],
    "no number for a length": (*GET, (b"content-length", b"x")),
}
ODD_ANSWERS: dict[str, Headers] = {
    "space behind a value": (*OK, (b"x-a", b"b ")),
    "upper case": (*OK, (b"X-A", b"b")),
    "connection": (*OK, (b"connection", b"close")),
    "late pseudo-header": ((b"x-a", b"b"), *OK),
    "no status": ((b"x-a", b"b"),),
}
LABELS = (("direction", "outbound"), ("reason", "malformed-message"))


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    house = MultiplexHouse(http2_window_bytes=65536)
    yield house
    house.close()


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_an_odd_request_that_is_refused_is_counted_and_told_and_its_siblings_live(
    house: MultiplexHouse, fields: Headers
) -> None:
    theirs, _ = house.connect()
    encoder = Encoder()
    ack = SettingsFrame(0, flags=["ACK"]).serialize()
    theirs.sendall(START + ack + head(encoder, 1, fields) + head(encoder, 3, GET))
    house.spin()
    server = house.server()
    server.http2.respond(1, OK, True)
    house.run()

    sent = frames(theirs.recv(10_000))
    assert [(f.stream_id, f.error_code) for f in sent if isinstance(f, RstStreamFrame)] == [(1, PROTOCOL_ERROR)]
    assert [f.stream_id for f in sent if type(f).__name__ == "HeadersFrame"] == [3]
    assert house.meter.counters["http2_faults_total", LABELS] == 1
    [(direction, reason, detail)] = house.notices
    assert (direction, reason) == ("outbound", "malformed-message")
    assert "stream 1 of 127.0.0.1, for 10.0.0.7:80" in detail


def test_a_body_of_another_length_than_was_said_is_counted_and_told(house: MultiplexHouse) -> None:
    theirs, _ = house.connect()
    theirs.sendall(START + head(Encoder(), 1, (*POST, (b"content-length", b"7")), False) + data_frame(1, b"four", True))
    house.spin()

    assert house.meter.counters["http2_faults_total", LABELS] == 1
    assert "malformed-message" in [reason for _, reason, _ in house.notices]


@pytest.mark.parametrize("fields", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_response_that_is_refused_is_counted_and_told(house: MultiplexHouse, fields: Headers) -> None:
    client, _ = house.client()
    stream_id = client.http2.request(GET, True)
    house.run()
    theirs = house.door.dials[-1].connect()
    house.sockets.append(theirs)
    theirs.sendall(SettingsFrame(0).serialize() + head(Encoder(), 1, fields))
    house.run()

    assert house.meter.counters["http2_faults_total", LABELS] == 1
    assert [notice[:2] for notice in house.notices] == [("outbound", "bad-response")]
    [(of_id, answer, _)] = client.notes.of("head")
    assert (of_id, dict(answer)[b"x-tulle-error"]) == (stream_id, b"bad-response")  # type: ignore[call-overload]


# limits of heads, the same in both versions

MANY = Config().max_fields_count


@pytest.mark.parametrize(("count", "status"), [(1100, b"200"), (MANY - 4, b"200"), (MANY - 3, b"431")])
def test_a_request_of_many_fields_passes_up_to_the_limit_and_the_connection_lives(
    house: MultiplexHouse, count: int, status: bytes
) -> None:
    """1,024 fields of 39 kB ended the connection once."""
    client, _ = house.client(settings=Settings(False, head_bytes=2**20))
    first = client.http2.request((*GET, *[(b"x-%d" % (n % 50), b"some value of twenty") for n in range(count)]), True)
    house.run()
    if status == b"200":
        server = house.server()
        server.http2.respond(1, OK, True)
        house.run()
    [(of_id, fields, _)] = client.notes.of("head")
    assert (of_id, fields[0]) == (first, (b":status", status))  # type: ignore[index]
    second = client.http2.request(GET, True)
    house.run()
    server = house.server() if status != b"200" else server
    server.http2.respond(server.http2.last_stream_id, OK, True)
    house.run()
    assert client.notes.of("head")[-1] == (second, OK, True)


@pytest.mark.parametrize("extra", [((b"x-a", b"b"),) * (MANY + 1), ((b"x-a", b"b" * 65536),)], ids=["many", "large"])
def test_a_response_beyond_the_limits_of_heads_is_a_bad_response(house: MultiplexHouse, extra: Headers) -> None:
    client, _ = house.client()
    stream_id = client.http2.request(GET, True)
    house.run()
    server = house.server(settings=Settings(True))
    server.http2.respond(1, (*OK, *extra), False)
    house.run()

    [(of_id, answer, _)] = client.notes.of("head")
    told = dict(answer)  # type: ignore[call-overload]
    assert (of_id, told[b":status"], told[b"x-tulle-error"]) == (stream_id, b"502", b"bad-response")
    assert server.notes.of("reset") == [(1, 8)]
    labels = (("direction", "outbound"), ("reason", "head-too-large"))
    assert house.meter.counters["http2_faults_total", labels] == 1


@pytest.mark.trio
@pytest.mark.parametrize(("count", "status"), [(MANY - 1, b"200"), (MANY, b"431")])
async def test_http1_has_the_same_limit_of_fields(start_sidecar: Any, serve: Any, count: int, status: bytes) -> None:
    sidecar = await start_sidecar(await serve(Script([OK1]).handle))
    fields = b"".join(b"x-%d: some value of twenty\r\n" % (n % 50) for n in range(count))
    async with await sidecar.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: web\r\n" + fields + b"\r\n")
        with trio.move_on_after(0.5):
            answer = await stream.receive_some(20)
        if status == b"431":
            await read_all(stream)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert sidecar.counter("http1_faults_total", reason="head-too-large") == (1 if status == b"431" else 0)


@pytest.mark.trio
async def test_http1_responses_have_the_same_limit_of_fields(start_sidecar: Any, serve: Any) -> None:
    fields = b"x-a: b\r\n" * MANY
    answer = OK1.replace(b"\r\n\r\n", b"\r\n" + fields + b"\r\n")
    sidecar = await start_sidecar(await serve(Script([answer]).handle))
    async with await sidecar.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        got = await read_all(stream)

    assert got.startswith(b"HTTP/1.1 502")
    assert b"x-tulle-error: bad-response" in got.lower()


@pytest.mark.trio
async def test_the_limits_of_heads_are_metrics(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(Script([OK1]).handle), max_fields_count=77)
    _, page = await sidecar.admin("/metrics")

    assert "\nhead_fields_limit 77\n" in page
    assert "\nhead_limit_bytes 65536\n" in page
