"""Network namespaces, links, addresses and routes by netlink (pyroute2). Edge.

The node namespace is named (`ip netns exec tulle-NAME ...` works); a pod's is an open file of the daemon, so the kernel
removes it, its link and its rules when pod or daemon end.

A pod has one routed link: its addresses are /32 and /128, everything goes through the node namespace, whose connection
tracking therefore sees both directions of every connection (with a bridge, two pods' replies would go round it).
All functions block for a few milliseconds: call them in a thread. Sources: veth(4), rtnetlink(7), ip-sysctl.rst.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pyroute2 import IPRoute, NetlinkError

from . import syscalls as sc
from .addresses import (
    API_V4,
    API_V6,
    DNS_V4,
    DNS_V6,
    GATEWAY_V6,
    NODE_V4,
    NODE_V6,
    POD_NETWORK_V4,
    POD_NETWORK_V6,
    SERVICE_NETWORK_V4,
    SERVICE_NETWORK_V6,
    PodAddresses,
)

NETNS_FOLDER = "/run/netns"
_OWN = "/proc/thread-self/ns/net"  # a namespace is a thread's: other threads of the process stay where they are
_IFA_F_NODAD = 2  # an address is usable at once: nobody else can have it
_SCOPE_LINK = 253
_RTN_LOCAL = 2
_OWN_TIMEOUT_S = 5.0  # usually a millisecond or two
_PERMANENT = 0x80  # NUD_PERMANENT
# Fixed link addresses, so that neighbours are told and nobody has to ask (neighbour discovery on a link that has just
# come up loses its first question, and IPv6 asks again only after a second).
_NODE_LINK, _POD_LINK = "ee:ee:ee:ee:ee:ee", "0a:58:0a:f4:00:01"
_ALWAYS = {"net/ipv6/conf/all/disable_ipv6": "0", "net/ipv6/conf/default/disable_ipv6": "0"}
_NODE_SETTINGS = _ALWAYS | {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}
_POD_SETTINGS = _ALWAYS | {
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
}


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread in the network namespace of an open file; back again at the end."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.setns(namespace, sc.CLONE_NEWNET)
        try:
            yield
        finally:
            sc.setns(own, sc.CLONE_NEWNET)
    finally:
        os.close(own)


def new_namespace() -> int:
    """An open file of a fresh network namespace; closing the last one that refers to it removes the namespace."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.unshare(sc.CLONE_NEWNET)
        try:
            return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            sc.setns(own, sc.CLONE_NEWNET)
    finally:
        os.close(own)


def name_namespace(name: str, namespace: int) -> None:
    """Make it findable by `ip netns`, as iproute2 does: a bind mount in /run/netns."""
    os.makedirs(NETNS_FOLDER, exist_ok=True)
    path = f"{NETNS_FOLDER}/{name}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0))
    sc.mount(f"/proc/self/fd/{namespace}", path, flags=sc.MS_BIND)


def remove_name(name: str) -> None:
    """Undo `name_namespace`; nothing happens when it is not there."""
    path = f"{NETNS_FOLDER}/{name}"
    try:
        sc.unmount(path, sc.MNT_DETACH)
    except OSError:
        pass
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def set_up_node() -> None:
    """Settings, loopback and the node's, the API's and the DNS service's addresses, in the current namespace."""
    _write_settings(_NODE_SETTINGS)
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
        for address in (NODE_V4, API_V4, DNS_V4):
            ip.addr("add", index=1, address=address, prefixlen=32)
        for address in (NODE_V6, API_V6, DNS_V6):
            ip.addr("add", index=1, address=address, prefixlen=128, flags=_IFA_F_NODAD)
        _wait_for_own(ip, NODE_V6, API_V6, DNS_V6)
        # An address that no pod has is refused at once. One of a service needs a route for the node's own connections
        # to come as far as the rules, which give it a pod's address or refuse it.
        for pods in (POD_NETWORK_V4, POD_NETWORK_V6):
            ip.route("add", dst=str(pods), type="unreachable")
        ip.route("add", dst=str(SERVICE_NETWORK_V4), oif=1, prefsrc=NODE_V4, scope=_SCOPE_LINK)
        ip.route("add", dst=str(SERVICE_NETWORK_V6), oif=1, prefsrc=NODE_V6)


