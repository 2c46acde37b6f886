"""What is believed of the mesh's own headers, by who says it; all else is taken off. Turn.

Of a sidecar (proxy.peers knows which clients are, discovery which servers): how long its client waits, which try this
is, and that it is a copy; of its answers, why it made them. Of the sidecar's own application: its deadline. Of anybody
else nothing. Trailers say nothing of the mesh, but those of a server's sidecar.

`grpc-timeout` is the application's header and not the mesh's: anybody may send it, it goes on, and it ends the
caller's own exchange alone.
"""

from typing import TYPE_CHECKING, Final

from contract.headers import ATTEMPT, DEADLINE, ERROR, MIRROR, TIMEOUT
from contract.metrics import OUTBOUND
from proxy.attempt import Attempt
from proxy.model import APPLICATION, KUBELET, NO_BODY, NODE, SIDECAR, Headers, PeerKind, RequestHead, ResponseHead
from proxy.policy import deadline, probe
from proxy.wire import grpc, marks

if TYPE_CHECKING:
    from proxy.exchange import Exchange

_TIMEOUT: Final = TIMEOUT.encode()
_DEADLINE: Final = DEADLINE.encode()
_OF_SIDECARS: Final = (_TIMEOUT, ATTEMPT.encode(), MIRROR.encode())
_OF_SERVERS_SIDECARS: Final = (ERROR.encode(),)
_GRPC_TIMEOUT: Final = b"grpc-timeout"


def hear_request(exchange: "Exchange") -> None:
    """Find out who asks where something depends on it: whether it is a probe, how long the caller waits."""
    head = exchange.head
    caller = exchange.caller
    target = caller.target
    if head.has_marks:
        exchange.peer = caller.peer
        exchange.patience_s = heed(head, exchange.peer, exchange.parts.unix_s())
    probed = target.probed
    if probed and probe.is_asked(probed, head.method, head.target, head.framing != NO_BODY) and caller.peer == NODE:
        exchange.peer = KUBELET
        exchange.probes = target.probes


def heed(head: RequestHead, peer: PeerKind, unix_s: float) -> float:
    """Take off a request what its sender may not say; give the time that the caller leaves for it.

    Returns:
        Seconds, or deadline.NO_LIMIT or deadline.EXPIRED.
    """
    timeout = until = b""
    if peer == SIDECAR:
        timeout = head.value(_TIMEOUT)
        marks.keep(head, _OF_SIDECARS)
    else:
        if peer == APPLICATION:
            timeout, until = head.value(_TIMEOUT), head.value(_DEADLINE)
        marks.keep(head, ())
    grpc_timeout = head.value(_GRPC_TIMEOUT) if head.is_grpc else b""
    grpc_s = grpc.parse_timeout_s(grpc_timeout) if grpc_timeout else -1.0
    return deadline.remaining_s(deadline.NO_LIMIT, timeout, until, grpc_s, unix_s)


def hear_response(exchange: "Exchange", attempt: Attempt, head: ResponseHead) -> None:
    """Take off a response, which has marks, what its sender may not say."""
    marks.keep_of_response(head, _believed(exchange, attempt))


def hear_trailers(exchange: "Exchange", attempt: Attempt, trailers: Headers) -> Headers:
    """Take off a response's trailers what their sender may not say."""
    return marks.without(trailers, _believed(exchange, attempt))


def _believed(exchange: "Exchange", attempt: Attempt) -> tuple[bytes, ...]:
    is_sidecar = exchange.caller.direction == OUTBOUND and attempt.endpoint.is_meshed
    return _OF_SERVERS_SIDECARS if is_sidecar else ()
