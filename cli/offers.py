"""Which kinds a cluster's API offers, for templates that ask (`.Capabilities.APIVersions.Has`). Edge."""

from typing import Protocol

from cli.cluster import Cluster, ClusterError

LOOK_S = 3.0


class Offers(Protocol):
    """Kinds as `GROUP/VERSION/KIND`."""

    def __contains__(self, kind: object, /) -> bool: ...


class Offered:
    """What the cluster says when it is asked, and only then.

    Without a cluster to ask, a current one is assumed: manifests can be printed anywhere.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __contains__(self, kind: object, /) -> bool:
        group_version, _, name = str(kind).rpartition("/")
        try:
            listed = self._cluster.get(f"/apis/{group_version}", LOOK_S).get("resources") or []
        except ClusterError:
            return True
        return any(one.get("kind") == name for one in listed)
