"""Which pods still carry the sidecar: asked before `tulle uninstall`. Edge."""

import sys

from cli.cluster import Cluster, ClusterError
from cli.errors import CliError
from cli.findings import finished, pod_name
from contract import names

SHOWN_COUNT = 5
LOOK_S = 10.0


def refuse_while_pods_remain(cluster: Cluster) -> None:
    """Refuse when pods of this control plane are still meshed; say so on stderr when the cluster cannot be asked.

    Raises:
        CliError: such pods, with how to take them out of the mesh.
    """
    try:
        selector = f"{names.MESHED}={cluster.control_plane}"
        pods = cluster.list("/api/v1/pods", LOOK_S, labelSelector=selector)
    except ClusterError as error:
        print(f"tulle: not looked for meshed pods: {error}", file=sys.stderr)
        return
    left = [pod_name(pod) for pod in pods if not finished(pod)]
    if left:
        more = f" and {len(left) - SHOWN_COUNT} more" if len(left) > SHOWN_COUNT else ""
        raise CliError(
            f"{len(left)} pods are still meshed: {', '.join(left[:SHOWN_COUNT])}{more}\n"
            f"take the label {names.INJECT} from their namespaces and restart them, or use --force"
        )
