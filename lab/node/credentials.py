"""Who a container's process is: the pod's and the container's securityContext as one value. Pure.

Source: Kubernetes API reference (PodSecurityContext, SecurityContext): what the container says wins.
"""

from .endpoints import Object
from .environment import ConfigurationFault
from .launch import CAPABILITIES, DEFAULT_CAPABILITIES, GRANTED_CAPABILITIES, Credentials


def credentials(pod: Object, container: Object) -> Credentials:
    """ConfigurationFault where what is asked for contradicts itself or is unknown."""
    ours, theirs = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    uid = _first(ours, theirs, "runAsUser", 0)
    gid = _first(ours, theirs, "runAsGroup", 0)
    if uid == 0 and _first(ours, theirs, "runAsNonRoot", False):
        raise ConfigurationFault(
            f"container {container['name']} has runAsNonRoot, and would run as root: set runAsUser to another than 0"
        )
    groups = {gid, *(theirs.get("supplementalGroups") or [])}
    if theirs.get("fsGroup") is not None:
        groups.add(theirs["fsGroup"])
    return Credentials(
        uid=uid,
        gid=gid,
        groups=tuple(sorted(groups)),
        capabilities=tuple(sorted(_capabilities(container["name"], ours.get("capabilities") or {}))),
        no_new_privileges=ours.get("allowPrivilegeEscalation") is False,
    )


def _first(ours: Object, theirs: Object, name: str, default: int) -> int:
    for place in (ours, theirs):
        if place.get(name) is not None:
            return int(place[name])
    return default


def _capabilities(name: str, change: Object) -> set[str]:
    add, drop = ({_bare(entry) for entry in change.get(word) or []} for word in ("add", "drop"))
    unknown = sorted((add | drop) - {"ALL", *CAPABILITIES})
    if unknown:
        raise ConfigurationFault(f"container {name}: unknown capability {', '.join(unknown)} (like NET_ADMIN)")
    result = set() if "ALL" in drop else set(DEFAULT_CAPABILITIES) - drop
    # `refusals` has named those that reach the host; here they are not given, whoever asks.
    return (result | add) & (DEFAULT_CAPABILITIES | GRANTED_CAPABILITIES)


def _bare(name: str) -> str:
    return name.upper().removeprefix("CAP_")
