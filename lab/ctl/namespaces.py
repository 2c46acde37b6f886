"""The namespace controllers: what every namespace has, and how one is emptied when it is deleted. Waits.

A namespace gets the service account `default` and the ConfigMap `kube-root-ca.crt`. A deleted one is emptied two
seconds later: `kubectl delete -f` names the namespace first, and its further deletes should still find their objects.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.api.errors import ApiError
from lab.api.registry import Registry
from lab.ctl import owners
from lab.ctl.loop import Change, Controller, own_key
from lab.ctl.owners import Object
from lab.ctl.queue import Key
from lab.ctl.times import to_seconds
from lab.ctl.writing import find, if_there, is_namespace_going, remove

MERCY_S = 2.0
"""Least seconds from a namespace's deletion to the deletion of what is in it."""
ROUNDING_S = 1.0
"""deletionTimestamp is cut down to the whole second."""
RECHECK_S = 1.0
"""How often a namespace that does not get empty (a custom object with a finalizer) is looked at again."""
ACCOUNT = "default"
ROOT_CA = "kube-root-ca.crt"


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Fills new namespaces and empties deleted ones.

    Args: root_ca: PEM text of the certificate authority of the API server; now: seconds since the epoch.
    """

    registry: Registry
    root_ca: str
    now: Callable[[], float]

    def controller(self) -> Controller:
        watches = {"namespaces": own_key, "pods": _home_if_gone, "serviceaccounts": _home_if_gone, "configmaps": _home}
        return Controller("namespaces", watches, self.reconcile)

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one namespace."""
        namespace = find(self.registry, "namespaces", "", key.name)
        if namespace is None:
            return None
        if not owners.is_deleted(namespace):
            await self._furnish(key.name)
            return None
        left_s = (to_seconds(namespace["metadata"]["deletionTimestamp"]) or 0.0) + ROUNDING_S + MERCY_S - self.now()
        return left_s if left_s > 0 else await self._empty(namespace)

    async def _furnish(self, name: str) -> None:
        try:
            if find(self.registry, "serviceaccounts", name, ACCOUNT) is None:
                account = {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": ACCOUNT, "namespace": name},
                }
                await self.registry.create("serviceaccounts", account)
            held = find(self.registry, "configmaps", name, ROOT_CA)
            data = {"ca.crt": self.root_ca}
            if held is None:
                metadata = {"name": ROOT_CA, "namespace": name}
                new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
                await self.registry.create("configmaps", new)
            elif held.get("data") != data:
                await self.registry.update("configmaps", {**held, "data": data})
        except ApiError as error:
            if not is_namespace_going(error):
                raise

    async def _empty(self, namespace: Object) -> float | None:
        """Delete what is left; when nothing is, let the namespace go."""
        name = namespace["metadata"]["name"]
        left_count = 0
        for resource in namespaced(self.registry):
            for item in self.registry.list(resource, name):
                left_count += 1
                if not owners.is_deleted(item):
                    await remove(self.registry, resource, item)
                    left_count -= not _is_there(self.registry, resource, item)
        if left_count:
            return RECHECK_S
        finalizers = [word for word in namespace["spec"].get("finalizers") or [] if word != "kubernetes"]
        done = {**namespace, "spec": {**namespace["spec"], "finalizers": finalizers}}
        await if_there(self.registry.update("namespaces", done, subresource="finalize"))
        return None


def namespaced(registry: Registry) -> list[str]:
    """The keys of all kinds that live in namespaces, each once; pods last, so that nothing makes new ones."""
    keys = {
        row.key
        for row in registry.catalog
        if row.namespaced and row.is_storage and not row.is_view and not row.is_refused and "delete" in row.verbs
    }
    return sorted(keys, key=lambda key: (key == "pods", key))


def _is_there(registry: Registry, resource: str, item: Object) -> bool:
    metadata = item["metadata"]
    return find(registry, resource, metadata["namespace"], metadata["name"]) is not None


def _home(change: Change) -> Iterable[Key]:
    """The namespace, when its root certificate was changed or taken away."""
    metadata = change.latest["metadata"]
    if metadata["name"] == ROOT_CA and change.old is not None:
        yield Key("Namespace", "", metadata["namespace"])


def _home_if_gone(change: Change) -> Iterable[Key]:
    """The namespace, when something that it waits for or needs is gone."""
    if change.new is None:
        yield Key("Namespace", "", change.latest["metadata"]["namespace"])
