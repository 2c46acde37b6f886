"""The API server's operations as functions: what HTTP, controllers and node all call. Waits (for admission).

One write: read, compute, default, admit, default again, check that the object is still the one that was read, validate,
note the owners of its fields, keep. No locks: where another write came in between, the computation is done again.
Objects handed out are the stored ones: copy before you change one.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from lab.api import defaults, errors, selectors, strategic, strategy, validation
from lab.api.custom_kinds import CustomKinds
from lab.api.identity import SYSTEM, User
from lab.api.options import Admission, Completion, Options, timestamp, utc_now
from lab.api.patch import clone, json_patch, merge
from lab.api.resources import Catalog, Resource
from lab.api.store import Object, Store, Watch

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

# Times a write is computed again when another write came in between; more than this is a conflict for the caller.
ATTEMPTS_COUNT = 5
# The alphabet of generated names: no vowels, so no words; no 0, 1, 3, so no misreading.
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_COUNT = 5

Compute = Callable[[Object], Object]


class Registry:
    """All kinds, all objects, all operations. `now` and `entropy` are the only sources of time and chance."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = utc_now,
        entropy: random.Random | None = None,
        admission: Admission | None = None,
        completion: Completion | None = None,
    ) -> None:
        self.now = now
        self.catalog = Catalog()
        self.store = Store(int(now().timestamp() * 1000))
        self.admission = admission
        self._customs = CustomKinds(self.catalog, self.store, now)
        self.completion = completion
        self._entropy = entropy or random.SystemRandom()

    # Reading.

    def get(self, resource: str, namespace: str | None, name: str) -> Object:
        """The object, as stored. Raises ApiError NotFound."""
        row = self.catalog.keyed(resource)
        return self._existing(row, namespace or "", name)

    def list(self, resource: str, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Object]:
        """The selected objects, as stored, by namespace and name."""
        row = self.catalog.keyed(resource)
        matches = selectors.matcher(row.key, labels, fields)
        return [item for item in self.store.items(row.key, namespace) if matches(item)]

    def watch(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        since: int | None = None,
        labels: str = "",
        fields: str = "",
    ) -> Watch:
        """Changes from `since` on; None = the present objects first. Raises ApiError Expired for an unknown version."""
        row = self.catalog.keyed(resource)
        return self.store.watch(row.key, namespace, selectors.matcher(row.key, labels, fields), since)

    def _existing(self, row: Resource, namespace: str, name: str) -> Object:
        item = self.store.get(row.key, namespace if row.namespaced else "", name)
        if item is None:
            raise errors.not_found(row.plural, row.group, name)
        return item

    # Writing.

    async def create(
        self,
        resource: str,
        obj: Object,
        *,
        user: User = SYSTEM,
        namespace: str | None = None,
        dry_run: bool = False,
        options: Options | None = None,
    ) -> Object:
        """Keep a new object. Raises ApiError AlreadyExists, Invalid, Forbidden (namespace going), BadRequest."""
        row = self.catalog.keyed(resource)
        options = options or Options(dry_run=dry_run)
        if row.is_refused:
            raise errors.not_implemented(f"{row.kind} objects")
        new = self._shaped(row, obj, namespace)
        self._check_namespace(row, new["metadata"].get("namespace", ""))
        validation.conform(row, new, options.validation, options.warnings)
        strategy.begin(row, new)
        new = await self._admit("CREATE", row, "", None, new, user, options)
        metadata = new["metadata"]
        if self.store.get(row.key, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise errors.already_exists(row.plural, row.group, metadata["name"])
        metadata["uid"] = str(uuid.UUID(int=self._entropy.getrandbits(128), version=4))
        metadata["creationTimestamp"] = timestamp(self.now())
        if self.completion is not None:
            new = self.completion(self, row, None, new)
        return self._keep(row, None, new, "", user, options)

    async def update(
        self, resource: str, obj: Object, *, subresource: str = "", user: User = SYSTEM, options: Options | None = None
    ) -> Object:
        """Replace an object (or its status). Raises ApiError Conflict on a stale resourceVersion, NotFound, Invalid."""
        row = self.catalog.keyed(resource)
        metadata = obj.get("metadata") or {}
        namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
        return await self._change(
            row, namespace, name, lambda _old: clone(obj), subresource, user, options or Options()
        )

    async def patch(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        body: Any,
        content_type: str,
        *,
        subresource: str = "",
        user: User = SYSTEM,
        options: Options | None = None,
    ) -> Object:
        """Change an object by a patch of the given media type. Raises ApiError as update does, UnsupportedMediaType."""
        row = self.catalog.keyed(resource)
        compute = self._patcher(row, body, content_type)
        return await self._change(row, namespace or "", name, compute, subresource, user, options or Options())

    def _patcher(self, row: Resource, body: Any, content_type: str) -> Compute:
        if content_type == MERGE:
            return lambda old: merge(clone(old), body)
        if content_type == JSON:
            return lambda old: json_patch(old, body)
        if content_type == STRATEGIC and not row.is_custom:
            return lambda old: strategic.apply(clone(old), body, row.api_version, row.kind)
        raise errors.unsupported_media_type(f"the body of the request was in an unknown format: {content_type}")

    async def _change(
        self, row: Resource, namespace: str, name: str, compute: Compute, subresource: str, user: User, options: Options
    ) -> Object:
        if row.is_refused:
            raise errors.not_implemented(f"{row.kind} objects")
        for _attempt in range(ATTEMPTS_COUNT):
            old = self._existing(row, namespace, name)
            new = compute(old)
            self._check_update(row, old, new)
            validation.conform(row, new, options.validation, options.warnings)
            strategy.carry_over(row, old, new, subresource)
            new = await self._admit("UPDATE", row, subresource, old, new, user, options)
            if self.store.get(row.key, namespace if row.namespaced else "", name) is old:
                if self.completion is not None and not subresource:
                    new = self.completion(self, row, old, new)
                return self._keep(row, old, new, subresource, user, options)
        raise errors.conflict(row.plural, row.group, name)

    def _check_update(self, row: Resource, old: Object, new: Object) -> None:
        new["apiVersion"], new["kind"] = row.api_version, row.kind
        metadata = new.setdefault("metadata", {})
        name = old["metadata"]["name"]
        if metadata.get("resourceVersion", old["metadata"]["resourceVersion"]) not in (
            "",
            old["metadata"]["resourceVersion"],
        ):
            raise errors.conflict(row.plural, row.group, name)
        if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise errors.conflict(row.plural, row.group, name, _other_uid(metadata["uid"], old))

    def _keep(
        self, row: Resource, old: Object | None, new: Object, subresource: str, user: User, options: Options
    ) -> Object:
        self._fill_in(row, new)
        validation.validate(row, old, new)
        strategy.bump_generation(row, old, new)
        if old is not None:
            new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
            if new == old:
                return old
        if options.dry_run:
            return new
        if old is not None and strategy.is_releasable(row, new):
            return self._remove(row, new)
        kept = self.store.put(row.key, new)
        self._customs.kept(row, kept)
        return kept

    def _fill_in(self, row: Resource, new: Object) -> None:
        if row.key == "customresourcedefinitions":
            self._customs.establish(new)

    def _remove(self, row: Resource, last: Object) -> Object:
        removed = self.store.remove(row.key, last)
        self._customs.removed(row, removed)
        return removed

    async def delete(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        *,
        grace_s: int | None = None,
        propagation: str = "Background",
        uid: str | None = None,
        resource_version: str | None = None,
        user: User = SYSTEM,
        options: Options | None = None,
    ) -> Object:
        """Delete, or mark as dying what has finalizers or a running Pod. Returns a Status or the marked object."""
        row = self.catalog.keyed(resource)
        options = options or Options()
        for _attempt in range(ATTEMPTS_COUNT):
            old = self._existing(row, namespace or "", name)
            if uid is not None and uid != old["metadata"]["uid"]:
                raise errors.conflict(row.plural, row.group, name, _other_uid(uid, old))
            if resource_version is not None and resource_version != old["metadata"]["resourceVersion"]:
                raise errors.conflict(row.plural, row.group, name)
            if self.admission is not None:
                await self._admit("DELETE", row, "", old, None, user, options)
            if self.store.get(row.key, namespace if row.namespaced and namespace else "", name) is old:
                return self._delete(row, old, grace_s, propagation, options)
        raise errors.conflict(row.plural, row.group, name)

    def _delete(self, row: Resource, old: Object, grace_s: int | None, propagation: str, options: Options) -> Object:
        new: Object = clone(old)
        metadata = new["metadata"]
        extra = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation)
        if extra and extra not in metadata.get("finalizers", []):
            metadata["finalizers"] = [*metadata.get("finalizers", []), extra]
        wait_s = strategy.grace_of(row, old, grace_s)
        if "deletionTimestamp" not in metadata or wait_s < int(metadata.get("deletionGracePeriodSeconds") or 0):
            metadata["deletionTimestamp"] = timestamp(self.now() + timedelta(seconds=wait_s))
            metadata["deletionGracePeriodSeconds"] = wait_s
        if row.key == "namespaces":
            new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
        strategy.bump_generation(row, old, new)
        if strategy.is_releasable(row, new):
            if not options.dry_run:
                self._remove(row, old)
            return _deleted(row, old)
        if options.dry_run or new == old:
            return new
        kept = self.store.put(row.key, new)
        self._customs.kept(row, kept)
        return kept

    # The steps of a write.

    def _shaped(self, row: Resource, obj: Object, namespace: str | None) -> Object:
        new: Object = {**clone(obj), "apiVersion": row.api_version, "kind": row.kind}
        metadata = new.setdefault("metadata", {})
        if row.namespaced:
            place = metadata.get("namespace") or namespace or "default"
            if namespace and place != namespace:
                raise errors.bad_request(
                    f"the namespace of the provided object, {place}, does not match that of the request, {namespace}"
                )
            metadata["namespace"] = place
        else:
            metadata.pop("namespace", None)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._generated(row, metadata)
        if not metadata.get("name"):
            raise errors.invalid(
                row.kind,
                row.group,
                "",
                [
                    errors.cause(
                        "metadata.name", "Required value: name or generateName is required", "FieldValueRequired"
                    )
                ],
            )
        return new

    def _generated(self, row: Resource, metadata: Object) -> str:
        for _attempt in range(ATTEMPTS_COUNT):
            suffix = "".join(self._entropy.choices(SUFFIX_ALPHABET, k=SUFFIX_COUNT))
            name = metadata["generateName"][: 63 - SUFFIX_COUNT] + suffix
            if self.store.get(row.key, metadata.get("namespace", ""), name) is None:
                return str(name)
        raise errors.already_exists(row.plural, row.group, metadata["generateName"])

    def _check_namespace(self, row: Resource, namespace: str) -> None:
        if not row.namespaced:
            return
        home = self.store.get("namespaces", "", namespace)
        if home is None:
            raise errors.not_found("namespaces", "", namespace)
        if "deletionTimestamp" in home["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            refusal = errors.forbidden(why, row.plural, row.group)
            refusal.details = {"causes": [errors.cause("metadata.namespace", why, "NamespaceTerminating")]}
            raise refusal

    async def _admit(
        self,
        operation: str,
        row: Resource,
        subresource: str,
        old: Object | None,
        new: Object | None,
        user: User,
        options: Options,
    ) -> Object:
        if new is not None:
            defaults.fill(row, new)
        if self.admission is None:
            return new or {}
        subject = new or old or {}
        home = self.store.get("namespaces", "", subject["metadata"].get("namespace", ""))
        result = await self.admission.admit(
            operation, row, subresource, old, new, namespace_object=home, user=user, dry_run=options.dry_run
        )
        options.warnings.extend(result.warnings)
        if new is None or result.object is None:
            return new or {}
        changed: Object = clone(result.object)
        validation.conform(row, changed, "Ignore", options.warnings)
        defaults.fill(row, changed)
        return changed


def _other_uid(uid: str, old: Object) -> str:
    return f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"


def _deleted(row: Resource, old: Object) -> Object:
    details = {"name": old["metadata"]["name"], "kind": row.plural, "uid": old["metadata"]["uid"]}
    if row.group:
        details["group"] = row.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


async def bootstrap(registry: Registry) -> None:
    """The namespaces that every cluster has from the start."""
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        if registry.store.get("namespaces", "", name) is None:
            await registry.create("namespaces", {"metadata": {"name": name}})
