"""What a pod stands on: its network, its files and its volumes, made before its containers and kept true. Waits."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from lab.api.errors import ApiError

from . import network, pod_files, volume_files
from .addresses import NODE_V4, NODE_V6, AddressPool, NoAddressLeft, PodAddresses
from .endpoints import Object
from .environment import ConfigurationFault, Sources
from .launch import Launch
from .launching import Host, Places, launch
from .volumes import Mint, Volumes

_AGAIN_S = 1.0
Tell = Callable[[Literal["Normal", "Warning"], str, str], Awaitable[None]]


@dataclass(eq=False)
class Ground:
    """One pod's. `netns` is an open file, -1 while there is none; `ips` are the pod's addresses, IPv4 first."""

    folder: str
    pool: AddressPool
    node_netns: int
    host: Host
    sources: Callable[[], Sources]
    mint: Mint
    now: Callable[[], datetime]
    netns: int = -1
    ips: tuple[str, ...] = ()
    _addresses: PodAddresses | None = None
    _volumes: Volumes = field(init=False)
    _places: dict[str, tuple[str, bool]] | None = None

    def __post_init__(self) -> None:
        self._volumes = Volumes(self.path("volumes"), self.mint, self.now)

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    async def connect(self, pod: Object, tell: Tell) -> None:
        """Give the pod its network; waits while no address is left."""
        if pod["spec"].get("hostNetwork"):
            self.netns, self.ips = os.dup(self.node_netns), (NODE_V4, NODE_V6)
            return
        self._addresses = await self._take(tell)
        adding = asyncio.create_task(asyncio.to_thread(network.add_pod, self.node_netns, self._addresses))
        try:
            self.netns = await asyncio.shield(adding)
        except asyncio.CancelledError:
            self.netns = await adding  # a thread cannot be cancelled: what it makes is released as usual
            raise
        self.ips = (self._addresses.v4, self._addresses.v6)

    async def _take(self, tell: Tell) -> PodAddresses:
        told = False
        while True:
            try:
                return self.pool.take()
            except NoAddressLeft as error:
                if not told:
                    await tell("Warning", "FailedCreatePodSandBox", str(error))
                told = True
            await asyncio.sleep(_AGAIN_S)

    def write_files(self, pod: Object) -> None:
        """The files that the node gives every pod."""
        os.makedirs(self.path("scratch"), exist_ok=True)
        texts = {
            "hosts": pod_files.hosts(pod, self.ips),
            "resolv.conf": pod_files.resolv_conf(pod),
            "hostname": pod_files.hostname(pod) + "\n",
        }
        for name, text in texts.items():
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(text)

    async def mount(self, pod: Callable[[], Object], tell: Tell) -> None:
        """Make the volumes; waits, and says for what, while something is missing."""
        told = ""
        while True:
            try:
                self._places = self._volumes.apply(pod(), self.sources())
                return
            except (ConfigurationFault, OSError, ValueError, ApiError) as error:
                if str(error) != told:
                    told = str(error)
                    await tell("Warning", "FailedMount", f"MountVolume.SetUp failed: {told}")
            await asyncio.sleep(_AGAIN_S)

    def refresh(self, pod: Object) -> None:
        """Bring the volumes up to date; one that cannot be (its object is gone) stays as it was."""
        if self._places:
            try:
                self._volumes.apply(pod, self.sources())
            except (ConfigurationFault, OSError, ValueError, ApiError):
                pass

    def launch(self, pod: Object, container: Object, termination_log: str) -> Launch:
        """The process of a container. ConfigurationFault."""
        places = Places(
            scratch=self.path("scratch"),
            hosts=self.path("hosts"),
            resolv_conf=self.path("resolv.conf"),
            hostname=self.path("hostname"),
            termination_log=termination_log,
            volumes=self._places or {},
        )
        return launch(pod, container, self.sources(), self.host, places, volume_files.sub_path)

    async def release(self) -> None:
        """Give the network back; the files stay until the pod is gone, for its logs."""
        if self._addresses is not None:
            await asyncio.to_thread(network.remove_pod, self.node_netns, self._addresses)
            self.pool.give(self._addresses)
            self._addresses = None
        if self.netns >= 0:
            os.close(self.netns)
            self.netns = -1

    def remove(self) -> None:
        """The files too."""
        volume_files.remove_tree(self.folder)
