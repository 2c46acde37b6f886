"""What a stat request asks for, and what it cannot ask."""

import pytest

from controller.problems import Refusal
from controller.query import Peer, Query, parse_kind, parse_query, parse_window


@pytest.mark.parametrize(
    ("text", "kind"),
    [("deployments", "deployment"), ("deploy", "deployment"), ("Deployment", "deployment"), ("po", "pod"),
     ("svc", "service"), ("sts", "statefulset"), ("ds", "daemonset"), ("jobs", "job"), ("ns", "namespace")],
)  # fmt: skip
def test_kinds_have_plural_singular_and_short_names(text: str, kind: str):
    assert parse_kind(text) == kind


@pytest.mark.parametrize("text", ["replicasets", "deployment.apps", "", "x" * 5000])
def test_unknown_kind_is_not_found_and_the_known_are_told(text: str):
    with pytest.raises(Refusal, match="Resources with traffic are deployments, pods") as caught:
        parse_kind(text)
    assert caught.value.status == 404
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("text", "window_s"), [("10s", 10), ("1m", 60), ("90s", 90), ("1m30s", 90), ("1h", 3600), ("0h5m0s", 300)]
)
def test_windows_are_durations(text: str, window_s: float):
    assert parse_window(text) == window_s


@pytest.mark.parametrize(
    "text",
    ["0s", "9s", "61m", "1h1s", "", "60", "1d", "-1m", "1.5m", "m", "1m ", "1s1m", "٣٠s", "9" * 5000 + "s", "null"],
)
def test_windows_out_of_range_or_nonsense_name_the_field_its_range_and_an_example(text: str):
    with pytest.raises(Refusal, match=r"window: .* is no duration from 10s to 1h; write for example 30s") as caught:
        parse_window(text)
    assert caught.value.status == 422
    assert caught.value.errors[0].field == "window"


def query(kind: str = "deploy", namespace: str | None = "shop", **parameters: str) -> Query:
    given = {("from" if name == "source" else name): [value] for name, value in parameters.items()}
    return parse_query(kind, namespace, None, given)


def test_default_window_is_a_minute_without_a_peer():
    assert query() == Query("deployment", "shop", None, 60.0, None)


@pytest.mark.parametrize(
    ("parameters", "peer"),
    [
        ({"to": "svc/catalog"}, Peer("to", "service", "catalog", "shop")),
        ({"to": "svc/catalog", "to_namespace": "other"}, Peer("to", "service", "catalog", "other")),
        ({"source": "deploy/web"}, Peer("from", "deployment", "web", "shop")),
        ({"source": "ns/other"}, Peer("from", "namespace", "other", None)),
        ({"to_namespace": "other"}, Peer("to", "namespace", "other", None)),
        ({"from_namespace": "other"}, Peer("from", "namespace", "other", None)),
    ],
)
def test_peers_are_named_by_resource_and_name(parameters: dict[str, str], peer: Peer):
    assert query(**parameters).peer == peer


def test_peer_of_a_question_over_all_namespaces_may_be_in_any():
    assert query(namespace=None, to="svc/catalog").peer == Peer("to", "service", "catalog", None)


@pytest.mark.parametrize(
    ("parameters", "field", "words"),
    [
        ({"to": "catalog"}, "to", "RESOURCE/NAME; write for example deployments/web"),
        ({"to": "svc/"}, "to", "RESOURCE/NAME"),
        ({"to": "svc/a/b"}, "to", "RESOURCE/NAME"),
        ({"to": "foo/web"}, "to", "no resource 'foo'"),
        ({"to": "svc/a", "source": "deploy/b"}, "from", "not both"),
        ({"source": "svc/a"}, "from", "a service sends no traffic"),
        ({"to_namespace": ""}, "to_namespace", "is empty"),
        ({"windw": "1m"}, "windw", "did you mean 'window'"),
        ({"xyz": "1"}, "xyz", "known are window, to, to_namespace, from, from_namespace"),
    ],
)
def test_parameters_that_make_no_sense_are_named(parameters: dict[str, str], field: str, words: str):
    with pytest.raises(Refusal, match=words) as caught:
        query(**parameters)
    assert caught.value.status == 422
    assert caught.value.errors[0].field == field


def test_service_cannot_be_asked_for_what_it_sends():
    with pytest.raises(Refusal, match="a service sends no traffic"):
        query("svc", to="deploy/web")


def test_repeated_parameter_is_refused():
    with pytest.raises(Refusal, match="more than once"):
        parse_query("deploy", "shop", None, {"window": ["1m", "2m"]})
