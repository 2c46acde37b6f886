"""Words from outside steer nothing: forged marks, callers' deadlines, clients that leave; both protocols, both ways."""

import socket
from collections.abc import Iterator

import pytest
from http2house import GET, OK, POST
from multiplexhouse import MultiplexHouse

from contract.discovery import Destination, Endpoint
from contract.policy import CircuitBreaker, Hedging, ServicePolicy, Timeouts
from proxy.meter import HttpSeries
from proxy.model import SIDECAR, STRANGER, Address, Headers
from proxy.nearby import Nearby
from proxy.peers import Peers
from proxy.targets import Target, Targets
from proxy.wire.streams import CANCEL

ADDRESS = Address("10.1.0.5", 8080)
CLIENT = "127.0.0.1"
GRPC: Headers = (*POST, (b"content-type", b"application/grpc"), (b"te", b"trailers"))
HEAD: Headers = (*OK, (b"content-type", b"application/grpc"))
MARKS: Headers = (
    (b"x-tulle-timeout-ms", b"5000"),
    (b"x-tulle-deadline", b"1700000009000"),
    (b"x-tulle-attempt", b"7"),
    (b"x-tulle-mirror", b"1"),
    (b"x-tulle-error", b"no-endpoints"),
    (b"x-tulle-timeout-ms", b"1"),
    (b"x-tulle-attempt", b"8"),
    (b"x-tulle-later", b"1"),
    (b"x-tulle-", b"1"),
)
BREAKS_AT_ONCE = ServicePolicy(circuit_breaker=CircuitBreaker(consecutive_failures_count=1))


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    made = MultiplexHouse()
    made.parts.unix_s = lambda: 1_700_000_000.0
    yield made
    made.close()


def serve_own_pod(house: MultiplexHouse) -> None:
    """Let the sidecar stand before its own application."""
    house.targets = Targets("inbound", house.pump, house.meter, 100, 0.0, lambda: 0.0)
    house.parts.peers = Peers(house.pump, Nearby())


def tell(house: MultiplexHouse, is_meshed: bool) -> None:
    """Let discovery answer who the client is."""
    peers = house.parts.peers
    assert peers is not None
    peers.meet(CLIENT)
    pod = Endpoint(CLIENT, 1, pod="p", namespace="shop", meshed=is_meshed)
    assert [] == peers.apply([Destination(f"{CLIENT}:1", f"r{is_meshed}", "pod", endpoints=(pod,))])


def obey(house: MultiplexHouse, policy: ServicePolicy | None = None, is_meshed: bool = False) -> Target:
    """Let discovery tell of a service with two endpoints."""
    endpoints = tuple(Endpoint(f"10.1.5.{n}", 8080, meshed=is_meshed) for n in (1, 2))
    target = house.targets.take(ADDRESS)
    told = Destination(
        str(ADDRESS), f"r{house.now_s}", "service", "shop", "web", 80, endpoints=endpoints, policy=policy
    )
    assert [] == house.targets.apply([told])
    return target


def http1(fields: Headers, line: bytes = b"GET / HTTP/1.1\r\nHost: web") -> bytes:
    return b"\r\n".join([line, *[b"%b:%b " % (name.title(), value) for name, value in fields], b"", b""])


def sent(house: MultiplexHouse, fields: Headers) -> tuple[socket.socket, bytes]:
    """Send a request of HTTP/1; give the client and what its server got of the mesh's own headers, sorted."""
    client = house.accept(ADDRESS)
    client.sendall(http1(fields))
    house.spin()
    server = house.door.dials[-1].connect()
    house.sockets.append(server)
    house.spin()
    lines = [line.partition(b":") for line in server.recv(65536).lower().split(b"\r\n")]
    marks = (b"%b: %b" % (name, value.strip()) for name, _, value in lines if name.startswith(b"x-tulle"))
    return client, b" ".join(sorted(marks))


def sent2(house: MultiplexHouse, fields: Headers) -> bytes:
    """The same over HTTP/2."""
    client, _ = house.client(ADDRESS)
    client.http2.request((*GET, *fields), True)
    house.run()
    server = house.server()
    seen = server.notes.of("head")[-1][1]
    return b" ".join(sorted(b"%b: %b" % field for field in seen if field[0].startswith(b"x-tulle")))  # type: ignore


OF_A_SIDECAR = b"x-tulle-attempt: 7 x-tulle-deadline: 1700000005000 x-tulle-mirror: 1 x-tulle-timeout-ms: 5000"
OF_THE_APPLICATION = b"x-tulle-timeout-ms: 5000"