def add_pod(node: int, addresses: PodAddresses) -> int:
    """A pod's namespace with its link to the `node` namespace (an open file); the caller owns the file returned."""
    pod = new_namespace()
    try:
        with inside(pod):
            _write_settings(_POD_SETTINGS)  # before the link comes: a link copies the defaults when it is made
        with inside(node):
            _add_link(addresses, pod)
        with inside(pod):
            _set_up_pod(addresses)
        with inside(node):
            _set_up_node_end(addresses)
        with inside(pod), IPRoute() as ip:
            _wait_for_own(ip, addresses.v6)
    except BaseException:
        os.close(pod)
        raise
    return pod


def _add_link(addresses: PodAddresses, pod: int) -> None:
    with IPRoute() as ip:
        peer = {"ifname": "eth0", "net_ns_fd": pod, "address": _POD_LINK}
        ip.link("add", ifname=addresses.link, kind="veth", address=_NODE_LINK, peer=peer)


def _set_up_pod(addresses: PodAddresses) -> None:
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
        eth0 = ip.link_lookup(ifname="eth0")[0]
        ip.addr("add", index=eth0, address=addresses.v4, prefixlen=32)
        ip.addr("add", index=eth0, address=addresses.v6, prefixlen=128, flags=_IFA_F_NODAD)
        ip.link("set", index=eth0, state="up")
        for gateway in (NODE_V4, GATEWAY_V6):
            ip.neigh("add", dst=gateway, lladdr=_NODE_LINK, ifindex=eth0, state=_PERMANENT)
        ip.route("add", dst=f"{NODE_V4}/32", oif=eth0, scope=_SCOPE_LINK)
        ip.route("add", dst="0.0.0.0/0", gateway=NODE_V4, oif=eth0)
        ip.route("add", dst="::/0", gateway=GATEWAY_V6, oif=eth0)


def _set_up_node_end(addresses: PodAddresses) -> None:
    with IPRoute() as ip:
        end = ip.link_lookup(ifname=addresses.link)[0]
        ip.addr("add", index=end, address=GATEWAY_V6, prefixlen=64, flags=_IFA_F_NODAD)
        ip.link("set", index=end, state="up")
        for address in (addresses.v4, addresses.v6):
            ip.neigh("add", dst=address, lladdr=_POD_LINK, ifindex=end, state=_PERMANENT)
        ip.route("add", dst=f"{addresses.v4}/32", oif=end, prefsrc=NODE_V4, scope=_SCOPE_LINK)
        ip.route("add", dst=f"{addresses.v6}/128", oif=end, prefsrc=NODE_V6)


def remove_pod(node: int, addresses: PodAddresses) -> None:
    """Remove the link (and with it its routes) now, not when the last process of the pod is gone."""
    with inside(node), IPRoute() as ip:
        for index in ip.link_lookup(ifname=addresses.link):
            try:
                ip.link("del", index=index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:  # the pod's namespace went in between, and took the link with it
                    raise


def _wait_for_own(ip: IPRoute, *addresses: str) -> None:
    """Return when the kernel takes these IPv6 addresses for its own; raise TimeoutError.

    It does so in a work queue, some time after they were added (net/ipv6/addrconf.c, `addrconf_dad_work`); a socket
    that is connected before keeps the route that it found instead.
    """
    deadline_s = time.monotonic() + _OWN_TIMEOUT_S
    while not all(map(partial(_is_own, ip), addresses)):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the kernel does not take for its own: {', '.join(addresses)}")
        time.sleep(0.001)


def _is_own(ip: IPRoute, address: str) -> bool:
    try:
        return bool(ip.route("get", dst=address)[0]["type"] == _RTN_LOCAL)
    except NetlinkError:  # no route at all
        return False


def _write_settings(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        try:
            with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
                file.write(value)
        except FileNotFoundError:
            if not name.startswith("net/ipv6"):  # a kernel without IPv6 says so at the first IPv6 address
                raise
