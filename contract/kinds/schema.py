"""The CustomResourceDefinitions, made from the table of fields. Pure.

What the definitions can say they say: types, bounds, defaults, contradictions within one object. The rest is said by
the reader, at admission and in the status.
"""

from typing import Any, Final

from contract import kinds
from contract.kinds.fields import FAULT_INJECTION, TRAFFIC_POLICY
from contract.kinds.forms import Integer, Number, Percent, Quantity
from contract.kinds.sections import Field, Many, Section

Schema = dict[str, Any]

_TEXTS: Final = {
    kinds.TRAFFIC_POLICY: "What the mesh does with the traffic to a Service: timeouts, retries, hedging, circuit "
    "breaking, concurrency, rate limits, mirroring and load balancing.",
    kinds.FAULT_INJECTION: "Failures that the mesh injects into the traffic to a Service, to see what its clients do.",
}
_SPECS: Final = {kinds.TRAFFIC_POLICY: TRAFFIC_POLICY, kinds.FAULT_INJECTION: FAULT_INJECTION}
_PLURALS: Final = {kinds.TRAFFIC_POLICY: kinds.TRAFFIC_POLICIES, kinds.FAULT_INJECTION: kinds.FAULT_INJECTIONS}
_SHORT: Final = {kinds.TRAFFIC_POLICY: "tp", kinds.FAULT_INJECTION: "fi"}


def definition_name(kind: str) -> str:
    """Name of a kind's CustomResourceDefinition."""
    return f"{_PLURALS[kind]}.{kinds.GROUP}"


def definition_spec(kind: str) -> Schema:
    """`spec` of a kind's CustomResourceDefinition."""
    return {
        "group": kinds.GROUP,
        "scope": "Namespaced",
        "names": {
            "kind": kind,
            "listKind": f"{kind}List",
            "plural": _PLURALS[kind],
            "singular": kind.lower(),
            "shortNames": [_SHORT[kind]],
            "categories": ["tulle"],
        },
        "versions": [
            {
                "name": kinds.VERSION,
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": _object(kind)},
                "subresources": {"status": {}},
                "additionalPrinterColumns": _columns(),
            }
        ],
    }


def _columns() -> list[Schema]:
    accepted, resolved = (f'.status.conditions[?(@.type=="{name}")]' for name in ("Accepted", "ResolvedRefs"))
    return [
        _column("Target", ".spec.targetRef.name", "The Service."),
        _column("Port", ".spec.targetRef.sectionName", "Name of its port; none: all of its ports."),
        _column("Accepted", f"{accepted}.status", "Whether it is in force."),
        _column("Reason", f"{accepted}.reason", "Why, or why not."),
        _column("Message", f"{accepted}.message", "The same in a sentence.", priority=1),
        _column("Resolved", f"{resolved}.reason", "Whether what it refers to exists.", priority=1),
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def _column(name: str, path: str, text: str, priority: int = 0) -> Schema:
    return {"name": name, "type": "string", "jsonPath": path, "description": text, "priority": priority}


def _object(kind: str) -> Schema:
    return {
        "type": "object",
        "description": _TEXTS[kind],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{kinds.API_VERSION}."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {"type": "object"},
            "spec": {"description": "What is wanted."} | _section(_SPECS[kind]),
            "status": _status(),
        },
    }


def _section(section: Section, *, in_list: bool = False) -> Schema:
    found: Schema = {
        "type": "object",
        "properties": {one.name: _property(one, in_list=in_list) for one in section.fields},
    }
    required = [one.name for one in section.fields if one.is_required]
    if required:
        found["required"] = required
    if section.rules:
        found["x-kubernetes-validations"] = [
            {"rule": rule.expression, "message": rule.message} for rule in section.rules
        ]
    return found


def _property(one: Field, *, in_list: bool) -> Schema:
    """A field's schema, its description first.

    In the items of a list defaults are told and not filled in: a list is one value, and `kubectl apply` would find one
    with more in it than in the file changed every time.
    """
    found: Schema = {"description": _description(one)} | _form(one.form, in_list=in_list)
    if one.default is None:
        return found
    if not in_list:
        return found | {"default": one.default}
    default = str(one.default).lower() if isinstance(one.default, bool) else one.default
    return found | {"description": f"{found['description']} Default: {default}."}


def _description(one: Field) -> str:
    words = [one.text]
    if isinstance(one.form, (Integer, Number, Percent, Quantity)) and one.form.unit:
        words.append(f"Unit: {one.form.unit}.")
    if one.default_text not in ("", "-"):
        words.append(f"Default: {one.default_text}.")
    return " ".join(words)


def _form(form: Any, *, in_list: bool) -> Schema:
    if isinstance(form, Section):
        return _section(form, in_list=in_list)
    if isinstance(form, Many):
        found = {"type": "array", "items": _form(form.item, in_list=True), "maxItems": form.high}
        return found | ({"minItems": form.low} if form.low else {}) | {"x-kubernetes-list-type": "atomic"}
    schema: Schema = form.schema()
    return schema


def _status() -> Schema:
    text: Schema = {"type": "string"}
    condition = {
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": text | {"description": "Accepted or ResolvedRefs.", "maxLength": 316},
            "status": text | {"enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "metadata.generation of the object that was judged.",
            },
            "lastTransitionTime": text | {"format": "date-time", "description": "When `status` last changed."},
            "reason": text | {"maxLength": 1024, "minLength": 1, "description": "Why, in one CamelCase word."},
            "message": text | {"maxLength": 32768, "description": "The same for people."},
        },
    }
    return {
        "type": "object",
        "description": "What the controller made of it.",
        "properties": {
            "controllerName": text | {"description": f"Who wrote this: {kinds.CONTROLLER_NAME}.", "maxLength": 253},
            "conditions": {
                "type": "array",
                "description": "Accepted: it is in force. ResolvedRefs: what it refers to exists.",
                "items": condition,
                "maxItems": 8,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    }
