"""The installed script as a shell runs it: pipes, exit codes, and no traceback."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Ran

ROOT = Path(__file__).parent.parent.parent
GOLDENS = Path(__file__).parent / "goldens"


def shell(command: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell pipeline in which `tulle` is this checkout's command."""
    command = command.replace("tulle ", f"{sys.executable} -W error -m cli ")
    everything = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/nonexistent", **environment}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        env=everything,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_install_prints_one_stream_and_nothing_else() -> None:
    ran = shell("tulle install")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == (ROOT / "tests" / "manifests" / "goldens" / "install-default.yaml").read_text()


def test_install_reads_values_files_before_sets(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("webhook: {replicas: 2, logLevel: warn}\n")
    ran = shell(f"tulle install -n mesh --values {tmp_path}/mine.yaml --set webhook.replicas=4 -o json")
    found = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load(ran.stdout)["items"]}
    deployment = found["Deployment", "tulle-webhook"]
    assert (deployment["metadata"]["namespace"], deployment["spec"]["replicas"]) == ("mesh", 4)
    assert {"name": "TULLE_WEBHOOK_LOG_LEVEL", "value": "warn"} in deployment["spec"]["template"]["spec"]["containers"][
        0
    ]["env"]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("tulle install --set a", 1, "tulle: --set a: write it as key=value, for example --set webhook.replicas=2"),
        ("tulle install --values /nowhere", 1, "tulle: --values /nowhere: No such file or directory"),
        ("tulle install -n kube-system", 1, "tulle: --namespace kube-system: a DNS label other than kube-system"),
        ("tulle install -o xml", 2, "tulle: --output xml: use one of yaml, json"),
        ("tulle install --nope", 2, "tulle: No such option: --nope"),
        ("tulle nope", 2, "tulle: No such command 'nope'"),
        ("tulle inject", 2, "tulle: Missing argument 'FILE...'"),
        ("tulle inject /nowhere.yaml", 1, "tulle: /nowhere.yaml: No such file or directory"),
        ("tulle inject /etc/hostname/x", 1, "tulle: /etc/hostname/x: Not a directory"),
        ("tulle stat deploy", 1, "tulle: no usable kubeconfig"),
        ("tulle check -o short --wait 0", 1, ""),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    tulle: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: str, code: int, message: str
) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nonexistent")
    ran = tulle(*command.split()[1:])
    assert ran.code == code
    assert ran.err.startswith(message)
    assert ran.err.count("\n") == (1 if message else 0)


def test_a_bug_is_one_line_too_and_verbose_shows_where(
    tulle: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("cli.install.manifests", broken)
    ran = tulle("install")
    assert (ran.code, ran.err) == (70, "tulle: a bug in tulle: KeyError: 'oops' (--verbose shows where)\n")
    with pytest.raises(KeyError):
        tulle("--verbose", "install")


def test_a_reader_that_goes_away_is_no_error() -> None:
    ran = shell("tulle install | head -1")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "---\n", "")


def test_inject_is_a_filter_that_can_stand_in_a_pipe_twice() -> None:
    plain = (GOLDENS / "deployment.in.yaml").read_text()
    ran = shell("tulle inject - | tulle inject - 2>/dev/null", plain)
    assert (ran.returncode, ran.stdout) == (0, (GOLDENS / "deployment.out.yaml").read_text())
    assert ran.stderr == "deployment/web: injected\n"


def test_uninject_takes_away_what_inject_added() -> None:
    plain = (GOLDENS / "job.in.yaml").read_text()
    ran = shell("tulle inject - 2>/dev/null | tulle uninject -", plain)
    assert yaml.safe_load(ran.stdout) == yaml.safe_load(plain)
    assert ran.stderr == "job/web: uninjected\n"


def test_inject_reads_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "notes.txt"):
        (tmp_path / name).write_text(
            f'{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name[0]}"}}}}\n'
        )
    ran = shell(f"tulle inject {tmp_path}")
    assert [each["metadata"]["name"] for each in yaml.safe_load_all(ran.stdout)] == ["a", "b", "c"]


def test_a_fault_leaves_nothing_half_done() -> None:
    """A pipe to kubectl must not apply the good half."""
    good = (GOLDENS / "deployment.in.yaml").read_text()
    bad = good.replace("labels: {app: web}", "annotations: {tulle.mesh/skip-inbound-ports: '99999'}")
    ran = shell("tulle inject -", f"{good}---\n{bad}")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("tulle: deployment/web: ")
    assert "99999" in ran.stderr


def test_options_reach_the_injected_containers() -> None:
    plain = (GOLDENS / "pod.in.yaml").read_text()
    options = "--registry example.com/x --init-image other:2 --cluster-domain corp.example --plain-sidecar"
    ran = shell(f"tulle -L mesh inject {options} -", plain)
    spec = yaml.safe_load(ran.stdout)["spec"]
    assert [each["image"] for each in spec["initContainers"]] == ["other:2"]
    assert spec["containers"][0]["image"].startswith("example.com/x/proxy:")
    assert "tulle-controller.mesh.svc.corp.example" in ran.stdout


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion_is_there_for_the_common_shells(shell_name: str) -> None:
    ran = shell("tulle ", _TULLE_COMPLETE=f"source_{shell_name}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "_TULLE_COMPLETE" in ran.stdout


def test_help_is_quick() -> None:
    """Processor time, not wall time: the machine may be busy."""
    before = os.times()
    started = time.monotonic()
    ran = shell("tulle --help")
    spent_s = sum(os.times()[2:4]) - sum(before[2:4])
    assert ran.returncode == 0
    assert {"install", "inject", "check", "stat", "lab"} <= set(ran.stdout.split())
    assert min(spent_s, time.monotonic() - started) < 0.4
