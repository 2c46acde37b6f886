"""What a peer can make up fills no table: unknown destinations, statuses, counters; and what is known is named."""

from collections.abc import Iterator

import pytest
from turnhouse import TurnHouse

from contract.discovery import Destination, Endpoint
from contract.policy import ServicePolicy, Timeouts
from proxy.labels import UNKNOWN
from proxy.meter import MAX_STATUSES_COUNT, HttpSeries, Meter
from proxy.model import Address
from proxy.render import render
from proxy.report import Reporter
from proxy.targets import MAX_STRANGERS_COUNT, Targets

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"


@pytest.fixture
def house() -> Iterator[TurnHouse]:
    made = TurnHouse()
    yield made
    made.close()


def scan(house: TurnHouse, ports: range, data: bytes = GET, ip: str = "10.1.0.5") -> None:
    """Connect to each port, say something, and be refused."""
    for port in ports:
        client = house.accept(Address(ip, port))
        client.sendall(data)
        house.spin()
        house.door.dials[-1].fail("connect-refused")
        house.spin()
        client.close()
        house.spin()


def answer(house: TurnHouse, port: int, ip: str = "10.1.0.5") -> None:
    """Send a request that is answered."""
    client = house.accept(Address(ip, port))
    client.sendall(GET)
    house.spin()
    server = house.door.dials[-1].connect()
    house.sockets.append(server)
    house.spin()
    assert server.recv(65536)
    server.sendall(OK)
    house.spin()
    assert client.recv(65536).endswith(b"ok")
    client.close()
    house.spin()


def page(house: TurnHouse) -> list[str]:
    return [line for line in "".join(render(house.meter)).splitlines() if not line.startswith("#")]


