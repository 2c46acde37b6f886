"""Which series counts a TLS client's connection: one for each name that clients ask for. Turn.

Linkerd's labels: `tls="opaque"` for TLS that passes unread, and `sni`. A client's connection counts as opened, and
its bytes are counted, in that series alone, so that sums stay sums. A name is what a client says, so their number is
bounded here, apart from all other series: what is beyond is counted together.
"""

from typing import Final

from contract.report import Peer
from proxy.channel import SocketChannel
from proxy.meter import Labels, Meter

MAX_NAMES_COUNT: Final = 256
"""Series that have a name; a pod that talks to more servers than that is a crawler."""

OTHER: Final = "(other)"
"""Stands for all names beyond; no host has it."""

_NO_PEER: Final = Peer()


def name_tls(meter: Meter, channel: SocketChannel, sni: str) -> None:
    """Move a client's connection from the series of its target to that of its name."""
    before = channel.series
    labels = _named(before.labels, sni)
    if labels not in meter.tcp and (not sni or meter.names_count >= MAX_NAMES_COUNT):
        labels = _named(meter.place_of(before), OTHER if sni else "")
    is_new = labels not in meter.tcp
    after = meter.take_tcp(labels, _NO_PEER)
    meter.names_count += is_new and after.labels[-1][0] == "sni"
    meter.give(after)  # an open connection keeps it alive
    before.opened -= 1
    before.open_now -= 1
    after.opened += 1
    after.open_now += 1
    channel.series = after


def _named(labels: Labels, sni: str) -> Labels:
    kept = tuple(pair for pair in labels if pair[0] not in ("tls", "no_tls_reason"))
    return (*kept, ("tls", "opaque"), ("sni", sni)) if sni else (*kept, ("tls", "opaque"))
