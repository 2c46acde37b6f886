"""Probes of TCP ports that the sidecar makes in the kubelet's stead: /probe/tcp/PORT of the admin port. Waits.

Under capture the kernel accepts every connection to the pod for the sidecar; only a dial from inside tells whether the
application listens. Only ports of the pod's own probes are dialled (the injector writes them into the environment): a
stranger who asks for another learns nothing, and nobody scans ports through here.
"""

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from contract.probes import TCP_PATH
from proxy.admin import TEXT, Answer

LIMIT_S: Final = 10.0
"""Seconds that a dial may take: a listener with a full backlog accepts late, and the kubelet's own timeout (1 s where
the probe does not say) ends the question sooner."""


FRESH_S: Final = 0.1
"""Seconds for which an answer serves others who ask: strangers at the admin port cause ten dials a second at most."""


def probe_pages(ports: Iterable[int], addresses: tuple[str, ...]) -> dict[str, Callable[[], Awaitable[Answer]]]:
    """A page for each port, dialled at the pod's first address, as the kubelet does."""
    address = addresses[0] if addresses else "127.0.0.1"
    return {f"{TCP_PATH}{port}": _Port(address, port).answer for port in sorted(ports)}


class _Port:
    """Dials one port, once at a time."""

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self._dialling = trio.Lock()
        self._known: Answer | None = None
        self._known_s = 0.0

    async def answer(self) -> Answer:
        async with self._dialling:
            if self._known is None or trio.current_time() - self._known_s > FRESH_S:
                self._known = await _dial(self._address, self._port)
                self._known_s = trio.current_time()
            return self._known


async def _dial(address: str, port: int) -> Answer:
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        with trio.fail_after(LIMIT_S):
            stream = await trio.open_tcp_stream(address, port)
    except trio.TooSlowError:
        return Answer(503, TEXT, [f"{where} did not accept within {LIMIT_S:g} s\n"])
    except OSError as error:
        return Answer(503, TEXT, [f"{where}: {_reason(error)}\n"])
    await stream.aclose()
    return Answer(200, TEXT, [f"{where} accepts\n"])


def _reason(error: OSError) -> str:
    """Why a dial failed, without what trio says around it."""
    cause = error.__cause__
    inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    found = inner if isinstance(inner, OSError) and inner.errno else error
    return os.strerror(found.errno) if found.errno else str(found)
