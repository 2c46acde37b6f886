"""Services and their names: endpoints chosen, rules written, questions answered; the rules also by the real nft."""

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import IPRoute

from lab.node import conntrack
from lab.node.addresses import API_V6, DNS_V6, NODE_V6
from lab.node.dns import DnsServer
from lab.node.endpoints import Endpoint, Port, Service, collect
from lab.node.names import apply_rules
from lab.node.network import set_up_node
from lab.node.services import ruleset, stale, udp_backends
from lab.node.syscalls import CLONE_NEWNET, unshare
from lab.node.zone import Zone, answer, build

HTTP = Port("http", "TCP", 80)
RTN_LOCAL = 2


def endpoint(address: str, *, ready: bool = True, leaving: bool = False, hostname: str = "") -> Endpoint:
    return Endpoint(address, hostname, (("http", 8080),), ready, leaving)


def service(name: str, *endpoints: Endpoint, addresses: tuple[str, ...] = ("10.96.0.5",), **more: Any) -> Service:
    fields = {"is_headless": not addresses, "external_name": "", "sticks": False, "ports": (HTTP,)} | more
    return Service("ns", name, addresses, endpoints=endpoints, **fields)


ZONE = build(
    [
        service("web", endpoint("10.244.0.2"), addresses=("10.96.0.5", "fd00:10:96::5")),
        service("db", endpoint("10.244.0.3", hostname="db-0"), endpoint("10.244.0.4", ready=False), addresses=()),
        service("out", addresses=(), is_headless=False, external_name="web.ns.svc.cluster.local"),
        service("away", addresses=(), is_headless=False, external_name="example.com"),
    ],
    ["ns"],
    7,
)


def ask(name: str, kind: str) -> tuple[str, list[str]]:
    reply = DNSRecord.parse(answer(ZONE, DNSRecord.question(name, kind).pack(), limit_bytes=512))
    return RCODE[reply.header.rcode], [str(record.rdata) for record in reply.rr]


@pytest.mark.parametrize(
    ("name", "kind", "code", "data"),
    [
        ("web.ns.svc.cluster.local", "A", "NOERROR", ["10.96.0.5"]),
        ("WEB.ns.SVC.cluster.local.", "AAAA", "NOERROR", ["fd00:10:96::5"]),
        ("web.ns.svc.cluster.local", "MX", "NOERROR", []),
        ("_http._tcp.web.ns.svc.cluster.local", "SRV", "NOERROR", ["0 100 80 web.ns.svc.cluster.local."]),
        ("5.0.96.10.in-addr.arpa", "PTR", "NOERROR", ["web.ns.svc.cluster.local."]),
        ("db.ns.svc.cluster.local", "A", "NOERROR", ["10.244.0.3"]),
        ("db-0.db.ns.svc.cluster.local", "A", "NOERROR", ["10.244.0.3"]),
        ("_http._tcp.db.ns.svc.cluster.local", "SRV", "NOERROR", ["0 100 8080 db-0.db.ns.svc.cluster.local."]),
        ("3.0.244.10.in-addr.arpa", "PTR", "NOERROR", ["db-0.db.ns.svc.cluster.local."]),
        ("out.ns.svc.cluster.local", "A", "NOERROR", ["web.ns.svc.cluster.local.", "10.96.0.5"]),
        ("away.ns.svc.cluster.local", "A", "NOERROR", ["example.com."]),
        ("10-244-0-9.ns.pod.cluster.local", "A", "NOERROR", ["10.244.0.9"]),
        ("ns.svc.cluster.local", "A", "NOERROR", []),
        ("cluster.local", "A", "NOERROR", []),
        ("dns-version.cluster.local", "TXT", "NOERROR", ['"1.1.0"']),
        ("nope.ns.svc.cluster.local", "A", "NXDOMAIN", []),
        ("web.other.svc.cluster.local", "A", "NXDOMAIN", []),
        ("example.com", "A", "NXDOMAIN", []),
        ("9-9.ns.pod.cluster.local", "A", "NXDOMAIN", []),
    ],
)
def test_a_question_has_its_answer(name: str, kind: str, code: str, data: list[str]) -> None:
    assert ask(name, kind) == (code, data)


def test_a_negative_answer_carries_the_zones_authority() -> None:
    reply = DNSRecord.parse(answer(ZONE, DNSRecord.question("nope.cluster.local").pack(), limit_bytes=512))
    assert [QTYPE[record.rtype] for record in reply.auth] == ["SOA"]


