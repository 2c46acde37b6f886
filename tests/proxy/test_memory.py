"""Memory is given back once a burst is over, and not before."""

import pytest
import trio
from proxyhouse import GET, OK, Script, Sidecar, read_until, wait_until

from proxy.memory import Trimmer


def trimmer() -> tuple[Trimmer, list[int]]:
    given: list[int] = []
    return Trimmer(lambda: given.append(1)), given


def test_a_burst_is_over_when_half_of_it_has_gone_and_no_more_comes() -> None:
    made, given = trimmer()
    for now_s, connections_count in enumerate((0, 1000, 900, 800, 501)):
        made.look(connections_count, now_s * 2.0)
    assert given == []

    made.look(500, 10.0)
    made.look(500, 12.0)
    made.look(499, 14.0)
    assert given == [1]

    made.look(0, 16.0)
    assert given == [1, 1]


def test_while_connections_come_nothing_is_trimmed() -> None:
    made, given = trimmer()
    made.look(1000, 0.0)
    for step in range(100):
        made.look(100 + step, 0.5 + step * 0.5)

    assert given == []


def test_a_few_connections_are_no_burst() -> None:
    made, given = trimmer()
    for step in range(100):
        made.look(60 * (step % 2), step * 5.0)

    assert given == []


@pytest.mark.trio
async def test_a_sidecar_trims_after_a_burst(start_sidecar: object, serve: object, nursery: trio.Nursery) -> None:
    server = await serve(Script([OK]).handle)  # type: ignore[operator]
    sidecar: Sidecar = await start_sidecar(server, pool_idle_timeout_s=0.1)  # type: ignore[operator]
    streams = [await sidecar.connect() for _ in range(100)]
    for stream in streams:
        await stream.send_all(GET)
        assert (await read_until(stream, b"ok")).endswith(b"ok")
    for stream in streams:
        await stream.aclose()

    await wait_until(lambda: sidecar.app.trimmer.trims_count == 1, 5.0)
