"""Every field of TrafficPolicy and FaultInjection: the one table behind reader, definitions and documentation. Pure.

Bounds are those of the form, defaults are written as users would write them and equal those of contract/policy.py.
"""

from typing import Final

from contract.kinds.forms import (
    COOKIE_NAME,
    HEADER_NAME,
    HEADER_VALUE,
    METHOD,
    NAMESPACE_NAME,
    PATH,
    PORT_NAME,
    SERVICE_NAME,
    Choice,
    Duration,
    Flag,
    GrpcStatus,
    Integer,
    Number,
    Percent,
    Quantity,
    Statuses,
)
from contract.kinds.sections import Field, Many, Rule, Section
from contract.policy import Algorithm

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS

METHODS: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
ALGORITHMS: Final[dict[str, Algorithm]] = {
    "PeakEWMA": "peak-ewma",
    "LeastRequest": "least-request",
    "RoundRobin": "round-robin",
    "RingHash": "ring-hash",
}

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

_TIMEOUTS: Final = Section(
    (
        Field(
            "request",
            Duration(),
            "From the request's head to the end of the response, all tries included. 0s: no limit.",
            default_text="no limit",
        ),
        Field(
            "perTry",
            Duration(),
            "From the start of one try to the head of its response; not more than `request`. 0s: no limit.",
            default_text="no limit",
        ),
        Field(
            "response",
            Duration(),
            "From the end of the request to the end of the response; not more than `request`. 0s: no limit.",
            default_text="no limit",
        ),
        Field(
            "idle",
            Duration(),
            "Silence of both sides within an exchange. 0s: the sidecar's own setting.",
            default_text="the sidecar's own setting",
        ),
    )
)

_RETRIES: Final = Section(
    (
        Field("limit", Integer(0, 10, "tries"), "Most tries after the first.", 1),
        Field(
            "retryOn",  # not `on`, which YAML 1.1 reads as true
            Section(
                (
                    Field(
                        "statusCodes",
                        Many(Statuses(), 32),
                        'HTTP statuses to try again after: 503, "502-504" or 5xx.',
                        default_text="none",
                    ),
                    Field(
                        "grpcStatuses",
                        Many(GrpcStatus(), 16),
                        "gRPC statuses to try again after; gRPC is judged by these alone, whatever `methods` says.",
                        default_text="none",
                    ),
                    Field(
                        "connectFailure",
                        Flag(),
                        "Try again when no byte of the request was read: no connection, GOAWAY, REFUSED_STREAM. Safe "
                        "for any method.",
                        True,
                    ),
                    Field(
                        "reset",
                        Flag(),
                        "Try again when the server reset or closed before its response began, or the time of the try "
                        "was up: the server may have done the work.",
                        False,
                    ),
                )
            ),
            "After what to try again.",
            {},
        ),
        Field(
            "methods",
            Many(METHOD, 32, 1),
            "HTTP methods that are tried again after statuses and resets.",
            list(METHODS),
        ),
        Field(
            "backoff",
            Section(
                (
                    Field("min", Duration(1, _MINUTE_MS), "Longest pause before the first further try.", "25ms"),
                    Field(
                        "max",
                        Duration(1, _HOUR_MS),
                        "Longest pause before any try; not less than `min`.",
                        default_text="10 times `min`",
                    ),
                )
            ),
            "Pause before a further try: drawn from 0 to `min`, doubled with each try up to `max`.",
            {},
        ),
        Field(
            "bodyLimit",
            Quantity(0, 1 << 20),
            "Largest body of a request that is kept for another try; larger ones are tried once.",
            "64Ki",
        ),
    )
)

_BUDGET: Final = Section(
    (
        Field("percent", Percent(), "Retries and hedges, as a share of the requests of the window.", 20),
        Field(
            "minPerSecond",
            Number(0, 100_000, "requests per second"),
            "Retries and hedges allowed whatever the share, so that a quiet service can retry at all.",
            10,
        ),
        Field("window", Duration(1000, 5 * _MINUTE_MS), "Time over which requests are counted.", "10s"),
    )
)

