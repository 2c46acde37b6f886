"""The `tulle` command: options in, one module a command, errors out as one line. Edge.

Imports of the commands are inside of them, so that `tulle --help` and completion stay quick.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import lab
from cli.errors import CliError
from contract import names

if TYPE_CHECKING:
    from cli.cluster import Cluster
    from cli.documents import Document
    from cli.workloads import Line

app = typer.Typer(
    name="tulle",
    help="Tulle, an ultralight service mesh for Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lab.app)
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
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell each request, and where a bug is.")] = False,
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
    """Print the control plane's manifests, for `kubectl apply -f -`."""
    from cli import install
    from cli.offers import Offered

    offers = Offered(_cluster(context))
    chosen = namespace or context.obj.control_plane
    rendered = install.manifests(chosen, values or [], sets or [], ha=ha, offers=offers)
    if _one_of(output, "yaml", "json") == "json":
        import json

        print(json.dumps(install.as_list(rendered), indent=2))
    else:
        print(install.as_yaml(rendered), end="")


@app.command()
def uninstall(
    context: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Print it although pods still carry the sidecar.")] = False,
    keep_namespace: Annotated[bool, typer.Option("--keep-namespace", help="Leave the namespace in place.")] = False,
) -> None:
    """Print what the control plane consists of, for `kubectl delete --ignore-not-found -f -`."""
    from cli import install, meshed
    from cli.offers import Offered

    sets = ["createNamespace=false"] if keep_namespace else []
    cluster = _cluster(context)
    others = meshed.trust_bundles(cluster, force=force)
    rendered = install.manifests(context.obj.control_plane, [], sets, ha=keep_namespace, offers=Offered(cluster))
    print(install.removal(rendered, others), end="")


Files = Annotated[list[str], typer.Argument(help="Files, folders, or - for stdin.", metavar="FILE...")]


@app.command()
def inject(
    context: typer.Context,
    files: Files,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of objects that name none.")
    ] = "default",
    registry: Annotated[str, typer.Option(help="Registry of both images.", metavar="HOST/PATH")] = "",
    proxy_image: Annotated[str, typer.Option(help="Image of the sidecar, tag included.", metavar="IMAGE")] = "",
    init_image: Annotated[str, typer.Option(help="Image of the init container.", metavar="IMAGE")] = "",
    cluster_domain: Annotated[str, typer.Option(help="DNS suffix of the cluster's services.")] = "cluster.local",
    native_sidecar: Annotated[
        bool, typer.Option("--native-sidecar/--plain-sidecar", help="Plain: for servers before Kubernetes 1.29.")
    ] = True,
) -> None:
    """Print manifests with init container and sidecar in every pod, as the webhook would; report on stderr."""
    from cli import files as manifest_files
    from cli import injection, workloads
    from webhook.settings import Settings

    settings = Settings(
        image_registry=registry or Settings().image_registry,
        proxy_image=proxy_image,
        init_image=init_image,
        control_plane_namespace=context.obj.control_plane,
        cluster_domain=cluster_domain,
        native_sidecar=native_sidecar,
    )
    found = manifest_files.read_all(files)
    _print_changed(*workloads.change_all(found, injection.injecting(settings), namespace), "injected")


@app.command()
def uninject(files: Files) -> None:
    """Print manifests without what inject (or the webhook) added; report on stderr."""
    from cli import files as manifest_files
    from cli import injection, workloads

    found = manifest_files.read_all(files)
    _print_changed(*workloads.change_all(found, injection.uninjecting, "default"), "uninjected")


def _print_changed(changed: "list[Document]", lines: "list[Line]", done: str) -> None:
    from cli import documents, injection

    print(documents.join(changed), end="")
    for line in injection.report(lines, done):
        print(line, file=sys.stderr)


@app.command()
def check(
    context: typer.Context,
    pre: Annotated[bool, typer.Option("--pre", help="Check whether Tulle can be installed.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="table, json or short (troubles only).")] = "table",
    wait: Annotated[float, typer.Option(help="Seconds to wait for what is still coming up.", min=0)] = 60.0,
) -> None:
    """Check the cluster, the control plane and the pods in the mesh; exit code 1 when something is wrong."""
    from cli import check_command

    output = _one_of(output, "table", "json", "short")
    if not check_command.check(_cluster(context), pre=pre, wait_s=wait, output=output):
        raise typer.Exit(1)


@app.command()
def stat(
    context: typer.Context,
    resource: Annotated[list[str], typer.Argument(help="KIND, KIND/NAME or KIND NAME.", metavar="RESOURCE")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the context's.")] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")] = False,
    window: Annotated[str, typer.Option("--time-window", "-t", help="How far to look back: 10s to 1h.")] = "1m",
    to: Annotated[str | None, typer.Option(help="Only traffic to this KIND/NAME.")] = None,
    to_namespace: Annotated[str | None, typer.Option(help="Only traffic to this namespace.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Only traffic from this KIND/NAME.")] = None,
    from_namespace: Annotated[str | None, typer.Option(help="Only traffic from this namespace.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table, wide or json.")] = "table",
    watch: Annotated[float, typer.Option("--watch", "-w", help="Ask again every so many seconds.", min=0)] = 0.0,
) -> None:
    """Show the traffic of deployments, pods, services, statefulsets, daemonsets, jobs or namespaces."""
    import time

    from cli import traffic

    cluster = _cluster(context)
    output = _one_of(output, "table", "wide", "json")
    asked = traffic.question(
        resource,
        None if all_namespaces else namespace or cluster.namespace,
        window,
        {"to": to, "from": from_},
        {"to": to_namespace, "from": from_namespace},
    )
    while True:
        with traffic.spinner("Asking the controller"):
            answer = traffic.ask(cluster, asked)
        traffic.show(answer, output, namespaces=all_namespaces)
        if not watch:
            return
        time.sleep(watch)
        print()


@app.command()
def version(
    context: typer.Context,
    client: Annotated[bool, typer.Option("--client", help="This command's version only; asks no cluster.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> None:
    """Show the versions of this command and of the controller."""
    import json

    from contract import VERSION

    versions = {"client": VERSION}
    output = _one_of(output, "text", "json")
    trouble = None
    if not client:
        try:
            versions["server"] = _cluster(context).controller_version() or "unknown"
        except CliError as error:
            versions["server"], trouble = "unavailable", error
    if output == "json":
        print(json.dumps(versions, indent=2))
    else:
        for part, found in versions.items():
            print(f"{part.capitalize()} version: {found}")
    if trouble is not None:
        raise trouble


def _cluster(context: typer.Context) -> "Cluster":
    from cli.cluster import Cluster

    chosen: Global = context.obj
    cluster = Cluster(chosen.kubeconfig, chosen.context, chosen.control_plane, chosen.verbose)
    context.call_on_close(cluster.close)
    return cluster


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
        return _fail(f"a bug in tulle: {type(error).__name__}: {str(error)[:200]} (--verbose shows where)", 70)


def main() -> None:
    """Entry point of the `tulle` script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
