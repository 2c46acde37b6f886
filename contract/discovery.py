"""Discovery: what a sidecar asks of the controller and what it is told. Pure.

A sidecar keeps one streaming request open: `POST DISCOVERY_PATH` with a `Subscribe` as JSON. The answer is
`application/x-ndjson`, one `Update` a line, for as long as both live. An `Update` without destinations is a
heartbeat (every HEARTBEAT_S). To ask for one more target the sidecar opens a new stream and closes the old; the
controller tells nothing on the old one any more and ends it, should the sidecar not.

Revisions are digests of a destination's content, not counters: any replica of the controller, also one that has
just started, can tell from them what a sidecar does not know yet and sends only that (docs/adr/0003).
"""

from typing import Annotated, Final, Literal

import msgspec

from contract.policy import ServicePolicy

DISCOVERY_PATH: Final = "/proxy/v1/discovery"

HEARTBEAT_S: Final = 5.0
"""Seconds between heartbeats; a stream silent for three of them is dead."""

MAX_TARGETS_COUNT: Final = 4096
"""Targets in one Subscribe; more is refused with 422."""

Protocol = Literal["detect", "opaque", "http/1", "http/2"]
"""What the sidecar may assume of the bytes; `detect` assumes nothing."""


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One address of a destination, with the labels that metrics carry (`dst_*`)."""

    ip: str
    port: int
    pod: str = ""
    namespace: str = ""
    owner_kind: str = ""
    """Lower-case singular kind of the pod's top owner: deployment, statefulset, daemonset, job, replicaset or ""."""
    owner: str = ""
    service_account: str = ""
    zone: str = ""
    node: str = ""
    meshed: bool = False
    """Whether the pod has a sidecar, by its containers: what comes from its address was sent by one."""
    weight: int = 1
    """Share of the requests, against the other endpoints' (pod annotation `config.tulle.mesh/weight`)."""
    preferred: bool = False
    """Whether its slice hints that clients of the asking pod's zone use it."""
    identity: str = ""
    """Reserved: the identity to verify; empty means plaintext."""


class Destination(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands behind an original destination.

    kind `service`: a cluster IP and a port that its service declares; balance over `endpoints` (which may be
    empty: then the service exists and has no ready endpoint). kind `pod`: a pod's own address, one endpoint.
    kind `unknown`: nothing in the cluster that the controller knows; pass through untouched.
    """

    target: str
    """The original destination asked for: `10.96.0.7:80`, `[fd00::7]:80`."""
    revision: str
    kind: Literal["service", "pod", "unknown"]
    namespace: str = ""
    name: str = ""
    port: int = 0
    protocol: Protocol = "detect"
    endpoints: tuple[Endpoint, ...] = ()
    policy: ServicePolicy | None = None
    """Of the service; for a kind `pod` of the service whose port that is. Where several have policies that differ, the
    lowest of their rate limits and nothing else."""


Text = Annotated[str, msgspec.Meta(max_length=253)]
Short = Annotated[str, msgspec.Meta(max_length=64)]


class Subscribe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a discovery request."""

    namespace: Text
    pod: Text
    targets: dict[Short, Short]
    """Target -> revision already held, "" when none."""
    instance: Short = ""
    """Random at the start of the process that asks: of its streams the newest stands, the older ones end."""


class Update(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a discovery stream: the destinations that changed; each replaces the one of its target."""

    destinations: tuple[Destination, ...] = ()
