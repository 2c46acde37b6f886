"""Injected faults are met by tries: retries, hedges, breakers and limits see a server's answer. Tunnels keep places."""

import socket
from collections.abc import Iterator

import pytest
from http2house import GET as GET2
from http2house import OK as OK2
from http2house import POST
from multiplexhouse import MultiplexHouse

from contract.discovery import Destination, Endpoint
from contract.policy import Budget, CircuitBreaker, Concurrency, Fault, Hedging, Retries, ServicePolicy, Timeouts
from proxy.model import Address, Headers
from proxy.targets import Target, Targets
from proxy.wire.streams import CANCEL

ADDRESS = Address("10.96.0.7", 80)
GET = b"GET /a HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
CONNECT = b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n"
GRPC: Headers = (*POST, (b"content-type", b"application/grpc"), (b"te", b"trailers"))
GENEROUS = Budget(ratio=1.0, min_per_s=10.0, window_s=10.0)
ON_503 = Retries(limit_count=2, statuses=((503, 503),))
BREAKS_AT_ONCE = CircuitBreaker(consecutive_failures_count=1)
ABORT = Fault(ratio=0.5, abort_status=503, name="shop/half")


class House(MultiplexHouse):
    """Chance is in the test's hand too: faults of half of the tries happen while it is `bad`."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = True
        self.parts.random = lambda: 0.9
        config = self.parts.config
        self.targets = Targets("outbound", self.pump, self.meter, config.max_targets_count, 1.0, self.chance)

    def chance(self) -> float:
        return 0.0 if self.bad else 0.9

    def obey(self, **policy: object) -> Target:
        """Let discovery tell of a service with two endpoints and this policy."""
        target = self.targets.take(ADDRESS)
        endpoints = tuple(Endpoint(f"10.1.0.{n}", 8080) for n in (1, 2))
        held = ServicePolicy(budget=policy.pop("budget", GENEROUS), **policy)  # type: ignore[arg-type]
        told = Destination(str(ADDRESS), "r", "service", "shop", "web", 80, endpoints=endpoints, policy=held)
        assert self.targets.apply([told]) == []
        return target

    def send(self, request: bytes = GET) -> socket.socket:
        client = self.accept(ADDRESS)
        client.sendall(request)
        self.spin()
        return client

    def answer(self, response: bytes, number: int = -1) -> socket.socket:
        """Let a dial succeed and the server answer."""
        server = self.door.dials[number].connect()
        self.sockets.append(server)
        self.spin()
        assert server.recv(65536)
        server.sendall(response)
        self.spin()
        return server

    def counted(self, name: str, **labels: str) -> int:
        found = ((set(pairs), count) for (one, pairs), count in self.meter.counters.items() if one == name)
        return sum(count for pairs, count in found if set(labels.items()) <= pairs)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def heard(client: socket.socket) -> bytes:
    client.settimeout(0.2)
    try:
        return client.recv(65536)
    except TimeoutError:
        return b""
    except ConnectionResetError:
        return b"reset"


def statuses(target: Target) -> dict[tuple[int, str], int]:
    """Responses by status, over all endpoints."""
    sums: dict[tuple[int, str], int] = {}
    for endpoint in target.known:
        for key, found in endpoint.http.by_status.items():
            sums[key] = sums.get(key, 0) + found.count
    return sums


def test_an_injected_status_is_tried_again_and_each_try_draws_anew(house: House) -> None:
    target = house.obey(retries=ON_503, faults=(ABORT,))
    client = house.send()
    assert [] == house.door.dials
    house.bad = False
    house.spin(0.1)
    house.answer(OK)

    assert heard(client).endswith(b"ok")
    assert {(503, ""): 1, (200, ""): 1} == statuses(target)
    assert (1, 1) == (house.counted("outbound_retry_requests_total"), house.counted("outbound_retry_successes_total"))
    assert 1 == house.counted("outbound_faults_total", kind="abort")
    assert 2 == sum(endpoint.http.requests for endpoint in target.known)
    assert [0, 0] == [endpoint.in_flight for endpoint in target.known]


def test_the_fault_is_the_clients_when_every_try_met_one(house: House) -> None:
    house.obey(retries=ON_503, faults=(ABORT,))
    client = house.send()
    for _ in range(4):
        house.spin(0.5)

    answer = heard(client)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"x-tulle-error: fault-injected" in answer
    assert 3 == house.counted("outbound_faults_total", kind="abort")
    assert 1 == house.counted("outbound_retry_skipped_total", reason="limit")


def test_retries_of_injected_faults_are_paid_from_the_budget(house: House) -> None:
    house.obey(retries=ON_503, faults=(ABORT,), budget=Budget(ratio=0.0, min_per_s=0.0, window_s=10.0))

    assert b"fault-injected" in heard(house.send())
    assert 1 == house.counted("outbound_retry_skipped_total", reason="budget")


def test_an_injected_failure_of_grpc_is_tried_again(house: House) -> None:
    target = house.obey(
        retries=Retries(grpc_statuses=(14,)), faults=(Fault(ratio=0.5, abort_grpc_status=14, name="shop/half"),)
    )
    client, _ = house.client(ADDRESS)
    client.http2.request(GRPC, True)
    house.run()
    assert [] == house.door.dials
    house.bad = False
    house.run(0.1)
    server = house.server()
    server.http2.respond(1, (*OK2, (b"content-type", b"application/grpc")), False)
    server.http2.send_trailers(1, ((b"grpc-status", b"0"),))
    house.run()

    assert [(b"grpc-status", b"0")] == [field for event in client.notes.of("trailers") for field in event[1]]  # type: ignore
    assert {(200, "14"): 1, (200, "0"): 1} == statuses(target)
    assert 1 == house.counted("outbound_retry_successes_total")


def test_a_retry_of_grpc_that_fails_again_is_no_success(house: House) -> None:
    retries = Retries(limit_count=1, grpc_statuses=(14,))
    house.obey(retries=retries, faults=(Fault(ratio=0.5, abort_grpc_status=14),))
    client, _ = house.client(ADDRESS)
    client.http2.request(GRPC, True)
    house.run()
    house.run(0.1)

    assert 1 == len(client.notes.of("head"))
    assert (1, 0) == (house.counted("outbound_retry_requests_total"), house.counted("outbound_retry_successes_total"))


@pytest.mark.parametrize(("status", "is_ejected"), [(503, True), (404, False)])
def test_the_circuit_breaker_takes_an_injected_status_for_the_endpoints(
    house: House, status: int, is_ejected: bool
) -> None:
    target = house.obey(circuit_breaker=BREAKS_AT_ONCE, faults=(Fault(abort_status=status),))

    assert heard(house.send()).startswith(b"HTTP/1.1 %d " % status)
    assert is_ejected == bool(house.targets.ejected_count)
    assert {(status, ""): 1} == statuses(target)


def test_an_injected_reset_is_tried_again_after_resets(house: House) -> None:
    target = house.obey(retries=Retries(on_reset=True), faults=(Fault(ratio=0.5, is_reset=True),))
    client = house.send()
    house.bad = False
    house.spin(0.1)
    house.answer(OK)

    assert heard(client).endswith(b"ok")
    assert [0, 0] == [endpoint.in_flight for endpoint in target.known]


def test_an_injected_reset_that_nothing_follows_speaks_against_its_endpoint_and_resets(house: House) -> None:
    house.obey(circuit_breaker=BREAKS_AT_ONCE, faults=(Fault(is_reset=True),))

    assert b"reset" == heard(house.send())
    assert 1 == house.targets.ejected_count


def test_an_injected_delay_is_seen_by_the_time_of_a_try(house: House) -> None:
    house.obey(
        retries=Retries(on_reset=True), timeouts=Timeouts(per_try_s=0.3), faults=(Fault(ratio=0.5, delay_s=5.0),)
    )
    client = house.send()
    house.bad = False
    house.spin(0.4)
    house.spin(0.1)
    house.answer(OK)

    assert heard(client).endswith(b"ok")
    assert 1 == house.counted("timeouts_total", kind="per-try")


def test_an_injected_delay_is_seen_by_hedging(house: House) -> None:
    target = house.obey(hedging=Hedging(delay_s=0.1), faults=(Fault(ratio=0.5, delay_s=5.0),))
    client = house.send()
    assert 1 == sum(endpoint.in_flight for endpoint in target.known), "it is held as if its server had it"
    house.bad = False
    house.spin(0.2)
    house.answer(OK)

    assert heard(client).endswith(b"ok")
    assert 1 == house.counted("outbound_hedge_wins_total")
    house.spin(6.0)
    assert 1 == len(house.door.dials)
    assert [0, 0] == [endpoint.in_flight for endpoint in target.known]


def test_what_a_fault_does_to_a_body_concerns_the_try_that_met_it(house: House) -> None:
    house.obey(retries=ON_503, faults=(Fault(ratio=0.5, truncate_bytes=1),))
    client = house.send()
    house.bad = False
    house.answer(BUSY)
    house.spin(0.1)
    house.answer(OK)

    assert heard(client).endswith(b"\r\n\r\nok")
    assert 0 == house.counted("outbound_faults_total")


def test_a_client_that_leaves_during_a_delay_leaves_nothing_behind(house: House) -> None:
    target = house.obey(faults=(Fault(delay_s=1.0),))
    client = house.send()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    house.spin()
    house.spin(2.0)

    assert [] == house.door.dials
    assert [0, 0] == [endpoint.in_flight for endpoint in target.known]


# tunnels


@pytest.mark.parametrize(
    ("request_", "response"), [(UPGRADE, SWITCHED), (CONNECT, b"HTTP/1.1 200 OK\r\n\r\n")], ids=["websocket", "connect"]
)
@pytest.mark.parametrize("kind", ["service_concurrency", "endpoint_concurrency"])
def test_a_tunnel_keeps_its_place_under_concurrency_until_it_ends(
    house: House, request_: bytes, response: bytes, kind: str
) -> None:
    places_count = 1 if kind == "service_concurrency" else 2
    house.bad = False
    house.obey(**{kind: Concurrency(limit_count=1, queue_count=1, queue_timeout_s=9.0)})
    tunnels = [(house.send(request_), house.answer(response)) for _ in range(places_count)]
    waiting = house.send()
    assert places_count == len(house.door.dials), "there is no room beside tunnels"
    for end in tunnels[0]:
        end.close()
    house.spin()

    house.answer(OK)
    assert heard(waiting).endswith(b"ok")


def test_a_websocket_over_http2_keeps_its_place_until_its_stream_ends(house: House) -> None:
    house.bad = False
    house.obey(service_concurrency=Concurrency(limit_count=1))
    client, _ = house.client(ADDRESS)
    stream_id = client.http2.request(((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET2[1:]), False)
    house.run()
    server = house.server()
    server.http2.respond(1, OK2, False)
    house.run()
    refused = client.http2.request(GET2, True)
    house.run()
    client.http2.reset(stream_id, CANCEL)
    house.run()
    client.http2.request(GET2, True)
    house.run()

    heads = {event[0]: dict(event[1])[b":status"] for event in client.notes.of("head")}  # type: ignore[call-overload]
    assert {stream_id: b"200", refused: b"503"} == heads
    assert 2 == len(server.notes.of("head"))
