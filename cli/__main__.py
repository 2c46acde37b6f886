"""The `tulle` command: options in, one module a command, errors out as one line. Edge.

Imports of the commands are inside of them, so that `tulle --help` and completion stay quick.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError
from contract import names

app = typer.Typer(
    name="tulle",
    help="Tulle, an ultralight service mesh for Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
"""What typer raises for every wrong command line; typer exports its leaf only."""


@dataclass(frozen=True, slots=True)
class Global:
    """Options that every command shares."""

    kubeconfig: str | None
    context: str | None
    control_plane: str
    verbose: bool


@app.callback()
def options(
    context: typer.Context,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG or ~/.kube/config.", metavar="FILE")
    ] = None,
    kube_context: Annotated[
        str | None, typer.Option("--context", help="Context in the kubeconfig. Default: its current one.")
    ] = None,
    control_plane_namespace: Annotated[
        str, typer.Option("--control-plane-namespace", "-L", envvar="TULLE_NAMESPACE", help="Where Tulle runs.")
    ] = names.CONTROL_PLANE_NAMESPACE,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more, tracebacks included.")] = False,
) -> None:
    """Options that every command shares."""
    context.obj = Global(kubeconfig, kube_context, control_plane_namespace, verbose)


Values = Annotated[
    list[Path] | None, typer.Option("--values", "-f", help="Values file, as for helm; may be repeated.", metavar="FILE")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="One value, as for helm; may be repeated.", metavar="KEY=VALUE")
]
Ha = Annotated[bool, typer.Option("--ha", help="Three replicas on three nodes; refuse pods rather than miss them.")]
InstallNamespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace of the control plane. Default: tulle.")
]


@app.command()
def install(
    context: typer.Context,
    namespace: InstallNamespace = None,
    sets: Sets = None,
    values: Values = None,
    ha: Ha = False,
    output: Annotated[str, typer.Option("--output", "-o", help="yaml or json.")] = "yaml",
) -> None:
    """Print the control plane's manifests, for `kubectl apply -f -`. Asks no cluster."""
    from cli import install

    rendered = install.manifests(namespace or context.obj.control_plane, values or [], sets or [], ha=ha)
    if _one_of(output, "yaml", "json") == "json":
        import json

        print(json.dumps(install.as_list(rendered), indent=2))
    else:
        print(install.as_yaml(rendered), end="")


def _one_of(output: str, *formats: str) -> str:
    if output not in formats:
        raise CliError(f"--output {output}: use one of {', '.join(formats)}", 2)
    return output


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        print(f"tulle: {line}", file=sys.stderr)
    return code


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrong command line, 130 interrupted."""
    try:
        result = typer.main.get_command(app).main(args=arguments, prog_name="tulle", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except CliError as error:
        return _fail(str(error), error.code)
    except _USAGE_ERROR as error:
        message = getattr(error, "format_message", error.__str__)()
        return _fail(f"{message} (see tulle --help)" if message else "", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader went away (`tulle install | head`): what it did not take is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--verbose" in arguments:
            raise
        return _fail(f"a bug in tulle: {type(error).__name__}: {error} (--verbose shows where)", 70)


def main() -> None:
    """Entry point of the `tulle` script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
