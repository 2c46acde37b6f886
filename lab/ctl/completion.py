"""What is decided in the moment an object is kept: a service's cluster IPs, a job's selector. Pure but for reading.

Passed to the Registry as its `completion`; nothing may come between reading which addresses are taken and keeping the
service, so this is called without a wait in between.
"""

from lab.api import errors
from lab.api.registry import Registry
from lab.api.resources import Resource
from lab.ctl import addresses
from lab.ctl.job_plan import labelled
from lab.ctl.owners import Object


def complete(registry: Registry, row: Resource, old: Object | None, new: Object) -> Object:
    """The object to keep. Raises ApiError Invalid when a service asks for addresses that it cannot have."""
    if row.key == "jobs" and old is None:
        return labelled(new)
    if row.key != "services":
        return new
    taken = {text for service in registry.list("services") for text in service["spec"].get("clusterIPs") or []}
    result = addresses.allocate(new, taken) if old is None else addresses.keep(old, new, taken)
    if isinstance(result, addresses.Fault):
        cause = errors.cause(result.field, result.message)
        raise errors.invalid(row.kind, row.group, new["metadata"]["name"], [cause])
    return result