def test_an_answer_that_does_not_fit_says_so_and_comes_whole_over_a_stream() -> None:
    many = build([service("m", *(endpoint(f"10.244.1.{n}") for n in range(100)), addresses=())], ["ns"], 1)
    question = DNSRecord.question("m.ns.svc.cluster.local").pack()
    assert DNSRecord.parse(answer(many, question, limit_bytes=512)).header.tc == 1
    assert len(DNSRecord.parse(answer(many, question, limit_bytes=65535)).rr) == 100


@given(st.binary(max_size=80))
def test_no_datagram_upsets_the_server(data: bytes) -> None:
    reply = answer(ZONE, data, limit_bytes=512)
    assert reply is None or len(reply) <= 512


def test_an_answer_is_no_question() -> None:
    reply = answer(ZONE, DNSRecord.question("web.ns.svc.cluster.local").pack(), limit_bytes=512)
    assert reply is not None
    assert answer(ZONE, reply, limit_bytes=512) is None


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([endpoint("a"), endpoint("b", ready=False)], ["a"]),
        ([endpoint("a", ready=False, leaving=True), endpoint("b")], ["b"]),
        ([endpoint("a", ready=False, leaving=True), endpoint("b", ready=False)], ["a"]),
        ([endpoint("a", ready=False)], []),
    ],
)
def test_ending_endpoints_serve_only_when_no_ready_one_is_left(endpoints: Any, expected: list[str]) -> None:
    assert [found.address for found in service("s", *endpoints).usable()] == expected


