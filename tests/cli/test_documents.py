"""Streams of YAML: read as Kubernetes reads them, written so that no reader takes a string for something else."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli import documents
from cli.errors import CliError


def value(text: str) -> object:
    (document,) = documents.read("x", text)
    return document.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1e3", 1000.0),
        ("0644", 420),
        ("0x10", 16),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("-3", -3),
        ("yes", True),
        ("=", "="),
        ("~", None),
        ("1.2.3", "1.2.3"),
        ("5m", "5m"),
        ("{yes: 1, 2: 3}", {"true": 1, "2": 3}),
    ],
)
def test_plain_scalars_mean_what_kubernetes_takes_them_for(text: str, expected: object) -> None:
    assert value(f"a: {text}") == {"a": expected}


AWKWARD = """
    1e3 0o17 0x1F 007 1_0 12:30 2024-01-01 yes no on ~ null = 1. .5 +1 !x &a *a #c @x %x {} [] --- ...
"""
AWKWARD_ONES = [*AWKWARD.split(), "", " ", "a: b", "- x", "a\nb", "\x85", "a\r\nb", "\u2028", "---\n", "\n---\nx"]
SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(AWKWARD_ONES)


@given(st.dictionaries(st.sampled_from("abc"), SCALARS | st.lists(SCALARS, max_size=3)))
def test_what_is_written_is_read_back_equal_by_us_and_by_yaml_1_1(found: dict[str, object]) -> None:
    written = documents.write(documents.Document("", None), found)
    assert value(written.text) == found
    assert yaml.safe_load(written.text) == found


def test_strings_that_other_readers_take_for_numbers_are_quoted() -> None:
    written = documents.write(documents.Document("", None), {"a": "1e3", "b": "0o17", "c": "plain"})
    assert written.text == "a: '1e3'\nb: '0o17'\nc: plain\n"


def test_comments_at_the_head_of_a_changed_document_stay() -> None:
    (document,) = documents.read("x", "# license\n\n# more\na: 1 # lost\n")
    assert documents.write(document, {"a": 2}).text == "# license\n\n# more\na: 2\n"


def test_separators_within_text_separate_nothing() -> None:
    found = documents.read("x", "a: |\n  ---\n  b\n---\n--- # comment\nc: 1\n")
    assert [document.value for document in found] == [{"a": "---\nb\n"}, {"c": 1}]


def test_joining_gives_the_documents_back() -> None:
    text = "---\na: 1\n---\n# note\n---\n{b: 2}\n"
    assert documents.join(documents.read("x", text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n---\nb: [\n", "x:4: not YAML"),
        ("a: b: c", "x:1: not YAML"),
        ("a: \x00", "x:1: not YAML"),
        ("a: !!python/object:os.system 1", "x:1: not YAML"),
        ("[" * 1000, "x:1: not YAML"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(CliError) as caught:
        documents.read("x", text)
    assert str(caught.value).startswith(message)
