"""What is held in memory is counted whole, and the source that holds most is cut first."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from http2house import GET, OK, POST
from multiplexhouse import MultiplexHouse
from turnhouse import TurnHouse

from proxy.holdings import FLOOR_BYTES, SESSION_BYTES, Holdings
from proxy.memory import limit_bytes, resident_bytes
from proxy.model import Address
from proxy.wire.streams import ENHANCE_YOUR_CALM, Settings

SERVER = Address("10.0.0.7", 80)
HALF_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"h" * 60_000


class Fake:
    """A session that holds so much, and says when it ends."""

    is_idle = False

    def __init__(self, source: str, held_bytes: int, ended: list[str], name: str) -> None:
        self.source = source
        self.held_bytes = held_bytes
        self._ended = ended
        self._name = name

    def check(self, now_s: float) -> None: ...

    def abort(self, reason: str) -> None:
        assert reason == "memory-shed"
        self._ended.append(self._name)
        self.held_bytes = 0


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    house = MultiplexHouse()
    yield house
    for session in [session for session in house.parts.sessions if isinstance(session, Fake)]:
        del house.parts.sessions[session]
    house.close()


def holdings(house: TurnHouse, limit_bytes: int) -> Holdings:
    made = Holdings(house.parts, 2 * limit_bytes, 0, lambda: None)
    house.pump.on_full = made.look
    return made


def test_the_source_that_holds_most_loses_its_largest_session_before_a_larger_one_of_another(
    house: MultiplexHouse,
) -> None:
    ended: list[str] = []
    made = holdings(house, FLOOR_BYTES)
    mega = 2**20
    fakes = [Fake("inbound 10.0.0.66", mega + n, ended, f"bad-{n}") for n in range(8)]
    fakes += [Fake("inbound 10.0.0.1", 2 * mega, ended, "upload"), Fake("outbound 10.0.0.9", 100, ended, "small")]
    house.parts.sessions.update(dict.fromkeys(fakes))  # type: ignore[arg-type]
    made.look()

    assert ended == ["bad-7", "bad-6", "bad-5", "bad-4", "bad-3"]
    assert made.held_bytes <= FLOOR_BYTES * 3 // 4
    assert house.meter.counters["memory_shed_total", (("direction", "inbound"),)] == 5


def test_nothing_is_cut_below_the_limit_and_small_sessions_never(house: MultiplexHouse) -> None:
    ended: list[str] = []
    made = holdings(house, FLOOR_BYTES)
    fakes = [Fake("inbound 10.0.0.66", 4000, ended, "small") for _ in range(3000)]
    house.parts.sessions.update(dict.fromkeys(fakes))  # type: ignore[arg-type]
    made.look()
    assert (ended, made.held_bytes) == ([], 12_000_000)


def test_the_more_sessions_there_are_the_less_they_may_hold_and_none_come_where_nothing_is_left(
    house: MultiplexHouse,
) -> None:
    made = holdings(house, 2 * FLOOR_BYTES)
    assert (made.limit_bytes, house.parts.is_crowded) == (2 * FLOOR_BYTES, False)
    fakes = [Fake("inbound 10.0.0.66", 0, [], "") for _ in range(1000)]
    house.parts.sessions.update(dict.fromkeys(fakes))  # type: ignore[arg-type]
    made.look()
    assert (made.limit_bytes, house.parts.is_crowded) == (2 * FLOOR_BYTES - 500 * SESSION_BYTES, False)
    more = [Fake("inbound 10.0.0.66", 0, [], "") for _ in range(4000)]
    house.parts.sessions.update(dict.fromkeys(more))  # type: ignore[arg-type]
    made.look()
    assert (made.limit_bytes, house.parts.is_crowded) == (FLOOR_BYTES, True)


def test_a_small_container_takes_connections_although_it_has_little_room(house: MultiplexHouse) -> None:
    made = holdings(house, FLOOR_BYTES // 4)
    fakes = [Fake("inbound 10.0.0.66", 0, [], "") for _ in range(100)]
    house.parts.sessions.update(dict.fromkeys(fakes))  # type: ignore[arg-type]
    made.look()
    assert (made.limit_bytes, house.parts.is_crowded) == (FLOOR_BYTES, False)


def test_memory_is_counted_as_soon_as_half_of_the_room_has_been_read(house: MultiplexHouse) -> None:
    """Not only by the sweep, which may come too late."""
    made = holdings(house, FLOOR_BYTES)
    socks: list[socket.socket] = []
    for _ in range(200):
        theirs = house.accept(SERVER)
        theirs.sendall(HALF_HEAD)
        socks.append(theirs)
        house.spin()
    assert sum(session.held_bytes for session in house.parts.sessions) < FLOOR_BYTES + len(HALF_HEAD)
    assert made.held_bytes > FLOOR_BYTES // 4
    assert {reason for _, reason, *_ in house.notices} == {"memory-shed"}


def test_a_process_that_is_too_large_gives_back_memory_and_then_cuts_half(house: MultiplexHouse) -> None:
    ended: list[str] = []
    trims: list[int] = []
    made = Holdings(house.parts, 40 * FLOOR_BYTES, 1000, lambda: trims.append(1))
    fakes = [Fake("inbound 10.0.0.66", FLOOR_BYTES, ended, f"{n}") for n in range(4)]
    house.parts.sessions.update(dict.fromkeys(fakes))  # type: ignore[arg-type]
    made.look()
    made.watch(35 * FLOOR_BYTES, 100.0)
    assert (trims, ended) == ([], [])
    made.watch(37 * FLOOR_BYTES, 100.0)
    assert (trims, ended) == ([1], [])
    made.watch(37 * FLOOR_BYTES, 100.25)
    assert len(ended) == 2


def test_of_an_http2_connection_the_largest_requests_are_cut_and_the_others_live(house: MultiplexHouse) -> None:
    client, multiplex = house.client(settings=Settings(False, window_bytes=0))
    for _ in range(4):
        client.http2.request(GET, True)
    small = client.http2.request(GET, True)
    house.run()
    server = house.server()
    for stream_id in (1, 3, 5, 7):
        server.http2.respond(stream_id, OK, False)
        server.http2.send_body(stream_id, b"d" * 65_536, False)
    house.run()
    before = multiplex.held_bytes
    assert before > 4 * 65_536
    freed = multiplex.shed(100_000)
    house.run()

    assert freed >= 100_000
    assert [code for _, code in client.notes.of("reset")] == [ENHANCE_YOUR_CALM] * 2
    assert multiplex.held_bytes < before - 100_000
    server.http2.respond(small, OK, True)
    house.run()
    assert (small, OK, True) in client.notes.of("head")


def test_a_request_that_is_cut_before_its_response_has_an_answer_that_says_why(house: MultiplexHouse) -> None:
    client, multiplex = house.client()
    stream_id = client.http2.request(POST, False)
    client.http2.send_body(stream_id, b"u" * 50_000, False)
    house.run()
    multiplex.shed(1)
    house.run()

    [(_, fields, _)] = client.notes.of("head")
    told = dict(fields)  # type: ignore[call-overload]
    assert (told[b":status"], told[b"x-tulle-error"]) == (b"503", b"memory-shed")


def test_a_client_that_reads_nothing_at_all_loses_its_connection(house: MultiplexHouse) -> None:
    client, multiplex = house.client(settings=Settings(False, window_bytes=2**24))
    channel = multiplex.link.channel
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    client.http2.request(GET, True)
    house.run()
    server = house.server()
    client.reads = False
    server.http2.respond(1, OK, False)
    server.http2.send_body(1, b"d" * 2_000_000, True)
    house.run()
    assert channel.queued_bytes
    multiplex.shed(1)
    assert house.parts.sessions == {}


def test_heads_that_a_server_does_not_read_wait_with_their_clients(house: MultiplexHouse) -> None:
    """One trunk, or few: what waits in it cannot be cut for one client without hurting the others."""
    client, _ = house.client()
    fields = (*GET, *((b"x-%d" % n, b"v%d" % n * 500) for n in range(40)))
    client.http2.request(fields, True)
    house.run()
    theirs = house.door.dials[0].connect()
    house.sockets.append(theirs)
    [trunk] = house.parts.pool.trunks
    trunk.link.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    for _ in range(90):
        client.http2.request(fields, True)
        house.run()
    assert len(house.door.dials) == 1
    assert trunk.link.unsent_bytes < 2 * 262144
    assert len(trunk.streams) < 91
    assert {reason for _, reason, *_ in house.notices} == set()
    theirs.setblocking(False)
    deadline_s = time.monotonic() + 10
    while len(trunk.streams) < 91 and time.monotonic() < deadline_s:
        house.run()
        with suppress(BlockingIOError):
            theirs.recv(1_000_000)
    assert len(trunk.streams) == 91


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "262144000\n"}, 262144000),
        ("0::/\n", {"memory.max": "max\n"}, 0),
        ("0::/\n", {}, 0),
        ("0::/pod/side\n", {"pod/memory.max": "500\n", "pod/side/memory.max": "max\n"}, 500),
        ("0::/pod/side\n", {"pod/memory.max": "500\n", "pod/side/memory.max": "300\n"}, 300),
        ("4:memory:/pod\n1:cpu:/\n", {"memory/pod/memory.limit_in_bytes": "300\n"}, 300),
        ("4:memory:/pod\n", {"memory/pod/memory.limit_in_bytes": "9223372036854771712\n"}, 0),
        ("0::/../outside\n", {"memory.max": "70\n"}, 70),
    ],
)
def test_the_limit_of_the_container_is_found(tmp_path: Path, cgroup: str, files: dict[str, str], expected: int) -> None:
    of = tmp_path / "cgroup"
    of.write_text(cgroup)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limit_bytes(str(tmp_path), str(of)) == expected


def test_where_nothing_is_known_there_is_no_limit(tmp_path: Path) -> None:
    assert limit_bytes(str(tmp_path), str(tmp_path / "none")) == 0
    assert resident_bytes() > 2**20
