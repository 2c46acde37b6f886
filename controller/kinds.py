"""The kinds that the controller watches: paths, decoders, whether a server may lack them. Pure.

Sources: Kubernetes API reference, "Resource URIs"; API concepts, "Efficient detection of changes".
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from contract import kinds
from controller.objects import Record
from controller.wire import (
    FaultInjectionWire,
    GrantWire,
    NamespaceWire,
    NodeWire,
    PodWire,
    ServiceWire,
    SliceWire,
    TrafficPolicyWire,
    WorkloadWire,
)

_ABSENT_PAUSE_S: Final = 60.0
_CUSTOM_ABSENT_PAUSE_S: Final = 2.0


class ListMeta(msgspec.Struct, gc=False):
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    continue_token: str | None = msgspec.field(default=None, name="continue")


class StatusWire(msgspec.Struct, gc=False):
    """The object of an ERROR event, and the body of a refused request."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None


class EventWire(msgspec.Struct, gc=False):
    """One line of a watch; the object is decoded once its type is known."""

    type: str
    object: msgspec.Raw


class _PositionMetadata(msgspec.Struct, gc=False):
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class PositionWire(msgspec.Struct, gc=False):
    """Of any object: where in the history of its kind it stands."""

    metadata: _PositionMetadata


class ListWire(msgspec.Struct, gc=False):
    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """One watched kind."""

    name: str
    """Lower-case plural."""
    path: str
    """Of the list over all namespaces."""
    wire: type[Any]
    """A struct of `controller.wire` with `record()`."""
    absent_pause_s: float = _ABSENT_PAUSE_S
    """Time between two looks for a kind that the server does not serve."""

    def decode(self, raw: bytes | msgspec.Raw) -> Record:
        """Read one object.

        Raises:
            msgspec.ValidationError, ValueError: a field has another shape than the API reference gives it.
        """
        record: Record = msgspec.json.decode(raw, type=self.wire).record()
        return record


PODS: Final = Kind("pods", "/api/v1/pods", PodWire)
SERVICES: Final = Kind("services", "/api/v1/services", ServiceWire)
SLICES: Final = Kind("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", SliceWire)
NAMESPACES: Final = Kind("namespaces", "/api/v1/namespaces", NamespaceWire)
REPLICASETS: Final = Kind("replicasets", "/apis/apps/v1/replicasets", WorkloadWire)
JOBS: Final = Kind("jobs", "/apis/batch/v1/jobs", WorkloadWire)
DEPLOYMENTS: Final = Kind("deployments", "/apis/apps/v1/deployments", WorkloadWire)
STATEFULSETS: Final = Kind("statefulsets", "/apis/apps/v1/statefulsets", WorkloadWire)
DAEMONSETS: Final = Kind("daemonsets", "/apis/apps/v1/daemonsets", WorkloadWire)
NODES: Final = Kind("nodes", "/api/v1/nodes", NodeWire)
TRAFFIC_POLICIES: Final = Kind(
    kinds.TRAFFIC_POLICIES,
    f"/apis/{kinds.API_VERSION}/{kinds.TRAFFIC_POLICIES}",
    TrafficPolicyWire,
    _CUSTOM_ABSENT_PAUSE_S,
)
FAULT_INJECTIONS: Final = Kind(
    kinds.FAULT_INJECTIONS,
    f"/apis/{kinds.API_VERSION}/{kinds.FAULT_INJECTIONS}",
    FaultInjectionWire,
    _CUSTOM_ABSENT_PAUSE_S,
)

REFERENCE_GRANTS: Final = Kind("referencegrants", "/apis/gateway.networking.k8s.io/v1beta1/referencegrants", GrantWire)

KINDS: Final = (
    NAMESPACES, SERVICES, SLICES, PODS, REPLICASETS, JOBS, DEPLOYMENTS, STATEFULSETS, DAEMONSETS, NODES,
    TRAFFIC_POLICIES, FAULT_INJECTIONS, REFERENCE_GRANTS,
)  # fmt: skip
"""A kind that the server does not serve (404) counts as empty."""
