"""Policies at work on HTTP/2 and gRPC, the clock and the door in the test's hand; both peers speak real HTTP/2."""

from collections.abc import Iterator

import pytest
from http2house import GET, OK, POST
from multiplexhouse import MultiplexHouse, Peer

from contract.discovery import Destination, Endpoint
from contract.policy import (
    Affinity,
    Balancing,
    Budget,
    CircuitBreaker,
    Concurrency,
    Fault,
    Hedging,
    Mirror,
    Rate,
    RateLimit,
    Retries,
    ServicePolicy,
    Timeouts,
)
from proxy.model import Address, Headers
from proxy.targets import Targets
from proxy.wire.streams import CANCEL

ADDRESS = Address("10.96.0.7", 80)
MIRROR = Address("10.96.0.9", 80)
GRPC: Headers = (*POST, (b"content-type", b"application/grpc"), (b"te", b"trailers"))
GOOD: Headers = ((b"grpc-status", b"0"),)
UNAVAILABLE: Headers = ((b"grpc-status", b"14"), (b"grpc-message", b"later"))
HEAD: Headers = (*OK, (b"content-type", b"application/grpc"))
MESSAGE = b"\0\0\0\0\2hi"
GENEROUS = Budget(ratio=1.0, min_per_s=10.0, window_s=10.0)
ON_UNAVAILABLE = ServicePolicy(retries=Retries(grpc_statuses=(14,)), budget=GENEROUS)


@pytest.fixture
def house() -> Iterator[MultiplexHouse]:
    made = MultiplexHouse()
    made.parts.unix_s = lambda: 1_700_000_000.0
    yield made
    made.close()


def obey(house: MultiplexHouse, policy: ServicePolicy | None, count: int = 2, at: Address = ADDRESS) -> None:
    """Let discovery tell of a service with so many endpoints and this policy."""
    house.targets.take(at)
    endpoints = tuple(Endpoint(f"10.1.{at.ip[-1]}.{n}", 8080) for n in range(1, count + 1))
    told = Destination(str(at), f"r{house.now_s}", "service", "shop", "web", 80, endpoints=endpoints, policy=policy)
    assert house.targets.apply([told]) == []


def ask(house: MultiplexHouse, client: Peer, fields: Headers = GRPC, body: bytes = MESSAGE) -> int:
    stream_id = client.http2.request(fields, not body)
    if body:
        client.http2.send_body(stream_id, body, True)
    house.run()
    return stream_id


def begin(house: MultiplexHouse, fields: Headers = GRPC, body: bytes = MESSAGE) -> tuple[Peer, int]:
    """A client and its first request."""
    client, _ = house.client(ADDRESS)
    return client, ask(house, client, fields, body)


def request(server: Peer, number: int = -1) -> dict[bytes, bytes]:
    """Headers of a request that a server has got."""
    return dict(server.notes.of("head")[number][1])  # type: ignore[call-overload,no-any-return]


def say(house: MultiplexHouse, server: Peer, head: Headers, body: bytes = b"", trailers: Headers | None = None) -> None:
    """Answer the latest request of a server."""
    stream_id: int = server.notes.of("head")[-1][0]  # type: ignore[assignment]
    server.http2.respond(stream_id, head, not body and trailers is None)
    if body:
        server.http2.send_body(stream_id, body, trailers is None)
    if trailers is not None:
        server.http2.send_trailers(stream_id, trailers)
    house.run()


def answer(client: Peer, stream_id: int) -> tuple[dict[bytes, bytes], bytes, dict[bytes, bytes]]:
    """Head, body and trailers that a client has got on a stream."""

    def fields(kind: str) -> dict[bytes, bytes]:
        return next((dict(event[1]) for event in client.notes.of(kind) if event[0] == stream_id), {})  # type: ignore[call-overload]

    return fields("head"), client.notes.body(stream_id), fields("trailers")


def counted(house: MultiplexHouse, name: str, **labels: str) -> int:
    return sum(n for (one, pairs), n in house.meter.counters.items() if one == name and labels.items() <= set(pairs))


# tries


