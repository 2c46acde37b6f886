"""How the outcomes that clients tell and the counters of the sidecars go together. Pure.

In rounds without clients that go away everything is exact:
- each connection that a client opened is in `tcp_open_total` of its sidecar, once;
- each request whose head was sent whole is in `request_total`, and one response in `response_total` and
  `response_latency_ms` is its end: by the status (for gRPC by the status of gRPC) that the client read, whether the
  server's own or the sidecar's in its stead;
- the latter is in `outbound_http_errors_total` too, under the reason that the answer names;
- a response that broke off counts by its status and under `response-cut`. A reset tells the client, which may overtake
  the head, and then the client never sees that: `unanswered`, whatever status. To gRPC trailers tell it, with a status;
- a stream that the server reset before its response (`unanswered` too) counts as 502 (for gRPC: UNAVAILABLE), and
  under `stream-reset`. So status for status the sidecar has what the client has, and the rest is what was unanswered
  or cut, to the last one;
- the real gRPC library makes up a status for a call that broke off: the client counts those alone that somebody told.

A client that goes away cannot know whether its request was sent on, nor how much of the answer was. Of such a client
- its request counts once or not at all, its response only if its request does;
- a request without a response is under `client-closed`;
- each going is in `outbound_http_errors_total` at most once, and exactly once if it ended its direction within the
  head or the body, since no answer can have come before. A call of gRPC goes by cancellation or by its deadline, which
  the sidecar keeps too: its `request-timeout` is one of these.
For those that stay beside it all else remains exact, but for what the errors' one counter for all adds up.
"""

from collections import Counter
from dataclasses import dataclass

PLAIN, STREAMS, GRPC, CALLS = 8081, 8085, 8086, 8087
LEFT, LEFT_CALLS, RELAYED, OPAQUE = 8082, 8088, 8083, 8084


@dataclass
class Reading:
    """A sidecar's metrics at one moment, or what was counted between two."""

    samples: list[tuple[str, dict[str, str], float]]

    def sum(self, name: str, **labels: object) -> int:
        wanted = {(key, str(value)) for key, value in labels.items()}
        return int(sum(value for found, pairs, value in self.samples if found == name and wanted <= set(pairs.items())))

    def by(self, name: str, label: str, **labels: object) -> dict[str, int]:
        wanted = {(key, str(value)) for key, value in labels.items()}
        found: Counter[str] = Counter()
        for sample, pairs, value in self.samples:
            if sample == name and wanted <= set(pairs.items()):
                found[pairs.get(label, "")] += int(value)
        return {key: value for key, value in found.items() if value}

    def since(self, before: "Reading") -> "Reading":
        """What was counted since then."""
        then = {(name, *sorted(pairs.items())): value for name, pairs, value in before.samples}
        return Reading([(n, p, value - then.get((n, *sorted(p.items())), 0)) for n, p, value in self.samples])


def told_by(told: Counter[str], what: str, port: int) -> dict[str, int]:
    """Give what clients told of a port, by the word between: heads:200:8081."""
    words = (key.rsplit(":", 2) for key in told if key.count(":") == 2)
    return {word: told[f"{kind}:{word}:{at}"] for kind, word, at in words if (kind, at) == (what, str(port))}


def surplus(counted: dict[str, int], told: dict[str, int]) -> dict[str, int]:
    """Give what was counted beyond what was told."""
    found = {key: counted.get(key, 0) - told.get(key, 0) for key in counted | told}
    return {key: number for key, number in found.items() if number}


def check_connections(told: Counter[str], counted: Reading) -> None:
    for port in (PLAIN, LEFT, RELAYED, OPAQUE, STREAMS, GRPC, CALLS, LEFT_CALLS):
        opened = counted.sum("tcp_open_total", target_port=port, peer="src")
        assert opened == told[f"connected:{port}"], port
        assert opened == counted.sum("tcp_close_total", target_port=port, peer="src"), port


