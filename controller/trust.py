"""Keeps the authority's Secret and, in every namespace labelled for injection, the trust bundle. Waits.

The Secret is made once: of several controllers that find none, one create succeeds and the others read. A bundle
is written where a namespace is labelled, and compared every CHECK_S, so that an edited or deleted one is put right;
it stays when the label goes, because pods that are running may still mount it.
"""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from contract import names
from controller.authority import Authority, AuthorityFault, create, from_secret, to_secret
from controller.cluster import Cluster
from controller.kube import FAILURES, Api, ApiFault
from controller.meters import Meters

CHECK_S: Final = 30.0
RETRY_S: Final = 2.0
POLL_S: Final = 0.5
"""How soon a newly labelled namespace is seen."""


class _Data(msgspec.Struct):
    data: dict[str, str] | None = None


class _BundleMetadata(msgspec.Struct):
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class _Bundle(msgspec.Struct):
    metadata: _BundleMetadata
    data: dict[str, str] | None = None


@dataclass(slots=True, eq=False)
class Trust:
    """The publisher; `run` is a task of the wiring."""

    api: Api
    cluster: Cluster
    meters: Meters
    namespace: str
    trust_domain: str
    authority: Authority | None = None
    _checked_s: dict[str, float] = field(default_factory=dict)
    """Namespace -> when its bundle is due for the next look, on the loop's clock."""

    async def run(self) -> None:
        """Get the authority, then keep the bundles true; ends with its task."""
        while self.authority is None:
            try:
                self.authority = await asyncio.to_thread(self._get_or_create)
            except (*FAILURES, ApiFault, AuthorityFault) as fault:
                self._complain("authority not available", fault)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))
        self.meters.issuer_expiry_s.set(self.authority.certificate.not_valid_after_utc.timestamp())
        while True:
            await self._keep(self.authority.bundle)
            await asyncio.sleep(POLL_S)

    async def _keep(self, bundle: str) -> None:
        now_s = asyncio.get_running_loop().time()
        wanted = {
            key.name for key, record in self.cluster.namespaces.items() if record.inject and not record.terminating
        }
        self._checked_s = {name: due_s for name, due_s in self._checked_s.items() if name in wanted}
        for namespace in sorted(name for name in wanted if self._checked_s.get(name, 0.0) <= now_s):
            pause_s = CHECK_S * random.uniform(0.8, 1.2)
            try:
                if await asyncio.to_thread(self._write, namespace, bundle):
                    self.meters.trust_writes.inc()
                    structlog.get_logger().info("trust bundle written", namespace=namespace)
            except (*FAILURES, ApiFault) as fault:
                self._complain("trust bundle not written", fault, namespace=namespace)
                pause_s = RETRY_S
            self._checked_s[namespace] = now_s + pause_s

    def _get_or_create(self) -> Authority:
        """Read the Secret, or make it; of two makers the second reads the first one's (409)."""
        secrets = f"/api/v1/namespaces/{self.namespace}/secrets"
        now = datetime.now(UTC)
        for _ in range(2):
            try:
                body = self.api.request("GET", f"{secrets}/{names.IDENTITY_ISSUER}")
                return from_secret(msgspec.json.decode(body, type=_Data).data or {}, now)
            except ApiFault as fault:
                if fault.status != 404:
                    raise
            made = create(self.trust_domain, now)
            try:
                self.api.request("POST", secrets, body=to_secret(made, self.namespace))
            except ApiFault as fault:
                if fault.status != 409:
                    raise
                continue
            structlog.get_logger().info("authority created", secret=names.IDENTITY_ISSUER, namespace=self.namespace)
            return made
        raise ApiFault(409, f"Secret {names.IDENTITY_ISSUER} comes and goes")

    def _write(self, namespace: str, bundle: str) -> bool:
        """Make one namespace's bundle true; False when it was."""
        maps = f"/api/v1/namespaces/{namespace}/configmaps"
        wanted = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": names.TRUST_BUNDLE,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/part-of": "tulle"},
                "annotations": {names.CREATED_BY: names.CONTROLLER},
            },
            "data": {names.TRUST_BUNDLE_KEY: bundle},
        }
        try:
            found = msgspec.json.decode(self.api.request("GET", f"{maps}/{names.TRUST_BUNDLE}"), type=_Bundle)
        except ApiFault as fault:
            if fault.status != 404:
                raise
            self.api.request("POST", maps, body=wanted)
            return True
        if found.data == wanted["data"]:
            return False
        wanted["metadata"] |= {"resourceVersion": found.metadata.resource_version}  # type: ignore[operator]
        self.api.request("PUT", f"{maps}/{names.TRUST_BUNDLE}", body=wanted)
        return True

    def _complain(self, what: str, fault: Exception, **words: str) -> None:
        self.meters.trust_failures.inc()
        structlog.get_logger().warning(what, fault=str(fault), **words)
