"""Real connections between real namespaces, captured or left alone by real rules: both backends, both families."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from contract import ports
from tests.init.conftest import ADDRESSES, Namespace, Seen, World, close_world, make_world, original_destination

pytestmark = pytest.mark.netns

IN, OUT = ports.INBOUND_PORT, ports.OUTBOUND_PORT
APP, SKIPPED = 8080, 8081

FLAGS = (
    "--skip-inbound-ports=4567-4568,8081",
    "--skip-outbound-ports=4567-4568,8081",
    # An outsider's and the peer's second address, as client and as destination.
    "--skip-inbound-subnets=10.77.0.9/32,fd77::9/128",
    "--skip-outbound-subnets=10.99.0.0/16,fd99::/64",
)


@pytest.fixture(scope="module", params=["legacy", "nft"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = make_world()
    for address, device in (
        ("10.77.0.9/24", "eth0"),
        ("fd77::9/64", "eth0"),
        ("10.99.0.1/32", "lo"),
        ("fd99::1/128", "lo"),
    ):
        # Deprecated: of use as a source only for those who name it.
        extra = ("nodad", "preferred_lft", "0") if ":" in address else ()
        made.peer.run("ip", "address", "add", address, "dev", device, *extra)
    done = made.pod.init(f"--backend={request.param}", *FLAGS)
    assert (0, f"backend {request.param}" in done.stderr) == (done.returncode, True), done.stderr
    yield made
    close_world(made)


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def at(request: pytest.FixtureRequest) -> dict[str, str]:
    """Addresses of one family by name."""
    return {name: addresses[request.param] for name, addresses in ADDRESSES.items()}


def test_without_rules_connections_go_where_they_mean_to(at: dict[str, str]) -> None:
    bare = make_world()
    try:
        seen = bare.arrival(bare.peer, at["pod"], APP, [(bare.pod, APP), (bare.pod, IN)])
    finally:
        close_world(bare)

    assert APP == seen.listener_port


def test_inbound_connections_reach_the_sidecar_which_learns_where_they_meant_to_go(
    world: World, at: dict[str, str]
) -> None:
    seen = world.arrival(world.peer, at["pod"], APP, [(world.pod, APP), (world.pod, IN)])

    assert Seen(IN, (at["pod"], APP)) == seen


@pytest.mark.parametrize("port", [SKIPPED, 4567, 4568, ports.CONTROL_PORT, ports.ADMIN_PORT])
def test_inbound_connections_to_skipped_ports_pass_by(world: World, at: dict[str, str], port: int) -> None:
    seen = world.arrival(world.peer, at["pod"], port, [(world.pod, port), (world.pod, IN)])

    assert port == seen.listener_port


def test_inbound_connections_from_skipped_subnets_pass_by(world: World, at: dict[str, str]) -> None:
    outsider = "fd77::9" if ":" in at["pod"] else "10.77.0.9"
    world.peer.run("ip", *_family(outsider), "route", "replace", _host(at["pod"]), "dev", "eth0", "src", outsider)
    try:
        seen = world.arrival(world.peer, at["pod"], APP, [(world.pod, APP), (world.pod, IN)])
    finally:
        world.peer.run("ip", *_family(outsider), "route", "delete", _host(at["pod"]))

    assert APP == seen.listener_port


def test_outbound_connections_reach_the_sidecar_which_learns_where_they_meant_to_go(
    world: World, at: dict[str, str]
) -> None:
    seen = world.arrival(world.pod, at["peer"], APP, [(world.peer, APP), (world.pod, OUT)])

    assert Seen(OUT, (at["peer"], APP)) == seen


def test_outbound_connections_of_any_other_user_reach_the_sidecar(world: World, at: dict[str, str]) -> None:
    seen = world.arrival_as(1000, at["peer"], APP, [(world.peer, APP), (world.pod, OUT)])

    assert OUT == seen.listener_port


def test_outbound_connections_that_are_bound_to_an_interface_reach_the_sidecar(
    world: World, at: dict[str, str]
) -> None:
    """As `curl --interface eth0` makes them."""
    seen = world.arrival_through("eth0", at["peer"], APP, [(world.peer, APP), (world.pod, OUT)])

    assert Seen(OUT, (at["peer"], APP)) == seen


def test_routes_are_there_once_however_often_the_command_runs_and_go_with_the_rules() -> None:
    def ours() -> list[str]:
        tables = [bare.pod.run("ip", family, "route", "show", "table", "local").stdout for family in ("-4", "-6")]
        return [line.split()[1] for line in "".join(tables).splitlines() if "metric 21" in line]

    bare = make_world()
    try:
        for _ in range(2):
            assert 0 == bare.pod.init().returncode
            assert ["127.0.0.1", "127.0.0.1", "::1", "::1"] == sorted(ours())  # through eth0 and bridge0
        assert 0 == bare.pod.init("--cleanup").returncode
        assert [] == ours()
    finally:
        close_world(bare)


def test_a_service_that_is_bound_to_an_interface_is_reached_by_the_sidecar(world: World, at: dict[str, str]) -> None:
    listener = world.pod.listen(APP)
    with closing(listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        script = f"import socket; socket.create_connection(({at['pod']!r}, {APP}), 3)"

        world.pod.run("setpriv", f"--reuid={ports.PROXY_UID}", "--clear-groups", "/usr/bin/python3", "-c", script)


def test_no_route_lets_packets_from_outside_to_a_loopback_address(world: World, at: dict[str, str]) -> None:
    loopback = "::1" if ":" in at["pod"] else "127.0.0.1"
    world.peer.run("ip", *_family(loopback), "route", "replace", "table", "77", _host(loopback), "via", at["pod"])
    world.peer.run("ip", *_family(loopback), "rule", "add", "pref", "0", "oif", "eth0", "table", "77")
    listener = world.pod.listen(APP)
    with closing(listener), pytest.raises((TimeoutError, OSError)):
        world.peer.inside(lambda: _connect_bound(loopback))


def test_the_sidecars_own_connections_leave_the_pod(world: World, at: dict[str, str]) -> None:
    seen = world.arrival_as(ports.PROXY_UID, at["peer"], APP, [(world.peer, APP), (world.pod, OUT)])

    assert APP == seen.listener_port


def test_outbound_connections_to_skipped_ports_pass_by(world: World, at: dict[str, str]) -> None:
    seen = world.arrival(world.pod, at["peer"], SKIPPED, [(world.peer, SKIPPED), (world.pod, OUT)])

    assert SKIPPED == seen.listener_port


def test_outbound_connections_to_skipped_subnets_pass_by(world: World, at: dict[str, str]) -> None:
    database = "fd99::1" if ":" in at["pod"] else "10.99.0.1"

    seen = world.arrival(world.pod, database, APP, [(world.peer, APP), (world.pod, OUT)])

    assert APP == seen.listener_port


@pytest.mark.parametrize("name", ["localhost", "pod"])
def test_a_pod_that_calls_itself_by_address_stays_on_loopback(world: World, at: dict[str, str], name: str) -> None:
    seen = world.arrival(world.pod, at[name], APP, [(world.pod, APP), (world.pod, IN), (world.pod, OUT)])

    assert APP == seen.listener_port


def test_the_sidecar_reaches_its_application_by_the_pods_address(world: World, at: dict[str, str]) -> None:
    seen = world.arrival_as(ports.PROXY_UID, at["pod"], APP, [(world.pod, APP), (world.pod, IN), (world.pod, OUT)])

    assert APP == seen.listener_port


def test_a_pod_that_calls_itself_by_its_service_goes_out_through_the_sidecar(world: World, at: dict[str, str]) -> None:
    seen = world.arrival(world.pod, at["service"], 80, [(world.pod, APP), (world.pod, OUT)])

    assert Seen(OUT, (at["service"], 80)) == seen


@pytest.mark.parametrize("port", [IN, OUT])
def test_a_direct_connection_to_a_listener_of_the_sidecar_names_it_as_its_destination(
    world: World, at: dict[str, str], port: int
) -> None:
    """The sidecar refuses what names itself; dialled by the sidecar instead, the connection would circle."""
    seen = world.arrival(world.peer, at["pod"], port, [(world.pod, IN), (world.pod, OUT)])

    assert Seen(port, (at["pod"], port)) == seen


@pytest.mark.parametrize("port", [IN, OUT])
def test_the_pods_own_connection_to_a_listener_of_the_sidecar_arrives_once(
    world: World, at: dict[str, str], port: int
) -> None:
    seen = world.arrival(world.pod, at["pod"], port, [(world.pod, IN), (world.pod, OUT)])

    assert Seen(port, (at["pod"], port)) == seen


def test_what_a_container_inside_of_the_pod_sends_to_the_world_keeps_its_way(world: World, at: dict[str, str]) -> None:
    seen = world.arrival(world.inner, at["peer"], APP, [(world.peer, APP), (world.pod, IN), (world.pod, OUT)])

    assert APP == seen.listener_port


def test_what_comes_for_a_container_inside_of_the_pod_keeps_its_way(world: World, at: dict[str, str]) -> None:
    seen = world.arrival(world.peer, at["inner"], APP, [(world.inner, APP), (world.pod, IN)])

    assert APP == seen.listener_port


def _from_port(namespace: Namespace, address: str, port: int, source_port: int) -> socket.socket:
    """Connect from a source port of our choice, whether it is in use towards others or not."""

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.settimeout(3.0)
        sock.bind(("::" if ":" in address else "0.0.0.0", source_port))
        sock.connect((address, port))
        return sock

    return namespace.inside(connect)


@pytest.mark.parametrize("way", ["inbound", "outbound"])
def test_one_source_port_to_two_destinations_arrives_twice_and_each_names_its_own(
    world: World, at: dict[str, str], way: str
) -> None:
    """Redirected, both would be the same connection: the kernel must give one of them another source port."""
    source, address, port = (world.peer, at["pod"], IN) if way == "inbound" else (world.pod, at["peer"], OUT)
    with closing(world.pod.listen(port)) as listener:
        clients = [_from_port(source, address, number, 45001) for number in (APP, APP + 2)]
        seen = []
        for client in clients:
            connection, _ = listener.accept()
            with closing(connection), closing(client):
                seen.append(original_destination(connection))

    assert sorted(seen) == [(address, APP), (address, APP + 2)]


@pytest.mark.parametrize("way", ["inbound", "outbound"])
def test_a_source_port_can_be_used_again_at_once(world: World, at: dict[str, str], way: str) -> None:
    source, address, port = (world.peer, at["pod"], IN) if way == "inbound" else (world.pod, at["peer"], OUT)
    with closing(world.pod.listen(port)) as listener:
        for number in (APP, APP + 2, APP, APP):
            with closing(_from_port(source, address, number, 45002)) as client:
                connection, _ = listener.accept()
                with closing(connection):
                    assert original_destination(connection) == (address, number)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _connect_bound(address: str) -> None:
    with closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)) as sock:
        sock.settimeout(0.5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.connect((address, APP))


def _family(address: str) -> tuple[str, ...]:
    return ("-6",) if ":" in address else ()


def _host(address: str) -> str:
    return f"{address}/128" if ":" in address else f"{address}/32"
