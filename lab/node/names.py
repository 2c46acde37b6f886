"""Keeps the node's rules and the DNS zone true to the stored services and endpoint slices. Waits.

A change waits DEBOUNCE_S for its company, then everything is computed anew and applied whole.
"""

import asyncio
from dataclasses import dataclass, field

import structlog

from lab.api.registry import Registry

from . import conntrack
from .addresses import API_V4, API_V6, DNS_V4, DNS_V6
from .endpoints import Service, collect
from .services import UdpBackends, ruleset, stale, udp_backends
from .watching import follow
from .zone import Zone, build

log = structlog.get_logger("lab.node")
DEBOUNCE_S = 0.01
_AGAIN_S = 1.0
_OURS = frozenset({API_V4, API_V6, DNS_V4, DNS_V6})


@dataclass(eq=False)
class Names:
    """`zone` and `services` are always the latest; `applied` is set once the first rules are in the kernel."""

    registry: Registry
    zone: Zone = field(default_factory=Zone)
    services: tuple[Service, ...] = ()
    applied: asyncio.Event = field(default_factory=asyncio.Event)
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _rules: str = ""
    _udp: UdpBackends = field(default_factory=dict)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for resource in ("services", "endpointslices", "namespaces"):
                tasks.create_task(self._watch(resource), name=f"names {resource}")
            tasks.create_task(self._apply_changes(), name="names")

    async def _watch(self, resource: str) -> None:
        async for _ in follow(self.registry, resource):
            self._dirty.set()

    async def _apply_changes(self) -> None:
        self._dirty.set()
        while True:
            await self._dirty.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._dirty.clear()
            await self._apply()

    async def _apply(self) -> None:
        self.services = tuple(collect(self.registry.list("services"), self.registry.list("endpointslices")))
        namespaces = [item["metadata"]["name"] for item in self.registry.list("namespaces")]
        self.zone = build(self.services, namespaces, self.zone.serial + 1)
        rules = ruleset(self.services, _OURS)
        if rules == self._rules:
            return
        fault = await apply_rules(rules)
        if fault:
            log.error("the rules of the services were refused", error=fault)
            self._dirty.set()
            await asyncio.sleep(_AGAIN_S)
            return
        self._rules = rules
        self.applied.set()
        await self._forget_flows()

    async def _forget_flows(self) -> None:
        before, self._udp = self._udp, udp_backends(self.services, _OURS)
        places = stale(before, self._udp)
        if places:
            await asyncio.to_thread(conntrack.forget, places)


async def apply_rules(text: str) -> str:
    """Give the text to nft; returns what it complains of, or nothing."""
    nft = await asyncio.create_subprocess_exec(
        "nft", "-f", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, said = await nft.communicate(text.encode())
    return said.decode(errors="replace") if nft.returncode else ""
