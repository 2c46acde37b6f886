"""The API server's operations as functions: what HTTP, controllers and node all call. Waits (for admission).

One write: read, compute, default, admit, default again, check that the object is still the one that was read, validate,
note the owners of its fields, keep. No locks: where another write came in between, the computation is done again.
Objects handed out are the stored ones: copy before you change one.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from lab.api import defaults, errors, kind_rules, ownership, selectors, ssa, strategic, strategy, validation
from lab.api.custom_kinds import CustomKinds
from lab.api.identity import SYSTEM, User
from lab.api.options import Admission, Completion, Options, Write, timestamp, utc_now
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
        new = strategy.shaped(row, obj, namespace)
        if not new["metadata"].get("name"):
            new["metadata"]["name"] = self._generated(row, new["metadata"])
        validation.conform(row, new, options.validation, options.warnings)
        return await self._create(row, new, Write(user, options))

    async def _create(self, row: Resource, new: Object, write: Write) -> Object:
        if row.is_refused:
            raise errors.not_implemented(f"{row.kind} objects")
        metadata = new["metadata"]
        self._check_namespace(row, metadata.get("namespace", ""))
        strategy.begin(row, new)
        metadata["uid"] = str(uuid.UUID(int=self._entropy.getrandbits(128), version=4))
        metadata["creationTimestamp"] = timestamp(self.now())
        new = await self._admit("CREATE", row, None, new, write)
        self._check_namespace(row, metadata.get("namespace", ""))
        if self.store.get(row.key, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise errors.already_exists(row.plural, row.group, metadata["name"])
        return self._keep(row, None, new, write)

    async def update(
        self, resource: str, obj: Object, *, subresource: str = "", user: User = SYSTEM, options: Options | None = None
    ) -> Object:
        """Replace an object (or its status). Raises ApiError Conflict on a stale resourceVersion, NotFound, Invalid."""
        row = self.catalog.keyed(resource)
        metadata = obj.get("metadata") or {}
        namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
        write = Write(user, options or Options(), subresource)
        return await self._change(row, namespace, name, lambda _old: clone(obj), write)

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
        """Change an object by a patch of the given media type; an apply patch may create it.

        Raises ApiError as update does, UnsupportedMediaType, and Conflict when an apply would take others' fields.
        """
        row = self.catalog.keyed(resource)
        write = Write(user, options or Options(), subresource, is_apply=content_type == APPLY)
        if write.is_apply:
            return await self._apply(row, namespace or "", name, body, write)
        return await self._change(row, namespace or "", name, self._patcher(row, body, content_type), write)

    def _patcher(self, row: Resource, body: Any, content_type: str) -> Compute:
        if content_type == MERGE:
            return lambda old: merge(clone(old), body)
        if content_type == JSON:
            return lambda old: json_patch(old, body)
        if content_type == STRATEGIC and not row.is_custom:
            return lambda old: strategic.apply(clone(old), body, row.api_version, row.kind)
        raise errors.unsupported_media_type(f"the body of the request was in an unknown format: {content_type}")

    async def _apply(self, row: Resource, namespace: str, name: str, body: Any, write: Write) -> Object:
        config = ssa.configuration(row, body, namespace, name, write.subresource)
        validation.conform(row, config, write.options.validation, write.options.warnings)
        known, owner, moment = validation.schema_of(row), write.owner, timestamp(self.now())
        if self.store.get(row.key, namespace, name) is None and not write.subresource:
            return await self._create(row, ssa.fresh(config, owner, known, moment), write)

        def compute(live: Object) -> Object:
            return ssa.apply(row, live, config, owner, known, force=write.options.force, moment=moment)

        return await self._change(row, namespace, name, compute, write)

    async def _change(self, row: Resource, namespace: str, name: str, compute: Compute, write: Write) -> Object:
        if row.is_refused:
            raise errors.not_implemented(f"{row.kind} objects")
        for _attempt in range(ATTEMPTS_COUNT):
            old = self._existing(row, namespace, name)
            new = compute(old)
            strategy.check_update(row, old, new)
            validation.conform(row, new, write.options.validation, write.options.warnings)
            strategy.carry_over(row, old, new, write.subresource)
            new = await self._admit("UPDATE", row, old, new, write)
            if self.store.get(row.key, namespace if row.namespaced else "", name) is old:
                return self._keep(row, old, new, write)
        raise errors.conflict(row.plural, row.group, name)

    def _keep(self, row: Resource, old: Object | None, new: Object, write: Write) -> Object:
        validation.require(row, new)
        if row.key == "customresourcedefinitions":
            write.options.warnings.extend(self._customs.establish(new))
        if self.completion is not None and not write.subresource:
            new = self.completion(self, row, old, new)
        validation.validate(row, old, new)
        write.options.warnings.extend(kind_rules.warnings(row.key, new))
        strategy.bump_generation(row, old, new)
        if not write.is_apply:
            ownership.note_update(write.owner, old, new, validation.schema_of(row), timestamp(self.now()))
        if old is not None:
            new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
            if ownership.same_but_times(old, new):
                return old
        if write.options.dry_run:
            return new
        if old is not None and strategy.is_releasable(row, new):
            return self._remove(row, new)
        return self._put(row, new)

    def _put(self, row: Resource, new: Object) -> Object:
        kept = self.store.put(row.key, new)
        self._customs.kept(row, kept)
        return kept

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
        write = Write(user, options or Options())
        for _attempt in range(ATTEMPTS_COUNT):
            old = self._existing(row, namespace or "", name)
            strategy.check_preconditions(row, old, uid, resource_version)
            await self._admit("DELETE", row, old, None, write)
            if self.store.get(row.key, old["metadata"].get("namespace", ""), name) is old:
                dying = strategy.dying(row, old, grace_s, propagation, self.now())
                return self._delete(row, old, dying, dry_run=write.options.dry_run)
        raise errors.conflict(row.plural, row.group, name)

    def _delete(self, row: Resource, old: Object, dying: Object, *, dry_run: bool) -> Object:
        if strategy.is_releasable(row, dying):
            last = dying if dry_run else self._remove(row, dying)
            return last if row.returns_deleted else strategy.success(row, old)
        if dry_run or dying == old:
            return dying
        kept = self._put(row, dying)
        return self.store.get(row.key, kept["metadata"].get("namespace", ""), kept["metadata"]["name"]) or kept

    # The steps of a write.

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
            raise strategy.terminating(row, namespace)

    async def _admit(
        self, operation: str, row: Resource, old: Object | None, new: Object | None, write: Write
    ) -> Object:
        if new is not None:
            defaults.fill(row, new)
        if self.admission is None:
            return new or {}
        subject, options = new or old or {}, write.options
        home = self.store.get("namespaces", "", subject["metadata"].get("namespace", ""))
        result = await self.admission.admit(
            operation, row, write.subresource, old, new, namespace_object=home, user=write.user, dry_run=options.dry_run
        )
        options.warnings.extend(result.warnings)
        if new is None or result.object is None or result.object is new:
            return new or {}
        changed: Object = clone(result.object)
        validation.conform(row, changed, "Ignore", options.warnings)
        defaults.fill(row, changed)
        return changed


async def bootstrap(registry: Registry) -> None:
    """The namespaces that every cluster has from the start."""
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        if registry.store.get("namespaces", "", name) is None:
            await registry.create("namespaces", {"metadata": {"name": name}})
