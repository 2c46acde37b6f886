"""What an original destination means: the endpoints that may take a request. Pure."""

from collections.abc import Sequence
from typing import Literal, TypeVar

E = TypeVar("E")

Kind = Literal["service", "pod", "unknown"]


def match(kind: Kind, known: Sequence[E], direct: Sequence[E]) -> Sequence[E]:  # stop 5
    """Choose between the endpoints that discovery knows and the original address itself.

    Args:
        kind: what the destination is; `unknown` also stands for one that discovery has not answered.
        known: the endpoints of the last snapshot.
        direct: the original address as the only endpoint.

    Returns:
        Endpoints to pick from; empty only for a service that has none ready. Everything that is not a service of
        the cluster passes through to where its client sent it.
    """
    if kind == "service" or (kind == "pod" and known):
        return known
    return direct
