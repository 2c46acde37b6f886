"""Connects to servers: the only wait on the way of a request. Waits."""

import socket
from contextlib import suppress
from errno import ECONNREFUSED, EINPROGRESS
from typing import Final

import trio

from proxy.config import Config
from proxy.listener import prepare
from proxy.model import Address
from proxy.pump import Pump
from proxy.seams import Dialler

_REFUSED: Final = "connect-refused"
_UNREACHABLE: Final = "connect-unreachable"
_TIMEOUT: Final = "connect-timeout"


class DialTask:
    """A dial on its way; satisfies seams.Dial."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        self.scope.cancel()


class TrioDoor:
    """Each dial is one task of the nursery, and ends in exactly one callback unless it was cancelled."""

    def __init__(self, nursery: trio.Nursery, pump: Pump, config: Config) -> None:
        self._nursery = nursery
        self._pump = pump
        self._config = config

    def dial(self, address: Address, dialler: Dialler) -> DialTask:
        task = DialTask()
        self._pump.dialling_count += 1
        self._nursery.start_soon(self._dial, address, dialler, task)
        return task

    async def _dial(self, address: Address, dialler: Dialler, task: DialTask) -> None:
        sock: socket.socket | None = None
        reason = _TIMEOUT
        with task.scope:
            with trio.move_on_after(self._config.connect_timeout_s):
                try:
                    sock = await connect(address, self._config)
                except OSError as error:
                    reason = _REFUSED if error.errno == ECONNREFUSED else _UNREACHABLE
        self._pump.dialling_count -= 1
        if task.scope.cancel_called:
            if sock is not None:
                sock.close()
        elif sock is None:
            self._pump.enter(dialler.on_dial_failed, reason)
        else:
            self._pump.enter(dialler.on_connected, sock)


async def connect(address: Address, config: Config) -> socket.socket:
    """Connect; raise OSError. The caller owns the socket and the deadline."""
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare(sock, config)
        number = sock.connect_ex(address)
        if number == EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, f"connect to {address}")
    except BaseException:
        with suppress(OSError):
            sock.close()
        raise
    return sock
