"""YAML streams of Kubernetes objects: split, read, write, with what is not changed kept to the letter. Pure.

Kubernetes reads YAML as JSON does: a plain `2024-01-01` is a string and `12:30` no number in base sixty, so neither is
here; what we write is quoted wherever any reader of YAML 1.1 or 1.2 could take a string for something else.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cli.errors import CliError

_SEPARATOR = re.compile(r"^---(?=\s|$)[ \t]*", re.MULTILINE)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"0b[01_]+|[-+]?0o?[0-7_]+|[-+]?(0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+")
_ODD_BREAKS = re.compile("[\r\x85\u2028\u2029]")
_INT_TAG, _FLOAT_TAG = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_DROPPED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", _INT_TAG, _FLOAT_TAG)


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: JSON, whose keys are strings (`yes: 1` is `{"true": 1}`)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        return {key if isinstance(key, str) else json.dumps(key, default=str): value for key, value in found.items()}


class _Dumper(yaml.SafeDumper):
    """Quotes more strings than need be; block style for text of several lines; lists indented as kubectl's."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _DROPPED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(_INT_TAG, re.compile(f"^(?:{_INTEGER.pattern})$"), list("-+0123456789"))
    _class.add_implicit_resolver(_FLOAT_TAG, re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Line breaks of YAML 1.1 that are none in 1.2 survive only as escapes.
    style = '"' if _ODD_BREAKS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a stream: its text without the separator, and what it says (None: nothing but comments)."""

    text: str
    value: Any


def read(name: str, stream: str) -> list[Document]:
    """Split a stream and read each document that is not blank.

    Raises:
        CliError: some document is not YAML; the message has the stream's name and line.
    """
    documents, line = [], 1
    for text in _SEPARATOR.split(stream):
        try:
            value = yaml.load(text, _Loader)
        except yaml.MarkedYAMLError as error:
            found = line + (error.problem_mark.line if error.problem_mark else 0)
            raise CliError(f"{name}:{found}: not YAML: {error.problem or error.context}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise CliError(f"{name}:{line}: not YAML: {' '.join(str(error).split())[:200]}") from error
        if text.strip():
            documents.append(Document(text, value))
        line += text.count("\n")
    return documents


def write(document: Document, value: Any) -> Document:
    """The document with another value: comments at its head stay, those within are lost."""
    lines = document.text.lstrip("\n").splitlines(keepends=True)
    body = next((index for index, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
    return Document("".join(lines[:body]) + text, value)


def join(documents: list[Document]) -> str:
    """One stream of documents."""
    texts = [document.text.strip("\n") for document in documents]
    return "".join(f"---\n{text}\n" for text in texts)


def is_object(value: Any) -> bool:
    """Whether a value looks like a Kubernetes object: a mapping with kind and apiVersion."""
    return (
        isinstance(value, Mapping) and isinstance(value.get("kind"), str) and isinstance(value.get("apiVersion"), str)
    )
