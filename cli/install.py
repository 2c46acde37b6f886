"""`tulle install` and what `tulle uninstall` prints: text from the chart. Edge (reads values files)."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cli import chart
from cli.errors import CliError
from cli.findings import Object
from cli.values import Values, parse_file, parse_set

if TYPE_CHECKING:
    from cli.offers import Offers

DEFINITION = "CustomResourceDefinition"

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def manifests(
    namespace: str, files: list[Path], sets: list[str], *, ha: bool, offers: "Offers | None" = None
) -> list[chart.Manifest]:
    """Render the control plane: files in their order, then `--set`s, over the `ha` set and the defaults."""
    if not _DNS_LABEL.fullmatch(namespace) or namespace == "kube-system":
        raise CliError(f"--namespace {namespace}: a DNS label other than kube-system is expected, for example tulle")
    overlays: list[Values] = [parse_file(str(path), _text(path)) for path in files]
    overlays += [parse_set(assignment) for assignment in sets]
    return chart.render(namespace, chart.load_values(overlays, ha=ha), offers)


def as_yaml(rendered: list[chart.Manifest]) -> str:
    """One stream for `kubectl apply -f -`, the chart's comments kept."""
    return "".join(f"---\n{manifest.text}\n" for manifest in rendered)


def as_list(rendered: list[chart.Manifest]) -> dict[str, object]:
    """One `List` object, for `-o json`."""
    return {"apiVersion": "v1", "kind": "List", "items": [manifest.object for manifest in rendered]}


def removal(rendered: list[chart.Manifest], others: list[Object]) -> str:
    """A stream for `kubectl delete -f -`: names only; the registration first, so that pods can come up at once.

    `others` are ConfigMaps that the chart does not make. The definitions of the policies' kinds stay, because with them
    would go every policy that users wrote; a comment at the end names them.
    """
    found = [manifest.object for manifest in rendered if manifest.object["kind"] != DEFINITION]
    kept = [manifest.object["metadata"]["name"] for manifest in rendered if manifest.object["kind"] == DEFINITION]
    found[1:1] = [{"apiVersion": "v1", "kind": "ConfigMap", **other} for other in others]
    documents = []
    for each in reversed(found):
        names = {key: each["metadata"][key] for key in ("name", "namespace") if key in each["metadata"]}
        documents.append({"apiVersion": each["apiVersion"], "kind": each["kind"], "metadata": names})
    stream = "".join("---\n" + yaml.safe_dump(document, sort_keys=False) for document in documents)
    return stream + f"# Kept, with all objects of these kinds; to delete them: kubectl delete crd {' '.join(kept)}\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CliError(f"--values {path}: {reason}") from error
