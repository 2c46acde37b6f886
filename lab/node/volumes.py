"""A pod's volumes on disk, and their renewal: objects that changed, tokens that grow old. Edge."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from . import quantity, volume_files
from .endpoints import Object
from .environment import Sources
from .volume_content import files

DEFAULT_TOKEN_S = 3600
_RENEWED_AT_RATIO = 0.8  # of a token's life, as a kubelet renews it

Mint = Callable[[Object, str, int], str]
"""(pod, audience or "", life in seconds) -> a service-account token bound to the pod."""


@dataclass
class _Token:
    text: str
    renew_at_s: float


@dataclass
class Volumes:
    """The volumes of one pod, below `folder`."""

    folder: str
    mint: Mint
    now: Callable[[], datetime]
    _tokens: dict[tuple[str, int], _Token] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)

    def apply(self, pod: Object, sources: Sources) -> dict[str, tuple[str, bool]]:
        """Make or renew every volume. Returns by name (folder, is read-only by nature). ConfigurationFault, OSError."""
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        places = {}
        for volume in pod["spec"].get("volumes") or []:
            place = os.path.join(self.folder, volume["name"])
            is_empty = "emptyDir" in volume or set(volume) == {"name"}
            if is_empty:
                self._make_empty(place, volume.get("emptyDir") or {}, group)
            else:
                shown = files(volume, pod, sources, lambda source: self._token(pod, source))
                volume_files.write_files(place, shown, group)
            places[volume["name"]] = (place, not is_empty)
        return places

    def _make_empty(self, place: str, source: Object, group: int | None) -> None:
        if place in self._made:
            return
        size = quantity.parse(source["sizeLimit"]) if source.get("sizeLimit") else None
        volume_files.make_empty(
            place,
            size_bytes=int(size) if size is not None else None,
            in_memory=source.get("medium") == "Memory",
            group=group,
        )
        self._made.add(place)

    def _token(self, pod: Object, source: Object) -> str:
        audience, life_s = source.get("audience", ""), source.get("expirationSeconds") or DEFAULT_TOKEN_S
        now_s = self.now().timestamp()
        kept = self._tokens.get((audience, life_s))
        if kept is None or now_s >= kept.renew_at_s:
            kept = _Token(self.mint(pod, audience, life_s), now_s + life_s * _RENEWED_AT_RATIO)
            self._tokens[audience, life_s] = kept
        return kept.text