def check_requests(told: Counter[str], counted: Reading) -> Counter[str]:
    """Check the requests of those who stay; give how often each error must be counted for them."""
    errors: Counter[str] = Counter()
    for port in (PLAIN, STREAMS, GRPC, CALLS):
        sent, unanswered, cut = (told[f"{what}:{port}"] for what in ("sent", "unanswered", "cut"))
        assert sent == counted.sum("request_total", target_port=port), port
        assert sent == counted.sum("response_total", target_port=port), port
        assert sent == counted.sum("response_latency_ms_count", target_port=port), port
        if port in (GRPC, CALLS):
            answers = told_by(told, "grpc", port)
            assert sent == sum(answers.values()) + unanswered + cut, port
            extra = surplus(counted.by("response_total", "grpc_status", target_port=port), answers)
            resets, cuts = extra.pop("14", 0), extra.pop("", 0)
            assert resets + cuts == unanswered + cut, port
            assert cuts >= cut, port
            assert not extra, port
        else:
            answers = told_by(told, "heads", port)
            assert sent == sum(answers.values()) + unanswered, port
            extra = surplus(counted.by("response_total", "status_code", target_port=port), answers)
            assert sum(extra.values()) == unanswered, port
            resets = extra.pop("502", 0) if port == STREAMS else 0
            cuts = cut + unanswered - resets
        assert min(resets, cuts, *extra.values()) >= 0, (port, extra)
        errors["stream-reset"] += resets
        errors["response-cut"] += cuts
        errors.update(told_by(told, "errors", port))
        assert told[f"goaway:{port}"] == 0
    return errors


def surplus_errors(told: Counter[str], counted: Reading) -> dict[str, int]:
    """Give the errors that were counted beyond those of the clients that stay."""
    errors = check_requests(told, counted)
    # The other sidecar's 502 may break off too, and its head be overtaken: then it was no reset, but a cut.
    cuts = errors["stream-reset"] - counted.sum("outbound_http_errors_total", error="stream-reset")
    assert 0 <= cuts <= told[f"unanswered:{STREAMS}"]
    errors["stream-reset"] -= cuts
    errors["response-cut"] += cuts
    return surplus(counted.by("outbound_http_errors_total", "error"), errors)


def check_staying(told: Counter[str], counted: Reading) -> None:
    extra = surplus_errors(told, counted)
    assert extra == {}, extra


def check_leaving(told: Counter[str], counted: Reading) -> None:
    extra = surplus_errors(told, counted)
    goings = {key: number for key, number in told.items() if key.startswith("left-")}
    surely = told[f"left-head-end:{LEFT}"] + told[f"left-body-end:{LEFT}"]
    maybe = sum(goings.values()) - told[f"left-head-reset:{LEFT}"]

    assert all(number > 0 for number in extra.values()), extra
    assert surely <= sum(extra.values()) <= maybe, (extra, goings)
    unanswered = 0
    for port in (LEFT, LEFT_CALLS):
        begun, answered = (counted.sum(name, target_port=port) for name in ("request_total", "response_total"))
        assert told[f"seen:{port}"] <= answered <= begun <= told[f"sent:{port}"], port
        assert answered == counted.sum("response_latency_ms_count", target_port=port), port
        unanswered += begun - answered
    assert unanswered <= extra.get("client-closed", 0)


def check_relays(told: Counter[str], counted: Reading) -> None:
    def moved(way: str, port: int, peer: str) -> int:
        return counted.sum(f"tcp_{way}_bytes_total", target_port=port, peer=peer)

    for port in (RELAYED, OPAQUE, CALLS, LEFT_CALLS):
        assert told[f"spoiled:{port}"] == 0, port
    for port in (RELAYED, OPAQUE):
        assert moved("write", port, "dst") <= moved("read", port, "src"), port
        assert told[f"bytes-received:{port}"] <= moved("write", port, "src") <= moved("read", port, "dst"), port
    assert told[f"bytes-sent:{RELAYED}"] == moved("read", RELAYED, "src") == moved("write", RELAYED, "dst")
    assert told[f"bytes-received:{RELAYED}"] == moved("write", RELAYED, "src") == moved("read", RELAYED, "dst")


def check_inbound(counted: Reading) -> None:
    """Clients of the inbound sidecar are reset by the wire: what has no response is under `client-closed`."""
    requests, responses = counted.sum("request_total"), counted.sum("response_total")

    assert responses == counted.sum("response_latency_ms_count")
    assert responses <= requests <= responses + counted.sum("inbound_http_errors_total", error="client-closed")


def check_heard(heard: Counter[str], told: Counter[str], outbound: Reading, inbound: Reading) -> None:
    """No request reaches a server unless a client sent it; twice only if counted as a retry, and a POST never."""
    retries = [side.sum("outbound_retry_total") for side in (outbound, inbound)]
    sent = sum(told[f"sent:{port}"] for port in (PLAIN, LEFT, STREAMS, GRPC, CALLS, LEFT_CALLS))

    assert heard["repeated"] == 0
    assert heard["heard"] <= inbound.sum("request_total") + retries[1]
    assert inbound.sum("request_total") <= outbound.sum("request_total") + retries[0]
    assert outbound.sum("request_total") <= sent
