"""Requests to the API server. Edge; the only importer of kubernetes.

The official client finds the server, authenticates and keeps the connections; its models are left aside, because
an object decoded to all its fields costs some thirty times what is kept of it (controller/wire.py).
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import urllib3
from kubernetes import client, config

from contract import impersonation
from controller.kinds import StatusWire

CONNECT_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 30.0
FAILURES: Final = (urllib3.exceptions.HTTPError, OSError, client.ApiException, msgspec.MsgspecError, ValueError)
"""What an exchange with a server can fail with."""

_KEEPALIVE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]

_STATUS = msgspec.json.Decoder(StatusWire)


class ApiFault(Exception):
    """The server answered with a Status that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


class ConfigurationFault(Exception):
    """Where the API server is cannot be told."""


class Api:
    """Requests to the API server, from any thread."""

    def __init__(self, configuration: Any) -> None:
        configuration.socket_options = _KEEPALIVE
        configuration.retries = False  # retries are the callers', with jitter
        configuration.connection_pool_maxsize = 32
        self.host: str = configuration.host
        self._client = client.ApiClient(configuration)

    def request(self, method: str, path: str, query: dict[str, str] | None = None, body: object = None) -> bytes:
        """Exchange JSON (PATCH: a merge patch); returns the body.

        Raises:
            ApiFault: the answer is no success; others of FAILURES: there was no answer.
        """
        response = self._send(method, path, query, body, (CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S))
        data: bytes = response.response.read()
        response.response.release_conn()
        if not 200 <= response.status < 300:
            raise ApiFault(response.status, _message(data))
        return data

    @contextmanager
    def stream(self, path: str, query: dict[str, str], timeout_s: float) -> Iterator[urllib3.BaseHTTPResponse]:
        """Open a long answer; `timeout_s` bounds the silence between two reads.

        Raises:
            as `request`.
        """
        response = self._send("GET", path, query, None, (CONNECT_TIMEOUT_S, timeout_s))
        try:
            if response.status != 200:
                raise ApiFault(response.status, _message(response.response.read()))
            yield response.response
        finally:
            response.response.close()

    def _send(
        self, method: str, path: str, query: dict[str, str] | None, body: object, timeout: tuple[float, float]
    ) -> Any:
        media_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json"} | ({"Content-Type": media_type} if body is not None else {})
        call = self._client.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        return self._client.call_api(*call, _request_timeout=timeout)


def _message(data: bytes) -> str:
    try:
        return _STATUS.decode(data).message or "without a message"
    except msgspec.MsgspecError:
        return repr(data[:200])


def connect(kubeconfig: str | None) -> Api:
    """Find the API server: the KUBECONFIG file when given, else the pod's service account.

    Raises:
        ConfigurationFault: neither is there, the file cannot be read, or its user acts as another.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig:
            config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except Exception as fault:  # the client's loader lets through whatever a broken file causes in it
        words = " ".join(str(fault).split())
        where = f"KUBECONFIG={kubeconfig}" if kubeconfig else "the pod's service account"
        raise ConfigurationFault(
            f"cannot tell where the API server is from {where}: {words}. "
            "Run in a pod with a service account, or set KUBECONFIG to a kubeconfig file."
        ) from None
    if kubeconfig and _acts_as_another(kubeconfig):
        # The client leaves those fields out, and would act as the stronger user in silence.
        raise ConfigurationFault(
            f"KUBECONFIG={kubeconfig}: its user has one of {', '.join(impersonation.FIELDS)}, which the controller "
            "does not take. Give it a user of its own."
        )
    return Api(configuration)


def _acts_as_another(kubeconfig: str) -> bool:
    merged = config.kube_config.KubeConfigMerger(kubeconfig).config  # type: ignore[no-untyped-call]
    chosen = merged["contexts"].get_with_name(merged["current-context"])["context"]
    entry = merged["users"].get_with_name(chosen.value.get("user"), safe=True)
    user = {} if entry is None else entry.value.get("user") or {}
    return any(user.get(name) for name in impersonation.FIELDS)
