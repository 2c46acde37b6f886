"""Renders the subset of Helm's templates that Tulle's chart keeps to, so `tulle install` needs no helm. Pure.

Actions: lookup (`.Values.a.b`, `$.Release.Name`, `.`), if / else if / else, range over lists, with, define, include,
comments, trim marks, pipelines and parentheses over FUNCTIONS. Everything else, a missing value included, is a
`TemplateError` that names file, line and text: what cannot be rendered as helm renders it is not rendered at all.

Sources: Go's text/template documentation (grammar, white-space trimming, emptiness); sprig's for `quote`, `default`,
`nindent`. tests/cli compare every output with `helm template` where helm is installed.
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
    """if, with or range: guarded bodies tried in order; a plain body has the guard ()."""

    keyword: str
    where: str
    branches: list[tuple[tuple[str, ...], "Body"]] = field(default_factory=list)


Body = list["Action | Block"]
_ACTION = re.compile(r"(\s*\{\{-\s|\{\{)(.*?)(\s-\}\}|\}\})", re.DOTALL)
_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()|]|[^\s()|"]+)')
_NAME = re.compile(r"(?!true$|false$)[A-Za-z]\w*")
_PATH = re.compile(r"\$?(\.[A-Za-z_]\w*)+|[$.]")


def _quote(value: object) -> str:
    return json.dumps(_show(value), ensure_ascii=False)


def _nindent(width: int, text: str) -> str:
    return "\n" + "\n".join(" " * width + line for line in text.split("\n"))


def _to_yaml(value: object) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=False, sort_keys=True, width=4096).removesuffix("...\n").rstrip("\n")
    )


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "quote": _quote,
    "toYaml": _to_yaml,
    "nindent": _nindent,
    "default": lambda fallback, value: value or fallback,
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "gt": lambda left, right: left > right,
    "not": lambda value: not value,
    "and": lambda left, right: left and right,
    "or": lambda left, right: left or right,
}


def _show(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _actions(name: str, source: str) -> Iterator[Action]:
    end = 0
    trim = False
    for match in _ACTION.finditer(source):
        where = f"{name}:{source.count(chr(10), 0, match.start(2)) + 1}"
        text = source[end : match.start()]
        yield Action(where, text.lstrip() if trim else text)
        trim, end = match[3].strip().startswith("-"), match.end()
        inner = match[2].strip()
        if not (inner.startswith("/*") and inner.endswith("*/")):
            yield Action(where, words=_words(inner, where))
    yield Action(name, source[end:].lstrip() if trim else source[end:])


def _words(inner: str, where: str) -> tuple[str, ...]:
    words, position = [], 0
    while position < len(inner):
        match = _WORD.match(inner, position)
        if match is None:
            raise TemplateError(f"{where}: cannot read {inner[position:].strip()!r}")
        words.append(match[1])
        position = match.end()
    if not words:
        raise TemplateError(f"{where}: an empty action")
    return tuple(words)


class Templates:
    """The named templates of a chart: `define`d ones are shared by all files."""

    def __init__(self) -> None:
        self._named: dict[str, Body] = {}

    def parse(self, name: str, source: str) -> Body:
        """Parse one file; remember what it defines and return the rest.

        Raises:
            TemplateError: something outside the subset, or an unbalanced block.
        """
        actions = list(_actions(name, source))
        actions.reverse()
        body, stop = self._body(actions)
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
            if keyword in ("if", "with", "range"):
                body.append(self._block(action, rest))
            elif keyword == "define":
                self._named[json.loads(action.words[1])] = self._closed(action, rest)
            else:
                body.append(action)
        return body, None

    def _closed(self, opening: Action, rest: list[Action]) -> Body:
        body, stop = self._body(rest)
        if stop is None or stop.words != ("end",):
            raise TemplateError(f"{opening.where}: {opening.words[0]!r} is not closed by an end")
        return body

    def _block(self, opening: Action, rest: list[Action]) -> Block:
        block = Block(opening.words[0], opening.where)
        guard = opening.words[1:]
        while True:
            body, stop = self._body(rest)
            if stop is None:
                raise TemplateError(f"{opening.where}: {opening.words[0]!r} is not closed by an end")
            block.branches.append((guard, body))
            if stop.words == ("end",):
                return block
            if stop.words != ("else",) and (block.keyword != "if" or stop.words[1] != "if"):
                raise TemplateError(f"{stop.where}: {' '.join(stop.words)!r} is outside the subset")
            guard = stop.words[2:]

    def render(self, body: Body, root: Mapping[str, Any], dot: object = None) -> str:
        """Render a parsed body. `root` is what `$` stands for: the mappings Values, Release and Chart."""
        dot = root if dot is None else dot
        return "".join(
            self._render_block(item, root, dot)
            if isinstance(item, Block)
            else _show(self._evaluate(item.words, item.where, root, dot) if item.words else item.text)
            for item in body
        )

    def _render_block(self, block: Block, root: Mapping[str, Any], dot: object) -> str:
        for guard, body in block.branches:
            value = self._evaluate(guard, block.where, root, dot) if guard else True
            if not value:
                continue
            if guard and block.keyword == "range":
                if not isinstance(value, list):
                    raise TemplateError(f"{block.where}: range is over lists only")
                return "".join(self.render(body, root, item) for item in value)
            return self.render(body, root, value if guard and block.keyword == "with" else dot)
        return ""

    def _evaluate(self, action: tuple[str, ...], where: str, root: Mapping[str, Any], dot: object) -> Any:
        words = list(reversed(action))
        value = self._pipeline(words, where, root, dot)
        if words:
            raise TemplateError(f"{where}: {words[-1]!r} is not expected in {' '.join(action)!r}")
        return value

    def _pipeline(self, words: list[str], where: str, root: Mapping[str, Any], dot: object) -> Any:
        """Evaluate `a | b c | d`: each value is the last argument of the next command. `words` is in reverse order."""
        piped: list[Any] = []
        while True:
            arguments: list[Any] = []
            name = words.pop() if words and _NAME.fullmatch(words[-1]) else ""
            while words and words[-1] not in ("|", ")"):
                arguments.append(self._operand(words, where, root, dot))
            arguments += piped
            if name:
                piped = [self._call(name, arguments, where)]
            elif len(arguments) == 1:
                piped = arguments
            else:
                raise TemplateError(f"{where}: one value or a function is expected, not {len(arguments)} values")
            if not words or words[-1] == ")":
                return piped[0]
            words.pop()

    def _operand(self, words: list[str], where: str, root: Mapping[str, Any], dot: object) -> Any:
        word = words.pop()
        if word == "(":
            value = self._pipeline(words, where, root, dot)
            if not words or words.pop() != ")":
                raise TemplateError(f"{where}: a parenthesis is not closed")
            return value
        if word[0] == '"' or word in ("true", "false") or word.isdecimal():
            return json.loads(word)
        if not _PATH.fullmatch(word):
            raise TemplateError(f"{where}: {word!r} is outside the subset")
        value = root if word.startswith("$") else dot
        for key in filter(None, word.lstrip("$").split(".")):
            if not isinstance(value, Mapping) or key not in value:
                raise TemplateError(f"{where}: {word} has no value")
            value = value[key]
        return value

    def _call(self, name: str, arguments: list[Any], where: str) -> Any:
        if name == "include" and len(arguments) == 2 and arguments[0] in self._named:
            return self.render(self._named[arguments[0]], arguments[1])
        if name not in FUNCTIONS:
            raise TemplateError(
                f"{where}: function or template {' '.join([name, *map(str, arguments[:1])])!r} is unknown"
            )
        try:
            return FUNCTIONS[name](*arguments)
        except TypeError as error:
            raise TemplateError(f"{where}: {name}: {error}") from error
