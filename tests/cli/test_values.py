"""Values: merged as helm merges them, and judged in words that name the key and the fix."""

from pathlib import Path

import pytest
import yaml

from cli import chart, values
from cli.errors import CliError


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a=1", {"a": 1}),
        ("a.b.c=true", {"a": {"b": {"c": True}}}),
        ("a=", {"a": ""}),
        ("a=x=y", {"a": "x=y"}),
        ("a=[x, 2]", {"a": ["x", 2]}),
        (r"a.kubernetes\.io/os=linux", {"a": {"kubernetes.io/os": "linux"}}),
        ('a="1"', {"a": "1"}),
    ],
)
def test_an_assignment_is_read(assignment: str, expected: object) -> None:
    assert expected == values.parse_set(assignment)


@pytest.mark.parametrize("assignment", ["", "a", "=1", "a..b=1", ".a=1", "a=[1"])
def test_a_broken_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(CliError, match="--set"):
        values.parse_set(assignment)


def test_later_layers_win_key_by_key_and_lists_are_replaced() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert values.merge(base, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("webhook.repicas=2", "value webhook.repicas is unknown; did you mean replicas?"),
        ("nothing.like=2", "value nothing is unknown; known here: clusterDomain, controller,"),
        ("webhook.replicas=two", "value webhook.replicas is 'two': integer is expected"),
        ("webhook.replicas=0", "value webhook.replicas is 0: at least 1 is expected"),
        ("webhook.timeoutSeconds=31", "value webhook.timeoutSeconds is 31: at most 30 is expected"),
        ("webhook.failurePolicy=fail", "value webhook.failurePolicy is 'fail': use one of 'Ignore', 'Fail'"),
        ("controller.logLevel=", "value controller.logLevel is empty: use one of 'error'"),
        ("proxy.memoryLimit=lots", "value proxy.memoryLimit is 'lots': it must match"),
        ("proxy.opaquePorts=http", "value proxy.opaquePorts is 'http': it must match"),
        ("registry=HTTP://x/", "value registry is 'HTTP://x/': it must match"),
        ("webhook=3", "value webhook is 3: object is expected"),
        ("pullSecrets=one", "value pullSecrets is 'one': array is expected"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(assignment: str, message: str) -> None:
    with pytest.raises(CliError) as caught:
        chart.load_values([values.parse_set(assignment)], ha=False)
    assert message in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    overlay = yaml.safe_load("{webhook: {replicas: 0, nope: 1}, tag: '-'}")
    with pytest.raises(CliError) as caught:
        chart.load_values([overlay], ha=False)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a", "a mapping of values is expected"), ("a: [", "not YAML"), ("a: b: c", "not YAML")],
)
def test_a_broken_values_file_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(CliError, match=message) as caught:
        values.parse_file("mine.yaml", text)
    assert str(caught.value).startswith("--values mine.yaml: ")


def test_an_empty_values_file_changes_nothing() -> None:
    assert values.parse_file("mine.yaml", "# nothing yet\n") == {}


def test_every_chart_file_is_shipped_with_the_package() -> None:
    import configparser
    from fnmatch import fnmatch

    root = Path(chart.__file__).parent.parent
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    patterns = [pattern.strip() for pattern in setup["options.package_data"]["manifests"].split(",")]
    for path in (root / "manifests" / "tulle").rglob("*"):
        if path.is_file():
            name = str(path.relative_to(root / "manifests"))
            assert any(fnmatch(name, pattern) for pattern in patterns), f"{name} is not in package_data"