_HEDGING: Final = Section(
    (
        Field("delay", Duration(1), "Time without a response after which a second request is sent.", default_text="-"),
        Field(
            "percentile",
            Number(1, 99.99, "percent"),
            "In place of `delay`: this percentile of the service's latest latencies.",
            default_text="-",
        ),
        Field("limit", Integer(1, 5, "requests"), "Most further requests beside the first.", 1),
    ),
    (Rule("has(self.delay) != has(self.percentile)", "write either delay or percentile"),),
)

_BREAKER: Final = Section(
    (
        Field(
            "consecutiveFailures",
            Integer(1, 1000, "failures"),
            "Failures in a row after which an endpoint is ejected: a 5xx, no response, or a gRPC status that is the "
            "server's fault.",
            default_text="not judged by it",
        ),
        Field(
            "successRate",
            Section(
                (
                    Field("percent", Percent(1), "Eject an endpoint with fewer successes.", is_required=True),
                    Field("window", Duration(1000, 10 * _MINUTE_MS), "Time over which responses are counted.", "10s"),
                    Field(
                        "minRequests",
                        Integer(1, 100_000, "responses"),
                        "Responses in the window before the rate says anything.",
                        20,
                    ),
                )
            ),
            "Judge endpoints by their share of successes too.",
            default_text="not judged by it",
        ),
        Field(
            "ejection",
            Section(
                (
                    Field("min", Duration(1, _HOUR_MS), "First ejection; doubled with each one in a row.", "1s"),
                    Field(
                        "max",
                        Duration(1, 24 * _HOUR_MS),
                        "Longest ejection; not less than `min`.",
                        default_text="60s, or `min` when that is more",
                    ),
                    Field(
                        "maxPercent",
                        Percent(),
                        "Endpoints of the service that may be ejected at once; one always may.",
                        50,
                    ),
                )
            ),
            "How long and how many; after it an endpoint is tried with single requests.",
            {},
        ),
    ),
    (
        Rule(
            "has(self.consecutiveFailures) || has(self.successRate)",
            "write consecutiveFailures or successRate, or both: an endpoint is judged by nothing yet",
        ),
    ),
)


def _bounded(name: str, text: str) -> Field:
    limits = Section(
        (
            Field("limit", Integer(1, 1_000_000, "requests"), "Most requests in flight.", is_required=True),
            Field("queue", Integer(0, 1_000_000, "requests"), "Requests that wait for a place; more get 503.", 0),
            Field("queueTimeout", Duration(1, _HOUR_MS), "Longest wait in the queue; then 503.", "1s"),
        )
    )
    return Field(name, limits, text, default_text="no limit")


_CONCURRENCY: Final = Section(
    (
        _bounded("service", "From one client pod to the whole service."),
        _bounded("endpoint", "From one client pod to one endpoint."),
    )
)


def _rate(name: str, text: str) -> Field:
    bucket = Section(
        (
            Field(
                "requestsPerSecond",
                Number(0.001, 1_000_000, "requests per second"),
                "Sustained rate.",
                is_required=True,
            ),
            Field(
                "burst",
                Integer(1, 1_000_000, "requests"),
                "Requests taken at once after a quiet time.",
                default_text="`requestsPerSecond`, rounded up",
            ),
        )
    )
    return Field(name, bucket, text, default_text="no limit")


_RATE_LIMIT: Final = Section(
    (
        _rate("service", "From all clients together."),
        _rate("client", "From each client: its identity, or its address when it has none."),
    )
)

