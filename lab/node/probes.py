"""Probes as a kubelet makes them: from the node, to the pod's address, with its defaults and thresholds. Waits.

Sources: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes"; API reference (Probe). An HTTP
answer from 200 to 399 is success; a redirect is followed only on the same host; a certificate is not verified.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import httpx

from .endpoints import Object

USER_AGENT = "kube-probe/1.32"
_SHOWN_BYTES = 1024
_REDIRECTS_COUNT = 10

Run = Callable[[list[str], float], Awaitable[tuple[int, str]]]
"""Run a command in the container: (argv, timeout in seconds) -> (exit code, output). TimeoutError."""


@dataclass(frozen=True)
class Probe:
    """A probe with Kubernetes' defaults filled in. `action` is the spec: exactly one of httpGet, tcpSocket, exec."""

    kind: Literal["Startup", "Readiness", "Liveness"]
    action: Object
    delay_s: float
    period_s: float
    timeout_s: float
    successes_count: int
    failures_count: int
    grace_s: float | None


@dataclass(frozen=True)
class Outcome:
    success: bool
    message: str


def read(container: Object, kind: Literal["Startup", "Readiness", "Liveness"]) -> Probe | None:
    """The container's probe of one kind, if it has one."""
    spec = container.get(f"{kind.lower()}Probe")
    if not spec:
        return None
    return Probe(
        kind=kind,
        action=spec,
        delay_s=spec.get("initialDelaySeconds", 0),
        period_s=spec.get("periodSeconds", 10),
        timeout_s=spec.get("timeoutSeconds", 1),
        successes_count=spec.get("successThreshold", 1),
        failures_count=spec.get("failureThreshold", 3),
        grace_s=spec.get("terminationGracePeriodSeconds"),
    )


def port_number(port: int | str, container: Object) -> int:
    """A probe's port by number or by the container's name for it; ValueError."""
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    try:
        return int(port)
    except ValueError:
        raise ValueError(f"container {container['name']} has no port named {port!r}") from None


@dataclass(frozen=True)
class Prober:
    """Makes probes and hooks. `client` is shared by all: its connections are not kept, as a kubelet's are not."""

    client: httpx.AsyncClient

    @classmethod
    def create(cls) -> "Prober":
        limits = httpx.Limits(max_keepalive_connections=0)
        return cls(httpx.AsyncClient(verify=False, trust_env=False, limits=limits))

    async def once(self, probe: Object, container: Object, address: str, timeout_s: float, run: Run) -> Outcome:
        """One attempt of a probe or a hook's action."""
        try:
            async with asyncio.timeout(timeout_s):
                if "httpGet" in probe:
                    return await self._http(probe["httpGet"], container, address)
                if "tcpSocket" in probe:
                    return await _tcp(probe["tcpSocket"], container, address)
                code, output = await run(list((probe.get("exec") or {}).get("command") or []), timeout_s)
                return Outcome(code == 0, output[:_SHOWN_BYTES].strip())
        except TimeoutError:
            return Outcome(False, f"no answer within {timeout_s:g} s")
        except ValueError as error:
            return Outcome(False, str(error))

    async def _http(self, action: Object, container: Object, address: str) -> Outcome:
        host = action.get("host") or address
        port = port_number(action["port"], container)
        scheme = action.get("scheme", "HTTP").lower()
        path = action.get("path") or "/"
        url = f"{scheme}://{_bracketed(host)}:{port}{path if path.startswith('/') else '/' + path}"
        headers = {"user-agent": USER_AGENT, "accept": "*/*"}
        headers |= {entry["name"]: entry["value"] for entry in action.get("httpHeaders") or []}
        try:
            for _ in range(_REDIRECTS_COUNT):
                async with self.client.stream("GET", url, headers=headers, timeout=None) as response:
                    where = response.next_request
                    if response.is_redirect and where is not None and where.url.host == host:
                        url = str(where.url)
                        continue
                    return Outcome(
                        200 <= response.status_code < 400, f"HTTP probe failed with statuscode: {response.status_code}"
                    )
            return Outcome(False, f"stopped after {_REDIRECTS_COUNT} redirects")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Outcome(False, f'Get "{url}": {str(error) or type(error).__name__}')


async def _tcp(action: Object, container: Object, address: str) -> Outcome:
    host, port = action.get("host") or address, port_number(action["port"], container)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Outcome(False, f"dial tcp {_bracketed(host)}:{port}: {error.strerror or error}")
    writer.transport.abort()
    return Outcome(True, "")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def repeat(
    probe: Probe,
    attempt: Callable[[], Awaitable[Outcome]],
    on_change: Callable[[bool, Outcome], Awaitable[bool]],
    on_failure: Callable[[Outcome], Awaitable[None]],
) -> None:
    """Probe until `on_change` returns False. It hears of each turn: True after enough successes, False after failures.

    `on_failure` hears of each failed attempt.
    """
    await asyncio.sleep(probe.delay_s)
    state: bool | None = None
    run_length, last = 0, None
    while True:
        outcome = await attempt()
        run_length = run_length + 1 if outcome.success == last else 1
        last = outcome.success
        if not outcome.success:
            await on_failure(outcome)
        needed = probe.successes_count if outcome.success else probe.failures_count
        if run_length >= needed and state != outcome.success:
            state = outcome.success
            if not await on_change(state, outcome):
                return
        await asyncio.sleep(probe.period_s)
