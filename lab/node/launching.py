"""From a container's spec to the process that the spawner starts. Pure.

What runs is `command` and `args`; the PATH of a container that sets none begins with the folder of the Python
environment that the lab runs in, so that its programs are found.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .credentials import credentials
from .endpoints import Object
from .environment import ConfigurationFault, Sources, environment, expand
from .launch import Bind, Launch, Root
from .pod_files import hostname

TERMINATION_LOG = "/dev/termination-log"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Host:
    """What containers take from the machine. `homes` maps a user id to its home folder."""

    programs: str
    traversable: tuple[str, ...]
    homes: dict[int, str]


@dataclass(frozen=True)
class Places:
    """Host paths of one container's pieces. `volumes` has (folder, is changed by nobody but us) by volume name."""

    scratch: str
    hosts: str
    resolv_conf: str
    hostname: str
    termination_log: str
    volumes: dict[str, tuple[str, bool]]


def launch(
    pod: Object,
    container: Object,
    sources: Sources,
    host: Host,
    places: Places,
    sub_path: Callable[[str, str], str],
) -> Launch:
    """The process. `sub_path` gives the host path of (volume folder, path in it). ConfigurationFault."""
    who = credentials(pod, container)
    given = environment(pod, container, sources)
    standard = {
        "PATH": f"{host.programs}:{_PATH}",
        "HOME": host.homes.get(who.uid, "/"),
        "HOSTNAME": hostname(pod),
    }
    variables = {**standard, **given}
    words = [*container["command"], *(container.get("args") or [])]
    binds = [
        Bind(places.hosts, "/etc/hosts"),
        Bind(places.resolv_conf, "/etc/resolv.conf"),
        Bind(places.hostname, "/etc/hostname"),
        Bind(places.termination_log, container.get("terminationMessagePath") or TERMINATION_LOG),
    ]
    binds += _mounts(container, places, variables, sub_path)
    security = container.get("securityContext") or {}
    return Launch(
        argv=tuple(expand(word, given) for word in words),
        environment=variables,
        folder=container.get("workingDir") or "/",
        credentials=who,
        root=Root(
            scratch=places.scratch,
            hostname=hostname(pod),
            binds=tuple(binds),
            traversable=host.traversable,
            read_only=bool(security.get("readOnlyRootFilesystem")),
        ),
    )


def _mounts(
    container: Object, places: Places, variables: dict[str, str], sub_path: Callable[[str, str], str]
) -> list[Bind]:
    """Outer mounts before the ones inside of them."""
    found = []
    for mount in sorted(container.get("volumeMounts") or [], key=lambda m: m["mountPath"].rstrip("/").count("/")):
        if mount["name"] not in places.volumes:
            raise ConfigurationFault(f"volumeMounts {mount['mountPath']}: the pod has no volume {mount['name']}")
        source, is_ours = places.volumes[mount["name"]]
        inner = mount.get("subPath") or expand(mount.get("subPathExpr") or "", variables)
        if inner:
            try:
                source = sub_path(source, inner)
            except (ValueError, OSError) as error:
                raise ConfigurationFault(f"volumeMounts {mount['mountPath']}: {error}") from error
        found.append(Bind(source, mount["mountPath"], is_ours or bool(mount.get("readOnly"))))
    return found
