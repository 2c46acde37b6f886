"""Calling admission webhooks over TLS. Waits (httpx).

One keep-alive client per webhook, made anew when its caBundle or its name changes; the least recently used goes first
when there are more than `MAX_CLIENTS_COUNT`. A webhook behind a service is dialled at a ready pod's address, with the
name NAME.NAMESPACE.svc for SNI and for the certificate; when one pod refuses the connection, the next one is tried.
"""

import asyncio
import json
import ssl
from collections import OrderedDict
from typing import Final
from urllib.parse import urlsplit

import httpx

from lab.api.errors import ApiError
from lab.api.reader import Object, Reader
from lab.api.service_targets import targets_of
from lab.api.webhook_rules import Hook, WebhookFailure

MAX_CLIENTS_COUNT: Final = 32
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Longest answer read; the API server's own limit for a request is 3 MiB, and a patch in base64 is of that order."""


class WebhookCaller:
    """The clients of all webhooks of one API server."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._clients: OrderedDict[tuple[str, str, str, bytes], httpx.AsyncClient] = OrderedDict()

    async def ask(self, hook: Hook, review: Object) -> bytes:
        """The body of the hook's answer, within its timeout. Raises WebhookFailure."""
        body = json.dumps(review).encode()
        failure = WebhookFailure("no address to call")
        for url in self._urls(hook):
            try:
                return await self._post(hook, url, body)
            except httpx.ConnectError as error:
                failure = WebhookFailure(f'failed to call webhook: Post "{_shown(hook)}": {_reason(error)}')
            except (httpx.TimeoutException, TimeoutError):
                raise WebhookFailure(
                    f'failed to call webhook: Post "{_shown(hook)}": context deadline exceeded ({hook.timeout_s} s)'
                ) from None
            except httpx.HTTPError as error:
                raise WebhookFailure(f'failed to call webhook: Post "{_shown(hook)}": {_reason(error)}') from None
        raise failure

    async def close(self) -> None:
        """Close every connection."""
        while self._clients:
            _key, client = self._clients.popitem()
            await client.aclose()

    def _urls(self, hook: Hook) -> list[str]:
        if hook.service is None:
            return [_with_timeout(hook.url, hook.timeout_s)]
        namespace, name, port, path = hook.service
        try:
            targets = targets_of(self._reader, namespace, name, str(port))
        except ApiError as error:
            raise WebhookFailure(f'failed to call webhook: Post "{_shown(hook)}": {error.message}') from None
        return [_with_timeout(f"https://{target.authority}{path}", hook.timeout_s) for target in targets]

    async def _post(self, hook: Hook, url: str, body: bytes) -> bytes:
        client = await self._client(hook)
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Host": _host(hook)}
        extensions = {"sni_hostname": hook.server_name}
        request = client.build_request("POST", url, content=body, headers=headers, extensions=extensions)
        request.extensions["timeout"] = httpx.Timeout(hook.timeout_s).as_dict()
        response = await _within(hook.timeout_s, client, request)
        if response[0] != 200:
            text = response[1][:200].decode("utf-8", "replace")
            raise WebhookFailure(f'failed to call webhook: Post "{_shown(hook)}": HTTP {response[0]}: {text}')
        return response[1]

    async def _client(self, hook: Hook) -> httpx.AsyncClient:
        key = (hook.configuration, hook.name, hook.server_name, hook.authority_pem)
        client = self._clients.pop(key, None)
        if client is None:
            for stale in [other for other in self._clients if other[:2] == key[:2]]:
                await self._clients.pop(stale).aclose()
            client = httpx.AsyncClient(verify=_tls(hook), trust_env=False)
        self._clients[key] = client
        if len(self._clients) > MAX_CLIENTS_COUNT:
            _key, oldest = self._clients.popitem(last=False)
            await oldest.aclose()
        return client


async def _within(timeout_s: int, client: httpx.AsyncClient, request: httpx.Request) -> tuple[int, bytes]:
    async with asyncio.timeout(timeout_s):
        response = await client.send(request, stream=True)
        try:
            chunks: list[bytes] = []
            size_bytes = 0
            async for chunk in response.aiter_bytes():
                size_bytes += len(chunk)
                if size_bytes > MAX_ANSWER_BYTES:
                    raise WebhookFailure(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
                chunks.append(chunk)
        finally:
            await response.aclose()
    return response.status_code, b"".join(chunks)


def _tls(hook: Hook) -> ssl.SSLContext:
    if not hook.authority_pem:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=hook.authority_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise WebhookFailure(f"its caBundle cannot be read: {error}") from None


def _host(hook: Hook) -> str:
    if hook.service:
        return f"{hook.server_name}:{hook.service[2]}"
    return urlsplit(hook.url).netloc


def _shown(hook: Hook) -> str:
    """The URL as messages name it: by the service's name, not by the pod's address."""
    url = f"https://{_host(hook)}{hook.service[3]}" if hook.service else hook.url
    return _with_timeout(url, hook.timeout_s)


def _with_timeout(url: str, timeout_s: int) -> str:
    return f"{url}{'&' if '?' in url else '?'}timeout={timeout_s}s"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
