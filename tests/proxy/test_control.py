"""Discovery, reports, admin and drain of a real sidecar, against a controller that speaks real HTTP."""

import json
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from proxyhouse import GET, OK, Controller, Script, free_port, read_all, read_until, wait_until

from proxy.drain import kernel_app_listens
from proxy.model import Address
from proxy.report import Reporter

pytestmark = pytest.mark.trio

SERVICE = Address("10.96.0.7", 80)
OTHER = Address("10.96.0.8", 80)


async def ask(sidecar: Any, request: bytes = GET) -> bytes:
    async with await sidecar.connect() as stream:
        await stream.send_all(request)
        return await read_until(stream, b"ok")


async def test_endpoints_come_from_discovery_and_follow_its_updates(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    one, two = Script([OK]), Script([OK.replace(b"200 OK", b"201 OK")])
    controller.service(SERVICE, await serve(one.handle))
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url, pod_namespace="shop")

    assert b" 200 " in await ask(sidecar)
    news = controller.service(SERVICE, await serve(two.handle), revision="2")
    await controller.tell(controller.streams[-1], news)
    await wait_until(lambda: sidecar.app.outbound.wanted()[str(SERVICE)] == "2")

    assert b" 201 " in await ask(sidecar)
    assert controller.subscribes[-1].pod == "web-1"
    assert controller.subscribes[-1].namespace == "shop"


