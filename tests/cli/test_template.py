"""The renderer of the chart's templates: Go's rules for what it knows, a clear error for all else."""

from typing import Any

import pytest

from cli.template import TemplateError, Templates

ROOT = {
    "Values": {"a": 1, "s": "x", "no": False, "none": None, "empty": [], "list": ["p", "q"], "map": {"b": 2, "a": [1]}}
}


def render(source: str) -> str:
    templates = Templates()
    return templates.render(templates.parse("t.yaml", source), ROOT)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain { text }", "plain { text }"),
        ("{{ .Values.a }}", "1"),
        ("{{.Values.a}}", "1"),
        ("{{ $.Values.s }}", "x"),
        ("{{ .Values.no }}", "false"),
        ("{{ .Values.none }}", ""),
        ('{{ "text" }}', "text"),
        ("{{ .Values.a | quote }}", '"1"'),
        ("{{ quote .Values.s }}", '"x"'),
        ('{{ .Values.none | default "d" }}', "d"),
        ('{{ default "d" .Values.s }}', "x"),
        ("a:{{ toYaml .Values.map | nindent 2 }}", "a:\n  a:\n  - 1\n  b: 2"),
        ("{{ toYaml .Values.empty }}", "[]"),
        ("{{ toYaml .Values.s }}", "x"),
        ("{{ not .Values.no }}", "true"),
        ('{{ eq .Values.s "x" }}', "true"),
        ('{{ eq (default "y" .Values.none) "y" }}', "true"),
        # Trim marks eat white space up to the neighbouring text, line breaks too.
        ("a  \n {{- .Values.a -}} \n b", "a1b"),
        ("a {{- /* a comment */ -}} b", "ab"),
        ("a{{/* a comment */}}b", "ab"),
        ("{{ if .Values.a }}yes{{ end }}", "yes"),
        ("{{ if .Values.no }}yes{{ else }}no{{ end }}", "no"),
        ('{{ if eq .Values.s "y" }}y{{ else if eq .Values.s "x" }}x{{ else }}z{{ end }}', "x"),
        ("{{ if .Values.empty }}yes{{ end }}", ""),
        ("{{ range .Values.list }}[{{ . }}{{ $.Values.a }}]{{ end }}", "[p1][q1]"),
        ("{{ range .Values.empty }}x{{ else }}none{{ end }}", "none"),
        ("{{ with .Values.map }}{{ .b }}{{ end }}", "2"),
        ("{{ with .Values.none }}{{ .b }}{{ else }}-{{ end }}", "-"),
        ('{{ define "n" }}<{{ .Values.s }}>{{ end }}{{ include "n" . }}', "<x>"),
        ('{{ include "n" .Values.map }}{{ define "n" }}{{ .b }}{{ $.b }}{{ end }}', "22"),
        ('{{ if .Values.a }}{{ range .Values.list }}{{ if eq . "p" }}P{{ end }}{{ end }}{{ end }}', "P"),
    ],
)
def test_what_the_subset_has_is_rendered_as_go_does(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ .Values.missing }}", "t.yaml:1: .Values.missing has no value"),
        ("\n\n{{ .Values.a.b }}", "t.yaml:3: .Values.a.b has no value"),
        ("{{ printf .Values.a }}", "t.yaml:1: 'printf' is outside the subset (functions: include, quote,"),
        ('{{ include "nothing" . }}', "t.yaml:1: 'include' is outside the subset"),
        ("{{ quote }}", "t.yaml:1: quote: "),
        ("{{ }}", "t.yaml:1: cannot read ''"),
        ("{{ $x := .Values.a }}", "'$x' is outside the subset"),
        ("{{ if .Values.a }}", "t.yaml:1: 'if' is not closed by an end"),
        ("{{ end }}", "t.yaml:1: 'end' without a block to belong to"),
        ("{{ else }}", "'else' without a block"),
        ("{{ with .Values.a }}{{ else with .Values.s }}{{ end }}", "'else with .Values.s' is outside the subset"),
        ("{{ range .Values.map }}{{ end }}", "range is over lists only"),
        ("{{ .Values.a .Values.s }}", "one value, or a function and its arguments, is expected"),
        ("{{ (quote .Values.a }}", "a parenthesis is not closed"),
        ("{{ quote .Values.a ) }}", "')' is not expected"),
        ('{{ "unclosed }}', "cannot read"),
        ("{{ -1 }}", "'-1' is outside the subset"),
    ],
)
def test_what_the_subset_lacks_is_refused_with_its_place(source: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert message in str(caught.value)


def test_rendering_changes_no_value() -> None:
    before: Any = repr(ROOT)
    render("{{ toYaml .Values.map | nindent 2 }}{{ with .Values.map }}{{ .b | quote }}{{ end }}")
    assert before == repr(ROOT)
