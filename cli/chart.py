"""Reads the chart that ships with the package and renders it in apply order. Edge (reads package data)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

import yaml

from cli.errors import CliError
from cli.template import TemplateError, Templates
from cli.values import Values, check, merge

if TYPE_CHECKING:
    from cli.offers import Offers

RELEASE = "tulle"

# libyaml where PyYAML was built with it: ten times as fast on a chart of twenty objects.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

APPLY_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "NetworkPolicy",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
)
"""Kinds as they must be made: nothing refers to a later one, and the webhook is registered when it can come up."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One rendered object: its text as the template wrote it, and what it says."""

    text: str
    object: dict[str, Any]


def load_values(overlays: Iterable[Values], *, ha: bool) -> Values:
    """Merge the chart's defaults, the `ha` set and the user's overlays, and check the result by the schema."""
    values: Values = _parse(_read("values.yaml"))
    layers = [_parse(_read("values-ha.yaml"))] if ha else []
    for layer in [*layers, *overlays]:
        values = merge(values, layer)
    check(values, _parse(_read("values.schema.json")))
    return values


class Current:
    """Offers whatever a template asks for: an API server as new as any."""

    def __contains__(self, kind: object, /) -> bool:
        return True


def render(namespace: str, values: Values, offers: "Offers | None" = None) -> list[Manifest]:
    """Render every object of the chart for `namespace`, in apply order; equal input gives equal text.

    `offers` says which kinds the API server knows; without it, all.
    """
    chart = _parse(_read("Chart.yaml"))
    context = {
        "Values": values,
        "Release": {"Name": RELEASE, "Namespace": namespace, "Service": "tulle"},
        "Capabilities": {"APIVersions": Current() if offers is None else offers},
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
    }
    names = sorted(entry.name for entry in _chart().joinpath("templates").iterdir())
    try:
        templates = Templates()
        bodies = [templates.parse(name, _read(f"templates/{name}")) for name in names]
        texts = [templates.render(body, context) for body in bodies]
    except TemplateError as error:
        raise CliError(f"the chart cannot be rendered: {error}") from error
    pieces = [piece.strip("\n") for text in texts for piece in re.split(r"^---\s*$", text, flags=re.MULTILINE)]
    manifests = [Manifest(piece, document) for piece in pieces if (document := _parse(piece))]
    return sorted(manifests, key=lambda manifest: _order(manifest.object))


def _parse(text: str) -> Any:
    return yaml.load(text, _LOADER)


def _order(found: dict[str, Any]) -> tuple[int, str, str]:
    kind, metadata = found["kind"], found["metadata"]
    return APPLY_ORDER.index(kind), metadata.get("namespace", ""), metadata["name"]


def _chart() -> Traversable:
    return files("manifests").joinpath("tulle")


@cache
def _read(path: str) -> str:
    return _chart().joinpath(path).read_text(encoding="utf-8")
