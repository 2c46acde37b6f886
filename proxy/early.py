"""A server that is connected before it is known what its client speaks: it may speak first. Turn."""

from typing import TYPE_CHECKING

from proxy.channel import SocketChannel
from proxy.parts import Parts
from proxy.pool import Endpoint
from proxy.seams import ChannelUser
from proxy.server import Server
from proxy.trunk import Trunk

if TYPE_CHECKING:
    from proxy.session import Session


class EarlyServer(ChannelUser):
    """Hears its channel for the session that has it."""

    __slots__ = ("owner",)

    def __init__(self, owner: "Session") -> None:
        self.owner = owner

    def on_data(self, data: bytes) -> None:
        self.owner.on_server_data(data)

    def on_eof(self) -> None:
        self.owner.on_server_data(b"")

    def on_lost(self, errno: str) -> None:
        self.owner.on_server_lost()


def keep(parts: Parts, channel: SocketChannel, endpoint: Endpoint, is_http2: bool) -> bool:
    """Let a connection that was dialled in vain serve requests, if it can."""
    if not is_http2:
        spare = Server(channel, endpoint, parts)
        spare.end(not channel.has_read_eof, parts.pump.now_s)
    elif not channel.has_read_eof:
        Trunk(parts, endpoint, channel)
    else:
        return False
    return True