async def test_a_new_target_is_asked_for_with_the_revisions_already_held(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    server = await serve(Script([OK]).handle)
    controller.service(SERVICE, server)
    controller.service(OTHER, server, revision="7")
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    await ask(sidecar)
    sidecar.destination = OTHER
    await ask(sidecar)

    assert controller.subscribes[-1].targets == {str(SERVICE): "1", str(OTHER): ""}


async def test_the_last_snapshot_outlives_the_controller_and_the_stream_resumes(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    controller.service(SERVICE, await serve(Script([OK]).handle))
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    await ask(sidecar)
    count = len(controller.subscribes)
    for stream in controller.streams:
        await stream.aclose()
    for _ in range(5):
        assert await ask(sidecar) == OK
    await wait_until(lambda: len(controller.subscribes) > count)

    assert controller.subscribes[-1].targets == {str(SERVICE): "1"}
    assert await ask(sidecar) == OK


async def test_a_silent_controller_delays_a_new_target_only_so_long(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    controller.is_silent = True
    sidecar = await start_sidecar(
        await serve(Script([OK]).handle), controller_url=controller.url, discovery_timeout_s=0.1
    )

    assert await ask(sidecar) == OK


async def test_a_controller_that_is_away_delays_nothing(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(
        await serve(Script([OK]).handle), controller_url="http://127.0.0.1:1", discovery_timeout_s=30.0
    )

    assert await ask(sidecar) == OK


async def test_a_service_told_to_be_opaque_is_not_parsed(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    raw = b"GET / HTTP/1.1\nbare line feeds are its own affair\n\n"

    async def handle(stream: trio.SocketStream) -> None:
        assert await read_until(stream, b"\n\n") == raw
        await stream.send_all(b"fine")

    server = await serve(handle)
    controller.service(SERVICE, server, protocol="opaque")
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    by_port = await start_sidecar(server, opaque_ports=frozenset((server.port,)))
    for opaque in (sidecar, by_port):
        async with await opaque.connect() as stream:
            await stream.send_all(raw)

            assert await read_all(stream) == b"fine"


@pytest.mark.parametrize("inbound", [True, False])
async def test_where_a_service_declares_http_the_first_bytes_ever_are_refused_if_they_are_no_http(
    start_sidecar: Any, controller: Controller, serve: Any, inbound: bool
) -> None:
    heard: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        heard.append(await read_until(stream, b"\r\n\r\n"))
        await stream.send_all(OK)

    server = await serve(handle)
    controller.service(server, server, protocol="http/1")
    sidecar = await start_sidecar(server, controller_url=controller.url)
    async with await sidecar.connect(inbound=inbound) as stream:
        await stream.send_all(b"GET\t/secret HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"x-tulle-error: not-http\r\n" in await read_all(stream)
    async with await sidecar.connect(inbound=inbound) as stream:
        await stream.send_all(GET)
        assert await read_until(stream, b"ok") == OK

    assert len(heard) == 1
    direction = "inbound" if inbound else "outbound"
    assert sidecar.counter(f"{direction}_http_errors_total", error="not-http") == 1


async def test_reports_tell_the_deltas_and_an_unanswered_one_is_repeated(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    controller.service(SERVICE, await serve(Script([OK]).handle))
    controller.report_status = 503
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url, report_interval_s=0.05)
    await ask(sidecar)
    await trio.sleep(0.2)
    controller.report_status = 204
    await wait_until(lambda: sum(s.success for r in controller.reports for s in r.http) == 1)
    await ask(sidecar)
    await wait_until(lambda: sum(s.success for r in controller.reports for s in r.http) == 2)
    report = next(r for r in controller.reports if r.http)
    (series,) = report.http

    assert [r.sequence for r in controller.reports] == list(range(1, len(controller.reports) + 1))
    assert len({r.instance for r in controller.reports}) == 1
    assert (series.direction, series.peer.service, series.peer.owner) == ("outbound", "web", "web")
    assert sum(series.latency_ms) == 1
    assert any(s.peer.pod == "web-0" and s.opened == 1 for r in controller.reports for s in r.tcp)


async def test_kept_report_says_how_old_it_is_and_the_next_is_fresh(start_sidecar: Any, controller: Controller) -> None:
    controller.report_status = 503
    await start_sidecar(SERVICE, controller_url=controller.url, report_interval_s=0.05)
    await trio.sleep(0.4)
    controller.report_status = 204
    await wait_until(lambda: len(controller.reports) >= 3)

    assert controller.reports[0].sequence == 1
    assert controller.reports[0].age_s > 0.2
    assert all(report.age_s < 0.2 for report in controller.reports[1:])


async def test_streams_of_one_process_name_one_instance(start_sidecar: Any, controller: Controller, serve: Any) -> None:
    server = await serve(Script([OK]).handle)
    controller.service(SERVICE, server)
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    await ask(sidecar)

    (instance,) = {subscribe.instance for subscribe in controller.subscribes}
    assert len(instance) == 16


async def test_probes_are_counted_apart_and_reports_do_not_tell_of_them(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    address = await serve(Script([OK]).handle)
    sidecar = await start_sidecar(
        address,
        controller_url=controller.url,
        report_interval_s=0.05,
        probes=((address.port, b"/ready"),),
        node_ips=("127.0.0.1",),
    )
    probe = b"GET /ready HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.32\r\n\r\n"
    for request in (probe, probe.replace(b"kube-probe/1.32", b"mine"), GET):
        async with await sidecar.connect(inbound=True) as stream:
            await stream.send_all(request)
            await read_until(stream, b"ok")
    await wait_until(lambda: any(r.http for r in controller.reports))
    _, text = await sidecar.admin("/metrics")
    counted = [line for line in text.splitlines() if line.startswith("request_total{")]

    assert [(1, 0)] == [(s.success, s.failure) for r in controller.reports for s in r.http]
    assert ["2"] == [line.rpartition(" ")[2] for line in counted if 'route_name="probe"' in line]
    assert ["1"] == [line.rpartition(" ")[2] for line in counted if "route_name" not in line]


async def test_metrics_can_be_read_before_the_controller_was_ever_heard(start_sidecar: Any) -> None:
    sidecar = await start_sidecar(SERVICE, controller_url=f"http://127.0.0.1:{free_port()}")
    await wait_until(lambda: "discovery_age_seconds" in sidecar.app.meter.gauges)

    status, text = await sidecar.admin("/metrics")

    assert 200 == status
    assert "discovery_age_seconds +Inf\n" in text
    assert list(text_string_to_metric_families(text))


async def test_a_page_that_cannot_be_made_costs_its_own_connection_alone(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(Script([OK]).handle))
    sidecar.app.meter.gauges["broken"] = (lambda: 1 / 0, "Cannot be read.")
    async with await trio.open_tcp_stream("127.0.0.1", sidecar.app.config.admin_port) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")

        assert b"" == await read_all(stream)
    async with await sidecar.connect() as stream:
        await stream.send_all(GET)

        assert OK == await read_until(stream, b"ok")
    assert (200, "live\n") == await sidecar.admin("/live")
    assert 1 == sidecar.app.meter.counters.pop(("bugs_total", ()))


async def test_a_bug_in_the_reports_ends_neither_the_traffic_nor_the_reports(
    start_sidecar: Any, controller: Controller, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.service(SERVICE, await serve(Script([OK]).handle))
    make, calls = Reporter.make, iter(range(1000))
    monkeypatch.setattr(Reporter, "make", lambda reporter: make(reporter) if next(calls) else 1 / 0)
    monkeypatch.setattr("proxy.app.AGAIN_S", 0.01)
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url, report_interval_s=0.05)
    await wait_until(lambda: sidecar.counter("bugs_total") == 1)

    await ask(sidecar)

    await wait_until(lambda: sum(s.success for r in controller.reports for s in r.http) == 1)
    sidecar.app.meter.counters.pop(("bugs_total", ()))


async def test_admin_pages(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(Script([OK]).handle))

    assert await sidecar.admin("/live") == (200, "live\n")
    assert await sidecar.admin("/ready?x=1") == (200, "ready\n")
    assert (await sidecar.admin("/nope"))[0] == 404
    config = json.loads((await sidecar.admin("/config"))[1])
    assert config["TULLE_POD_NAME"] == "web-1"
    async with await trio.open_tcp_stream("127.0.0.1", sidecar.app.config.admin_port) as stream:
        await stream.send_all(
            b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nHEAD /live HTTP/1.1\r\nHost: a\r\n\r\n"
            b"nonsense\r\n\r\n"
        )
        refused, _, rest = (await read_all(stream)).partition(b"HEAD\n")
        assert refused.startswith(b"HTTP/1.1 405")
        head, _, last = rest.partition(b"\r\n\r\n")
        assert b"Content-Length: 5" in head
        assert last.startswith(b"HTTP/1.1 400")


async def test_metrics_have_linkerds_names_and_prometheus_reads_them(
    start_sidecar: Any, controller: Controller, serve: Any
) -> None:
    controller.service(SERVICE, await serve(Script([OK]).handle))
    sidecar = await start_sidecar(SERVICE, controller_url=controller.url)
    await ask(sidecar)
    families = {f.name: f for f in text_string_to_metric_families((await sidecar.admin("/metrics"))[1])}
    request = families["request"].samples[0]
    sums = {s.name: s.value for s in families["response_latency_ms"].samples}

    assert request.name == "request_total"
    assert request.value == 1
    assert {
        "direction": "outbound",
        "dst_namespace": "shop",
        "dst_service": "web",
        "dst_pod": "web-0",
        "dst_deployment": "web",
    }.items() <= request.labels.items()
    assert families["response"].samples[0].labels["classification"] == "success"
    assert sums["response_latency_ms_count"] == 1
    assert {s.labels["peer"] for s in families["tcp_open"].samples} == {"src", "dst"}
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert families["discovery_connected"].samples[0].value == 1


# Drain


async def test_drain_serves_what_is_in_flight_and_what_still_comes(start_sidecar: Any, serve: Any) -> None:
    go = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await go.wait()
        await stream.send_all(OK)

    sidecar = await start_sidecar(await serve(handle), drain_quiet_s=0.1, drain_idle_s=0.1)
    in_flight, idle = await sidecar.connect(), await sidecar.connect()
    await in_flight.send_all(GET)
    await wait_until(lambda: len(sidecar.app.parts.sessions) == 2)
    sidecar.app.stopping.set()
    await trio.sleep(0.05)
    late = await sidecar.connect(inbound=True)
    await late.send_all(GET)

    assert (await sidecar.admin("/ready"))[0] == 503
    assert (await sidecar.admin("/live"))[0] == 200
    go.set()
    for stream in (in_flight, late):
        assert await read_all(stream) == OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    await idle.aclose()
    await in_flight.aclose()
    await late.aclose()
    await wait_until(lambda: not sidecar.app.parts.sessions)
    assert sidecar.app.cut_count == 0


async def test_drain_keeps_tunnels_until_they_end_and_cuts_what_outlives_the_limit(
    start_sidecar: Any, serve: Any
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    sidecar = await start_sidecar(await serve(handle), drain_timeout_s=0.3)
    async with await sidecar.connect() as stream:
        await stream.send_all(b"\x00")
        await read_until(stream, b"\x00")
        sidecar.app.stopping.set()
        await trio.sleep(0.1)
        await stream.send_all(b"\x01")

        assert await read_until(stream, b"\x01") == b"\x01"
        assert await read_all(stream) == b"<reset>"
    assert sidecar.app.cut_count == 1


async def test_drain_goes_on_while_the_application_listens(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(Script([OK]).handle))
    sidecar.app_listens = True
    sidecar.app.stopping.set()
    for _ in range(5):
        await trio.sleep(0.06)

        assert (await ask(sidecar)).endswith(b"ok")
    sidecar.app_listens = False
    with trio.fail_after(2):
        while True:
            try:
                await (await sidecar.connect()).aclose()
            except OSError:
                return
            await trio.sleep(0.05)


async def test_an_application_that_listens_is_found_in_the_kernels_tables() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    assert kernel_app_listens(frozenset())
    assert kernel_app_listens(frozenset(range(65536)) - {port})
    assert not kernel_app_listens(frozenset(range(65536)))
    await listener.aclose()


async def test_an_unused_connection_is_closed_while_draining(start_sidecar: Any, serve: Any) -> None:
    sidecar = await start_sidecar(await serve(Script([OK]).handle), drain_idle_s=0.1, drain_quiet_s=0.05)
    async with await sidecar.connect() as stream:
        await stream.send_all(GET)
        await read_until(stream, b"ok")
        sidecar.app.stopping.set()

        assert await read_all(stream) == b""
    assert sidecar.app.cut_count == 0