def test_services_and_their_slices_meet() -> None:
    spec = {"clusterIPs": ["10.96.0.9"], "ports": [{"name": "http", "port": 80}], "sessionAffinity": "ClientIP"}
    slices = [
        {
            "metadata": {"namespace": "ns", "labels": {"kubernetes.io/service-name": "w"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.244.0.2"]}, {"addresses": ["10.244.0.3"], "conditions": {"ready": False}}],
        }
    ]
    [found] = collect([{"metadata": {"namespace": "ns", "name": "w"}, "spec": spec}], slices)
    assert (found.addresses, found.sticks, found.is_headless) == (("10.96.0.9",), True, False)
    assert [(e.address, e.is_ready) for e in found.endpoints] == [("10.244.0.2", True), ("10.244.0.3", False)]


def test_the_rules_pick_by_chance_or_by_the_clients_address() -> None:
    two = (endpoint("10.244.0.2"), endpoint("10.244.0.3"))
    text = ruleset([service("a", *two), service("b", *two, addresses=("10.96.0.6",), sticks=True)], frozenset())
    assert "numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }" in text
    assert "jhash ip saddr mod 2 map" in text
    assert "10.96.0.5 . tcp . 80 : goto port-0, 10.96.0.6 . tcp . 80 : goto port-1" in text


def test_addresses_that_the_daemon_serves_and_services_without_endpoints_have_no_chain() -> None:
    served = service("api", endpoint("10.244.0.2"), addresses=("10.96.0.1",))
    assert "chain port-" not in ruleset([served, service("empty")], frozenset({"10.96.0.1"}))


@pytest.mark.netns
def test_the_kernel_takes_the_rules_of_every_shape(in_namespace: Any) -> None:
    six = endpoint("fd00:10:244::2")
    shapes = [
        service("one", endpoint("10.244.0.2")),
        service("dual", endpoint("10.244.0.2"), six, addresses=("10.96.0.6", "fd00:10:96::6")),
        service("two6", six, endpoint("fd00:10:244::3"), addresses=("fd00:10:96::7",), sticks=True),
        service("udp", endpoint("10.244.0.2"), addresses=("10.96.0.8",), ports=(Port("http", "UDP", 53),)),
        service("both", endpoint("10.244.0.2"), addresses=("10.96.0.9",), ports=(HTTP, Port("http", "UDP", 80))),
        service("sctp", endpoint("10.244.0.2"), addresses=("10.96.0.11",), ports=(Port("http", "SCTP", 80),)),
        service("none"),
    ]

    async def work() -> None:
        for rules in (ruleset([], frozenset()), ruleset(shapes, frozenset()), ruleset(shapes[:1], frozenset())):
            assert await apply_rules(rules) == ""
        assert "syntax error" in await apply_rules("nonsense")

    in_namespace(work)


@pytest.mark.netns
def test_an_address_of_no_service_is_refused_at_once(in_namespace: Any) -> None:
    async def work() -> None:
        assert await apply_rules(ruleset([service("none")], frozenset())) == ""
        for address in ("10.96.0.5", "10.96.77.77", "fd00:10:96::77"):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.wait_for(asyncio.open_connection(address, 80), 0.5)

    in_namespace(work)


@pytest.mark.netns
def test_a_node_takes_its_addresses_for_its_own_from_the_start() -> None:
    """The kernel needs a moment for that: not each time, so it is tried a few times."""
    if os.geteuid() != 0:
        pytest.skip("needs root")

    def routes() -> list[int]:
        unshare(CLONE_NEWNET)
        set_up_node()
        with IPRoute() as ip:
            return [ip.route("get", dst=address)[0]["type"] for address in (NODE_V6, API_V6, DNS_V6)]

    with ThreadPoolExecutor(1) as elsewhere:  # a namespace is a thread's
        for _ in range(100):
            assert [RTN_LOCAL] * 3 == elsewhere.submit(routes).result()


@pytest.mark.netns
def test_dns_answers_datagrams_and_streams(in_namespace: Any) -> None:
    async def work() -> None:
        server = DnsServer(lambda: ZONE)
        await server.open(("10.96.0.10", "fd00:10:96::a"))
        query = DNSRecord.question("web.ns.svc.cluster.local").pack()
        for address in ("10.96.0.10", "fd00:10:96::a"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect((address, 53))
                client.send(query)
                async with asyncio.timeout(5):
                    reply = await asyncio.get_running_loop().sock_recv(client, 512)
                assert str(DNSRecord.parse(reply).a.rdata) == "10.96.0.5"
            reader, writer = await asyncio.open_connection(address, 53)
            for _ in range(2):  # more than one question on a stream
                writer.write(len(query).to_bytes(2, "big") + query)
                length = int.from_bytes(await reader.readexactly(2), "big")
                assert str(DNSRecord.parse(await reader.readexactly(length)).a.rdata) == "10.96.0.5"
            writer.close()
            await writer.wait_closed()
        server.close()

    in_namespace(work)


def test_an_empty_zone_knows_its_own_name_only() -> None:
    reply = DNSRecord.parse(answer(Zone(), DNSRecord.question("x.cluster.local").pack(), limit_bytes=512))
    assert RCODE[reply.header.rcode] == "NXDOMAIN"


@pytest.mark.netns
def test_a_udp_client_that_keeps_its_socket_is_led_to_the_new_endpoint(in_namespace: Any) -> None:
    udp = Port("http", "UDP", 53)

    def rules(*addresses: str) -> list[Service]:
        ends = [endpoint(address) for address in addresses]
        return [service("u", *ends, addresses=("10.96.0.20", "fd00:10:96::20"), ports=(udp,))]

    async def ask(client: socket.socket, address: str) -> str:
        client.sendto(b"who", (address, 53))
        return (await asyncio.get_running_loop().sock_recv(client, 99)).decode()

    class Naming(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(self.transport.get_extra_info("sockname")[0].encode(), addr)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        # Addresses of the node stand for pods: what counts is where the flow leads.
        places = {"10.244.0.1": "10.96.0.1", "fd00:10:244::1": "fd00:10:96::1"}
        servers = [
            (await loop.create_datagram_endpoint(Naming, local_addr=(address, 8080)))[0]
            for address in (*places, *places.values())
        ]
        before, after = rules(*places), rules(*places.values())
        assert await apply_rules(ruleset(before, frozenset())) == ""
        asked = {"10.96.0.20": socket.AF_INET, "fd00:10:96::20": socket.AF_INET6}
        clients = {address: socket.socket(family, socket.SOCK_DGRAM) for address, family in asked.items()}
        for client in clients.values():
            client.setblocking(False)
        assert [await ask(client, address) for address, client in clients.items()] == list(places)
        assert await apply_rules(ruleset(after, frozenset())) == ""
        gone = stale(udp_backends(before, frozenset()), udp_backends(after, frozenset()))
        assert gone == {(address, 53) for address in asked}
        assert await asyncio.to_thread(conntrack.forget, gone) == 2
        assert [await ask(client, address) for address, client in clients.items()] == list(places.values())
        for client in clients.values():
            client.close()
        for server in servers:
            server.close()

    in_namespace(work)