def test_hints_of_a_discarded_try_are_discarded_with_it(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),)), budget=GENEROUS))
    client, stream_id = begin(house, GET, b"")

    def hint(server: Peer, number: bytes) -> None:
        server.http2.inform(server.notes.of("head")[-1][0], ((b":status", b"103"), (b"link", number)))  # type: ignore[arg-type]

    first = house.server(0)
    hint(first, b"1")
    say(house, first, ((b":status", b"503"),))
    house.run(0.1)
    second = house.server(1)
    hint(second, b"2")
    house.run()
    assert client.notes.of("informational") == []
    say(house, second, OK, b"ok")

    assert client.notes.of("informational") == [(stream_id, ((b":status", b"103"), (b"link", b"2")))]
    assert answer(client, stream_id)[1] == b"ok"


@pytest.mark.parametrize("trailers", [None, UNAVAILABLE], ids=["trailers only", "trailers after headers"])
def test_a_call_that_is_unavailable_is_tried_again_elsewhere(house: MultiplexHouse, trailers: Headers | None) -> None:
    obey(house, ON_UNAVAILABLE)
    client, stream_id = begin(house)
    say(house, house.server(0), HEAD if trailers else (*HEAD, *UNAVAILABLE), trailers=trailers)
    house.run(0.1)
    second = house.server(1)
    say(house, second, HEAD, MESSAGE, GOOD)

    assert b"2" == request(second)[b"x-tulle-attempt"]
    assert MESSAGE == second.notes.body(1)
    assert (dict(HEAD), MESSAGE, dict(GOOD)) == answer(client, stream_id)
    assert house.door.dials[0].address != house.door.dials[1].address
    assert 1 == counted(house, "outbound_retry_requests_total") == counted(house, "outbound_retry_successes_total")


def test_a_call_that_has_given_a_message_is_not_tried_again(house: MultiplexHouse) -> None:
    obey(house, ON_UNAVAILABLE)
    client, stream_id = begin(house)
    say(house, house.server(0), HEAD, MESSAGE, UNAVAILABLE)
    house.run(0.1)

    assert (dict(HEAD), MESSAGE, dict(UNAVAILABLE)) == answer(client, stream_id)
    assert 1 == len(house.door.dials)


def test_a_head_that_waits_for_its_trailers_goes_on_with_the_first_data(house: MultiplexHouse) -> None:
    obey(house, ON_UNAVAILABLE)
    client, stream_id = begin(house)
    server = house.server(0)
    server.http2.respond(1, HEAD, False)
    house.run()
    assert {} == answer(client, stream_id)[0]
    server.http2.send_body(1, MESSAGE, False)
    house.run()

    assert (dict(HEAD), MESSAGE) == answer(client, stream_id)[:2]


@pytest.mark.parametrize("is_listed", [True, False])
def test_the_last_status_is_the_clients(house: MultiplexHouse, is_listed: bool) -> None:
    obey(house, ON_UNAVAILABLE)
    client, stream_id = begin(house)
    trailers = UNAVAILABLE if is_listed else ((b"grpc-status", b"5"),)
    for number in range(2 if is_listed else 1):
        say(house, house.server(number), HEAD, trailers=trailers)
        house.run(0.5)

    assert (dict(HEAD), b"", dict(trailers)) == answer(client, stream_id)
    assert is_listed == counted(house, "outbound_retry_skipped_total", reason="limit")


def test_a_503_of_plain_http2_is_tried_again_and_the_body_replayed(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(retries=Retries(statuses=((503, 503),), methods=("POST",)), budget=GENEROUS))
    client, stream_id = begin(house, POST, b"abc")
    say(house, house.server(0), ((b":status", b"503"),))
    house.run(0.1)
    second = house.server(1)
    say(house, second, OK, b"ok")

    assert b"abc" == second.notes.body(1)
    assert (dict(OK), b"ok", {}) == answer(client, stream_id)


def test_a_try_whose_time_is_up_resets_its_stream_and_spares_the_trunk(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(timeouts=Timeouts(per_try_s=0.5), retries=Retries(on_reset=True), budget=GENEROUS))
    client, stream_id = begin(house, GET, b"")
    first = house.server(0)
    house.run(0.6)
    house.run(0.1)
    say(house, house.server(1), OK, b"ok")

    assert [(1, CANCEL)] == first.notes.of("reset")
    assert not first.has_ended
    assert b"ok" == answer(client, stream_id)[1]


