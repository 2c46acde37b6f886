"""`tulle lab`: a mesh on this machine, with no cluster. Edge."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from cli.errors import CliError

app = typer.Typer(name="lab", help="A Kubernetes lab on this machine: no cluster, no images.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--name", "-n", help="Which lab: several stand side by side.")]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that says what is being done, while it is being done; LabError becomes a plain refusal."""
    from lab.launcher import LabError

    console = Console(stderr=True)
    try:
        with console.status("looking at this machine") as status:
            yield lambda words: status.update(words)
    except LabError as error:
        raise CliError(str(error)) from error


@app.command()
def up(
    name: Name = "default",
    api_port: Annotated[
        int | None,
        typer.Option("--api-port", min=1, max=65535, help="Port of the API on 127.0.0.1. Default: the first free one."),
    ] = None,
) -> None:
    """Start a lab; returns when its API answers, its node is ready and its DNS works."""
    from lab import launcher

    with _progress() as tell:
        paths, running, is_new = launcher.up(name, api_port=api_port, tell=tell)
    typer.echo(f"Lab {name} {'is up' if is_new else 'was up already'}: https://127.0.0.1:{running.port}")
    typer.echo("Next:")
    typer.echo(f"  export KUBECONFIG={paths.kubeconfig}")
    typer.echo("  kubectl get nodes")
    typer.echo("  tulle install | kubectl apply -f -")
    typer.echo(f"Stop it with: tulle lab down{'' if name == 'default' else f' --name {name}'}")


@app.command()
def down(
    name: Name = "default",
    everything: Annotated[bool, typer.Option("--all", help="Stop every lab of this machine.")] = False,
) -> None:
    """Stop a lab and remove all that it made."""
    from lab import launcher, state

    for each in state.labs() if everything else [name]:
        with _progress() as tell:
            was_there = launcher.down(each, tell)
        typer.echo(f"Lab {each} is gone." if was_there else f"There is no lab {each}.")


@app.command()
def status(
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Show the labs of this machine."""
    from lab import state

    rows = []
    for name in state.labs():
        paths = state.Paths(name)
        running = state.read_running(paths)
        rows.append(
            {
                "name": name,
                "state": "running" if running else "crashed",
                "server": f"https://127.0.0.1:{running.port}" if running else "",
                "pid": running.pid if running else None,
                "kubeconfig": paths.kubeconfig,
                "log": paths.log,
            }
        )
    if output == "json":
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo("No lab runs on this machine. Start one with: tulle lab up")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "state", "server", "kubeconfig"):
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(str(row[column] or "-") for column in ("name", "state", "server", "kubeconfig")))
    Console().print(table)


@app.command()
def kubeconfig(name: Name = "default") -> None:
    """Print the path of a lab's kubeconfig."""
    from lab import state

    paths = state.Paths(name)
    if state.fault_of_name(name) or state.read_running(paths) is None:
        raise CliError(f"no lab {name} runs here: start it with `tulle lab up --name {name}`")
    typer.echo(paths.kubeconfig)
