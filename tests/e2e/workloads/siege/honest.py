"""An honest client: requests at a constant rate over few kept-alive connections; prints what came of them.

python3 honest.py SECONDS PER_SECOND HOST PORT
"""

import asyncio
import json
import sys
import time

CONNECTIONS = 4


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(b"GET / HTTP/1.1\r\nHost: busy\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return head.split(b" ", 2)[1].decode()


async def client(host: str, port: int, due_s: list[float], took_s: list[float], failures: list[str]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for at_s in due_s:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        try:
            status = await asyncio.wait_for(ask(reader, writer), 10)
            if status != "200":
                failures.append(status)
        except (OSError, EOFError, TimeoutError) as error:
            failures.append(repr(error))
            writer.close()
            reader, writer = await asyncio.open_connection(host, port)
        took_s.append(time.monotonic() - at_s)  # from when it was due: waiting for one's turn counts


async def main() -> None:
    seconds, rate, host, port = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    begin_s = time.monotonic() + 0.2
    due_s = [begin_s + n / rate for n in range(int(seconds * rate))]
    took_s: list[float] = []
    failures: list[str] = []
    await asyncio.gather(*(client(host, port, due_s[n::CONNECTIONS], took_s, failures) for n in range(CONNECTIONS)))
    took_s.sort()
    print(
        json.dumps(
            {
                "done": len(took_s),
                "failures": failures[:20],
                "p50_ms": took_s[len(took_s) // 2] * 1e3,
                "p99_ms": took_s[len(took_s) * 99 // 100] * 1e3,
            }
        )
    )


asyncio.run(main())
