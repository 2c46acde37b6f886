"""The cluster as the command line sees it: GETs to the API server, and through it to the controller. Edge.

The kubeconfig is read by the official client (contexts, exec plugins, token files); requests are httpx's, because the
command line wants plain JSON, hard deadlines and no retries.
"""

import json
import ssl
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import httpx

from cli.errors import CliError
from contract import impersonation, names, ports

CONNECT_TIMEOUT_S = 5.0
"""Seconds to reach the API server: more means that it is not there."""

REQUEST_TIMEOUT_S = 30.0
"""Seconds for one answer; the API server's own service proxy gives up by then."""

PAGE_COUNT = 500
"""Objects a page of a list, as kubectl asks for."""


class ClusterError(CliError):
    """The API server, or the controller behind it, did not give what was asked for.

    `status` is the HTTP status, 0 when there was no answer at all; `reason` is Kubernetes' CamelCase word or "".
    """

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Cluster:
    """One API server and one control plane in it.

    Every method raises ClusterError: no kubeconfig, no connection, or an answer other than 2xx, with the answer's own
    message (a Kubernetes Status or the controller's problem document).
    """

    kubeconfig: str | None
    context: str | None
    control_plane: str
    verbose: bool = False
    """Tell each request on stderr."""

    @cached_property
    def _client(self) -> httpx.Client:
        configuration = _load(self.kubeconfig, self.context)
        headers = [("accept", "application/json"), ("user-agent", "tulle"), *_acting_as(self.kubeconfig, self.context)]
        settings = configuration.auth_settings().values()
        headers += [(one["key"], one["value"]) for one in settings if one["in"] == "header" and one["value"]]
        return httpx.Client(
            base_url=configuration.host,
            headers=headers,
            verify=_tls(configuration) if configuration.host.startswith("https") else False,
            timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            proxy=_proxy(configuration),
            trust_env=False,
            event_hooks={
                "request": [partial(_name_server, configuration.tls_server_name)]
                if configuration.tls_server_name
                else [],
                "response": [_tell] if self.verbose else [],
            },
        )

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    @cached_property
    def namespace(self) -> str:
        """The namespace of the kubeconfig's context, as kubectl takes it: `default` when it names none."""
        from kubernetes import config

        try:
            contexts, current = config.list_kube_config_contexts(config_file=self.kubeconfig)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            return "default"
        chosen = next((each for each in contexts if each["name"] == self.context), current)
        return str(chosen.get("context", {}).get("namespace") or "default")

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._client.base_url)

    def get(self, path: str, timeout_s: float = REQUEST_TIMEOUT_S, **query: str | int) -> Any:
        """GET and decode one JSON answer."""
        return self._request("GET", path, timeout_s, params=query)

    def post(self, path: str, body: dict[str, Any], timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
        """POST a JSON object (for access reviews: the command line makes nothing in a cluster)."""
        return self._request("POST", path, timeout_s, json=body)

    def list(self, path: str, timeout_s: float = REQUEST_TIMEOUT_S, **query: str | int) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self.get(path, timeout_s, limit=PAGE_COUNT, **query, **({"continue": token} if token else {}))
            items += page.get("items") or []
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return items

    def date(self, timeout_s: float) -> str:
        """The API server's clock: its Date header (RFC 9110), or "" when it sends none."""
        return str(self._answer("GET", "/version", timeout_s).headers.get("date", ""))

    def proxied(
        self, service: str, path: str, timeout_s: float = REQUEST_TIMEOUT_S, query: dict[str, str] | None = None
    ) -> bytes:
        """GET from a service of the control plane (`name:port`, `https:name:port`) by the API server's proxy."""
        path = f"/api/v1/namespaces/{self.control_plane}/services/{service}/proxy{path}"
        return self._answer("GET", path, timeout_s, params=query).content

    def controller(self, path: str, timeout_s: float = REQUEST_TIMEOUT_S, query: dict[str, str] | None = None) -> bytes:
        """GET `path` (`/api/v1/...`) of the controller; the raw body."""
        try:
            return self.proxied(f"{names.CONTROLLER}:{ports.CONTROLLER_PORT}", path, timeout_s, query)
        except ClusterError as error:
            if error.reason in ("NotFound", "ServiceUnavailable", "InternalError") or error.status in (502, 503, 504):
                message = f"the controller in namespace {self.control_plane} does not answer: {error} (see tulle check)"
                raise ClusterError(message, error.status, error.reason) from error
            raise

    def controller_version(self, timeout_s: float = REQUEST_TIMEOUT_S) -> str:
        """The controller's version, "" when its answer has none."""
        try:
            answer = json.loads(self.controller("/api/v1/version", timeout_s))
        except ValueError:
            answer = None
        return str(answer.get("version", "")) if isinstance(answer, dict) else ""

    def _request(self, method: str, path: str, timeout_s: float, **more: Any) -> Any:
        answer = self._answer(method, path, timeout_s, **more)
        try:
            return answer.json()
        except ValueError as error:
            raise ClusterError(f"{self.server}{path.lstrip('/')} did not answer with JSON; is it a cluster?") from error

    def _answer(self, method: str, path: str, timeout_s: float, **more: Any) -> httpx.Response:
        client = self._client
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            answer = client.request(method, path, timeout=timeout, **more)
        except httpx.TimeoutException as error:
            raise ClusterError(f"no answer from {self.server} in {timeout_s:g} s ({path})") from error
        except httpx.HTTPError as error:
            raise ClusterError(f"cannot reach the cluster at {self.server}: {error}") from error
        if answer.is_success:
            return answer
        message, reason = _refusal(answer)
        raise ClusterError(message, answer.status_code, reason)


def _name_server(tls_server_name: str, request: httpx.Request) -> None:
    """The kubeconfig's tls-server-name: what the certificate must be for when the address says something else."""
    request.extensions["sni_hostname"] = tls_server_name


def _tell(answer: httpx.Response) -> None:
    print(f"tulle: {answer.request.method} {answer.request.url}: {answer.status_code}", file=sys.stderr)


def _refusal(answer: httpx.Response) -> tuple[str, str]:
    """What a Kubernetes Status, a problem document (RFC 9457) or plain text says of a refused request."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        text = " ".join(answer.text.split())[:200]
        return f"HTTP {answer.status_code}{': ' + text if text else ''}", ""
    if body.get("kind") == "Status":
        return str(body.get("message") or f"HTTP {answer.status_code}"), str(body.get("reason") or "")
    return str(body.get("detail") or body.get("title") or f"HTTP {answer.status_code}"), ""


def _load(kubeconfig: str | None, context: str | None) -> Any:
    from kubernetes import client, config  # lazy: a quarter of a second

    configuration = client.Configuration()
    try:
        config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            raise ClusterError(f"no usable kubeconfig: {' '.join(str(error).split())}") from error
    return configuration


def _acting_as(kubeconfig: str | None, context: str | None) -> list[tuple[str, str]]:
    """Headers of the user whom the kubeconfig's own acts as: the official client leaves those fields out."""
    from kubernetes.config import ConfigException, kube_config

    try:
        merged = kube_config.KubeConfigMerger(kubeconfig or kube_config.KUBE_CONFIG_DEFAULT_LOCATION).config  # type: ignore[no-untyped-call]
        chosen = merged["contexts"].get_with_name(context or merged["current-context"])["context"]
        user = merged["users"].get_with_name(chosen["user"])["user"].value
    except (ConfigException, TypeError):
        return []  # no file, or a context without a user: nobody is there to act as another
    try:
        return impersonation.headers(user)
    except ValueError as error:
        raise ClusterError(f"the kubeconfig's user {chosen['user']}: {error}") from error


def _proxy(configuration: Any) -> str | None:
    """The kubeconfig's proxy-url or the environment's proxy, unless NO_PROXY takes the server out."""
    from kubernetes.client.rest import should_bypass_proxies

    if not configuration.proxy or should_bypass_proxies(configuration.host, configuration.no_proxy or ""):
        return None
    return str(configuration.proxy)


def _tls(configuration: Any) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ClusterError(f"the kubeconfig's certificates cannot be read: {error}") from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
