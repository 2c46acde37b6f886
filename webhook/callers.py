"""Who may ask for decisions: whoever shows a client certificate, where one is asked for. Turn.

An API server shows one to webhooks only when it is configured to (an AdmissionConfiguration with a kubeconfig), so
without a CA nobody is asked. Probes and metrics need none: a kubelet has no certificate for them, so the handshake
takes connections without one, and the routes of decisions judge.

Sources: Kubernetes, "Dynamic Admission Control", authenticate API servers; RFC 5280 (subject, subject alternative
names).
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SCOPE_KEY: Final = "tulle.caller"
"""In a request's scope: the names in the certificate that the client showed; None where it showed none."""


class Protocol(HttpToolsProtocol):
    """uvicorn's, which tells the application who the client is."""

    caller_names: tuple[str, ...] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.caller_names = names_in(transport.get_extra_info("peercert"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[SCOPE_KEY] = self.caller_names  # type: ignore[typeddict-unknown-key]


def names_in(certificate: dict[str, Any] | None) -> tuple[str, ...] | None:
    """Common names and alternative names of a verified certificate (ssl's form); None for none."""
    if not certificate:
        return None
    subject = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return (*subject, *(value for _, value in certificate.get("subjectAltName", ())))


def fault(shown: tuple[str, ...] | None, wanted: tuple[str, ...]) -> str:
    """Why a caller may not ask, "" when it may; `wanted` names are any of those that may, all when empty."""
    if shown is None:
        return "decisions are for the API server, which shows a client certificate; this request came without one"
    if wanted and not set(shown) & set(wanted):
        return f"decisions are for {', '.join(wanted)}; this client's certificate has other names"
    return ""
