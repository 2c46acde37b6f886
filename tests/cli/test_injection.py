"""inject and uninject: goldens for every workload kind, and the laws that hold for all of them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cli import documents, injection, workloads
from cli.errors import CliError
from contract import names
from webhook.inject import Patch, apply, inject
from webhook.settings import Settings

GOLDENS = Path(__file__).parent / "goldens"
CASES = sorted(path.name.removesuffix(".in.yaml") for path in GOLDENS.glob("*.in.yaml"))
WORKLOADS = [case for case in CASES if case not in ("foreign", "skipped")]


def run(text: str, change: workloads.Change, done: str = "injected") -> tuple[str, list[str]]:
    changed, lines = workloads.change_all(documents.read("in.yaml", text), change, "default")
    return documents.join(changed), injection.report(lines, done)


def source(case: str) -> str:
    return (GOLDENS / f"{case}.in.yaml").read_text()


@pytest.mark.parametrize("case", CASES)
def test_output_and_report_are_what_was_agreed(case: str, agreed: Callable[[Path, str], None]) -> None:
    text, report = run(source(case), injection.injecting(Settings()))
    agreed(GOLDENS / f"{case}.out.yaml", text)
    agreed(GOLDENS / f"{case}.report.txt", "".join(f"{line}\n" for line in report))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_twice_equals_once(case: str, native: bool) -> None:
    change = injection.injecting(Settings(native_sidecar=native))
    once, _ = run(source(case), change)
    twice, _ = run(once, change)
    assert once == twice


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_uninject_undoes_inject(case: str, native: bool) -> None:
    injected, _ = run(source(case), injection.injecting(Settings(native_sidecar=native)))
    clean, _ = run(injected, injection.uninjecting)
    assert contents(source(case)) == contents(clean)


def contents(text: str) -> list[Any]:
    """Values of a stream; a template that had no metadata may have an empty one after the way there and back."""
    values = copy.deepcopy([document.value for document in documents.read("x", text)])
    for value in values:
        if value and value["kind"] == "CronJob":
            value["spec"]["jobTemplate"]["spec"]["template"].setdefault("metadata", {})
    return values


@pytest.mark.parametrize("case", ["foreign", "skipped"])
def test_what_is_not_changed_stays_to_the_letter(case: str) -> None:
    text, report = run(source(case), injection.injecting(Settings()))
    assert f"---\n{source(case)}" == text
    assert all("skipped" in line for line in report)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("case", WORKLOADS)
def test_an_injected_object_keeps_to_the_published_schemas(case: str, native: bool) -> None:
    text, _ = run(source(case), injection.injecting(Settings(native_sidecar=native)))
    for value in yaml.safe_load_all(text):
        for found in value["items"] if value["kind"] == "List" else [value]:
            kubernetes_validate.validate(found, "1.32", strict=True)


@pytest.mark.parametrize("case", WORKLOADS)
def test_the_command_line_does_what_the_webhook_does_to_the_pods_of_the_workload(case: str) -> None:
    """A pod of the injected template equals the pod that the webhook makes of the plain template's."""
    settings = Settings()
    namespace = {"metadata": {"name": "shop", "labels": {names.INJECT: names.ENABLED}}}
    text, _ = run(source(case), injection.injecting(settings))
    for plain, injected in zip(templates(source(case)), templates(text), strict=True):
        decided = inject(plain, namespace, settings)
        assert isinstance(decided, Patch)
        assert apply(plain, decided.operations) == injected
        again = inject(injected, namespace, settings)
        assert again.operations == [], "the webhook leaves alone what the command line injected"


def templates(text: str) -> list[dict[str, Any]]:
    """Every pod template of a stream, as the pod that a controller makes of it."""
    found = []
    for document in documents.read("x", text):
        for value in document.value["items"] if document.value["kind"] == "List" else [document.value]:
            key = (value["apiVersion"].rpartition("/")[0], value["kind"])
            template = value
            for part in workloads.POD_PATHS.get(key, ()):
                template = template[part]
            if key in workloads.POD_PATHS:
                found.append({"apiVersion": "v1", "kind": "Pod", "metadata": {}, **template})
    return found


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (names.INJECT, "yes"),
        (names.SKIP_INBOUND_PORTS, "99999"),
        (names.SKIP_OUTBOUND_SUBNETS, "10.0.0.0/99"),
        (names.PROXY_CPU_LIMIT, "lots"),
        ("tulle.mesh/skip-inbound-port", "80"),
    ],
)
def test_a_wrong_annotation_is_refused_with_the_object_and_its_name(annotation: str, value: str) -> None:
    plain = "labels: {app: web}"
    text = source("deployment").replace(plain, f"{plain}\n      annotations: {{{annotation}: '{value}'}}")
    with pytest.raises(CliError) as caught:
        run(text, injection.injecting(Settings()))
    assert str(caught.value).startswith("deployment/web: ")
    assert annotation in str(caught.value)


@pytest.mark.parametrize("containers", ["[]", "x", "[x]"])
def test_a_pod_that_is_none_is_refused(containers: str) -> None:
    spec = f"{{template: {{spec: {{containers: {containers}}}}}}}"
    text = f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {spec}\n"
    with pytest.raises(CliError, match=r"deployment/web: spec\.containers"):
        run(text, injection.injecting(Settings()))


def test_what_is_no_object_is_passed_on_and_reported() -> None:
    text, report = run("a: 1\n---\n- 2\n", injection.injecting(Settings()))
    assert text == "---\na: 1\n---\n- 2\n"
    assert report == ["document: skipped, no Kubernetes object"] * 2
