"""What is allowed in a policy and perhaps not meant: told as warnings at admission, never refused. Pure."""

from collections.abc import Iterator
from typing import Any

from contract.kinds.traffic import TrafficPolicy

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, 9.2.2."""


def doubts(policy: TrafficPolicy, obj: Any) -> Iterator[str]:
    """Lines for the writer of a policy that has no fault; `obj` is the object that it was read from."""
    spec, retries = obj["spec"], policy.policy.retries
    twice = [] if retries is None else [method for method in retries.methods if method not in IDEMPOTENT]
    if twice:
        yield f"spec.retries.methods: {', '.join(twice)} may be done twice by a server that answers late or not at all"
    if retries is not None and retries.limit_count == 0:
        yield "spec.retries.limit: 0 means no retries; take retries away to say so"
    if spec.get("retryBudget") and retries is None and policy.policy.hedging is None:
        yield "spec.retryBudget: nothing spends it; write retries or hedging"
    if policy.backend is not None and policy.backend.namespace:
        yield (
            f"spec.mirror.backendRef.namespace: unless it is the policy's own, {policy.backend.namespace} must consent "
            "by a ReferenceGrant; nothing is mirrored before"
        )
    service, endpoint = policy.policy.service_concurrency, policy.policy.endpoint_concurrency
    if service.limit_count and endpoint.limit_count > service.limit_count:
        yield "spec.concurrency.endpoint.limit: never reached, because the limit of the service is lower"
