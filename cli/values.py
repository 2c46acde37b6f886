"""Values of the chart: `--set`, files, merging, and the schema's verdict in words. Pure."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import yaml

from cli.errors import CliError

Values = dict[str, Any]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """Lay `over` upon `base` as helm does: mappings merge, everything else (lists too) is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def parse_set(assignment: str) -> Values:
    """`webhook.replicas=2` -> nested values. The value is read as YAML (`true`, `3`, `[a, b]`, `{a: b}`).

    A dot inside a key is written `\\.`, as helm has it: `webhook.nodeSelector.kubernetes\\.io/os=linux`.
    """
    path, equals, text = assignment.partition("=")
    keys = [key.replace("\0", ".") for key in path.replace("\\.", "\0").split(".")]
    if not equals or not all(keys):
        raise CliError(f"--set {assignment}: write it as key=value, for example --set webhook.replicas=2")
    try:
        value: Any = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise CliError(f"--set {assignment}: the value is not YAML; quote it") from error
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def parse_file(name: str, text: str) -> Values:
    """Read one values file; an empty one changes nothing."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CliError(f"--values {name}: not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise CliError(f"--values {name}: a mapping of values is expected at the top, as in the chart's values.yaml")
    return values


def check(values: Values, schema: Mapping[str, Any]) -> None:
    """Refuse values that the chart does not know, all faults in one message.

    Raises:
        CliError: one line a fault, each naming the key and what would be right.
    """
    from jsonschema import Draft7Validator  # lazy: a tenth of a second that only `install` needs

    faults = sorted(
        Draft7Validator(schema).iter_errors(values), key=lambda fault: [str(key) for key in fault.absolute_path]
    )
    if faults:
        raise CliError("\n".join(_explain(fault) for fault in faults))


def _explain(fault: Any) -> str:
    key = ".".join(str(part) for part in fault.absolute_path)
    if fault.validator == "additionalProperties":
        known = list(fault.schema.get("properties", ()))
        return "\n".join(_unknown(key, str(name), known) for name in fault.instance if name not in known)
    shown = "empty" if fault.instance in ("", None) else repr(fault.instance)
    if fault.validator == "enum":
        return f"value {key} is {shown}: use one of {', '.join(repr(word) for word in fault.validator_value)}"
    if fault.validator == "type":
        kinds = fault.validator_value if isinstance(fault.validator_value, list) else [fault.validator_value]
        return f"value {key} is {shown}: {' or '.join(kinds)} is expected"
    if fault.validator in ("minimum", "maximum"):
        bound = "at least" if fault.validator == "minimum" else "at most"
        return f"value {key} is {shown}: {bound} {fault.validator_value} is expected"
    return f"value {key} is {shown}: it must match {fault.validator_value}"


def _unknown(parent: str, name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    where = f"{parent}.{name}" if parent else name
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"value {where} is unknown; {hint}"
