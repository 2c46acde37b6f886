"""What the mesh has left in a cluster outside of its own namespace: asked by `tulle uninstall`. Edge."""

import sys

from cli.cluster import Cluster, ClusterError
from cli.errors import CliError
from cli.findings import Object, finished, pod_name
from contract import names

SHOWN_COUNT = 5
LOOK_S = 10.0


def trust_bundles(cluster: Cluster, *, force: bool) -> list[Object]:
    """The ConfigMaps that the controller made in other namespaces, by kind and name.

    When the cluster cannot be asked that is said on stderr, and the list is empty.

    Raises:
        CliError: pods of this control plane are still meshed, and `force` is off.
    """
    try:
        if not force:
            selector = f"{names.MESHED}={cluster.control_plane}"
            _refuse_while_any_remain(cluster.list("/api/v1/pods", LOOK_S, labelSelector=selector))
        return cluster.list("/api/v1/configmaps", LOOK_S, fieldSelector=f"metadata.name={names.TRUST_BUNDLE}")
    except ClusterError as error:
        print(f"tulle: not looked for meshed pods and trust bundles: {error}", file=sys.stderr)
        return []


def _refuse_while_any_remain(pods: list[Object]) -> None:
    left = [pod_name(pod) for pod in pods if not finished(pod)]
    if left:
        more = f" and {len(left) - SHOWN_COUNT} more" if len(left) > SHOWN_COUNT else ""
        raise CliError(
            f"{len(left)} pods are still meshed: {', '.join(left[:SHOWN_COUNT])}{more}\n"
            f"take the label {names.INJECT} from their namespaces and restart them, or use --force"
        )