def test_a_hedge_goes_over_another_trunk_and_the_slow_stream_is_cancelled(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(hedging=Hedging(delay_s=0.05), budget=GENEROUS))
    client, stream_id = begin(house, GET, b"")
    slow = house.server(0)
    house.run(0.06)
    quick = house.server(1)
    say(house, quick, OK, b"quick")

    assert b"2" == request(quick)[b"x-tulle-attempt"]
    assert b"quick" == answer(client, stream_id)[1]
    assert [(1, CANCEL)] == slow.notes.of("reset")
    assert not slow.has_ended
    assert 1 == counted(house, "outbound_hedge_wins_total")


# time


def test_a_deadline_goes_on_reduced_in_both_forms(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(timeouts=Timeouts(request_s=2.0)))
    client, stream_id = begin(house, (*GRPC, (b"grpc-timeout", b"1S")))
    house.run(0.25)
    server = house.server(0)
    house.check(0.25)

    seen = request(server)
    assert 740 <= int(seen[b"x-tulle-timeout-ms"]) <= 750
    assert seen[b"grpc-timeout"] in (b"750m", b"750000u", b"749m") or seen[b"grpc-timeout"].startswith(b"7499")
    house.run(0.51)
    head, _, _ = answer(client, stream_id)
    assert (b"200", b"4", b"caller-timeout") == (head[b":status"], head[b"grpc-status"], head[b"x-tulle-error"])
    assert [(1, CANCEL)] == server.notes.of("reset")


# limits


def test_what_is_shed_is_a_status_of_grpc(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(service_concurrency=Concurrency(limit_count=1)))
    client, _ = begin(house)
    head, _, _ = answer(client, ask(house, client))

    assert (b"200", b"14", b"overloaded") == (head[b":status"], head[b"grpc-status"], head[b"x-tulle-error"])
    plain, _, _ = answer(client, ask(house, client, GET, b""))
    assert b"503" == plain[b":status"]


def test_a_rate_that_is_met_is_a_status_of_grpc_or_429(house: MultiplexHouse) -> None:
    house.targets = Targets("inbound", house.pump, house.meter, 100, 0.0, lambda: 0.0)
    obey(house, ServicePolicy(rate_limit=RateLimit(Rate(0.5, 1))))
    client, _ = begin(house)
    head, _, _ = answer(client, ask(house, client))
    plain, _, _ = answer(client, ask(house, client, GET, b""))

    assert (b"200", b"rate-limited") == (head[b":status"], head[b"x-tulle-error"])
    assert b"8" == head[b"grpc-status"], "RESOURCE_EXHAUSTED"
    assert (b"429", b"2") == (plain[b":status"], plain[b"retry-after"])


def test_an_endpoint_whose_calls_fail_is_ejected(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(circuit_breaker=CircuitBreaker(consecutive_failures_count=2)))
    client, _ = begin(house)
    failing = house.server(0)
    say(house, failing, HEAD, MESSAGE, UNAVAILABLE)
    ask(house, client)
    say(house, failing, HEAD, MESSAGE, UNAVAILABLE)
    ask(house, client)

    assert 1 == counted(house, "outbound_ejections_total", cause="consecutive-failures")
    assert 1 == house.targets.ejected_count
    assert house.door.dials[0].address != house.door.dials[1].address


# balancing


def test_an_affinity_cookie_is_set_on_http2(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(balancing=Balancing(affinity=Affinity("sid"))), count=5)
    client, stream_id = begin(house, GET, b"")
    first = house.server(0)
    say(house, first, OK, b"ok")
    cookie = answer(client, stream_id)[0][b"set-cookie"].split(b";")[0]
    house.parts.random = lambda: 0.9
    ask(house, client, (*GET, (b"cookie", b"a=b"), (b"cookie", cookie)), b"")

    assert 2 == len(first.notes.of("head"))
    assert 1 == len(house.door.dials)


# faults


def test_a_fault_aborts_grpc_with_its_own_status_and_the_rest_with_that_of_http(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(abort_status=418, abort_grpc_status=8, name="shop/tea"),)))
    client, stream_id = begin(house)
    head, _, _ = answer(client, stream_id)
    plain, body, _ = answer(client, ask(house, client, GET, b""))

    assert (b"200", b"8", b"fault-injected") == (head[b":status"], head[b"grpc-status"], head[b"x-tulle-error"])
    assert b"418" == plain[b":status"]
    assert b"shop/tea" in body
    assert [] == house.door.dials


