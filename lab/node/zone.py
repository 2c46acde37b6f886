"""The zone cluster.local, made from services and endpoints, and answers from it. Pure (dnslib only packs and parses).

Sources: Kubernetes DNS-Based Service Discovery, version 1.1.0 (the specification in kubernetes/dns); RFC 1035; RFC
2782 (SRV); RFC 2308 (a negative answer carries the zone's SOA). Names outside of the zone do not exist here: a lab
has no way out, and NXDOMAIN ends a client's search at once where REFUSED would make it try again.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from dnslib import AAAA, CNAME, PTR, QTYPE, RCODE, RR, SOA, SRV, A, DNSError, DNSHeader, DNSRecord

from .endpoints import Endpoint, Service

DOMAIN = "cluster.local"
TTL_S = 5  # as short as CoreDNS' default for services
_DATA = {"A": A, "AAAA": AAAA, "CNAME": CNAME, "PTR": PTR}
UDP_BYTES = 1232  # what fits every path unfragmented (DNS flag day 2020); longer answers go over TCP


@dataclass
class Zone:
    """Records by lower-case name without the final dot, then by type: text, or (priority, weight, port, target)."""

    serial: int = 0
    records: dict[str, dict[str, list[str | tuple[int, int, int, str]]]] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()

    def add(self, name: str, kind: str, data: str | tuple[int, int, int, str]) -> None:
        found = self.records.setdefault(name, {}).setdefault(kind, [])
        if data not in found:
            found.append(data)
        parent = name.partition(".")[2]
        while parent and parent not in self.records:  # names in between exist too, with no data (RFC 8020)
            self.records[parent] = {}
            parent = parent.partition(".")[2]


def build(services: Iterable[Service], namespaces: Iterable[str], serial: int) -> Zone:
    """The whole zone."""
    zone = Zone(serial, {}, frozenset(namespaces))
    for suffix in (f"svc.{DOMAIN}", f"pod.{DOMAIN}"):
        for namespace in zone.namespaces:
            zone.records.setdefault(f"{namespace}.{suffix}", {})
        zone.records.setdefault(suffix, {})
    zone.add(f"dns-version.{DOMAIN}", "TXT", "1.1.0")
    for service in services:
        name = f"{service.name}.{service.namespace}.svc.{DOMAIN}"
        if service.external_name:
            zone.add(name, "CNAME", service.external_name.rstrip("."))
        elif service.is_headless:
            _add_headless(zone, name, service)
        else:
            _add_cluster(zone, name, service)
    return zone


def _add_cluster(zone: Zone, name: str, service: Service) -> None:
    zone.records.setdefault(name, {})
    for address in service.addresses:
        zone.add(name, _kind(address), address)
        zone.add(_reverse(address), "PTR", name)
    for port in service.ports:
        if port.name:
            zone.add(f"_{port.name}._{port.protocol.lower()}.{name}", "SRV", (0, 100, port.number, name))


def _add_headless(zone: Zone, name: str, service: Service) -> None:
    zone.records.setdefault(name, {})
    for endpoint in service.endpoints:
        if not endpoint.is_ready:
            continue
        own = f"{endpoint.hostname or _dashed(endpoint.address)}.{name}"
        zone.add(name, _kind(endpoint.address), endpoint.address)
        zone.add(own, _kind(endpoint.address), endpoint.address)
        if endpoint.hostname:
            zone.add(_reverse(endpoint.address), "PTR", own)
        _add_ports(zone, name, own, service, endpoint)


def _add_ports(zone: Zone, name: str, own: str, service: Service, endpoint: Endpoint) -> None:
    protocols = {port.name: port.protocol.lower() for port in service.ports}
    for port, number in endpoint.ports:
        if port in protocols and port:
            zone.add(f"_{port}._{protocols[port]}.{name}", "SRV", (0, 100, number, own))


def _kind(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def _dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


def _reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


def answer(zone: Zone, query: bytes, *, limit_bytes: int) -> bytes | None:
    """The answer to one query, truncated where it passes `limit_bytes`; None for what is no query at all."""
    try:
        request = DNSRecord.parse(query)
    except (DNSError, ValueError, IndexError):
        return None
    if request.header.qr or not request.questions:
        return None
    reply = DNSRecord(
        DNSHeader(id=request.header.id, qr=1, aa=1, rd=request.header.rd, ra=1), questions=request.questions[:1]
    )
    name = str(request.q.qname).rstrip(".").lower()
    if request.header.opcode != 0:
        reply.header.rcode = RCODE.NOTIMP
    else:
        _fill(zone, reply, name, str(QTYPE[request.q.qtype]))
    packed: bytes = reply.pack()
    edns = [record for record in request.ar if record.rtype == QTYPE.OPT]
    limit = max(limit_bytes, min(edns[0].rclass, UDP_BYTES)) if edns else limit_bytes
    if len(packed) > limit:
        short = reply.truncate()
        return bytes(short.pack())
    return packed


def _fill(zone: Zone, reply: DNSRecord, name: str, kind: str) -> None:
    for _ in range(8):  # an external name may lead to a name of ours, and on
        found = _find(zone, name)
        if found is None:
            reply.header.rcode = RCODE.NXDOMAIN if not reply.rr else RCODE.NOERROR
            break
        for data in found.get(kind, []) if kind != "ANY" else [d for items in found.values() for d in items]:
            _add(zone, reply, name, kind if kind != "ANY" else _kind_of(found, data), data)
        alias = found.get("CNAME")
        if kind in ("CNAME", "ANY") or not alias:
            break
        _add(zone, reply, name, "CNAME", alias[0])
        name = str(alias[0])
    if not reply.rr:
        reply.add_auth(_soa(zone))


def _kind_of(found: dict[str, list[str | tuple[int, int, int, str]]], data: object) -> str:
    return next(kind for kind, items in found.items() if data in items)


def _find(zone: Zone, name: str) -> dict[str, list[str | tuple[int, int, int, str]]] | None:
    """The records of a name, none where the name exists without any; None where it does not."""
    found = zone.records.get(name)
    if found is not None:
        return found
    if name == DOMAIN or DOMAIN.endswith(f".{name}"):
        return {}
    labels = name.split(".")
    if name.endswith(f".pod.{DOMAIN}") and len(labels) == 5 and labels[1] in zone.namespaces:
        return _pod_record(labels[0])
    return None


def _pod_record(label: str) -> dict[str, list[str | tuple[int, int, int, str]]] | None:
    """A pod's name is its address: 10-244-0-5.NAMESPACE.pod.cluster.local."""
    for text in (label.replace("-", "."), label.replace("-", ":")):
        try:
            address = str(ipaddress.ip_address(text))
        except ValueError:
            continue
        return {_kind(address): [address]}
    return None


def _add(zone: Zone, reply: DNSRecord, name: str, kind: str, data: str | tuple[int, int, int, str]) -> None:
    if isinstance(data, tuple):
        reply.add_answer(RR(name, QTYPE.SRV, rdata=SRV(*data), ttl=TTL_S))
        for extra in ("A", "AAAA"):
            for address in zone.records.get(data[3], {}).get(extra, []):
                reply.add_ar(RR(data[3], getattr(QTYPE, extra), rdata=_DATA[extra](address), ttl=TTL_S))
    elif kind == "TXT":
        reply.add_answer(*RR.fromZone(f'{name}. {TTL_S} TXT "{data}"'))
    else:
        reply.add_answer(RR(name, getattr(QTYPE, kind), rdata=_DATA[kind](data), ttl=TTL_S))


def _soa(zone: Zone) -> RR:
    times = (zone.serial, 7200, 1800, 86400, TTL_S)
    return RR(DOMAIN, QTYPE.SOA, rdata=SOA(f"ns.dns.{DOMAIN}", f"hostmaster.{DOMAIN}", times), ttl=TTL_S)