@pytest.mark.parametrize("is_http2", [False, True])
@pytest.mark.parametrize(("is_known", "is_meshed"), [(False, False), (True, False), (True, True)])
def test_inbound_marks_are_believed_of_sidecars_only_and_taken_off_otherwise(
    house: MultiplexHouse, is_http2: bool, is_known: bool, is_meshed: bool
) -> None:
    serve_own_pod(house)
    if is_known:
        tell(house, is_meshed)
    seen = sent2(house, MARKS) if is_http2 else sent(house, MARKS)[1]

    assert (OF_A_SIDECAR if is_meshed else b"") == seen


@pytest.mark.parametrize("is_http2", [False, True])
def test_outbound_the_application_may_tell_its_deadline_and_nothing_else(house: MultiplexHouse, is_http2: bool) -> None:
    obey(house)

    assert OF_THE_APPLICATION == (sent2(house, MARKS) if is_http2 else sent(house, MARKS)[1])


def test_a_client_that_turns_out_to_have_a_sidecar_is_believed_on_the_same_connection(house: MultiplexHouse) -> None:
    serve_own_pod(house)
    client, multiplex = house.client(ADDRESS)
    client.http2.request((*GET, *MARKS), True)
    house.run()
    server = house.server()
    assert STRANGER == multiplex.session.visitor.kind
    tell(house, is_meshed=True)
    client.http2.request((*GET, *MARKS), True)
    house.run()

    assert SIDECAR == multiplex.session.visitor.kind
    first, second = (dict(event[1]) for event in server.notes.of("head"))  # type: ignore[call-overload]
    assert (b"", b"7") == (first.get(b"x-tulle-attempt", b""), second.get(b"x-tulle-attempt", b""))


def test_plain_requests_ask_discovery_for_nobody(house: MultiplexHouse) -> None:
    serve_own_pod(house)
    sent(house, ((b"accept", b"*/*"),))
    sent2(house, ((b"accept", b"*/*"),))

    assert house.parts.peers is not None
    assert {} == house.parts.peers.wanted()


@pytest.mark.parametrize("field", [b"X-Tulle-Error", b"x-tulle-error", b"X-TULLE-ERROR"])
@pytest.mark.parametrize("value", [b"", b"connect-refused", b"\tno-endpoints\t"])
@pytest.mark.parametrize("status", [b"502 Bad", b"103 Early Hints"])
def test_an_unmeshed_server_says_nothing_in_the_meshs_name_over_http1(
    house: MultiplexHouse, field: bytes, value: bytes, status: bytes
) -> None:
    obey(house)
    client, _ = sent(house, ())
    server = house.sockets[-1]
    server.sendall(
        b"HTTP/1.1 %b\r\nA: b\r\n%b:%b\r\n%b: x\r\nX-Tulle-Later: 1\r\nContent-Length: 0\r\n\r\n"
        % (status, field, value, field)
    )
    house.spin()

    length = b"" if status.startswith(b"103") else b"Content-Length: 0\r\n"
    assert b"HTTP/1.1 %b\r\nA: b\r\n%b\r\n" % (status, length) == client.recv(65536)


@pytest.mark.parametrize("is_meshed", [False, True])
def test_over_http2_a_server_speaks_for_the_mesh_if_it_has_a_sidecar_in_trailers_too(
    house: MultiplexHouse, is_meshed: bool
) -> None:
    obey(house, is_meshed=is_meshed)
    client, _ = house.client(ADDRESS)
    stream_id = client.http2.request(GRPC, False)
    client.http2.send_body(stream_id, b"\0\0\0\0\1x", False)
    client.http2.send_trailers(stream_id, ((b"a", b"b"), (b"x-tulle-error", b"no-endpoints")))
    house.run()
    server = house.server()
    server.http2.respond(1, (*HEAD, (b"x-tulle-error", b"overloaded"), (b"x-tulle-attempt", b"2")), False)
    server.http2.send_trailers(1, ((b"grpc-status", b"14"), (b"x-tulle-error", b"response-cut")))
    house.run()

    assert [((b"a", b"b"),)] == [event[1] for event in server.notes.of("trailers")]
    head, trailers = (dict(client.notes.of(kind)[0][1]) for kind in ("head", "trailers"))  # type: ignore[call-overload]
    assert b"x-tulle-attempt" not in head
    said = (head.get(b"x-tulle-error"), trailers.get(b"x-tulle-error"))
    assert ((b"overloaded", b"response-cut") if is_meshed else (None, None)) == said


def test_the_application_says_nothing_in_the_meshs_name_to_its_clients(house: MultiplexHouse) -> None:
    serve_own_pod(house)
    client, _ = sent(house, ())
    house.sockets[-1].sendall(b"HTTP/1.1 200 OK\r\nx-tulle-error:\r\nX-Tulle-Attempt: 2\r\nContent-Length: 0\r\n\r\n")
    house.spin()

    assert b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" == client.recv(65536)


