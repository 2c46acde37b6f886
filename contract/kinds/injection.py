"""FaultInjection: from the object as users write it to the faults that sidecars inject. Pure."""

from typing import Any, NamedTuple

from contract.kinds.fields import FAULT_INJECTION
from contract.kinds.reading import Faulty, Target, compact, read_spec, target_of
from contract.kinds.sections import Faults, Found
from contract.policy import Fault, Match

_ENDS = ("abort", "reset", "truncateAfterBytes")
_BODY = "bandwidthBytesPerSecond"


class FaultInjection(NamedTuple):
    """A FaultInjection without a fault of its own."""

    target: Target
    faults: tuple[Fault, ...]
    """Without names."""


def read_fault_injection(obj: Any) -> FaultInjection:
    """Read a FaultInjection object. Raises Faulty with every fault."""
    faults = Faults()
    spec = read_spec(FAULT_INJECTION, obj, faults)
    for index, one in enumerate(spec["faults"] or ()):
        _check(one, f"spec.faults[{index}]", faults)
    if faults.found:
        raise Faulty(faults.found)
    return FaultInjection(target_of(spec), tuple(compact(_fault(one)) for one in spec["faults"]))


def _check(found: Found, path: str, faults: Faults) -> None:
    chosen = [name for name in ("delay", *_ENDS, _BODY) if _says(found, name)]
    ends = [name for name in chosen if name in _ENDS]
    has_faults = faults.are_under(path)
    if not chosen and not has_faults:
        faults.add(path, f"does nothing; write delay, {', '.join(_ENDS)} or {_BODY}")
    if len(ends) > 1:
        faults.add(path, f"has {' and '.join(ends)}, and a request ends once; write one of them")
    elif _BODY in chosen and ends and ends[0] != "truncateAfterBytes":
        faults.add(f"{path}.{_BODY}", f"slows a body that {ends[0]} leaves no room for; take one of them away")
    abort = found["abort"]
    if abort is not None and abort["httpStatus"] is None and abort["grpcStatus"] is None and not has_faults:
        faults.add(f"{path}.abort", "says not how; write httpStatus or grpcStatus, or both")


def _says(found: Found, name: str) -> bool:
    value = found[name]
    return value is not None and value is not False


def _fault(found: Found) -> Fault:
    abort = found["abort"] or {}
    truncate_bytes, grpc_status = found["truncateAfterBytes"], abort.get("grpcStatus")
    return Fault(
        match=_match(found["match"] or {}),
        ratio=found["percent"],
        delay_s=found["delay"] or 0.0,
        abort_status=abort.get("httpStatus") or 0,
        abort_grpc_status=-1 if grpc_status is None else grpc_status,
        is_reset=bool(found["reset"]),
        truncate_bytes=-1 if truncate_bytes is None else truncate_bytes,
        bandwidth_bytes_per_s=float(found[_BODY] or 0),
    )


def _match(found: Found) -> Match:
    path = found.get("path") or {}
    value, is_exact = path.get("value") or "", path.get("type") == "Exact"
    headers = tuple((header["name"], header["value"]) for header in found.get("headers") or ())
    return Match(
        methods=tuple(dict.fromkeys(found.get("methods") or ())),
        path=value if is_exact else "",
        path_prefix="" if is_exact else value,
        headers=headers,
    )
