"""The kinds of `policy.tulle.mesh`: what users write, read into what the wire carries. Pure.

TrafficPolicy and FaultInjection are attached to a Service by `spec.targetRef`. One reader serves the webhook, which
refuses what has a fault, and the controller, which puts in force what has none, so the two never disagree:
`read_traffic_policy` (contract.kinds.traffic) and `read_fault_injection` (contract.kinds.injection) give the wire types
of contract/policy.py or raise `Faulty` with every fault at once. The same table of fields (contract.kinds.fields)
makes the definitions that the chart installs (contract.kinds.schema) and the reference in docs/policy.md.

The sidecar imports none of this.
"""

from typing import Final

GROUP: Final = "policy.tulle.mesh"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

TRAFFIC_POLICY: Final = "TrafficPolicy"
TRAFFIC_POLICIES: Final = "trafficpolicies"
FAULT_INJECTION: Final = "FaultInjection"
FAULT_INJECTIONS: Final = "faultinjections"

CONTROLLER_NAME: Final = "policy.tulle.mesh/controller"
"""Who writes the status."""

# Types of conditions, and the reasons that they can have (the Gateway API's words).
ACCEPTED: Final = "Accepted"
RESOLVED_REFS: Final = "ResolvedRefs"
INVALID: Final = "Invalid"
TARGET_NOT_FOUND: Final = "TargetNotFound"
CONFLICTED: Final = "Conflicted"
BACKEND_NOT_FOUND: Final = "BackendNotFound"
REF_NOT_PERMITTED: Final = "RefNotPermitted"
"""A Service of another namespace that does not consent (the Gateway API's word)."""

WEIGHT_LOW: Final = 1
WEIGHT_HIGH: Final = 1000


def parse_weight(text: str) -> int:
    """Read the pod annotation `config.tulle.mesh/weight`. Raises ValueError with the fix."""
    stripped = text.strip()
    is_number = stripped.isascii() and stripped.isdigit() and len(stripped) <= 9
    if not is_number or not WEIGHT_LOW <= int(stripped) <= WEIGHT_HIGH:
        raise ValueError(f"{text[:60]!r} is no weight; write a whole number from {WEIGHT_LOW} to {WEIGHT_HIGH}")
    return int(stripped)