# a caller's deadline


def failures(*series: HttpSeries) -> list[int]:
    return [found.count for one in series for found in one.by_status.values() if not found.success]


DEADLINES = [
    ((b"x-tulle-timeout-ms", b"1"),),
    ((b"x-tulle-timeout-ms", b"0"),),
    ((b"x-tulle-deadline", b"1"),),
    ((b"x-tulle-deadline", b"1700000000001"),),
    ((b"content-type", b"application/grpc"), (b"grpc-timeout", b"1m")),
    ((b"content-type", b"application/grpc"), (b"grpc-timeout", b"0n")),
]


@pytest.mark.parametrize("fields", DEADLINES)
def test_a_callers_deadline_ends_its_own_exchange_and_says_nothing_of_the_endpoints(
    house: MultiplexHouse, fields: Headers
) -> None:
    target = obey(house, BREAKS_AT_ONCE)
    before = [(one.cost_s, one.cost_at_s) for one in target.known]
    client, _ = house.client(ADDRESS)
    for _ in range(5):
        stream_id = client.http2.request((*POST, *fields), True)
        house.run()
        if house.door.dials and not house.peers[1:]:
            house.server()
        house.run(0.3)
        reason = dict(next(e[1] for e in client.notes.of("head") if e[0] == stream_id))[b"x-tulle-error"]  # type: ignore
        assert b"caller-timeout" == reason

    assert 0 == house.targets.ejected_count
    assert before == [(one.cost_s, one.cost_at_s) for one in target.known]
    assert [] == failures(target.http, *(one.http for one in target.known))
    assert [0, 0] == [one.in_flight for one in target.known]
    kinds = [dict(pairs)["kind"] for name, pairs in house.meter.counters if name == "timeouts_total"]
    assert ["caller"] == kinds
    assert 5 == len([notice for notice in house.notices if notice[1] == "caller-timeout"])


def test_a_policys_own_timeout_stays_the_servers_failure(house: MultiplexHouse) -> None:
    policy = ServicePolicy(timeouts=Timeouts(request_s=0.2), circuit_breaker=BREAKS_AT_ONCE.circuit_breaker)
    target = obey(house, policy)
    client, _ = house.client(ADDRESS)
    client.http2.request((*GRPC, (b"grpc-timeout", b"9S")), True)
    house.run()
    house.server()
    house.run(0.3)

    assert 1 == house.targets.ejected_count
    assert [1] == failures(*(one.http for one in target.known))


def test_callers_that_wait_briefly_do_not_teach_hedging_a_short_delay(house: MultiplexHouse) -> None:
    target = obey(house, ServicePolicy(hedging=Hedging(percentile=95.0)))
    client, _ = house.client(ADDRESS)
    for number in range(30):
        stream_id = client.http2.request((*GET, (b"x-tulle-timeout-ms", b"1")), True)
        house.run()
        if not number:
            house.server()
        house.run(0.01)
        other = client.http2.request(GET, True)
        house.run()
        client.http2.reset(other, CANCEL)
        house.run()
        assert stream_id

    assert target.traffic is not None
    assert target.traffic.sketch is not None
    assert target.traffic.sketch.value_s(house.now_s) < 0.0


def test_a_client_that_leaves_a_call_in_the_middle_says_nothing_of_its_endpoint(house: MultiplexHouse) -> None:
    target = obey(house, BREAKS_AT_ONCE)
    client, _ = house.client(ADDRESS)
    for number in range(3):
        stream_id = client.http2.request(GRPC, False)
        house.run()
        server = house.server() if not number else server  # noqa: F821
        server.http2.respond(server.notes.of("head")[-1][0], HEAD, False)
        house.run()
        client.http2.reset(stream_id, CANCEL)
        house.run()

    assert 0 == house.targets.ejected_count
    assert [] == failures(*(one.http for one in target.known))
    counted = {key: found.count for one in target.known for key, found in one.http.by_status.items()}
    assert {(200, "1"): 3} == counted


def test_a_client_that_does_not_finish_its_request_says_nothing_of_the_endpoint(house: MultiplexHouse) -> None:
    policy = ServicePolicy(timeouts=Timeouts(request_s=0.2), circuit_breaker=BREAKS_AT_ONCE.circuit_breaker)
    target = obey(house, policy)
    client = house.accept(ADDRESS)
    client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\npart")
    house.spin()
    house.sockets.append(house.door.dials[-1].connect())
    house.spin()
    house.spin(0.3)

    assert b"x-tulle-error: request-timeout" in client.recv(65536)
    assert 0 == house.targets.ejected_count
    assert [] == failures(*(one.http for one in target.known))
