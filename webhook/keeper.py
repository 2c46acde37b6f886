"""Keep the serving certificate and the published caBundles true to each other. Edge; one thread.

Each round reads the Secret and the registrations, changes what is due, and says whether an API server that trusts the
registrations would accept what is served. Without the validating one the webhook is ready all the same: policies are
judged by the controller too. Replicas run the same rounds; the first to write wins, the others read.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from typing import Any

import structlog

from contract import names
from webhook import certificates
from webhook.certificates import BadMaterial, Material
from webhook.kube import MUTATING, VALIDATING, Kube, KubeError
from webhook.tls import ServingContext

Json = dict[str, Any]

ROUND_S = 5.0
"""Time between rounds: how long a caBundle that somebody overwrote stays wrong."""
UNREADY_ROUND_S = 1.0
"""Time between rounds while something is missing: at an installation the registration may come last."""
CREATION_ATTEMPTS = 3
NATIVE_SIDECAR_VERSION = (1, 29)
"""Where init containers with restartPolicy Always are on without a feature gate."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """What the last round found. `fault` is None when all is well, else a line for /readyz and the log."""

    fault: str | None
    native_sidecar: bool
    is_complete: bool = True
    """Whether both registrations are there."""


class Keeper:
    """Holds the last round's finding; `run` is its thread."""

    def __init__(
        self,
        kube: Kube,
        serving: ServingContext,
        namespace: str,
        serving_names: Sequence[str],
        now: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._serving = serving
        self._namespace = namespace
        self._names = tuple(serving_names)
        self._now = now
        self._is_serving_own = False
        self.standing = Standing("the first round has not ended", native_sidecar=True)

    @property
    def fault(self) -> str | None:
        """Why an API server could not use this replica at this moment."""
        return self.standing.fault

    def run(self, stop: Event) -> None:
        """Do rounds until told to stop."""
        while not stop.is_set():
            self.round()
            stop.wait(ROUND_S if self.fault is None and self.standing.is_complete else UNREADY_ROUND_S)

    def round(self) -> None:
        """Do one round and note its finding."""
        try:
            found = self._round()
        except KubeError as error:
            # What is served and published stays as it was; a lost API server does not make it wrong.
            fault = self.standing.fault and f"api server: {error}"
            found = Standing(fault, self.standing.native_sidecar)
            log.warning("api server", error=str(error))
        if found != self.standing:
            log.info("standing", ready=found.fault is None, fault=found.fault, native_sidecar=found.native_sidecar)
        self.standing = found

    def _round(self) -> Standing:
        native = self._kube.server_version() >= NATIVE_SIDECAR_VERSION
        material = self._material()
        published, changed = self._publish(MUTATING, material.bundle)
        if published is None:
            return Standing(f"{MUTATING} {names.WEBHOOK} does not exist", native)
        validating, also_changed = self._publish(VALIDATING, material.bundle)
        published, changed = [*published, *(validating or [])], changed or also_changed
        # A bundle just published may not have reached every API server: what is served stays for one round more,
        # unless it is the throwaway certificate of the start.
        if material != self._serving.material and not (changed and self._is_serving_own):
            self._serving.load(material)
            self._is_serving_own = True
            log.info("certificate", action="loaded", expires=certificates.expiry(material.leaf).isoformat())
        faults = (certificates.serves(self._serving.material.leaf, bundle, self._now()) for bundle in published)
        return Standing(next((fault for fault in faults if fault), None), native, validating is not None)

    def _material(self) -> Material:
        """What the Secret holds after this round: read, made for the first time, mended or renewed."""
        for _ in range(CREATION_ATTEMPTS):
            stored = self._kube.secret(self._namespace, names.WEBHOOK_SECRET)
            now = self._now()
            try:
                held = certificates.from_data(stored.data) if stored else None
                fresh = certificates.renewed(held, self._names, now) if held else None
            except BadMaterial as error:
                log.warning("certificate", action="replaced", secret=names.WEBHOOK_SECRET, error=str(error))
                held = fresh = None
            if held is not None and fresh is None:
                return held
            fresh = fresh or self._anew(now)
            version = stored.resource_version if stored else None
            data = certificates.to_data(fresh)
            if self._kube.write_secret(self._namespace, names.WEBHOOK_SECRET, data, version):
                log.info("certificate", action="made" if held is None else "renewed", secret=names.WEBHOOK_SECRET)
                return fresh
        raise KubeError(f"Secret {names.WEBHOOK_SECRET} is written faster by others than it can be read")

    def _anew(self, now: datetime) -> Material:
        """What a lost or damaged Secret is made of: what is served and trusted by now, else something first."""
        if not self._is_serving_own:
            return certificates.first_material(self._names, now)
        served = self._serving.material
        return certificates.renewed(served, self._names, now) or served

    def _publish(self, kind: str, bundle: bytes) -> tuple[list[bytes] | None, bool]:
        """Make every webhook of a registration trust the bundle; return what each trusts now, and if it changed."""
        found = self._kube.registration(kind)
        if found is None:
            return None, False
        published = [_bundle_of(hook) for hook in found.get("webhooks") or []]
        stale = [index for index, one in enumerate(published) if one != bundle]
        if not stale:
            return published, False
        operations: list[Json] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]}
        ]
        text = b64encode(bundle).decode()
        operations += [{"op": "add", "path": f"/webhooks/{n}/clientConfig/caBundle", "value": text} for n in stale]
        if self._kube.patch_registration(kind, operations):
            log.info("certificate", action="published", webhooks=len(stale))
            return [bundle] * len(published), True
        return published, False


def _bundle_of(hook: Json) -> bytes:
    try:
        return b64decode((hook.get("clientConfig") or {}).get("caBundle") or "")
    except ValueError:
        return b""