def value(house: TurnHouse, name: str, *labels: str) -> float:
    """Sum the samples of a name that have these labels."""
    lines = [line for line in page(house) if line.startswith(name + "{") and all(label in line for label in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize("data", [GET, b"\0\0", HELLO], ids=["http", "opaque", "tls"])
def test_a_scan_of_ports_that_nobody_serves_is_one_series_and_what_answers_has_its_own(
    house: TurnHouse, direction: str, data: bytes
) -> None:
    house.targets = Targets(direction, house.pump, house.meter, 4096, 0.0, lambda: 0.0)  # type: ignore[arg-type]
    scan(house, range(10001, 12501), data)
    answer(house, 8080)
    page(house)

    assert len(house.meter.http) + len(house.meter.tcp) <= 8
    assert 0 == house.meter.overflows_count
    assert 2500 == value(house, "tcp_open_total", 'peer="src"', f'target_addr="{UNKNOWN}"')
    assert 0 == value(house, "tcp_open_connections", 'peer="src"')
    assert 1 == value(house, "tcp_open_total", 'peer="src"', 'target_addr="10.1.0.5:8080"')
    assert 1 == value(house, "request_total", 'target_addr="10.1.0.5:8080"')
    assert len(GET) == value(house, "tcp_read_bytes_total", 'peer="src"', 'target_addr="10.1.0.5:8080"')


def test_failures_of_what_is_unknown_are_counted_all_the_same(house: TurnHouse) -> None:
    scan(house, range(1001, 1011))

    assert 10 == value(house, "request_total", f'target_addr="{UNKNOWN}"')
    assert 10 == value(house, "response_total", f'target_addr="{UNKNOWN}"', 'status_code="502"')
    assert 10 == value(house, "response_total", f'target_addr="{UNKNOWN}"'), "read twice, counted once"


def test_open_connections_are_counted_with_the_unknown_until_something_answers(house: TurnHouse) -> None:
    clients = [house.accept(Address("10.1.0.5", 8080)) for _ in range(2)]
    for client in clients:
        client.sendall(GET)
    house.spin()
    assert 2 == value(house, "tcp_open_connections", 'peer="src"', f'target_addr="{UNKNOWN}"')
    house.sockets.append(house.door.dials[-1].connect())
    house.spin()

    assert 0 == value(house, "tcp_open_connections", f'target_addr="{UNKNOWN}"')
    assert 2 == value(house, "tcp_open_connections", 'peer="src"', 'target_addr="10.1.0.5:8080"')


def test_destinations_outside_of_the_cluster_have_series_of_their_own_up_to_a_bound(house: TurnHouse) -> None:
    for number in range(MAX_STRANGERS_COUNT + 20):
        answer(house, 8000, f"192.0.2.{number + 1}")
    named = {line.partition('target_ip="')[2].partition('"')[0] for line in page(house) if 'target_ip="' in line}

    assert MAX_STRANGERS_COUNT == len(named)
    assert 20 == value(house, "request_total", f'target_addr="{UNKNOWN}"')
    house.targets.sweep(house.now_s + 1000.0, 600.0)
    assert 0 == house.meter.strangers_count


def test_the_ports_of_a_pod_that_do_not_answer_are_one_series_that_names_the_pod(house: TurnHouse) -> None:
    ports = range(1001, 1031)
    for port in ports:
        house.targets.take(Address("10.1.0.5", port))
    pod = tuple(
        Destination(f"10.1.0.5:{port}", "r", "pod", endpoints=(Endpoint("10.1.0.5", port, "web-0", "shop"),))
        for port in ports
    )
    assert [] == house.targets.apply(pod)
    scan(house, range(1001, 1030))
    answer(house, 1030)

    assert 29 == value(house, "response_total", 'dst_pod="web-0"', 'target_port="unknown"')
    assert 1 == value(house, "response_total", 'dst_pod="web-0"', 'target_addr="10.1.0.5:1030"')
    reporter = Reporter(None, ("shop", "me"), "i", house.meter, lambda: 1.0, None)  # type: ignore[arg-type]
    assert {("web-0", 1, 29)} == {(one.peer.pod, one.success, one.failure) for one in reporter.make().http}


def test_a_service_has_its_series_at_once(house: TurnHouse) -> None:
    address = Address("10.96.0.7", 80)
    house.targets.take(address)
    told = Destination(str(address), "r", "service", "shop", "web", 80, endpoints=(Endpoint("10.1.0.5", 80),))
    assert [] == house.targets.apply([told])
    scan(house, range(80, 81), ip="10.96.0.7")

    assert 1 == value(house, "response_total", 'dst_service="web"', 'target_addr="10.1.0.5:80"')
    assert 1 == value(house, "tcp_open_total", 'peer="src"', 'target_addr="10.96.0.7:80"')


def test_counters_call_what_is_unknown_unknown(house: TurnHouse) -> None:
    house.targets = Targets("outbound", house.pump, house.meter, 4096, 0.0, lambda: 0.0)
    for port in range(1, 11):
        client = house.accept(Address("10.1.0.5", port))
        client.sendall(GET[:-2] + b"x-tulle-deadline: 1\r\n\r\n")
        house.spin()
        assert b"caller-timeout" in client.recv(65536)
    address = Address("10.96.0.7", 80)
    house.targets.take(address)
    policy = ServicePolicy(timeouts=Timeouts(request_s=0.1))
    told = Destination(str(address), "r", "service", "shop", "web", 80, endpoints=(Endpoint("10.1.0.5", 80),))
    house.targets.apply([told, Destination(**{**_fields(told), "policy": policy, "revision": "s"})])
    house.accept(address).sendall(GET)
    house.spin()
    house.spin(0.2)

    services = {
        dict(pairs).get("service"): n for (name, pairs), n in house.meter.counters.items() if "timeouts" in name
    }
    assert {UNKNOWN: 10, "web.shop": 1} == services


def _fields(told: Destination) -> dict[str, object]:
    return {name: getattr(told, name) for name in told.__struct_fields__}


def test_counters_have_a_bound_beyond_which_labels_are_left_out() -> None:
    meter = Meter(20)
    for number in range(100):
        meter.count("timeouts_total", (("service", str(number)),))

    assert 21 == len(meter.counters)
    assert 80 == meter.counters["timeouts_total", ()]


def test_statuses_that_a_server_makes_up_count_by_their_class() -> None:
    series = HttpSeries((), None)
    for status in range(200, 600):
        for code in ("", "99"):
            series.status(status, status < 500, code).record(1.0)

    assert len(series.by_status) <= MAX_STATUSES_COUNT + 2 * 4
    assert 800 == sum(found.count for found in series.by_status.values())
    meter = Meter(20)
    meter.take_http((("direction", "inbound"),), None).take_over(series)
    assert 'status_code="4xx"' in "".join(render(meter))
