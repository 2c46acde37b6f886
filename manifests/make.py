"""Write the chart's CustomResourceDefinitions from the table of fields: `python manifests/make.py`. Edge (files).

A test says when it is due.
"""

import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import yaml

from contract import kinds
from contract.kinds.schema import definition_name, definition_spec

TEMPLATES: Final = Path(__file__).parent / "tulle" / "templates"

_HEAD: Final = """\
# Made by manifests/make.py from contract/kinds/fields.py.
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: tulle-policies
    # For tools that list what is attached to an object (GEP-2648).
    gateway.networking.k8s.io/policy: Direct
    {{{{- include "tulle.labels" . | nindent 4 }}}}
  annotations:
    # With the definition would go every object of the kind.
    helm.sh/resource-policy: keep
"""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def templates() -> dict[str, str]:
    """File name -> text of each definition's template."""
    found = {}
    for kind in (kinds.TRAFFIC_POLICY, kinds.FAULT_INJECTION):
        body = yaml.dump({"spec": definition_spec(kind)}, Dumper=_Dumper, sort_keys=False, width=116)
        found[f"crd-{kind.lower()}.yaml"] = _HEAD.format(name=definition_name(kind)) + body
    return found


def main() -> None:
    """Rewrite the templates that are not current."""
    for name, text in templates().items():
        path = TEMPLATES / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"rewrote {name}")


if __name__ == "__main__":
    main()
