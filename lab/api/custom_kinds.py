"""The custom kinds as they come and go with their definitions: keeps the catalog in step with the store. Turn.

Called by the registry around every write: a kept definition is served from then on; a dying one takes its objects with
it and goes when the last of them is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from lab.api import custom, errors
from lab.api.options import timestamp
from lab.api.patch import clone
from lab.api.resources import Catalog, Resource
from lab.api.store import Object, Store

KEY = "customresourcedefinitions"
CEL_WARNING = "the lab keeps x-kubernetes-validations but does not evaluate CEL rules"


class CustomKinds:
    """One registry's custom kinds."""

    def __init__(self, catalog: Catalog, store: Store, now: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._store = store
        self._now = now

    def establish(self, definition: Object) -> list[str]:
        """Complete a definition that is about to be kept; gives back warnings. Raises ApiError Invalid."""
        found = list(custom.problems(definition))
        if found:
            raise errors.invalid(
                "CustomResourceDefinition", "apiextensions.k8s.io", definition["metadata"]["name"], found
            )
        metadata = definition["metadata"]
        if "deletionTimestamp" not in metadata and custom.FINALIZER not in metadata.get("finalizers", []):
            metadata["finalizers"] = [*metadata.get("finalizers", []), custom.FINALIZER]
        custom.establish(definition, self._catalog, timestamp(self._now()))
        return [CEL_WARNING] if custom.has_rules(definition["spec"]) else []

    def kept(self, row: Resource, item: Object) -> None:
        """After a put: serve a definition's rows, or begin to empty a dying one."""
        if row.key != KEY:
            return
        if "deletionTimestamp" in item["metadata"]:
            self._empty(item)
            return
        accepted = any(one["type"] == "Established" and one["status"] == "True" for one in item["status"]["conditions"])
        rows = custom.rows_of(item) if accepted else []
        self._catalog.set_custom(item["metadata"]["name"], rows)

    def removed(self, row: Resource, item: Object) -> None:
        """After a removal: forget a definition, or let a dying one go with its last object."""
        if row.key == KEY:
            name = item["metadata"]["name"]
            self._store.end_watches(name)
            self._catalog.set_custom(name, ())
        elif row.is_custom:
            definition = self._store.get(KEY, "", row.key)
            if definition is not None and "deletionTimestamp" in definition["metadata"]:
                self._release(definition)

    def _empty(self, definition: Object) -> None:
        key = definition["metadata"]["name"]
        moment = timestamp(self._now())
        for item in self._store.items(key):
            if item["metadata"].get("finalizers"):
                dying = clone(item)
                dying["metadata"].setdefault("deletionTimestamp", moment)
                dying["metadata"].setdefault("deletionGracePeriodSeconds", 0)
                self._store.put(key, dying)
            else:
                self._store.remove(key, item)
        self._release(definition)

    def _release(self, definition: Object) -> None:
        key = definition["metadata"]["name"]
        finalizers = definition["metadata"].get("finalizers", [])
        if self._store.items(key) or custom.FINALIZER not in finalizers:
            return
        last = clone(definition)
        last["metadata"]["finalizers"] = [name for name in finalizers if name != custom.FINALIZER]
        kept = self._store.put(KEY, last)
        if not last["metadata"]["finalizers"]:
            self._store.remove(KEY, kept)
            self._store.end_watches(key)
            self._catalog.set_custom(key, ())