_MIRROR: Final = Section(
    (
        Field(
            "backendRef",
            Section(
                (
                    Field("group", Choice(("",)), "API group: the core group.", ""),
                    Field("kind", Choice(("Service",)), "Kind of the backend.", "Service"),
                    Field("name", SERVICE_NAME, "Name of the Service that gets the copies.", is_required=True),
                    Field("namespace", NAMESPACE_NAME, "Namespace of the Service.", default_text="that of this object"),
                    Field("port", Integer(1, 65535, "port"), "Port of the Service.", is_required=True),
                )
            ),
            "The Service that gets the copies.",
            is_required=True,
        ),
        Field("percent", Percent(), "Requests that are copied.", 100),
        Field(
            "compare",
            Flag(),
            "Compare status, headers and a digest of the body of both responses, and report differences.",
            True,
        ),
        Field(
            "ignoreHeaders",
            Many(HEADER_NAME, 64),
            "Headers that may differ.",
            ["date", "x-request-id"],
        ),
    )
)

_BALANCING: Final = Section(
    (
        Field("algorithm", Choice(tuple(ALGORITHMS)), "How the next endpoint is chosen.", "PeakEWMA"),
        Field(
            "hashOn",
            Section(
                (
                    Field("header", HEADER_NAME, "Hash the value of this header.", default_text="-"),
                    Field("cookie", COOKIE_NAME, "Hash the value of this cookie.", default_text="-"),
                    Field("sourceIP", Flag(), "Hash the client's address: write true.", default_text="-"),
                ),
                (
                    Rule(
                        "[has(self.header), has(self.cookie), has(self.sourceIP)].filter(x, x).size() == 1",
                        "write exactly one of header, cookie and sourceIP",
                    ),
                ),
            ),
            "What RingHash hashes; for that algorithm alone.",
            default_text="-",
        ),
        Field(
            "affinity",
            Section(
                (
                    Field("cookie", COOKIE_NAME, "Name of the cookie that the sidecar sets.", is_required=True),
                    Field(
                        "ttl",
                        Duration(1000, 99_999 * _HOUR_MS),
                        "Life of the cookie.",
                        default_text="the browser's session",
                    ),
                    Field("path", PATH, "Path of the cookie.", "/"),
                )
            ),
            "A cookie that names the endpoint that answered first, followed while that endpoint is ready.",
            default_text="none",
        ),
        Field(
            "slowStart",
            Duration(0, _HOUR_MS),
            "Time over which the share of a new endpoint grows to its full size. 0s: at once.",
            "0s",
        ),
        Field(
            "preferZone",
            Flag(),
            "Prefer the endpoints that Kubernetes hints for the client's zone while one of them is usable.",
            True,
        ),
    )
)

TRAFFIC_POLICY: Final = Section(
    (
        TARGET_REF,
        Field("timeouts", _TIMEOUTS, "Limits of time; 504 when one is up.", default_text="none"),
        Field("retries", _RETRIES, "Try failed requests again.", default_text="none"),
        Field("retryBudget", _BUDGET, "What retries and hedges may cost together.", default_text="as below"),
        Field(
            "hedging",
            _HEDGING,
            "Send a second request beside a slow first one; the first answer wins. Idempotent methods only.",
            default_text="none",
        ),
        Field("circuitBreaker", _BREAKER, "Leave failing endpoints out of balancing for a while.", default_text="none"),
        Field("concurrency", _CONCURRENCY, "Bound the requests in flight.", default_text="no limit"),
        Field(
            "rateLimit",
            _RATE_LIMIT,
            "Requests that each server pod takes; more get 429. Enforced by the sidecar of the server.",
            default_text="no limit",
        ),
        Field("mirror", _MIRROR, "Copy requests to another Service; its responses are dropped.", default_text="none"),
        Field("loadBalancing", _BALANCING, "How endpoints are chosen.", default_text="as below"),
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
        Field("percent", Percent(), "Share of the matching requests.", 100),
        Field("delay", Duration(1, _HOUR_MS), "Hold the request for this long first.", default_text="none"),
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
