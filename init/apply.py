"""Bring a plan into the kernel, prove that it is there, or leave nothing. Edge."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from init.errors import BackendError
from init.rules import FAMILIES, Family, Rule


class Backend(Protocol):
    """One way to program the kernel's NAT: `init.legacy` or `init.nft`. Every method raises BackendError."""

    @property
    def name(self) -> str: ...

    def probe(self, family: Family) -> None: ...

    def apply(self, rules: Iterable[Rule], families: Iterable[Family]) -> None: ...

    def clear(self, families: Iterable[Family] = FAMILIES) -> None: ...

    def read(self, family: Family) -> list[str]: ...

    def expected(self, rules: Iterable[Rule], family: Family) -> list[str]: ...


def choose(backends: Sequence[Backend], families: Iterable[Family]) -> tuple[Backend, tuple[str, ...]]:
    """Find the first backend that really adds and deletes rules for every family.

    Returns it and why the ones before it were not taken. Raises BackendError with all reasons when none works.
    """
    wanted = tuple(families)
    refusals: list[str] = []
    for backend in backends:
        try:
            for family in wanted:
                backend.probe(family)
        except BackendError as error:
            refusals.append(f"{backend.name}: {error}")
        else:
            return backend, tuple(refusals)
    raise BackendError("no backend can add rules: " + " | ".join(refusals))


def capture(
    backend: Backend, rules: Sequence[Rule], families: Sequence[Family], others: Sequence[Backend] = ()
) -> None:
    """Apply the plan and verify it; on any failure remove all of it, of every family. Raises BackendError.

    `others` are the backends that an earlier run may have used: what it left there goes first.
    """
    try:
        for other in others:
            other.clear()
        # Of a family that is not captured, rules of an earlier run must not stay.
        backend.clear([family for family in FAMILIES if family not in families])
        backend.apply(rules, families)
        for family in families:
            verify(backend, rules, family)
    except BackendError as error:
        raise BackendError(f"{error}; {_roll_back(backend)}") from error


def verify(backend: Backend, rules: Sequence[Rule], family: Family) -> None:
    """Read the kernel's rules back and compare them with the plan. Raises BackendError naming the first difference."""
    expected, actual = backend.expected(rules, family), backend.read(family)
    if expected == actual:
        return
    for number, (wanted, found) in enumerate(zip(expected, actual, strict=False), 1):
        if wanted != found:
            message = f"rule {number} of IPv{family} reads back as {found.strip()!r} instead of {wanted.strip()!r}"
            raise BackendError(message)
    raise BackendError(f"IPv{family} reads back as {len(actual)} lines instead of {len(expected)}")


def _roll_back(backend: Backend) -> str:
    failures: list[str] = []
    for family in FAMILIES:
        try:
            backend.clear([family])
        except BackendError as error:
            failures.append(str(error))
    return f"and they could not all be removed: {'; '.join(failures)}" if failures else "all rules were removed again"
