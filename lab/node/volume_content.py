"""The files of configMap, secret, downwardAPI and projected volumes. Pure: objects in, files out.

Sources: Kubernetes API reference (the *VolumeSource and *Projection types); 0644 is the API's default mode.
"""

import base64
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .endpoints import Object
from .environment import ConfigurationFault, Sources, field, resource_field

DEFAULT_MODE = 0o644


@dataclass(frozen=True)
class VolumeFile:
    """`path` is relative, with no `..`."""

    path: str
    data: bytes
    mode: int


Token = Callable[[Object], str]
"""A serviceAccountToken projection (audience, expirationSeconds) -> the token's text."""


def files(volume: Object, pod: Object, sources: Sources, token: Token) -> list[VolumeFile]:
    """The volume's files; a later source of a projected volume wins. ConfigurationFault names what is missing."""
    found: dict[str, VolumeFile] = {}
    for kind in ("configMap", "secret", "downwardAPI"):
        if kind in volume:
            source = volume[kind]
            reference = {**source, "name": source.get("secretName", source.get("name", ""))}
            for file in _source(kind, reference, pod, sources, source.get("defaultMode", DEFAULT_MODE)):
                found[file.path] = file
    projected = volume.get("projected") or {}
    mode = projected.get("defaultMode", DEFAULT_MODE)
    for entry in projected.get("sources") or []:
        for kind, source in entry.items():
            if kind == "serviceAccountToken":
                found[source["path"]] = VolumeFile(_checked(source["path"]), token(source).encode(), mode)
                continue
            for file in _source(kind, source, pod, sources, mode):
                found[file.path] = file
    return [found[path] for path in sorted(found)]


def _source(kind: str, source: Object, pod: Object, sources: Sources, mode: int) -> Iterator[VolumeFile]:
    if kind == "downwardAPI":
        yield from _downward(source, pod, sources, mode)
        return
    look_up = sources.config_map if kind == "configMap" else sources.secret
    found = look_up(source.get("name", ""))
    if found is None:
        if not source.get("optional"):
            raise ConfigurationFault(f'{kind.lower()} "{source.get("name", "")}" not found')
        return
    data = _data(kind, found)
    items = source.get("items")
    if not items:
        for key, value in data.items():
            yield VolumeFile(key, value, mode)
        return
    for item in items:
        if item["key"] in data:
            yield VolumeFile(_checked(item["path"]), data[item["key"]], item.get("mode", mode))
        elif not source.get("optional"):
            raise ConfigurationFault(f"{kind.lower()} {source.get('name', '')} has no key {item['key']}")


def _data(kind: str, found: Object) -> dict[str, bytes]:
    plain = found.get("data") or {}
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in plain.items()}
    binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
    return {key: str(value).encode() for key, value in plain.items()} | binary


def _downward(source: Object, pod: Object, sources: Sources, mode: int) -> Iterator[VolumeFile]:
    for item in source.get("items") or []:
        if "fieldRef" in item:
            text = field(item["fieldRef"]["fieldPath"], pod, sources.node)
        else:
            text = resource_field(item["resourceFieldRef"], pod, pod["spec"]["containers"][0], sources.node)
        yield VolumeFile(_checked(item["path"]), text.encode(), item.get("mode", mode))


def _checked(path: str) -> str:
    clean = posixpath.normpath(path)
    if path.startswith("/") or clean.startswith(".."):
        raise ConfigurationFault(f"volume path {path!r} must be relative and stay inside of the volume")
    return clean
