"""`tulle stat`: asks the controller, shows its answer. Edge."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.table import Table

from cli import stat
from cli.cluster import Cluster
from cli.errors import CliError
from contract.stat import StatAnswer


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask; `namespace` None is all of them. `query` is the controller's query string."""

    resource: stat.Resource
    namespace: str | None
    query: dict[str, str]


def question(
    words: list[str],
    namespace: str | None,
    window: str,
    peers: dict[str, str | None],
    namespaces: dict[str, str | None],
) -> Question:
    """Read the command line; `peers` and `namespaces` have the keys `to` and `from`."""
    query = {"window": stat.parse_window(window)}
    for side, peer in peers.items():
        if text := stat.parse_peer(f"--{side}", peer):
            query[side] = text
    query |= {f"{side}_namespace": name for side, name in namespaces.items() if name}
    if any(key.startswith("to") for key in query) and any(key.startswith("from") for key in query):
        raise CliError("give --to or --from, not both", 2)
    return Question(stat.parse_resource(words), namespace, query)


def ask(cluster: Cluster, asked: Question) -> StatAnswer:
    """GET the answer.

    Raises:
        CliError: the cluster or the controller refused, or answered in another shape than the contract's.
    """
    body = cluster.controller(stat.path(asked.resource, asked.namespace), query=asked.query)
    try:
        return msgspec.json.decode(body, type=StatAnswer)
    except msgspec.DecodeError as error:
        raise CliError(f"the controller's answer is not understood ({error}); is it of another version?") from error


def show(answer: StatAnswer, output: str, *, namespaces: bool) -> None:
    """Print a table or JSON on stdout; "No traffic found." on stderr when there was none."""
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    elif answer.rows:
        header, *rows = stat.table(answer, namespaces=namespaces, wide=output == "wide")
        print_columns(header, rows)
    if not stat.has_traffic(answer):
        print("No traffic found.", file=sys.stderr)


def print_columns(header: list[str], rows: list[list[str]]) -> None:
    """Plain columns as kubectl prints them: no frame, never wrapped, so that awk can read them."""
    right = [title not in ("NAMESPACE", "NAME") for title in header]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for title, numeric in zip(header, right, strict=True):
        table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show on a terminal's stderr that something is under way."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield
