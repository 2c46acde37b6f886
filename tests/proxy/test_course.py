"""Policies at work on real sockets, the clock and the door in the test's hand: limits, tries, faults, mirrors."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from turnhouse import FakeDial, TurnHouse

from contract.discovery import Destination, Endpoint
from contract.policy import (
    Affinity,
    Balancing,
    Budget,
    CircuitBreaker,
    Concurrency,
    Fault,
    Hash,
    Hedging,
    Match,
    Mirror,
    Retries,
    ServicePolicy,
    Timeouts,
)
from proxy.model import Address
from proxy.tries import MAX_HINTS_BYTES

ADDRESS = Address("10.96.0.7", 80)
MIRROR = Address("10.96.0.9", 80)
GET = b"GET /a HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
RESET = b"\x01\0\0\0\0\0\0\0"
GENEROUS = Budget(ratio=1.0, min_per_s=10.0, window_s=10.0)


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    """A sidecar whose door is in the test's hand."""
    made = TurnHouse()
    yield made
    made.close()


def obey(
    house: TurnHouse, policy: ServicePolicy | None, count: int = 2, at: Address = ADDRESS, name: str = "web"
) -> None:
    """Let discovery tell of a service with so many endpoints and this policy."""
    house.targets.take(at)
    endpoints = tuple(Endpoint(f"10.1.{at.ip[-1]}.{n}", 8080) for n in range(1, count + 1))
    told = Destination(str(at), f"r{house.now_s}", "service", "shop", name, 80, endpoints=endpoints, policy=policy)
    assert house.targets.apply([told]) == []


def send(house: TurnHouse, request: bytes = GET) -> socket.socket:
    """Let a client send a request; give its socket."""
    client = house.accept(ADDRESS)
    client.sendall(request)
    house.spin()
    return client


def dial(house: TurnHouse, number: int) -> FakeDial:
    """The dial that was asked for as the n-th, from 0."""
    assert len(house.door.dials) > number, "there was no such dial"
    return house.door.dials[number]


def connect(house: TurnHouse, number: int) -> tuple[socket.socket, bytes]:
    """Let a dial succeed; give the server's end and what it has read."""
    server = dial(house, number).connect()
    house.sockets.append(server)
    house.spin()
    return server, server.recv(65536)


def reply(house: TurnHouse, server: socket.socket, response: bytes) -> None:
    server.sendall(response)
    house.spin()


def heard(client: socket.socket) -> bytes:
    """What the client has got so far."""
    client.settimeout(0.2)
    try:
        return client.recv(65536)
    except TimeoutError:
        return b""
    except ConnectionResetError:
        return b"reset"


def counted(house: TurnHouse, name: str, **labels: str) -> int:
    """Sum a counter over the series that have these labels."""
    return sum(
        count
        for (found, pairs), count in house.meter.counters.items()
        if found == name and set(labels.items()) <= set(pairs)
    )


# tries


def test_a_retry_goes_to_another_endpoint_and_says_which_try_it_is(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((500, 599),)), budget=GENEROUS))
    client = send(house)
    first, request = connect(house, 0)
    assert b"x-tulle-attempt" not in request
    reply(house, first, BUSY)
    house.spin(0.1)
    second, request = connect(house, 1)
    reply(house, second, OK)

    assert b"\r\nx-tulle-attempt: 2\r\n" in request
    assert dial(house, 0).address != dial(house, 1).address
    assert heard(client).endswith(b"ok")
    assert counted(house, "outbound_retry_requests_total") == 1
    assert counted(house, "outbound_retry_successes_total") == 1


def test_the_last_answer_is_the_clients_when_the_tries_are_used_up(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(limit_count=1, statuses=((503, 503),)), budget=GENEROUS))
    client = send(house)
    for number in range(2):
        server, _ = connect(house, number)
        reply(house, server, BUSY)
        house.spin(0.5)

    assert heard(client).startswith(b"HTTP/1.1 503")
    assert len(house.door.dials) == 2
    assert counted(house, "outbound_retry_skipped_total", reason="limit") == 1


def test_an_empty_budget_ends_the_retries(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),)), budget=Budget(0.0, 0.0)))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, BUSY)

    assert heard(client).startswith(b"HTTP/1.1 503")
    assert counted(house, "outbound_retry_skipped_total", reason="budget") == 1


def test_a_post_is_not_sent_twice_after_a_status_but_after_a_failed_dial(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),)), budget=GENEROUS))
    post = b"POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"
    client = send(house, post)
    dial(house, 0).fail("connect-refused")
    house.spin(0.1)
    server, request = connect(house, 1)
    reply(house, server, BUSY)

    assert request.endswith(b"abc")
    assert heard(client).startswith(b"HTTP/1.1 503")
    assert counted(house, "outbound_retry_skipped_total", reason="method") == 1


def test_a_body_is_replayed_whole(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),), methods=("PUT",)), budget=GENEROUS))
    client = send(house, b"PUT /a HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nabc")
    first, _ = connect(house, 0)
    client.sendall(b"def")
    house.spin()
    reply(house, first, BUSY)
    house.spin(0.1)
    second, request = connect(house, 1)
    reply(house, second, OK)

    assert request.endswith(b"\r\n\r\nabcdef")
    assert heard(client).endswith(b"ok")


def test_a_body_larger_than_the_buffer_is_not_replayed(house: TurnHouse) -> None:
    retries = Retries(statuses=((503, 503),), methods=("PUT",), body_bytes=4)
    obey(house, ServicePolicy(retries=retries, budget=GENEROUS))
    client = send(house, b"PUT /a HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\n")
    server, _ = connect(house, 0)
    client.sendall(b"abcdef")
    house.spin()
    reply(house, server, BUSY)

    assert heard(client).startswith(b"HTTP/1.1 503")
    assert counted(house, "outbound_retry_skipped_total", reason="body") == 1


def test_a_reset_before_the_response_is_retried_where_the_policy_says_so(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(on_reset=True), budget=GENEROUS))
    client = send(house)
    first, _ = connect(house, 0)
    first.close()
    house.spin()
    house.spin(0.1)
    second, _ = connect(house, 1)
    reply(house, second, OK)

    assert heard(client).endswith(b"ok")


def test_no_try_follows_once_the_response_has_begun(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(on_reset=True, statuses=((500, 599),)), budget=GENEROUS))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    server.close()
    house.spin(1.0)

    assert heard(client).endswith(b"part")
    assert heard(client) == b"reset"
    assert len(house.door.dials) == 1


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_hints_of_a_discarded_try_are_discarded_with_it(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),)), budget=GENEROUS))
    client = send(house)
    first, _ = connect(house, 0)
    reply(house, first, HINTS % 1 + BUSY)
    house.spin(0.1)
    second, _ = connect(house, 1)
    reply(house, second, HINTS % 2)
    assert heard(client) == b""
    reply(house, second, HINTS % 3 + OK)

    assert heard(client) == HINTS % 2 + HINTS % 3 + OK


def test_the_hints_of_the_half_of_a_pair_that_wins_are_the_clients(house: TurnHouse) -> None:
    obey(house, ServicePolicy(hedging=Hedging(delay_s=0.05), budget=GENEROUS))
    client = send(house)
    first, _ = connect(house, 0)
    reply(house, first, HINTS % 1)
    house.spin(0.06)
    second, _ = connect(house, 1)
    reply(house, second, HINTS % 2 + OK)

    assert heard(client) == HINTS % 2 + OK


def test_the_client_is_asked_for_its_body_once_and_at_once(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),)), budget=GENEROUS))
    client = send(house, b"PUT /a HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    first, _ = connect(house, 0)
    reply(house, first, CONTINUE)
    assert heard(client) == CONTINUE
    client.sendall(b"abc")
    house.spin()
    reply(house, first, BUSY)
    house.spin(0.1)
    second, request = connect(house, 1)
    assert request.endswith(b"abc")
    reply(house, second, CONTINUE + OK)

    assert heard(client) == OK


def test_hints_pass_at_once_where_no_other_try_can_follow(house: TurnHouse) -> None:
    obey(house, ServicePolicy(timeouts=Timeouts(request_s=10.0)))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, HINTS % 1)

    assert heard(client) == HINTS % 1


def test_hints_without_end_take_no_memory_without_end(house: TurnHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),)), budget=GENEROUS))
    client = send(house)
    server, _ = connect(house, 0)
    for _ in range(20):
        reply(house, server, HINTS % 1 * 100)
    reply(house, server, OK)
    answer = heard(client)

    assert answer.endswith(OK)
    assert 8192 < len(answer) <= MAX_HINTS_BYTES + len(OK)


def test_a_try_has_its_own_time(house: TurnHouse) -> None:
    policy = ServicePolicy(timeouts=Timeouts(per_try_s=0.5), retries=Retries(on_reset=True), budget=GENEROUS)
    obey(house, policy)
    client = send(house)
    connect(house, 0)
    house.spin(0.6)
    house.spin(0.1)
    second, _ = connect(house, 1)
    reply(house, second, OK)

    assert heard(client).endswith(b"ok")
    assert counted(house, "timeouts_total", kind="per-try") == 1


def test_without_retries_the_end_of_a_try_is_the_end(house: TurnHouse) -> None:
    obey(house, ServicePolicy(timeouts=Timeouts(per_try_s=0.5)))
    client = send(house)
    connect(house, 0)
    house.spin(0.6)

    assert b"x-tulle-error: try-timeout" in heard(client)


# hedges


def test_a_hedge_goes_beside_a_slow_try_and_the_first_answer_wins(house: TurnHouse) -> None:
    obey(house, ServicePolicy(hedging=Hedging(delay_s=0.05), budget=GENEROUS))
    client = send(house)
    slow, _ = connect(house, 0)
    house.spin(0.06)
    quick, request = connect(house, 1)
    reply(house, quick, OK)

    assert b"\r\nx-tulle-attempt: 2\r\n" in request
    assert heard(client).endswith(b"ok")
    with pytest.raises(ConnectionResetError):  # an end alone would not cancel it
        slow.recv(1)
    assert counted(house, "outbound_hedge_requests_total") == 1
    assert counted(house, "outbound_hedge_wins_total") == 1


def test_a_request_with_credentials_of_its_connection_is_not_hedged(house: TurnHouse) -> None:
    """On another connection the server would not know the client, and its refusal would win."""
    obey(house, ServicePolicy(hedging=Hedging(delay_s=0.05), budget=GENEROUS))
    client = send(house, GET[:-2] + b"Authorization: NTLM TlRM\r\n\r\n")
    server, _ = connect(house, 0)
    house.spin(0.06)
    assert len(house.door.dials) == 1
    reply(house, server, OK)
    assert heard(client).endswith(b"ok")
    client.sendall(GET)
    house.spin()
    house.spin(0.06)

    assert len(house.door.dials) == 1
    reply(house, server, OK)
    assert heard(client).endswith(b"ok")


def test_the_first_try_may_win_after_the_hedge_has_begun(house: TurnHouse) -> None:
    obey(house, ServicePolicy(hedging=Hedging(delay_s=0.05), budget=GENEROUS))
    client = send(house)
    first, _ = connect(house, 0)
    house.spin(0.06)
    hedge, _ = connect(house, 1)
    reply(house, first, OK)

    assert heard(client).endswith(b"ok")
    with pytest.raises(ConnectionResetError):
        hedge.recv(1)
    assert counted(house, "outbound_hedge_wins_total") == 0


def test_a_post_is_not_hedged_and_a_failing_half_of_a_pair_is_forgotten(house: TurnHouse) -> None:
    obey(house, ServicePolicy(hedging=Hedging(delay_s=0.05), budget=GENEROUS))
    send(house, b"POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
    house.spin(0.06)
    assert len(house.door.dials) == 1

    client = send(house)
    first, _ = connect(house, 1)
    house.spin(0.06)
    second, _ = connect(house, 2)
    first.close()
    house.spin()
    reply(house, second, OK)

    assert heard(client).endswith(b"ok")


# time


def test_a_request_has_a_deadline_and_tells_what_is_left(house: TurnHouse) -> None:
    obey(house, ServicePolicy(timeouts=Timeouts(request_s=0.5)))
    client = send(house)
    house.spin(0.2)
    _, request = connect(house, 0)
    house.spin(0.31)

    assert 295 <= int(request.split(b"\r\nx-tulle-timeout-ms: ")[1].split(b"\r")[0]) <= 300
    assert b"x-tulle-error: request-timeout" in heard(client)
    assert counted(house, "timeouts_total", kind="request") == 1


def test_an_earlier_deadline_of_the_caller_counts_without_a_policy(house: TurnHouse) -> None:
    obey(house, None)
    house.parts.unix_s = lambda: 1_700_000_000.0
    client = send(house, b"GET / HTTP/1.1\r\nHost: web\r\nX-Tulle-Deadline: 1700000000250\r\n\r\n")
    _, request = connect(house, 0)
    house.spin(0.26)

    assert 245 <= int(request.split(b"\r\nx-tulle-timeout-ms: ")[1].split(b"\r")[0]) <= 250
    assert b"x-tulle-error: caller-timeout" in heard(client)


def test_a_deadline_that_is_over_reaches_no_server(house: TurnHouse) -> None:
    obey(house, None)
    house.parts.unix_s = lambda: 1_700_000_000.0
    client = send(house, b"GET / HTTP/1.1\r\nHost: web\r\nX-Tulle-Deadline: 1600000000000\r\n\r\n")

    assert b"x-tulle-error: caller-timeout" in heard(client)
    assert house.door.dials == []


def test_a_response_has_its_time_from_the_end_of_the_request(house: TurnHouse) -> None:
    obey(house, ServicePolicy(timeouts=Timeouts(response_s=0.5)))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    house.spin(0.6)

    assert heard(client).endswith(b"part")
    assert heard(client) == b"reset"
    assert counted(house, "timeouts_total", kind="response") == 1


def test_silence_within_an_exchange_ends_after_the_policys_time(house: TurnHouse) -> None:
    obey(house, ServicePolicy(timeouts=Timeouts(idle_s=2.0)))
    client = send(house)
    connect(house, 0)
    house.spin(2.1)
    for session in list(house.parts.sessions):
        house.pump.enter(session.check, house.now_s)
    house.spin()

    assert b"idle-timeout" in heard(client)


# limits


def test_the_concurrency_limit_of_a_service_queues_and_sheds(house: TurnHouse) -> None:
    obey(house, ServicePolicy(service_concurrency=Concurrency(limit_count=1, queue_count=1, queue_timeout_s=1.0)))
    first, second, third = send(house), send(house), send(house)

    assert len(house.door.dials) == 1
    assert b"x-tulle-error: overloaded" in heard(third)
    assert house.targets.waiting_count == 1
    server, _ = connect(house, 0)
    reply(house, server, OK)
    assert heard(first).endswith(b"ok")
    assert house.targets.waiting_count == 0
    assert server.recv(65536).startswith(b"GET /a"), "the queue moves up, on the kept connection"
    reply(house, server, OK)
    assert heard(second).endswith(b"ok")
    assert counted(house, "outbound_shed_total", reason="queue-full") == 1


def test_who_waits_too_long_in_the_queue_is_shed(house: TurnHouse) -> None:
    obey(house, ServicePolicy(service_concurrency=Concurrency(limit_count=1, queue_count=1, queue_timeout_s=1.0)))
    send(house)
    second = send(house)
    house.spin(1.1)

    assert b"queue-timeout" in heard(second)


def test_a_client_that_leaves_the_queue_makes_room(house: TurnHouse) -> None:
    obey(house, ServicePolicy(service_concurrency=Concurrency(limit_count=1, queue_count=1)))
    send(house)
    second = send(house)
    second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    second.close()
    house.spin()
    third = send(house)

    assert heard(third) == b""


def test_the_concurrency_limit_of_an_endpoint_waits_for_any_endpoint(house: TurnHouse) -> None:
    obey(house, ServicePolicy(endpoint_concurrency=Concurrency(limit_count=1, queue_count=1)))
    send(house)
    send(house)
    third = send(house)
    assert {d.address for d in house.door.dials} == {Address("10.1.7.1", 8080), Address("10.1.7.2", 8080)}
    server, _ = connect(house, 1)
    reply(house, server, OK)

    assert server.recv(65536).startswith(b"GET")
    reply(house, server, OK)
    assert heard(third).endswith(b"ok")


# circuit breaking


def test_an_endpoint_that_fails_in_a_row_is_ejected_then_tried_by_one_request(house: TurnHouse) -> None:
    obey(house, ServicePolicy(circuit_breaker=CircuitBreaker(consecutive_failures_count=2, ejection_min_s=5.0)))
    failing = ""
    for _ in range(2):
        client = send(house)
        number = len(house.door.dials) - 1
        failing = failing or dial(house, number).address.ip
        server, _ = connect(house, number)
        reply(house, server, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        heard(client)
        assert dial(house, number).address.ip == failing
    for _ in range(3):
        send(house)

    assert {d.address.ip for d in house.door.dials[2:]} == {"10.1.7.1", "10.1.7.2"} - {failing}
    assert counted(house, "outbound_ejections_total", cause="consecutive-failures") == 1


# balancing


def test_an_affinity_cookie_brings_the_client_back(house: TurnHouse) -> None:
    obey(house, ServicePolicy(balancing=Balancing(affinity=Affinity("sid", 60.0))), count=5)
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    head = heard(client)
    cookie = head.split(b"set-cookie: ")[1].split(b";")[0]
    house.parts.random = lambda: 0.9
    send(house, b"GET / HTTP/1.1\r\nHost: web\r\nCookie: a=b; " + cookie + b"\r\n\r\n")

    assert cookie.startswith(b"sid=")
    assert dial(house, 1).address == dial(house, 0).address


def test_a_ring_sends_a_key_to_the_same_endpoint(house: TurnHouse) -> None:
    obey(house, ServicePolicy(balancing=Balancing("ring-hash", Hash(header="x-user"))), count=5)
    for user in (b"ann", b"bob", b"ann", b"cid", b"ann"):
        send(house, b"GET / HTTP/1.1\r\nHost: web\r\nX-User: " + user + b"\r\n\r\n")

    addresses = [d.address for d in house.door.dials]
    assert addresses[0] == addresses[2] == addresses[4]
    assert len(set(addresses)) > 1


# faults


def test_a_fault_answers_with_its_status(house: TurnHouse) -> None:
    faults = (Fault(Match(path_prefix="/a"), abort_status=418, name="shop/tea"),)
    obey(house, ServicePolicy(faults=faults))
    answer = heard(send(house))

    assert answer.startswith(b"HTTP/1.1 418 ")
    assert b"x-tulle-error: fault-injected" in answer
    assert b"shop/tea" in answer
    assert house.door.dials == []
    assert counted(house, "outbound_faults_total", kind="abort") == 1


def test_a_fault_delays_and_spares_what_it_does_not_match(house: TurnHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(Match(methods=("GET",)), delay_s=2.0),)))
    send(house)
    assert house.door.dials == []
    send(house, b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n")
    assert len(house.door.dials) == 1
    house.spin(2.1)
    assert len(house.door.dials) == 2


def test_a_fault_resets_the_connection(house: TurnHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(is_reset=True),)))

    assert heard(send(house)) == b"reset"
    assert counted(house, "outbound_faults_total", kind="reset") == 1


def test_a_fault_truncates_the_body(house: TurnHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(truncate_bytes=1),)))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, OK)
    house.spin(0.1)

    assert heard(client).endswith(b"\r\n\r\no")
    assert heard(client) == b"reset"


def test_a_fault_narrows_the_bandwidth(house: TurnHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(bandwidth_bytes_per_s=1000.0),)))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
    early = len(heard(client))
    for _ in range(40):
        house.spin(0.05)
    late = len(heard(client))

    assert early < 300
    assert early + late == 1000 + len(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")


def test_a_narrowed_body_goes_on_when_the_server_has_closed(house: TurnHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(bandwidth_bytes_per_s=1000.0),)))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 500\r\n\r\n" + b"x" * 500)
    server.close()
    for _ in range(20):
        house.spin(0.05)

    assert heard(client).endswith(b"\r\n\r\n" + b"x" * 500)
    assert heard(client) == b""


def test_a_narrowed_body_is_truncated_in_order(house: TurnHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(bandwidth_bytes_per_s=1000.0, truncate_bytes=200),)))
    client = send(house)
    server, _ = connect(house, 0)
    reply(house, server, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b"a" * 150)
    reply(house, server, b"b" * 150)
    for _ in range(6):
        house.spin(0.05)

    assert heard(client).endswith(b"\r\n\r\n" + b"a" * 150 + b"b" * 50)
    assert heard(client) == b"reset"