def test_a_fault_resets_the_stream_alone(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(is_reset=True),)))
    client, stream_id = begin(house)

    assert [stream_id] == [event[0] for event in client.notes.of("reset")]
    assert not client.has_ended


def test_a_fault_truncates_a_body_then_resets_the_stream(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(truncate_bytes=3),)))
    client, stream_id = begin(house)
    say(house, house.server(0), HEAD, MESSAGE, GOOD)
    house.run(0.1)

    assert MESSAGE[:3] == answer(client, stream_id)[1]
    assert {} == answer(client, stream_id)[2]
    assert [stream_id] == [event[0] for event in client.notes.of("reset")]


def test_a_fault_narrows_a_body_and_keeps_its_trailers(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(bandwidth_bytes_per_s=1000.0),)))
    client, stream_id = begin(house)
    say(house, house.server(0), HEAD, b"x" * 500, GOOD)
    early = len(answer(client, stream_id)[1])
    for _ in range(20):
        house.run(0.05)

    assert early < 200
    assert (b"x" * 500, dict(GOOD)) == answer(client, stream_id)[1:]


def test_a_narrowed_body_holds_its_server_by_the_window_and_comes_whole(house: MultiplexHouse) -> None:
    obey(house, ServicePolicy(faults=(Fault(bandwidth_bytes_per_s=400_000.0),)))
    client, stream_id = begin(house)
    server = house.server(0)
    say(house, server, HEAD, b"x" * 500_000, GOOD)
    assert server.http2.queued_bytes(1) > 200_000
    for _ in range(40):
        house.run(0.05)

    assert 500_000 == len(answer(client, stream_id)[1])
    assert dict(GOOD) == answer(client, stream_id)[2]


# mirrors


@pytest.mark.parametrize(("copied", "part"), [(GOOD, ""), (UNAVAILABLE, "header")])
def test_a_copy_goes_over_http2_and_trailers_are_compared(house: MultiplexHouse, copied: Headers, part: str) -> None:
    obey(house, None, count=1, at=MIRROR)
    obey(house, ServicePolicy(mirror=Mirror(str(MIRROR), "next.shop")), count=1)
    client, stream_id = begin(house)
    numbers = {dial.address.ip: number for number, dial in enumerate(house.door.dials)}
    server, mirror = house.server(numbers["10.1.7.1"]), house.server(numbers["10.1.9.1"])
    say(house, mirror, HEAD, MESSAGE, copied)
    say(house, server, HEAD, MESSAGE, GOOD)

    assert b"x-tulle-mirror" not in request(server)
    assert b"1" == request(mirror)[b"x-tulle-mirror"]
    assert MESSAGE == mirror.notes.body(1)
    assert (dict(HEAD), MESSAGE, dict(GOOD)) == answer(client, stream_id)
    found = {dict(pairs)["part"] for name, pairs in house.meter.counters if name.endswith("differences_total")}
    assert ({part} if part else set()) == found
    assert 0 == house.parts.shadows_count


def test_an_answer_that_was_slowed_down_is_compared_as_it_came(house: MultiplexHouse) -> None:
    """It ends later than the server's part of it; its trailers count once all the same."""
    obey(house, None, count=1, at=MIRROR)
    slow = Fault(bandwidth_bytes_per_s=1000.0)
    obey(house, ServicePolicy(mirror=Mirror(str(MIRROR), "next.shop"), faults=(slow,)), count=1)
    client, stream_id = begin(house)
    numbers = {dial.address.ip: number for number, dial in enumerate(house.door.dials)}
    server, mirror = house.server(numbers["10.1.7.1"]), house.server(numbers["10.1.9.1"])
    for peer in (server, mirror):
        say(house, peer, HEAD, MESSAGE * 20, GOOD)
    for _ in range(20):
        house.run(0.05)

    assert (MESSAGE * 20, dict(GOOD)) == answer(client, stream_id)[1:]
    assert [] == [pairs for name, pairs in house.meter.counters if name.endswith("differences_total")]
    assert 0 == house.parts.shadows_count
