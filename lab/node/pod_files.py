"""The text of the files that the node gives every pod: hosts and resolv.conf. Pure.

Source: Kubernetes documentation, "DNS for Services and Pods" (dnsPolicy, dnsConfig, hostname, subdomain).
"""

from .addresses import DNS_V4
from .endpoints import Object
from .zone import DOMAIN

_HOSTNAME_COUNT = 63


def hostname(pod: Object) -> str:
    """What the pod's processes call their machine."""
    name: str = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return name[:_HOSTNAME_COUNT].rstrip("-.")


def hosts(pod: Object, addresses: tuple[str, ...]) -> str:
    """/etc/hosts, hostAliases last."""
    own, spec = hostname(pod), pod["spec"]
    if spec.get("subdomain"):
        own = f"{own}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{DOMAIN} {own}"
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {own}" for address in addresses]
    lines += [f"{alias['ip']} {' '.join(alias.get('hostnames') or [])}" for alias in spec.get("hostAliases") or []]
    return "\n".join(lines) + "\n"


def resolv_conf(pod: Object) -> str:
    """/etc/resolv.conf; the lab's DNS serves every policy but None."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy, extra = spec.get("dnsPolicy", "ClusterFirst"), spec.get("dnsConfig") or {}
    servers, search, options = [], [], {}
    if policy != "None":
        servers = [DNS_V4]
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        search = [f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN]
        options = {"ndots": "5"}
    servers += [server for server in extra.get("nameservers") or [] if server not in servers]
    search += [domain for domain in extra.get("searches") or [] if domain not in search]
    options |= {option["name"]: str(option.get("value") or "") for option in extra.get("options") or []}
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in options.items()))
    return "\n".join(lines) + "\n"