# mirrors


def mirrored(house: TurnHouse, **about: object) -> None:
    obey(house, None, count=1, at=MIRROR, name="next")
    mirror = Mirror(str(MIRROR), "next.shop", **about)  # type: ignore[arg-type]
    obey(house, ServicePolicy(mirror=mirror), count=1)


def dial_to(house: TurnHouse, ip: str) -> int:
    return next(number for number, d in enumerate(house.door.dials) if d.address.ip == ip)


def test_a_mirror_gets_a_marked_copy_and_its_answer_is_compared(house: TurnHouse) -> None:
    mirrored(house)
    client = send(house, b"POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc")
    server, request = connect(house, dial_to(house, "10.1.7.1"))
    copy, copied = connect(house, dial_to(house, "10.1.9.1"))
    reply(house, server, OK)
    reply(house, copy, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    assert request.endswith(b"\r\n\r\nabc")
    assert b"x-tulle-mirror" not in request
    assert copied.endswith(b"\r\nx-tulle-mirror: 1\r\n\r\nabc")
    assert heard(client).endswith(b"ok")
    assert counted(house, "outbound_mirror_requests_total", mirror="next.shop") == 1
    assert counted(house, "outbound_mirror_differences_total", part="body") == 1
    assert house.parts.shadows_count == 0


def test_equal_answers_make_no_difference(house: TurnHouse) -> None:
    mirrored(house)
    send(house)
    server, _ = connect(house, dial_to(house, "10.1.7.1"))
    copy, _ = connect(house, dial_to(house, "10.1.9.1"))
    reply(house, copy, OK)
    reply(house, server, OK)

    assert counted(house, "outbound_mirror_differences_total") == 0
    assert house.parts.shadows_count == 0


def test_a_mirror_that_fails_is_the_clients_loss_in_no_way(house: TurnHouse) -> None:
    mirrored(house)
    client = send(house)
    dial(house, dial_to(house, "10.1.9.1")).fail("connect-refused")
    server, _ = connect(house, dial_to(house, "10.1.7.1"))
    reply(house, server, OK)

    assert heard(client).endswith(b"ok")
    assert counted(house, "outbound_mirror_dropped_total", reason="connect-refused") == 1
    assert house.parts.shadows_count == 0


def test_after_a_pair_the_one_that_is_left_is_held_back_by_a_slow_client(house: TurnHouse) -> None:
    """The hedge fails; the first try answers more than the client takes: it must not pile up here."""
    obey(house, ServicePolicy(hedging=Hedging(delay_s=0.05), budget=GENEROUS))
    send(house)
    first, _ = connect(house, 0)
    house.spin(0.06)
    second, _ = connect(house, 1)
    first.setblocking(False)
    second.close()
    house.spin()
    first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    sent_bytes = 0
    for _ in range(200):
        with suppress(BlockingIOError):
            sent_bytes += first.send(b"x" * 1_000_000)
        house.spin()

    assert sent_bytes < 50_000_000, "the kernel's buffers take some, the sidecar a little more"
