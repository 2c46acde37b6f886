"""Every field of TrafficPolicy and FaultInjection: the table behind reader, definitions and documentation. Pure.

Bounds are those of the form, defaults are written as users would write them and equal those of contract/policy.py.
The larger parts of TrafficPolicy are in fields_tries.py and fields_load.py.
"""

from typing import Final

from contract.kinds.fields_load import BALANCING, BREAKER, CONCURRENCY, MIRROR, RATE_LIMIT
from contract.kinds.fields_tries import BUDGET, HEDGING, RETRIES, TIMEOUTS
from contract.kinds.forms import (
    HEADER_NAME,
    HEADER_VALUE,
    METHOD,
    PATH,
    PORT_NAME,
    SERVICE_NAME,
    Choice,
    Duration,
    Flag,
    GrpcStatus,
    Integer,
    Percent,
    Quantity,
)
from contract.kinds.sections import Field, Many, Rule, Section

_HOUR_MS: Final = 3_600_000

TARGET_REF: Final = Field(
    "targetRef",
    Section(
        (
            Field("group", Choice(("",)), "API group of the target: the core group.", ""),
            Field("kind", Choice(("Service",)), "Kind of the target.", "Service"),
            Field("name", SERVICE_NAME, "Name of the Service, in the namespace of this object.", is_required=True),
            Field(
                "sectionName",
                PORT_NAME,
                "Name of one port of the Service; absent: all of its ports. What names a port wins over what does not.",
            ),
        )
    ),
    "The Service whose traffic this object concerns, attached as the Gateway API attaches policies.",
    is_required=True,
)

TRAFFIC_POLICY: Final = Section(
    (
        TARGET_REF,
        Field("timeouts", TIMEOUTS, "Limits of time; 504 when one is up.", default_text="none"),
        Field("retries", RETRIES, "Try failed requests again.", default_text="none"),
        Field("retryBudget", BUDGET, "What retries and hedges may cost together.", default_text="as below"),
        Field(
            "hedging",
            HEDGING,
            "Send a second request beside a slow first one; the first answer wins. Idempotent methods only.",
            default_text="none",
        ),
        Field("circuitBreaker", BREAKER, "Leave failing endpoints out of balancing for a while.", default_text="none"),
        Field("concurrency", CONCURRENCY, "Bound the requests in flight.", default_text="no limit"),
        Field(
            "rateLimit",
            RATE_LIMIT,
            "Requests that each server pod takes; more get 429. Enforced by the sidecar of the server.",
            default_text="no limit",
        ),
        Field("mirror", MIRROR, "Copy requests to another Service; its responses are dropped.", default_text="none"),
        Field("loadBalancing", BALANCING, "How endpoints are chosen.", default_text="as below"),
    )
)

_MATCH: Final = Section(
    (
        Field("methods", Many(METHOD, 32), "HTTP methods; one must be the request's.", default_text="all"),
        Field(
            "path",
            Section(
                (
                    Field(
                        "type",
                        Choice(("Exact", "PathPrefix")),
                        "PathPrefix compares whole elements: /a matches /a and /a/b, not /ab.",
                        "PathPrefix",
                    ),
                    Field("value", PATH, "The path, without its query.", "/"),
                )
            ),
            "The request's path.",
            default_text="all",
        ),
        Field(
            "headers",
            Many(
                Section(
                    (
                        Field("name", HEADER_NAME, "Name of the header, in any case.", is_required=True),
                        Field("value", HEADER_VALUE, "Its whole value.", is_required=True),
                    )
                ),
                16,
            ),
            "Headers that must all be there.",
            default_text="all",
        ),
    )
)

FAULT: Final = Section(
    (
        Field("match", _MATCH, "Which requests; absent: all.", default_text="all"),
        Field("percent", Percent(), "Share of the tries of matching requests.", 100),
        Field("delay", Duration(1, _HOUR_MS), "Hold the try for this long first.", default_text="none"),
        Field(
            "abort",
            Section(
                (
                    Field("httpStatus", Integer(200, 599, "HTTP status"), "Answer with this status.", default_text="-"),
                    Field(
                        "grpcStatus",
                        GrpcStatus(),
                        "Answer gRPC requests with this status, in place of `httpStatus`.",
                        default_text="-",
                    ),
                ),
                (Rule("has(self.httpStatus) || has(self.grpcStatus)", "write httpStatus or grpcStatus, or both"),),
            ),
            "Answer in place of the server.",
            default_text="none",
        ),
        Field("reset", Flag(), "Reset the connection (HTTP/2: the stream) in place of an answer.", False),
        Field(
            "truncateAfterBytes",
            Quantity(0, 1 << 40),
            "Break off after so many bytes of the response's body.",
            default_text="none",
        ),
        Field(
            "bandwidthBytesPerSecond",
            Quantity(1, 1 << 40, "bytes per second"),
            "Let the response's body through at this rate.",
            default_text="none",
        ),
    ),
    (
        Rule(
            "has(self.delay) || has(self.abort) || (has(self.reset) && self.reset) || has(self.truncateAfterBytes)"
            " || has(self.bandwidthBytesPerSecond)",
            "write what goes wrong: delay, abort, reset, truncateAfterBytes or bandwidthBytesPerSecond",
        ),
        Rule(
            "[has(self.abort), has(self.reset) && self.reset, has(self.truncateAfterBytes)].filter(x, x).size() <= 1",
            "write one of abort, reset and truncateAfterBytes: a request ends once",
        ),
    ),
)

FAULT_INJECTION: Final = Section(
    (
        TARGET_REF,
        Field(
            "faults",
            Many(FAULT, 16, 1),
            "Tried in order; the first that matches and whose percentage says so happens.",
            is_required=True,
        ),
    )
)
