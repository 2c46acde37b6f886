"""Fields of TrafficPolicy about the tries of one request: timeouts, retries, their budget, hedging. Pure."""

from typing import Final

from contract.kinds.forms import METHOD, Duration, Flag, GrpcStatus, Integer, Number, Percent, Quantity, Statuses
from contract.kinds.sections import Field, Many, Rule, Section

METHODS: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS


def _not_more(name: str) -> str:
    limits = f"has(self.{name}) && has(self.request) && duration(self.request) > duration('0s')"
    return f"!({limits}) || duration(self.{name}) <= duration(self.request)"


TIMEOUTS: Final = Section(
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
    ),
    (
        Rule(_not_more("perTry"), "perTry is more than request"),
        Rule(_not_more("response"), "response is more than request"),
    ),
)

RETRIES: Final = Section(
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

BUDGET: Final = Section(
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

HEDGING: Final = Section(
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
