"""`tulle inject` and `uninject`: the webhook's own decision, made on files. Pure.

What the files say of a namespace is not known here: to run the command is to enable it, so that only a pod's own
`disabled` is left to win. Objects that are skipped stay as they are, to the letter.
"""

from typing import Any

from cli.errors import CliError
from cli.workloads import Change, Changed, Kept, Line, Object
from contract import names
from webhook.annotations import Refused
from webhook.inject import Skip, apply, inject, uninject
from webhook.settings import Settings


def injecting(settings: Settings) -> Change:
    """The change of `tulle inject`: what the webhook would do to the pod in an enabled namespace."""

    def change(pod: Object, namespace: str) -> Changed | Kept:
        metadata: dict[str, Any] = {"name": namespace, "labels": {names.INJECT: names.ENABLED}}
        try:
            decided = inject(pod, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, settings)
        except Refused as error:
            raise CliError(str(error)) from error
        if isinstance(decided, Skip):
            return Kept(decided.message)
        return Changed(apply(pod, decided.operations), decided.warnings)

    return change


def uninjecting(pod: Object, namespace: str) -> Changed | Kept:
    """The change of `tulle uninject`."""
    try:
        clean = uninject(pod)
    except Refused as error:
        raise CliError(str(error)) from error
    return Kept("nothing of the mesh in it") if clean == pod else Changed(clean)


def report(lines: list[Line], done: str) -> list[str]:
    """`deployment/web: injected`, `service/web: skipped, no pods in it`, and warnings in lines of their own."""
    shown = []
    for line in lines:
        shown.append(f"{line.name}: {f'skipped, {line.reason}' if line.reason else done}")
        shown += [f"{line.name}: warning: {warning}" for warning in line.warnings]
    return shown
