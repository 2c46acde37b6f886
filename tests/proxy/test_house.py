"""Rules of the house that a test can hold: the ten stops, the two worlds, the table of reasons, sizes."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Protocol

import pytest

import proxy
from proxy.errors import REASONS, REPICK_REASONS
from proxy.render import COUNTERS

ROOT = Path(proxy.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
WAITING = {"app", "discovery", "report", "admin", "probes", "drain", "worker", "workers", "__main__"}
"""Modules of the waiting world; pump has the two functions in which the worlds meet. Both ends of the socket between
parent and workers wait: for each other's messages, for the moment to tell, for children to end. No request passes them.
"""
PURE = {"errors", "model", "config", "render", "merge", "seams"}
IMPURE = {"ssl", "select", "time", "random", "logging", "os", "structlog"}
FAILING = {"WireFault", "fault", "_charge", "fail", "answer", "lose", "break_off"}
FAILING |= {"expire", "notice", "on_server_lost", "on_dial_failed", "on_unreached"}
"""Calls in which a reason is named, as `word` or `word:detail`; details alone have blanks."""
_WORD = re.compile(r"([a-z0-9-]+)(?::|$)")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def stops_of(path: Path) -> list[tuple[ast.FunctionDef, str]]:
    """Functions with a `# stop N` comment behind their signature, and N."""
    source = path.read_text()
    lines = source.splitlines()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    marked = [(function, re.search(r"# stop (\d+)$", lines[function.body[0].lineno - 2])) for function in functions]
    return [(function, mark[1]) for function, mark in marked if mark]


def test_the_ten_stops_stand_where_the_package_says() -> None:
    told = re.findall(r"^ ?(\d+)\. ([\w.]+):", proxy.__doc__ or "", re.MULTILINE)
    found = {}
    for path in MODULES:
        for function, number in stops_of(path):
            found[number] = (name_of(path), function.name)

    assert [str(n) for n in range(1, 11)] == [number for number, _ in told]
    for number, where in told:
        module, function = found[number]
        assert where.startswith(module + ".")
        assert where.endswith("." + function)


def test_the_ten_stops_can_be_read_in_ten_minutes() -> None:
    lines = 0
    for path in MODULES:
        lines += sum((function.end_lineno or 0) - function.lineno + 1 for function, _ in stops_of(path))

    assert 50 < lines < 450


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sizes(path: Path) -> None:
    source = path.read_text()
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    assert source.startswith('"""')
    assert len(source.splitlines()) <= 400
    assert all((f.end_lineno or 0) - f.lineno < 60 for f in functions)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_two_worlds_stay_apart(path: Path) -> None:
    name, imports = name_of(path), imports_of(path)
    waits = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncFunctionDef)}
    if name == "pump":
        assert waits == {"run", "run_timers"}
    elif name not in WAITING:
        assert not waits
        assert not imports & {"trio", "httpx", "asyncio"}
    if name.split(".")[0] in {"wire", "policy"} or name in PURE:
        assert not imports & IMPURE
        assert "socket" not in imports or name == "seams"  # it names the type in a Protocol, and opens none
    if name != "pump":
        assert "select" not in imports
    if name != "__main__":
        assert "os.environ" not in path.read_text()


def literals_of(call: ast.Call) -> list[str]:
    """String arguments of a call; of an f-string what stands before its first value, of a choice both."""
    found = []
    for argument in call.args:
        for node in (argument.body, argument.orelse) if isinstance(argument, ast.IfExp) else (argument,):
            first = node.values[0] if isinstance(node, ast.JoinedStr) else node
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append(first.value)
    return found


def failures_in(source: str) -> set[str]:
    """The reasons that the calls of FAILING name."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [(getattr(call.func, "attr", getattr(call.func, "id", "")), literals_of(call)) for call in calls]
    words = [match for name, told in named if name in FAILING for text in told[:1] if (match := _WORD.match(text))]
    return {match[1] for match in words}


def test_every_reason_that_the_code_names_is_in_the_table_and_every_row_is_used() -> None:
    code = "\n".join(path.read_text() for path in MODULES if path.name != "errors.py")
    failing = {word for path in MODULES for word in failures_in(path.read_text())}

    assert failing - set(REASONS) == set()
    assert len(failing) > 20
    assert set(REASONS) - set(re.findall(r'"([a-z0-9-]+)[":]', code)) == set()
    assert REPICK_REASONS <= set(REASONS)


ADDED_LABELS = {
    ("course", "self.count"): {"service"},
    ("mishap", "course.count"): {"service"},
    ("tries", "self._course.count"): {"service"},
    ("shadow", "self._count"): {"mirror"},
}
"""Ways to count that add a label of their own."""


def counted_in(path: Path) -> list[tuple[str, set[str]]]:
    """Counters that are named literally, each with the labels that it is given."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        way = ast.unparse(call.func)
        if way.rpartition(".")[2] in {"count", "_count"} and literals_of(call) and "_total" in literals_of(call)[0]:
            pairs = [node for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Tuple)]
            labels = {pair.elts[0].value for pair in pairs if pair.elts and isinstance(pair.elts[0], ast.Constant)}
            found.append((literals_of(call)[0], labels | ADDED_LABELS.get((name_of(path), way), set())))
    return found


def test_every_counter_is_in_the_table_with_its_labels() -> None:
    found = [counted for path in MODULES for counted in counted_in(path)]
    code = "\n".join(path.read_text() for path in MODULES if path.name != "render.py")
    elsewhere = {"tcp_protocol_connections_total"}

    assert len(found) > 25
    for name, labels in found:
        assert name in COUNTERS
        assert name in elsewhere or set(filter(None, COUNTERS[name][0].split(", "))) == labels
    unused = {name for name in COUNTERS if f'"{name}"' not in code and not name.endswith("_errors_total")}
    assert unused == {"metrics_overflow_total"}


def test_every_reason_has_a_status_of_its_kind_and_a_meaning() -> None:
    for reason in REASONS.values():
        assert reason.status == 0 or 400 <= reason.status < 600
        assert reason.meaning
        assert inspect.cleandoc(reason.meaning) == reason.meaning


def classes() -> list[type]:
    modules = [importlib.import_module(f"proxy.{name_of(path)}") for path in MODULES if path.stem[0] != "_"]
    return [
        kind for m in modules for kind in vars(m).values() if inspect.isclass(kind) and kind.__module__ == m.__name__
    ]


def public_names(parts: list[type]) -> set[str]:
    return {name for part in parts for name in vars(part) if not name.startswith("_")}


SEAMS = [kind for kind in classes() if Protocol in kind.__bases__]


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.__name__)
def test_who_says_to_satisfy_a_seam_does(seam: type) -> None:
    """A method that is missing would be the seam's own, which does nothing."""
    asked = public_names([part for part in seam.__mro__ if part in SEAMS])
    for kind in set(seam.__subclasses__()) - set(SEAMS):
        assert asked - public_names([part for part in kind.__mro__ if part not in SEAMS]) == set(), kind
