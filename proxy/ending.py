"""Hears a client after its last answer. Turn."""

from typing import TYPE_CHECKING

from proxy.seams import ChannelUser

if TYPE_CHECKING:
    from proxy.conversation import Conversation


class Ending(ChannelUser):
    """Drops what a client still says after its last answer."""

    __slots__ = ("owner",)

    def __init__(self, owner: "Conversation") -> None:
        self.owner = owner

    def on_data(self, data: bytes) -> None: ...

    def on_eof(self) -> None:
        self.owner.on_last_eof()

    def on_lost(self, errno: str) -> None:
        self.owner.on_lost(errno)
