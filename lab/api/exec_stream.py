"""exec and attach over WebSocket: the subprotocols v5.channel.k8s.io and v4.channel.k8s.io. Waits.

Every message begins with a byte that names its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 the
terminal's size as JSON; v5 adds 255 followed by the number of a channel that is closed, which is how stdin ends. When
the command ends, its exit code goes out as a Status on channel 3. A client that goes away takes its command with it.

Source: the WebSocket remote command protocol of kubelet and kubectl (remotecommand constants v4, v5).
"""

import asyncio
import json
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lab.api import errors
from lab.api.errors import ApiError
from lab.api.gate import Gate, container_of, flag
from lab.api.kubelet import RunningCommand

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2
_STATUS: Final = 3
_RESIZE: Final = 4
_CLOSE: Final = 255
CHUNK_BYTES: Final = 32 * 1024
"""Most bytes of output in one message."""

_GONE: Final = (WebSocketDisconnect, OSError, RuntimeError)  # how a send fails once the client has left


async def execute(gate: Gate, websocket: WebSocket) -> None:
    """Run a command in a container. Raises ApiError before the handshake is accepted."""
    pod = await gate.pod(websocket, "exec", "get", "create")
    protocol = _protocol(websocket)
    command = websocket.query_params.getlist("command")
    if not command:
        raise errors.bad_request("command: you must specify at least one command for the container")
    metadata = pod["metadata"]
    running = await gate.kubelet.execute(
        metadata["namespace"],
        metadata["name"],
        container_of(pod, websocket.query_params.get("container", "")),
        command,
        stdin=flag(websocket, "stdin"),
        tty=flag(websocket, "tty"),
    )
    try:
        await websocket.accept(protocol)
        await _serve(websocket, running)
    finally:
        running.kill()


async def attach(gate: Gate, websocket: WebSocket) -> None:
    """What the container writes, from its start on, until it ends. Its stdin is not reachable here."""
    pod = await gate.pod(websocket, "attach", "get", "create")
    protocol = _protocol(websocket)
    if flag(websocket, "stdin"):
        raise no_stdin()
    metadata = pod["metadata"]
    container = container_of(pod, websocket.query_params.get("container", ""))
    chunks = gate.kubelet.logs(
        metadata["namespace"],
        metadata["name"],
        container,
        follow=True,
        tail_lines=None,
        since_s=None,
        timestamps=False,
        previous=False,
    )
    await websocket.accept(protocol)
    reading = asyncio.ensure_future(_wait_gone(websocket))
    sending = asyncio.ensure_future(_send_all(websocket, chunks))
    try:
        await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
            await _finish(websocket, 0)
    finally:
        await _cancel(reading, sending)


def no_stdin() -> ApiError:
    """The refusal of an attach that wants to write: containers of the lab run without stdin."""
    return errors.not_implemented("attach to a container's stdin: use exec, or attach without stdin")


def _protocol(websocket: WebSocket) -> str:
    offered = websocket.scope.get("subprotocols") or []
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    raise errors.bad_request(f"none of the subprotocols {offered} is spoken here: offer {' or '.join(PROTOCOLS)}")


async def _serve(websocket: WebSocket, running: RunningCommand) -> None:
    reading = asyncio.ensure_future(_read_input(websocket, running))
    writing = asyncio.ensure_future(_write_output(websocket, running))
    try:
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            await _finish(websocket, writing.result())
    except _GONE:
        return
    finally:
        await _cancel(reading, writing)


async def _write_output(websocket: WebSocket, running: RunningCommand) -> int:
    """Relay stdout and stderr until both end; the exit code."""
    async with asyncio.TaskGroup() as group:
        for channel, stream in ((_STDOUT, running.stdout), (_STDERR, running.stderr)):
            if stream is not None:
                group.create_task(_relay(websocket, channel, stream))
    return await running.wait()


async def _relay(websocket: WebSocket, channel: int, stream: asyncio.StreamReader) -> None:
    prefix = bytes((channel,))
    try:
        while data := await stream.read(CHUNK_BYTES):
            await websocket.send_bytes(prefix + data)
    except _GONE:
        return  # a terminal ends with EIO; a client that left is seen by the reading side


async def _read_input(websocket: WebSocket, running: RunningCommand) -> None:
    """Feed stdin and the terminal's size until the client goes away."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        data = message.get("bytes") or (message.get("text") or "").encode()
        if not data:
            continue
        channel, payload = data[0], data[1:]
        if channel == _STDIN and running.stdin is not None:
            await _feed(running.stdin, payload)
        elif channel == _RESIZE:
            _resize(running, payload)
        elif channel == _CLOSE and payload == bytes((_STDIN,)) and running.stdin is not None:
            running.stdin.close()


async def _feed(stdin: asyncio.StreamWriter, payload: bytes) -> None:
    try:
        stdin.write(payload)
        await stdin.drain()
    except (OSError, RuntimeError):
        return  # the command reads no more; what it still writes must arrive all the same


def _resize(running: RunningCommand, payload: bytes) -> None:
    try:
        size: Any = json.loads(payload)
        running.resize(int(size["Width"]), int(size["Height"]))
    except (ValueError, KeyError, TypeError):
        return  # a size that cannot be read changes nothing


async def _send_all(websocket: WebSocket, chunks: Any) -> None:
    async for chunk in chunks:
        await websocket.send_bytes(bytes((_STDOUT,)) + chunk)


async def _wait_gone(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _finish(websocket: WebSocket, exit_code: int) -> None:
    if websocket.application_state != WebSocketState.CONNECTED:
        return
    await websocket.send_bytes(bytes((_STATUS,)) + json.dumps(status_of(exit_code)).encode())
    await websocket.close(1000)


def status_of(exit_code: int) -> dict[str, Any]:
    """The Status that carries an exit code."""
    if exit_code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {exit_code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(exit_code)}]},
    }


async def _cancel(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
