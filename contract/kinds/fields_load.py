"""Fields of TrafficPolicy about load and where it goes: ejection, limits, mirroring, balancing. Pure."""

from typing import Final

from contract.kinds.forms import (
    COOKIE_NAME,
    HEADER_NAME,
    NAMESPACE_NAME,
    PATH,
    SERVICE_NAME,
    Choice,
    Duration,
    Flag,
    Integer,
    Number,
    Percent,
)
from contract.kinds.sections import Field, Many, Rule, Section
from contract.policy import Algorithm

ALGORITHMS: Final[dict[str, Algorithm]] = {
    "PeakEWMA": "peak-ewma",
    "LeastRequest": "least-request",
    "RoundRobin": "round-robin",
    "RingHash": "ring-hash",
}
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS

BREAKER: Final = Section(
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


CONCURRENCY: Final = Section(
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


RATE_LIMIT: Final = Section(
    (
        _rate("service", "From all clients together."),
        _rate("client", "From each client: its service account, or its address where that is no pod's."),
    ),
    (Rule("has(self.service) || has(self.client)", "write service or client, or both"),),
)

MIRROR: Final = Section(
    (
        Field(
            "backendRef",
            Section(
                (
                    Field("group", Choice(("",)), "API group: the core group.", ""),
                    Field("kind", Choice(("Service",)), "Kind of the backend.", "Service"),
                    Field("name", SERVICE_NAME, "Name of the Service that gets the copies.", is_required=True),
                    Field(
                        "namespace",
                        NAMESPACE_NAME,
                        "Namespace of the Service. Another one must consent by a ReferenceGrant of the Gateway API.",
                        default_text="that of this object",
                    ),
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

BALANCING: Final = Section(
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
                        Duration(1000, 8760 * _HOUR_MS),
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
    ),
    (
        Rule(
            "(has(self.algorithm) && self.algorithm == 'RingHash') == has(self.hashOn)",
            "RingHash needs hashOn, and other algorithms take none",
        ),
    ),
)
