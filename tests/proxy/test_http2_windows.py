"""Windows of HTTP/2: what all streams of a connection may hold is bounded, and none of them waits for another."""

from collections.abc import Iterator

import pytest
from http2house import GET, OK, POST
from multiplexhouse import MultiplexHouse

from proxy.config import Config
from proxy.wire.streams import Settings

STREAMS_COUNT = 16
FIRST_BYTES = 16384
FULL_BYTES = 65536
SHARED_BYTES = 2 * (FULL_BYTES - FIRST_BYTES)
"""Two streams may grow."""


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    house = MultiplexHouse(
        http2_streams_count=STREAMS_COUNT,
        trunk_streams_count=STREAMS_COUNT,
        http2_first_window_bytes=FIRST_BYTES,
        http2_window_bytes=FULL_BYTES,
        http2_shared_window_bytes=SHARED_BYTES,
    )
    yield house
    house.close()


def test_responses_that_a_client_does_not_take_hold_no_more_than_their_first_windows(house: MultiplexHouse) -> None:
    client, multiplex = house.client(settings=Settings(False, window_bytes=0))
    for _ in range(STREAMS_COUNT):
        client.http2.request(GET, True)
    house.run()
    server = house.server()
    for number in range(STREAMS_COUNT):
        server.http2.respond(2 * number + 1, OK, False)
        server.http2.send_body(2 * number + 1, b"d" * 200_000, True)
    house.run()

    assert multiplex.http2.held_bytes == STREAMS_COUNT * FIRST_BYTES


def test_full_streams_do_not_stop_another_one_in_either_direction(house: MultiplexHouse) -> None:
    """All but one are full, two of them as large as they can be; the last one goes on."""
    client, _ = house.client()
    streams = [client.http2.request(POST, False) for _ in range(STREAMS_COUNT)]
    house.run()
    server = house.server(settings=Settings(True, window_bytes=FULL_BYTES))
    server.notes.acknowledges = client.notes.acknowledges = False
    for number in range(STREAMS_COUNT):
        server.http2.respond(2 * number + 1, OK, False)
    for stream_id in streams[:-1]:
        client.http2.send_body(stream_id, b"u" * 500_000, False)
        server.http2.send_body(stream_id, b"d" * 500_000, False)
    house.run()
    client.http2.send_body(streams[-1], b"up", False)
    server.http2.send_body(streams[-1], b"down", False)
    house.run()

    assert server.notes.body(streams[-1]) == b"up"
    assert client.notes.body(streams[-1]) == b"down"


@pytest.mark.parametrize("grown_count", [1, 2, 3])
def test_a_stream_that_moves_much_may_have_more_on_its_way_and_gives_it_back(
    house: MultiplexHouse, grown_count: int
) -> None:
    client, _ = house.client(settings=Settings(False, window_bytes=2**20))
    streams = [client.http2.request(GET, True) for _ in range(grown_count)]
    house.run()
    server = house.server()
    for stream_id in streams:
        server.http2.respond(stream_id, OK, False)
        server.http2.send_body(stream_id, b"d" * 50_000, False)
    house.run()
    windows = [server.http2._connection.stream_remote_window_size(stream_id) for stream_id in streams]
    assert sum(window > FIRST_BYTES for window in windows) == min(grown_count, 2)
    assert max(windows) <= FULL_BYTES
    for stream_id in streams:
        server.http2.send_body(stream_id, b"", True)
    house.run()
    [trunk] = house.parts.pool.trunks
    assert trunk.windows._left_bytes == SHARED_BYTES


def test_an_upload_that_moves_much_may_have_more_on_its_way_and_gives_it_back(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    stream_id = client.http2.request(POST, False)
    house.run()
    server = house.server(settings=Settings(True, window_bytes=2**20))
    client.http2.send_body(stream_id, b"u" * 50_000, False)
    house.run()
    assert FIRST_BYTES < client.http2._connection.stream_remote_window_size(stream_id) <= FULL_BYTES
    client.http2.send_body(stream_id, b"", True)
    server.http2.respond(1, OK, True)
    house.run()
    assert multiplex.windows._left_bytes == SHARED_BYTES


@pytest.mark.parametrize("window_bytes", [1000, 4000, 16384])
def test_a_client_with_a_small_window_gets_all_of_a_large_response(house: MultiplexHouse, window_bytes: int) -> None:
    """Each of its steps is too small to be worth a WINDOW_UPDATE; together they are many windows."""
    client, _ = house.client(settings=Settings(False, window_bytes=window_bytes))
    stream_id = client.http2.request(GET, True)
    house.run()
    server = house.server()
    server.http2.respond(1, OK, False)
    server.http2.send_body(1, b"d" * 400_000, True)
    for _ in range(500):
        house.run()
        if len(client.notes.body(stream_id)) == 400_000:
            break

    assert len(client.notes.body(stream_id)) == 400_000


def test_the_windows_of_a_connection_are_bounded_by_default() -> None:
    config = Config()
    assert config.connection_window_bytes(config.http2_streams_count) == 2 * (250 * 65536 + 2**24)  # were 2 GiB
    assert config.connection_window_bytes(config.trunk_streams_count) < 2**28
