"""The init container's command: capture the pod's TCP connections for the sidecar. Edge.

Exit codes: 0 the rules are in the kernel and were read back; 1 they are not, and nothing of them is; 2 the command
line is wrong.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from contract import VERSION, ports
from contract.lists import parse_ports, parse_subnets
from init import apply, routes
from init.capabilities import NET_ADMIN, NET_RAW, effective_capabilities
from init.config import Config, ConfigError
from init.errors import BackendError
from init.legacy import Legacy
from init.legacy_text import render_plan
from init.nft import Nft
from init.rules import FAMILIES, Family, plan

IPV6_SIGN = Path("/proc/net/if_inet6")
"""Present when this kernel speaks IPv6, whatever addresses the namespace has by now: a pod may get one later."""

SKIPPED = ",".join(map(str, ports.SKIP_PORTS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    began_s = time.monotonic()
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        config = config_of(options)
    except ConfigError as error:
        parser.error(str(error))
    rules = plan(config)
    if options.simulate:
        print("\n".join(f"# IPv{family}\n{render_plan(rules, family)}" for family in families_of(options)))
        return 0
    try:
        require_net_admin()
        if options.cleanup:
            clean_up(options.backend)
        else:
            families = families_of(options)
            backend, refusals = apply.choose(backends_of(options.backend), families)
            apply.capture(backend, rules, families, leftovers_of(backend, refusals))
            for fault in routes.add(families):
                print(f"tulle-init: {fault}", file=sys.stderr)
            report(f"{_names(families)} captured by {len(rules)} rules", backend.name, refusals, began_s)
    except BackendError as error:
        print(f"tulle-init: {error}", file=sys.stderr)
        return 1
    return 0


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line: in a container's log the usage would bury it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    description = "Capture a pod's TCP connections for its sidecar."
    parser = OneLineParser(prog="tulle-init", description=description, allow_abbrev=False)
    _add_rule_flags(parser.add_argument)
    _add_run_flags(parser.add_argument)
    return parser


def _add_rule_flags(add: Callable[..., Any]) -> None:
    add(
        "--inbound-proxy-port",
        type=_port,
        default=ports.INBOUND_PORT,
        metavar="PORT",
        help="sidecar's inbound listener (%(default)s)",
    )
    add(
        "--outbound-proxy-port",
        type=_port,
        default=ports.OUTBOUND_PORT,
        metavar="PORT",
        help="sidecar's outbound listener (%(default)s)",
    )
    add(
        "--proxy-uid",
        type=_uid,
        default=ports.PROXY_UID,
        metavar="UID",
        help="user whose connections are left alone (%(default)s)",
    )
    add(
        "--skip-inbound-ports",
        type=_checked(parse_ports),
        default=SKIPPED,
        metavar="PORTS",
        help="local ports and ranges never captured (%(default)s)",
    )
    add(
        "--skip-outbound-ports",
        type=_checked(parse_ports),
        default=SKIPPED,
        metavar="PORTS",
        help="destination ports and ranges never captured (%(default)s)",
    )
    add(
        "--skip-inbound-subnets",
        type=_checked(parse_subnets),
        default="",
        metavar="SUBNETS",
        help="clients never captured, IPv4 and IPv6 mixed",
    )
    add(
        "--skip-outbound-subnets",
        type=_checked(parse_subnets),
        default="",
        metavar="SUBNETS",
        help="destinations never captured, IPv4 and IPv6 mixed",
    )


def _add_run_flags(add: Callable[..., Any]) -> None:
    add(
        "--backend",
        choices=("auto", "legacy", "nft"),
        default="auto",
        help="how to program the kernel; auto takes the first that works (%(default)s)",
    )
    add(
        "--ipv6",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="capture IPv6 (default: whenever the kernel has it)",
    )
    add("--simulate", action="store_true", help="print the rules instead of applying them")
    add("--cleanup", action="store_true", help="remove everything that this command ever added")
    add("--version", action="version", version=f"tulle-init {VERSION}")


def config_of(options: argparse.Namespace) -> Config:
    return Config(
        inbound_proxy_port=options.inbound_proxy_port,
        outbound_proxy_port=options.outbound_proxy_port,
        proxy_uid=options.proxy_uid,
        skip_inbound_ports=options.skip_inbound_ports,
        skip_outbound_ports=options.skip_outbound_ports,
        skip_inbound_subnets=options.skip_inbound_subnets,
        skip_outbound_subnets=options.skip_outbound_subnets,
    )


def families_of(options: argparse.Namespace) -> tuple[Family, ...]:
    """A simulation shows both families wherever it runs; the kernel gets those that it has."""
    wanted = options.ipv6 if options.ipv6 is not None else options.simulate or IPV6_SIGN.exists()
    return FAMILIES if wanted else (4,)


def backends_of(name: str) -> tuple[apply.Backend, ...]:
    every: tuple[apply.Backend, ...] = (Legacy(), Nft())
    return tuple(backend for backend in every if name in ("auto", backend.name))


def leftovers_of(chosen: apply.Backend, refusals: Sequence[str]) -> tuple[apply.Backend, ...]:
    """The backends that an earlier run in this pod may have used: what cannot work now could not work then."""
    usable = NET_RAW in effective_capabilities()
    others = (backend for backend in backends_of("auto") if backend.name != chosen.name)
    return tuple(one for one in others if not refusals and (usable or one.name != "legacy"))


def require_net_admin() -> None:
    held = effective_capabilities()
    if NET_ADMIN not in held:
        raise BackendError(
            "the capability NET_ADMIN is missing: add NET_ADMIN and NET_RAW to this container's "
            "securityContext.capabilities.add (a namespace under the restricted PodSecurity level forbids them: "
            "label it pod-security.kubernetes.io/enforce=privileged)"
        )
    if NET_RAW not in held:
        print("tulle-init: the capability NET_RAW is missing; only the nft backend can work", file=sys.stderr)


def clean_up(name: str) -> None:
    for backend in backends_of(name):
        backend.clear()
    routes.remove(FAMILIES)


def report(done: str, backend: str, refusals: Sequence[str], began_s: float) -> None:
    why = "; ".join(refusals) if refusals else "the first that really added and deleted a rule"
    elapsed_ms = (time.monotonic() - began_s) * 1000
    print(f"tulle-init: {done}, backend {backend} ({why}), {elapsed_ms:.0f} ms", file=sys.stderr)


def _names(families: Sequence[Family]) -> str:
    return " and ".join(f"IPv{family}" for family in families)


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse name the flag, and the parser's own message the value and the fix."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _port(text: str) -> int:
    ranges = _checked(parse_ports)(text)
    if len(ranges) != 1 or ranges[0].first != ranges[0].last:
        raise argparse.ArgumentTypeError(f"{text!r} is not one port; write a number from 1 to 65535")
    return int(ranges[0].first)


def _uid(text: str) -> int:
    # The last number means "no user" in the kernel (linux/uidgid.h).
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= 2**32 - 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no user id; write a number such as {ports.PROXY_UID}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
