"""A server that is connected before it is known what its client speaks: it may speak first. Turn."""

from typing import TYPE_CHECKING

from proxy.seams import ChannelUser

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
