"""Makes the kernel forget UDP flows whose service has other endpoints now. Edge.

A TCP client whose endpoint went notices and connects anew; a UDP client that keeps its socket would send to the old
address for as long as it sends at all, as every packet renews the flow. kube-proxy forgets such flows too. Source:
conntrack's netlink interface (linux/netfilter/nfnetlink_conntrack.h), by pyroute2.
"""

import socket

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket


def forget(places: set[tuple[str, int]]) -> int:
    """Delete the UDP flows to these service addresses and ports in this thread's namespace; returns how many."""
    count = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        with NFCTSocket(nfgen_family=family) as conntrack:
            for flow in _flows(conntrack, family):
                if (flow.daddr, flow.dport) in places:
                    try:
                        conntrack.entry("del", tuple_orig=flow)
                        count += 1
                    except NetlinkError:  # it ended by itself in between
                        pass
    return count


def _flows(conntrack: NFCTSocket, family: int) -> list[NFCTAttrTuple]:
    wanted = NFCTAttrTuple(family=family, proto=socket.IPPROTO_UDP)
    found = []
    for message in conntrack.dump(tuple_orig=wanted):
        original = message.get_attr("CTA_TUPLE_ORIG")
        address, protocol = original.get_attr("CTA_TUPLE_IP"), original.get_attr("CTA_TUPLE_PROTO")
        if address is None or protocol is None or protocol.get_attr("CTA_PROTO_NUM") != socket.IPPROTO_UDP:
            continue
        kind = "V4" if family == socket.AF_INET else "V6"
        source, target = (address.get_attr(f"CTA_IP_{kind}_{end}") for end in ("SRC", "DST"))
        if source and target:
            ports = {"sport": protocol.get_attr("CTA_PROTO_SRC_PORT"), "dport": protocol.get_attr("CTA_PROTO_DST_PORT")}
            found.append(NFCTAttrTuple(family=family, saddr=source, daddr=target, proto=socket.IPPROTO_UDP, **ports))
    return found
