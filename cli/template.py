"""Renders the subset of Helm's templates that Tulle's chart keeps to, so `tulle install` needs no helm. Pure.

Actions: lookup (`.Values.a.b`, `$.Release.Name`, `.`), if / else if / else, range over lists, with, define, include,
comments, trim marks, `.Capabilities.APIVersions.Has "..."`, pipelines and parentheses over FUNCTIONS. Anything else, a
missing value too, is a TemplateError that names file, line and text: what cannot be rendered as helm renders it is not
rendered at all.

Sources: Go's text/template documentation (grammar, white-space trimming, emptiness); sprig's for `quote`, `default`,
`nindent`. tests/manifests compare the chart's output with `helm template` where helm is installed.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


class TemplateError(Exception):
    """A template outside the subset, or a value that it asks for and nobody gave."""


@dataclass(frozen=True, slots=True)
class Action:
    """What stood between `{{` and `}}`, or a piece of plain text when `words` is empty."""

    where: str
    text: str = ""
    words: tuple[str, ...] = ()


@dataclass(slots=True)
class Block:
    """if, with, range or define: guarded bodies tried in order; that of a plain else has the guard ()."""

    opening: Action
    branches: list[tuple[tuple[str, ...], "Body"]] = field(default_factory=list)


Body = list["Action | Block"]
_ACTION = re.compile(r"(\s*\{\{-\s|\{\{)(.*?)(\s-\}\}|\}\})", re.DOTALL)
_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()|]|[^\s()|"]+)')
_NAME = re.compile(r"(?!true$|false$)[A-Za-z]\w*")
_PATH = re.compile(r"\$?(\.[A-Za-z_]\w*)+|[$.]")


HAS = ".Capabilities.APIVersions.Has"
"""The one method: whether the API server knows a kind."""


def _show(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _to_yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=False, width=4096)
    return text.removesuffix("...\n").rstrip("\n")


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "quote": lambda value: json.dumps(_show(value), ensure_ascii=False),
    "toYaml": _to_yaml,
    "nindent": lambda width, text: "".join(f"\n{' ' * width}{line}" for line in text.split("\n")),
    "default": lambda fallback, value: value or fallback,
    "eq": lambda left, right: left == right,
    "not": lambda value: not value,
}


def _actions(name: str, source: str) -> Iterator[Action]:
    end, trim = 0, False
    for match in _ACTION.finditer(source):
        where = f"{name}:{source.count(chr(10), 0, match.start(2)) + 1}"
        text = source[end : match.start()]
        yield Action(where, text.lstrip() if trim else text)
        trim, end = match[3].strip().startswith("-"), match.end()
        inner = match[2].strip()
        if not (inner.startswith("/*") and inner.endswith("*/")):
            words = tuple(_WORD.findall(inner))
            if not words or re.sub(r"\s", "", "".join(words)) != re.sub(r"\s", "", inner):
                raise TemplateError(f"{where}: cannot read {inner!r}")
            yield Action(where, words=words)
    yield Action(name, source[end:].lstrip() if trim else source[end:])


class Templates:
    """The templates of a chart: what one file `define`s, all may include."""

    def __init__(self) -> None:
        self._named: dict[str, Body] = {}

    def parse(self, name: str, source: str) -> Body:
        """Parse one file; remember what it defines and return the rest.

        Raises:
            TemplateError: something outside the subset, or an unbalanced block.
        """
        body, stop = self._body(list(_actions(name, source))[::-1])
        if stop is not None:
            raise TemplateError(f"{stop.where}: {stop.words[0]!r} without a block to belong to")
        return body

    def _body(self, rest: list[Action]) -> tuple[Body, Action | None]:
        """Read up to the `else` or `end` that closes this body, which is returned too; `rest` is in reverse order."""
        body: Body = []
        while rest:
            action = rest.pop()
            keyword = action.words[0] if action.words else ""
            if keyword in ("end", "else"):
                return body, action
            if keyword == "define":
                self._named[json.loads(action.words[1])] = self._block(action, rest).branches[0][1]
            else:
                body.append(self._block(action, rest) if keyword in ("if", "with", "range") else action)
        return body, None

    def _block(self, opening: Action, rest: list[Action]) -> Block:
        block, guard = Block(opening), opening.words[1:]
        while True:
            body, stop = self._body(rest)
            if stop is None:
                raise TemplateError(f"{opening.where}: {opening.words[0]!r} is not closed by an end")
            block.branches.append((guard, body))
            if stop.words == ("end",):
                return block
            guard = stop.words[2:]
            if stop.words != ("else",) and not (opening.words[0] == "if" == stop.words[1] and guard):
                raise TemplateError(f"{stop.where}: {' '.join(stop.words)!r} is outside the subset")

    def render(self, body: Body, root: Any, dot: Any = None) -> str:
        """Render a parsed body. `root` is what `$` stands for: the mappings Values, Release and Chart."""
        dot = root if dot is None else dot
        return "".join(self._render(item, root, dot) for item in body)

    def _render(self, item: "Action | Block", root: Any, dot: Any) -> str:
        if isinstance(item, Action):
            return _show(self._evaluate(item.words, item.where, root, dot)) if item.words else item.text
        keyword, where = item.opening.words[0], item.opening.where
        for guard, body in item.branches:
            value: Any = self._evaluate(guard, where, root, dot) if guard else True
            if not value:
                continue
            if not guard or keyword == "if":
                return self.render(body, root, dot)
            if keyword == "range" and not isinstance(value, list):
                raise TemplateError(f"{where}: range is over lists only")
            return "".join(self.render(body, root, each) for each in (value if keyword == "range" else [value]))
        return ""

    def _evaluate(self, action: tuple[str, ...], where: str, root: Any, dot: Any) -> Any:
        words = list(action[::-1])
        value = self._pipeline(words, where, root, dot)
        if words:
            raise TemplateError(f"{where}: {words[-1]!r} is not expected in {' '.join(action)!r}")
        return value

    def _pipeline(self, words: list[str], where: str, root: Any, dot: Any) -> Any:
        """Evaluate `a | b c | d`: each value is the last argument of the next command. `words` is in reverse order."""
        piped: list[Any] = []
        while True:
            name = words.pop() if words and _NAME.fullmatch(words[-1]) else ""
            values = []
            while words and words[-1] not in ("|", ")"):
                values.append(self._operand(words, where, root, dot))
            if not name and len(values + piped) != 1:
                raise TemplateError(f"{where}: one value, or a function and its arguments, is expected")
            piped = [self._call(name, values + piped, where)] if name else values
            if not words or words[-1] == ")":
                return piped[0]
            words.pop()

    def _operand(self, words: list[str], where: str, root: Any, dot: Any) -> Any:
        word = words.pop()
        if word == "(":
            value = self._pipeline(words, where, root, dot)
            if not words or words.pop() != ")":
                raise TemplateError(f"{where}: a parenthesis is not closed")
            return value
        if word[0] == '"' or word in ("true", "false") or word.isdecimal():
            return json.loads(word)
        if word.endswith(HAS):
            return self._operand(words, where, root, dot) in self._operand(
                [word.removesuffix(".Has")], where, root, dot
            )
        if not _PATH.fullmatch(word):
            raise TemplateError(f"{where}: {word!r} is outside the subset")
        value = root if word.startswith("$") else dot
        for key in filter(None, word.lstrip("$").split(".")):
            if not isinstance(value, Mapping) or key not in value:
                raise TemplateError(f"{where}: {word} has no value")
            value = value[key]
        return value

    def _call(self, name: str, values: list[Any], where: str) -> Any:
        if name == "include" and len(values) == 2 and values[0] in self._named:
            return self.render(self._named[values[0]], values[1])
        if name not in FUNCTIONS:
            known = ", ".join(["include", *FUNCTIONS])
            raise TemplateError(
                f"{where}: {name!r} is outside the subset (functions: {known}), or includes no template"
            )
        try:
            return FUNCTIONS[name](*values)
        except TypeError as error:
            raise TemplateError(f"{where}: {name}: {error}") from error
